"""Differences between two samples of accuracies: interval, permutation, correction, ranks, and how many runs would tell."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

RESAMPLES = 9999
LEVEL, POWER = 0.05, 0.8


@dataclass(frozen=True)
class Difference:
    """How far two means are apart.

    Attributes:
        mean: of the first sample less that of the second, in the samples' unit.
        low, high: the 95 % interval; None where a sample is a single number, or where nothing varies.
        p: of the t test that belongs to it, two-sided.
        sd: of a run: of the paired differences, or pooled over both samples.
    """

    mean: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    sd: float | None = None


def difference(ours: np.ndarray, theirs: np.ndarray, paired: bool = False) -> Difference:
    """Welch's interval of the difference of two means, or of paired samples that of the mean difference.

    Args:
        ours, theirs: (n,) and (m,), a number for each run; n = m where they are paired.

    Examples:
        >>> found = difference(np.array([0.4, 0.5, 0.6]), np.array([0.1, 0.2, 0.3]), paired=True)
        >>> round(found.mean, 6), found.low is None  # every pair differs by as much: no spread, no interval
        (0.3, True)
    """
    mean = float(ours.mean() - theirs.mean())
    apart = (ours - theirs,) if paired else (ours, theirs)
    if min(map(len, apart)) < 2 or all(each.std() < 1e-12 for each in apart):
        return Difference(mean)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # one of the samples may be of equal numbers
        found = stats.ttest_rel(ours, theirs) if paired else stats.ttest_ind(ours, theirs, equal_var=False)
    low, high = found.confidence_interval(1 - LEVEL)
    sd = math.sqrt(np.mean([each.var(ddof=1) for each in apart]))
    return Difference(mean, float(low), float(high), float(found.pvalue), sd)


def permuted(ours: np.ndarray, theirs: np.ndarray, paired: bool = False) -> tuple[float, float]:
    """Two-sided p of a permutation test on the difference of means, and the smallest that samples of these sizes allow.

    Exact while there are at most 9,999 arrangements; else of so many random ones.

    Examples:
        >>> permuted(np.array([3.0, 4.0, 5.0]), np.array([0.0, 1.0, 2.0]))  # the widest gap of 20 arrangements, two-sided
        (0.1, 0.1)
    """

    def gap(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
        return a.mean(axis) - b.mean(axis)

    kind = "samples" if paired else "independent"
    made = 2 ** len(ours) if paired else math.comb(len(ours) + len(theirs), len(ours))
    found = stats.permutation_test(
        (ours, theirs), gap, permutation_type=kind, vectorized=True, n_resamples=RESAMPLES, random_state=0
    )
    return float(found.pvalue), 2 / min(made, RESAMPLES + 1)


def holm(ps: Sequence[float]) -> list[float]:
    """p of a family of tests, each corrected for being one of them (Holm, 1979).

    Examples:
        >>> [round(p, 6) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(ps)
    scaled = np.asarray(ps, dtype=float)[order] * np.arange(len(ps), 0, -1)
    corrected = np.empty(len(ps))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return corrected.tolist()


def ranks(means: np.ndarray) -> np.ndarray:
    """1 for the largest along the first axis; equal ones share the smaller number."""
    return stats.rankdata(-means, method="min", axis=0).astype(float)


def rank_holds(samples: Sequence[np.ndarray]) -> list[float] | None:
    """In what share of bootstrap draws of the runs each sample keeps the rank of its mean; None where one is a single number.

    Examples:
        >>> rank_holds([np.array([0.8, 0.9]), np.array([0.1, 0.2])])
        [1.0, 1.0]
    """
    if len(samples) < 2 or min(map(len, samples)) < 2:
        return None

    def ranked(*drawn: np.ndarray, axis: int) -> np.ndarray:
        return ranks(np.stack([each.mean(axis) for each in drawn]))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # ranks may be the same in all draws
        found = stats.bootstrap(
            samples, ranked, vectorized=True, axis=-1, n_resamples=RESAMPLES, method="percentile", random_state=0
        )
    own = ranks(np.array([each.mean() for each in samples]))
    return (found.bootstrap_distribution == own[:, None]).mean(1).tolist()


def ranks_over(means: np.ndarray) -> list[float]:
    """In what share of bootstrap draws of its columns each line of ``means`` (methods, data sets) keeps the rank of its mean.

    Examples:
        >>> ranks_over(np.array([[0.8, 0.9, 0.7], [0.1, 0.2, 0.3]]))
        [1.0, 1.0]
    """
    drawn = np.random.default_rng(0).integers(means.shape[1], size=(RESAMPLES, means.shape[1]))
    own = ranks(means.mean(1))
    return (ranks(means[:, drawn].mean(2)) == own[:, None]).mean(1).tolist()


def agreement(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """Spearman's and Kendall's correlation of two rankings of the same things.

    Examples:
        >>> agreement([0.1, 0.2, 0.3], [0.4, 0.6, 0.9])
        (1.0, 1.0)
    """
    measures: tuple[Callable[..., tuple[float, float]], ...] = (stats.spearmanr, stats.kendalltau)
    rho, tau = (round(float(measure(ours, theirs)[0]), 12) for measure in measures)
    return rho, tau


def runs_needed(gap: float, sd: float, paired: bool = False) -> int | None:
    """How many runs each of two methods needs so that a t test finds ``gap`` at the 5 % level in 80 % of cases.

    Args:
        sd: of a run, or of paired differences; in the unit of ``gap``.

    Returns:
        At least 2, about 15.7 (sd / gap)^2; None where there is no gap, or nothing that varies.

    Examples:
        >>> runs_needed(0.5, 0.6)
        24
    """
    if not gap or not sd:
        return None
    effect, arms = abs(gap) / sd, 1 if paired else 2
    normal = arms * ((stats.norm.ppf(1 - LEVEL / 2) + stats.norm.ppf(POWER)) / effect) ** 2
    runs = max(2, math.floor(normal))  # t asks for no fewer
    while _power(effect, runs, arms) < POWER:
        runs += 1
    return runs


def _power(effect: float, runs: int, arms: int) -> float:
    degrees = arms * (runs - 1)
    shift = min(20.0, effect * math.sqrt(runs / arms))  # farther out it is certain, and the distribution not computable
    bar = stats.t.ppf(1 - LEVEL / 2, degrees)
    return float(stats.nct.sf(bar, degrees, shift) + stats.nct.cdf(-bar, degrees, shift))
