"""Rules that pick real images: what each of them promises, against brute force."""

from itertools import combinations

import pytest
import torch

from distill.methods.selection.geometry import facility_location, herding, k_center, k_means, medoids


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


def test_medoids_lie_nearer_to_their_points_than_k_means_picks():
    def spread(z, picked):
        return float(torch.cdist(z, z[picked]).square().min(1).values.sum())

    pairs = [
        (spread(z, medoids(z, 6, 0)), spread(z, k_means(z, 6, 0))) for z in (cloud(60, 4, t) ** 3 for t in range(10))
    ]
    assert all(after <= before + 1e-4 for after, before in pairs) and any(after < before for after, before in pairs)


def test_facility_location_picks_what_plain_greedy_does():
    for trial in range(5):  # no two gains of these are nearer than rounding
        z = cloud(12, 3, trial)
        similar = torch.cdist(z, z).max() - torch.cdist(z, z)
        picked: list[int] = []
        for _ in range(6):
            gains = [float(similar[[*picked, i]].max(0).values.sum()) if i not in picked else -1.0 for i in range(12)]
            picked.append(gains.index(max(gains)))
        assert facility_location(z, 6).tolist() == picked
