"""Rules that pick real images: what each of them promises, against brute force."""

from itertools import combinations

import pytest
import torch

from distill.methods.selection import geometry
from distill.methods.selection.geometry import facility_location, herding, k_center, k_means, lloyd, medoids, plus_plus


def cloud(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def draws(seed):
    return torch.Generator().manual_seed(seed)


RULES = {
    "herding": lambda z, n: herding(z, n),
    "k_center": lambda z, n: k_center(z, n, draws(0)),
    "k_means": lambda z, n: k_means(z, n, 0),
    "medoids": lambda z, n: medoids(z, n, 0),
    "facility_location": lambda z, n: facility_location(z, n),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("count", [1, 7, 30])
def test_every_rule_picks_as_many_different_points_as_asked_and_the_same_again(rule, count):
    picked = RULES[rule](cloud(30, 5), count)
    assert picked.dtype is torch.int64 and len(set(picked.tolist())) == len(picked) == count
    assert torch.equal(RULES[rule](cloud(30, 5), count), picked)


@pytest.mark.parametrize("rule", RULES)
def test_points_that_lie_on_each_other_are_picked_once_each(rule):
    points = torch.ones(6, 3)
    assert sorted(RULES[rule](points, 6).tolist()) == list(range(6))


def test_herding_keeps_the_mean_and_random_points_do_not():
    """2,000 points of 64 numbers, 50 picks: about 0.2 here, 1.1 for random points; the farthest points would be at 2.6."""
    for trial in range(20):
        z = cloud(2000, 64, trial)
        random = torch.randperm(2000, generator=draws(trial))[:50]
        error, chance = ((z[picked].mean(0) - z.mean(0)).norm() for picked in (herding(z, 50), random))
        assert error < chance / 3


def test_herding_and_one_medoid_begin_with_the_point_nearest_to_the_mean():
    for trial in range(5):
        z = cloud(40, 3, trial) ** 3
        nearest = int((z - z.mean(0)).norm(dim=1).argmin())
        assert [int(picked[0]) for picked in (herding(z, 3), k_means(z, 1, 0), medoids(z, 1, 0))] == [nearest] * 3


def test_k_centers_radius_falls_and_is_at_most_twice_the_least():
    for trial in range(10):
        z = cloud(12, 2, trial)
        distances = torch.cdist(z, z)
        picked = k_center(z, 5, draws(trial)).tolist()
        radii = [float(distances[:, picked[:n]].min(1).values.max()) for n in range(1, 6)]
        assert radii == sorted(radii, reverse=True)
        for n, radius in enumerate(radii, 1):
            least = min(float(distances[:, list(some)].min(1).values.max()) for some in combinations(range(12), n))
            assert least <= radius <= 2 * least + 1e-6


def test_k_center_goes_through_half_precision_in_blocks():
    z = cloud(500, 16).half()
    assert torch.equal(k_center(z, 20, draws(1), block=64), k_center(z.float(), 20, draws(1)))


def spread(z, centres):
    """The sum of squared distances of points to their nearest centre."""
    return float(torch.cdist(z, centres).square().min(1).values.sum())


def test_k_means_comes_near_the_best_of_all_partitions_of_twelve_points():
    labels = torch.cartesian_prod(*[torch.arange(3)] * 11)
    groups = torch.nn.functional.one_hot(torch.nn.functional.pad(labels, (1, 0)), 3).float().transpose(1, 2)
    for trial in range(5):
        z = cloud(12, 2, trial) + 100  # far from zero, where squares have no digits left
        centred = z - z.mean(0)
        squares = (groups @ centred).square().sum(2) / groups.sum(2).clamp(min=1)
        least = float(centred.square().sum() - squares.sum(1).max())
        found = lloyd(centred, plus_plus(centred, 3, 10, draws(trial)))
        assert 0.999 * least <= spread(centred, found) <= 1.05 * least
        nearest = {int((centred - centre).norm(dim=1).argmin()) for centre in found}
        assert len(nearest) < 3 or set(k_means(z, 3, trial).tolist()) == nearest


def test_no_centre_of_k_means_can_move_and_the_best_restart_is_taken(monkeypatch):
    z = cloud(400, 5) ** 3
    starts = plus_plus(z, 8, 10, draws(0))
    alone = [lloyd(z, start[None]) for start in starts]
    for centres in alone:
        owner = torch.cdist(z, centres).argmin(1)
        assert torch.allclose(centres, torch.stack([z[owner == each].mean(0) for each in range(8)]), atol=1e-4)
    together = lloyd(z, starts)
    assert spread(z, together) == pytest.approx(min(spread(z, each) for each in alone), rel=1e-5)
    monkeypatch.setattr(geometry, "CACHED", 1)
    assert torch.allclose(lloyd(z, starts), together, atol=1e-5)  # point by point


def test_k_means_stops_where_it_is_told_to(monkeypatch):
    z, spreads = cloud(400, 5) ** 3, []
    for most in (1, 2, 4, 100):
        monkeypatch.setattr(geometry, "ITERATIONS", most)
        spreads.append(spread(z, lloyd(z, z[None, :8])))
    assert spreads[0] == spread(z, z[:8]) and spreads == sorted(set(spreads), reverse=True)


def test_a_centre_that_nothing_is_near_stays():
    z = torch.tensor([[0.0], [1.0], [10.0]])
    assert lloyd(z, torch.tensor([[[0.4], [9.0], [-50.0]]])).tolist() == [[0.5], [10.0], [-50.0]]


def test_k_means_starts_far_apart():
    """Twenty heaps: ten restarts of random points miss some of them every time, k-means++ hardly ever."""
    z = cloud(200, 4) + 1000 * cloud(20, 4, 1)[torch.arange(200) % 20]
    heaps = [len(set((torch.cdist(start, z).argmin(1) % 20).tolist())) for start in plus_plus(z, 20, 10, draws(0))]
    assert min(heaps) == 20
    z = cloud(400, 5) ** 3
    drawn = [spread(z, start) for start in plus_plus(z, 20, 10, draws(0))]
    random = [spread(z, z[torch.randperm(400, generator=draws(trial))[:20]]) for trial in range(10)]
    assert max(drawn) < min(random)  # even without heaps: of several points the best is taken


def test_medoids_lie_nearer_to_their_points_than_k_means_picks():
    pairs = [
        (spread(z, z[medoids(z, 6, 0)]), spread(z, z[k_means(z, 6, 0)]))
        for z in (cloud(60, 4, t) ** 3 for t in range(10))
    ]
    assert all(after <= before + 1e-4 for after, before in pairs) and any(after < before for after, before in pairs)


@pytest.mark.parametrize("points, count", [(12, 6), (300, 40)])
def test_facility_location_picks_what_plain_greedy_would(points, count):
    for trial in range(5):
        z = cloud(points, 3, trial)
        distances = torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist")
        similar, covered = distances.max() - distances, torch.zeros(points)
        for pick in facility_location(z, count):
            gains = (similar - covered).clamp(min=0).sum(1)
            assert gains[pick] >= gains.max() - 1e-4  # two points that only win each other's and their own are equal
            covered = torch.maximum(covered, similar[pick])


def test_of_equal_points_facility_location_picks_the_first():
    assert facility_location(torch.ones(200, 3), 3).tolist() == [0, 1, 2]
    assert facility_location(torch.tensor([[5.0], [0.0], [0.0], [5.0], [0.0], [-9.0]] * 40), 2).tolist() == [1, 0]
