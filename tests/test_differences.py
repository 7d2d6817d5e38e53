"""Statistics of a comparison: coverage, Holm, permutation, pairing, ranks, power."""

import doctest
from itertools import combinations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats import multitest, power

from distill.evaluation.statistics import statistics
from distill.report import differences
from distill.report.differences import agreement, difference, holm, permuted, rank_holds, runs_needed

SYNTHESIS, STUDENT = 0.4, 0.3  # points: the two spreads of the evaluation specification's example


def accuracies(rng, syntheses, students):
    """Of a method whose true mean is 50 %, (R, S)."""
    noise = SYNTHESIS * rng.standard_normal((syntheses, 1)) + STUDENT * rng.standard_normal((syntheses, students))
    return (50 + noise) / 100


def coverage(syntheses, students, draws=1000):
    rng, covered = np.random.default_rng(0), 0
    for _ in range(draws):
        found = statistics(accuracies(rng, syntheses, students))
        covered += abs(found["mean"] - 0.5) <= found["ci95"]
    return covered / draws


def test_five_syntheses_of_five_students_cover_the_mean_and_more_students_of_one_cover_it_less():
    assert coverage(5, 5) == pytest.approx(0.95, abs=0.02)
    assert coverage(1, 5) == pytest.approx(0.57, abs=0.05)  # figures of the specification
    assert coverage(1, 20) == pytest.approx(0.27, abs=0.05)


def test_the_interval_of_a_difference_covers_it_with_spreads_and_numbers_that_differ():
    rng, covered, draws = np.random.default_rng(1), 0, 1000
    for _ in range(draws):
        found = difference(rng.normal(2, 3, 4), rng.normal(0, 1, 9))
        covered += found.low <= 2 <= found.high
    assert covered / draws == pytest.approx(0.95, abs=0.02)


def test_runs_pooled_over_syntheses_find_differences_where_there_are_none():
    rng, honest, pooled, draws = np.random.default_rng(2), 0, 0, 500
    for _ in range(draws):
        ours, theirs = accuracies(rng, 5, 5), accuracies(rng, 5, 5)
        honest += difference(ours.mean(1), theirs.mean(1)).p < 0.05
        pooled += difference(ours.ravel(), theirs.ravel()).p < 0.05
    assert honest / draws < 0.08 and pooled / draws > 0.2


def test_holm_is_statsmodels():
    ps = np.random.default_rng(0).uniform(0, 0.2, 12)
    ps[3] = ps[7]
    assert holm(ps) == pytest.approx(multitest.multipletests(ps, method="holm")[1])
    assert holm([]) == []


def test_a_permutation_test_counts_all_ways_to_deal_the_runs():
    ours, theirs = np.array([3.1, 4.0, 5.5, 2.0]), np.array([2.5, 1.0, 3.0])
    both, gaps = np.concatenate([ours, theirs]), []
    for chosen in combinations(range(7), 4):
        rest = [i for i in range(7) if i not in chosen]
        gaps.append(both[list(chosen)].mean() - both[rest].mean())
    seen = ours.mean() - theirs.mean()
    one_sided = np.mean([gap >= seen - 1e-12 for gap in gaps])
    assert permuted(ours, theirs) == pytest.approx((2 * one_sided, 2 / 35))


@pytest.mark.parametrize(
    "runs, paired, least", [(3, False, 0.1), (5, False, 2 / 252), (5, True, 2 / 32), (30, False, 2e-4)]
)
def test_the_smallest_p_is_that_of_runs_that_do_not_overlap(runs, paired, least):
    low = np.arange(runs) / 100
    assert permuted(low + 1, low, paired) == pytest.approx((least, least))


def test_pairs_tell_what_two_samples_do_not_where_seeds_move_both_alike():
    rng = np.random.default_rng(0)
    start = rng.normal(0, 2, 5)  # of the random initial images of a seed
    ours, theirs = start + 0.5 + rng.normal(0, 0.1, 5), start + rng.normal(0, 0.1, 5)
    apart, paired = difference(ours, theirs), difference(ours, theirs, paired=True)
    assert paired.mean == pytest.approx(apart.mean) and paired.p < 0.05 < apart.p
    assert paired.high - paired.low < (apart.high - apart.low) / 5
    assert runs_needed(0.5, paired.sd, paired=True) < runs_needed(0.5, apart.sd) / 5


def test_single_numbers_and_equal_ones_have_no_interval_but_one_equal_side_does():
    assert difference(np.array([0.5]), np.array([0.4, 0.3])).low is None
    assert difference(np.array([0.5, 0.5]), np.array([0.4, 0.4])).p is None
    assert difference(np.array([0.5, 0.5]), np.array([0.4, 0.3])).p is not None


def test_a_rank_holds_as_often_as_the_normal_law_says():
    rng = np.random.default_rng(0)
    a, b, far = rng.normal(0.3, 1, 40), rng.normal(0, 1, 40), rng.normal(9, 1, 40)
    spread = np.sqrt(a.var() / 40 + b.var() / 40)
    expected = stats.norm.cdf(abs(a.mean() - b.mean()) / spread)
    first, second, always = rank_holds([a, b, far])
    assert (first, second) == (pytest.approx(expected, abs=0.02),) * 2 and always == 1.0
    assert rank_holds([a, b[:1]]) is None and rank_holds([a]) is None


@pytest.mark.parametrize("gap, sd", [(0.5, 0.3), (0.5, 0.6), (1, 0.25), (0.1, 2)])
def test_runs_needed_are_statsmodels(gap, sd):
    for paired, law in ((False, power.TTestIndPower()), (True, power.TTestPower())):
        runs = runs_needed(gap, sd, paired)

        def reached(count, law=law):
            return law.power(gap / sd, count, alpha=0.05)

        assert reached(runs) >= 0.8 and (runs == 2 or reached(runs - 1) < 0.8)
    assert runs_needed(100, 0.01) == 2  # where statsmodels computes no number


def test_so_many_runs_find_the_gap_in_four_of_five_cases():
    runs, rng = runs_needed(0.5, 0.6), np.random.default_rng(0)
    assert runs == pytest.approx(15.7 * 0.6**2 / 0.5**2, abs=2)
    found = [difference(rng.normal(0.5, 0.6, runs), rng.normal(0, 0.6, runs)).p < 0.05 for _ in range(1000)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.04)
    assert runs_needed(0, 1) is None and runs_needed(1, 0) is None


def test_rankings_agree_with_themselves_and_not_with_their_reverse():
    assert agreement([1, 2, 3], [10, 20, 30]) == (1.0, 1.0) and agreement([1, 2, 3], [3, 2, 1]) == (-1.0, -1.0)


def test_examples_hold():
    assert doctest.testmod(differences).failed == 0
