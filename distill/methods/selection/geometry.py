"""Rules that pick points by where they lie: features are of one class, indices are in the order in which they were picked."""

import torch
from torch import Generator, Tensor

BLOCK = 2**26  # numbers of a matrix of distances that are held at once: 256 MB


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
        distances = squares - 2 * features @ left  # less what is the same for all
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
    squares = torch.cat([part.float().square().sum(1) for part in features.split(rows)])
    nearest = torch.full((len(features),), torch.inf)
    picked = [int(torch.randint(len(features), (1,), generator=g))]
    while len(picked) < count:
        point = features[picked[-1]].float()
        along = torch.cat([part.float() @ point for part in features.split(rows)])
        nearest = torch.minimum(nearest, squares - 2 * along + point.square().sum())
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
    from sklearn.cluster import KMeans  # late: not every rule needs it

    features = features.float()
    centres = KMeans(count, n_init=10, max_iter=100, random_state=seed % 2**32).fit(features.numpy()).cluster_centers_
    distances = torch.cdist(torch.from_numpy(centres), features)
    picked: list[int] = []
    for row in distances:
        row[picked] = torch.inf
        picked.append(int(row.argmin()))
    return torch.tensor(picked)


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

    A pick changes the gains by those points alone that it is nearer to than all before it: their parts are counted anew.

    Args:
        features: (N, d), N >= count.

    Returns:
        Indices (count,) int64.

    Examples:
        >>> facility_location(torch.tensor([[0.0], [1.0], [9.0]]), 2)
        tensor([1, 2])
    """
    features = features.float()
    rows = max(1, BLOCK // len(features))
    largest = max(float(torch.cdist(part, features).max()) for part in features.split(rows))
    covered, picked = torch.zeros(len(features)), list[int]()
    gains = torch.zeros(len(features), dtype=torch.float64)

    def part_of(points: Tensor, own: Tensor) -> Tensor:
        """Of every candidate's gain, what these points give beyond ``own`` (points,)."""
        return (largest - torch.cdist(features, features[points]) - own).clamp(min=0).sum(1, dtype=torch.float64)

    for points in torch.arange(len(features)).split(rows):
        gains += part_of(points, covered[points])
    while len(picked) < count:
        gains[picked] = -torch.inf
        picked.append(int(gains.argmax()))
        similar = largest - torch.cdist(features[picked[-1:]], features)[0]
        for points in (similar > covered).nonzero()[:, 0].split(rows):
            gains += part_of(points, similar[points]) - part_of(points, covered[points])
        covered = torch.maximum(covered, similar)
    return torch.tensor(picked)
