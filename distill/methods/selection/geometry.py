"""Rules that pick points by where they lie: features are of one class, indices are in the order in which they were picked."""

import math

import torch
from torch import Generator, Tensor

BLOCK = 2**18  # numbers of features that k-center reads in float32 at once: 1 MB stays in a core's cache
CACHED = 2**20  # distances that are held at once: 4 MB
RESTARTS, ITERATIONS = 10, 100  # of k-means
TOGETHER = 64  # candidates of facility location that are looked at in one product


def herding(features: Tensor, count: int, farthest: bool = False) -> Tensor:
    """The points whose running mean stays nearest to the mean of all.

    Pick k is the free point z that minimises ||k mu - s - z||, where s is the sum of the picks before (Welling, ICML 2009;
    Rebuffi et al., arXiv:1611.07725).

    Args:
        features: (N, d), N >= count.
        farthest: take the maximum, as DeepCore's and RS2's code does: this is no herding.

    Returns:
        Indices (count,) int64.

    Examples:
        >>> herding(torch.tensor([[0.0], [1.0], [5.0]]), 2)
        tensor([1, 2])
    """
    features = features.float()
    mean, squares = features.mean(0), features.square().sum(1)
    left, picked = mean.clone(), list[int]()
    for _ in range(count):
        distances = torch.addmv(squares, features, left, alpha=-2)  # less what is the same for all
        distances = -distances if farthest else distances
        distances[picked] = torch.inf
        picked.append(int(distances.argmin()))
        left += mean - features[picked[-1]]
    return torch.tensor(picked)


def k_center(features: Tensor, count: int, g: Generator, block: int = BLOCK) -> Tensor:
    """The points that leave no other far from all of them: each is the farthest from those before (Gonzalez, 1985).

    The first is drawn by ``g``. Their largest distance to any point is at most twice the least possible.

    Args:
        features: (N, d) in any precision, N >= count.
        block: numbers that are read in float32 at once.

    Returns:
        Indices (count,) int64.

    Examples:
        >>> sorted(k_center(torch.tensor([[0.0], [0.1], [9.0]]), 2, torch.Generator().manual_seed(0)).tolist())[1]
        2
    """
    rows = max(1, block // features.shape[1])
    squares, nearest = torch.empty(len(features)), torch.full((len(features),), torch.inf)
    for part, own in zip(features.split(rows), squares.split(rows), strict=True):
        own.copy_(torch.linalg.vector_norm(part.float(), dim=1).square_())
    picked = [int(torch.randint(len(features), (1,), generator=g))]
    while len(picked) < count:
        point = features[picked[-1]].float()
        for part, own, least in zip(*(each.split(rows) for each in (features, squares, nearest)), strict=True):
            away = torch.addmv(own, part.float(), point, alpha=-2).add_(point.square().sum())
            torch.minimum(least, away, out=least)  # written in place: pieces that stay would leave holes in memory
        nearest[picked] = -torch.inf
        picked.append(int(nearest.argmax()))
    return torch.tensor(picked)


def k_means(features: Tensor, count: int, seed: int) -> Tensor:
    """For each of ``count`` cluster centres the nearest point that no centre before it took.

    k-means++ starts, ten restarts of at most 100 iterations: the closest reading of DC-BENCH's selection (arXiv:2207.09639).

    Args:
        features: (N, d), N >= count.

    Returns:
        Indices (count,) int64.

    Examples:
        >>> k_means(torch.tensor([[0.0], [1.0], [2.5]]), 1, seed=0)
        tensor([1])
    """
    features = features.float()
    features = features - features.mean(0)  # squares of what is far from zero would leave no digits for differences
    centres = lloyd(features, plus_plus(features, count, RESTARTS, Generator().manual_seed(seed)))
    picked: list[int] = []
    for centre in centres:
        row = torch.cdist(centre[None], features)[0]
        row[picked] = torch.inf
        picked.append(int(row.argmin()))
    return torch.tensor(picked)


def plus_plus(features: Tensor, count: int, restarts: int, g: Generator) -> Tensor:
    """Starts of k-means: of a few points drawn in proportion to their squared distances, the one that lowers their sum most.

    Args:
        features: (N, d) around zero.

    Returns:
        Centres (restarts, count, d).

    Source: Arthur & Vassilvitskii, k-means++, SODA 2007; its greedy form with 2 + log k trials, as scikit-learn has it.
    """
    squares, every = features.square().sum(1), torch.arange(restarts)
    chosen = [torch.randint(len(features), (restarts,), generator=g)]
    nearest = torch.cdist(features[chosen[0]], features).square()
    while len(chosen) < count:
        summed = nearest.clamp(min=torch.finfo(torch.float32).tiny).cumsum(1, dtype=torch.float64)
        at = torch.rand(restarts, 2 + int(math.log(count)), generator=g, dtype=torch.float64) * summed[:, -1:]
        points = torch.searchsorted(summed, at)
        along = features[points.flatten()] @ features.T
        distances = (squares - 2 * along + squares[points.flatten(), None]).view(*points.shape, -1)
        after = torch.minimum(nearest[:, None], distances.clamp_(min=0))
        best = after.sum(2).argmin(1)
        nearest = after[every, best]
        chosen.append(points[every, best])
    return features[torch.stack(chosen, 1)]


def lloyd(features: Tensor, centres: Tensor) -> Tensor:
    """The centres of least summed squared distance, of all restarts when no point changes its cluster any more.

    All restarts go together, so that the distances are one product; those that are through leave. A cluster without points
    keeps its centre.

    Args:
        features: (N, d) around zero.
        centres: (restarts, k, d).

    Returns:
        Centres (k, d).
    """
    owners, best, least = torch.full((len(centres), len(features)), -1), centres[0], torch.inf
    for iteration in range(ITERATIONS):
        nearest, distances = assigned(features, centres)
        through = (nearest == owners).all(1) if iteration < ITERATIONS - 1 else torch.ones(len(centres)).bool()
        for restart in through.nonzero()[:, 0]:
            if distances[restart] < least:
                best, least = centres[restart], float(distances[restart])
        owners, centres = nearest[~through], centres[~through]
        if not len(centres):
            break
        sums = torch.stack([torch.zeros_like(centres[0]).index_add_(0, own, features) for own in owners])
        sizes = torch.stack([own.bincount(minlength=centres.shape[1]) for own in owners])[..., None]
        centres = torch.where(sizes > 0, sums / sizes.clamp(min=1), centres)
    return best


def assigned(features: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Each point's nearest centre in each restart, (restarts, N), and the sum of the squared distances to them.

    The sums, (restarts,), are less the squares of the points themselves, which all restarts share.
    """
    flat, rows = centres.flatten(0, 1), max(1, CACHED // centres[..., 0].numel())
    squares, owners = flat.square().sum(1), list[Tensor]()
    total = torch.zeros(len(centres), dtype=torch.float64)
    for part in features.split(rows):
        least = torch.addmm(squares, part, flat.T, alpha=-2).view(len(part), *centres.shape[:2]).min(2)
        total += least.values.sum(0)
        owners.append(least.indices.T)
    return torch.cat(owners, 1), total


def medoids(features: Tensor, count: int, seed: int) -> Tensor:
    """`k_means`, moved on until no point of a cluster is nearer to its mean than the pick is.

    The sum of squared distances of points to their picks falls at every move (k-medoids by turns). One medoid is the point
    nearest to the mean, herding's first pick.

    Args:
        features: (N, d), N >= count.

    Returns:
        Indices (count,) int64.

    Examples:
        >>> medoids(torch.tensor([[0.0], [1.0], [2.5]]), 1, seed=0)
        tensor([1])
    """
    features, picked = features.float(), k_means(features, count, seed)
    while True:
        owner = torch.cdist(features, features[picked]).argmin(1)
        owner[picked] = torch.arange(count)
        moved = picked.clone()
        for cluster in range(count):
            members = (owner == cluster).nonzero()[:, 0]
            distances = (features[members] - features[members].mean(0)).square().sum(1)
            best, own = int(distances.argmin()), int((members == picked[cluster]).nonzero()[0, 0])
            if distances[best] < distances[own]:
                moved[cluster] = members[best]
        if torch.equal(moved, picked):
            return picked
        picked = moved


def facility_location(features: Tensor, count: int) -> Tensor:
    """The points that together are nearest to all: greedy for sum_j max_i s_ij, where s is the largest distance less d_ij.

    Each pick takes the most from the summed distance of all points to their nearest pick. What a point would take only falls as
    others are picked, so that points are looked at anew from the most promising on, until one is the best for certain
    (lazy greedy: Minoux, 1978).

    Args:
        features: (N, d), N >= count.

    Returns:
        Indices (count,) int64; of equally good points the first.

    Examples:
        >>> facility_location(torch.tensor([[0.0], [1.0], [9.0]]), 2)
        tensor([1, 2])
    """
    features = features.float()
    features = features - features.mean(0)
    squares = features.square().sum(1)

    def distances(points: Tensor) -> Tensor:
        """Of all to these, (points, N)."""
        rows = torch.addmm(squares, features[points], features.T, alpha=-2)
        return rows.add_(squares[points, None]).clamp_(min=0).sqrt_()

    parts = torch.arange(len(features)).split(max(1, CACHED // len(features)))
    picked = [int(torch.cat([distances(part).sum(1, dtype=torch.float64) for part in parts]).argmin())]
    nearest = distances(torch.tensor(picked))[0]
    gains = torch.full((len(features),), torch.inf, dtype=torch.float64)
    while len(picked) < count:
        known = torch.zeros(len(features), dtype=torch.bool)
        known[picked], gains[picked] = True, -torch.inf
        while not known[first := gains.argmax()]:
            promising = gains.topk(min(TOGETHER, len(gains))).indices
            promising[0] = first
            points = promising[~known[promising]]
            gains[points] = (nearest - distances(points)).clamp_(min=0).sum(1, dtype=torch.float64)
            known[points] = True
        picked.append(int(first))
        nearest = torch.minimum(nearest, distances(first[None])[0])
    return torch.tensor(picked)
