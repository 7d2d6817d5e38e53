"""How well a proxy ranks networks whose true accuracy is known."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from distill import rng
from distill.report.differences import agreement

RESAMPLES = 10_000
SHUFFLES = 1_000


@dataclass(frozen=True)
class Correlation:
    """A rank correlation with its 95 % interval, from a bootstrap over networks; None where too few differ."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Ranking:
    """What a proxy's scores are worth.

    Attributes:
        rho, tau: Spearman's and Kendall's (tau_b) correlation with the truth.
        inside: Spearman's among the networks of each depth; None where the scores are all equal there.
        regret: by k, the best true accuracy less the best among the proxy's first k, in [0, 1].
        chosen: true accuracy on the test split of the network that the proxy puts first.
    """

    rho: Correlation
    tau: Correlation
    inside: dict[int, float | None]
    regret: dict[int, float]
    chosen: float


def ranking(
    scores: np.ndarray, truth: np.ndarray, test: np.ndarray, depths: np.ndarray, firsts: Sequence[int] = (1, 5)
) -> Ranking | None:
    """Judge a proxy; several syntheses (or draws) are several proxies, whose numbers are averaged.

    Args:
        scores: (R, n), of n networks by R syntheses.
        truth, test: true accuracies on the validation and on the test split, (n,).
        depths: of the networks, (n,).

    Returns:
        None where the scores of a synthesis are all equal: that is no ranking.

    Examples:
        >>> truth, depths = np.array([0.1, 0.2, 0.3, 0.4]), np.array([1, 1, 2, 2])
        >>> found = ranking(np.array([[1, 2, 4, 3]]), truth, truth, depths, firsts=(1,))
        >>> round(found.rho.value, 3), round(found.tau.value, 3), found.inside, round(found.regret[1], 3)
        (0.8, 0.667, {1: 1.0, 2: -1.0}, 0.1)
        >>> ranking(np.ones((1, 4)), truth, truth, depths) is None
        True
    """
    if any(is_constant(each) for each in scores):
        return None
    rho, tau = correlations([(each, truth) for each in scores])
    inside: dict[int, float | None] = {}
    for depth in np.unique(depths).tolist():
        own = depths == depth
        flat = is_constant(truth[own]) or any(is_constant(each[own]) for each in scores)
        inside[depth] = (
            None if flat else float(np.mean([agreement(list(each[own]), list(truth[own]))[0] for each in scores]))
        )
    orders = np.stack([order for each in scores for order in orders_of(each)])
    regret = {k: float((truth.max() - truth[orders[:, :k]].max(1)).mean()) for k in firsts}
    return Ranking(rho, tau, inside, regret, float(test[orders[:, 0]].mean()))


def is_constant(values: np.ndarray) -> bool:
    return bool(np.ptp(values) == 0)


def orders_of(scores: np.ndarray) -> np.ndarray:
    """Networks from the best on, (`SHUFFLES`, n): equal ones in random order."""
    noise = np.random.default_rng(rng.derive(0, "equal scores")).random((SHUFFLES, len(scores)))
    return np.lexsort((noise, np.broadcast_to(-scores, noise.shape)))


def correlations(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[Correlation, Correlation]:
    """Spearman's and Kendall's correlation, averaged over pairs (n,), (n,) of scores of the same n networks.

    Their intervals are those of 10,000 resamples of the networks, in which a pair's scores stay together.
    """
    values = zip(*(agreement(list(x), list(y)) for x, y in pairs), strict=True)
    counts = resamples(len(pairs[0][0]))
    rho, tau = (
        Correlation(float(np.mean(value)), *interval(np.mean([measure(counts, *pair) for pair in pairs], axis=0)))
        for value, measure in zip(values, MEASURES, strict=True)
    )
    return rho, tau


@cache
def resamples(n: int) -> np.ndarray:
    """How often each of n networks is in each resample, (`RESAMPLES`, n)."""
    return np.random.default_rng(rng.derive(0, "bootstrap")).multinomial(n, np.full(n, 1 / n), RESAMPLES).astype(float)


def interval(values: np.ndarray) -> tuple[float | None, float | None]:
    """The middle 95 %; resamples of equal scores have no correlation and are left out."""
    there = values[np.isfinite(values)]
    if not len(there):
        return None, None
    low, high = np.quantile(there, [0.025, 0.975])
    return float(low), float(high)


def spearman(counts: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of each resample (R, n) of pairs x, y (n,): the correlation of mid-ranks."""
    n = len(x)
    ranks = []
    for values in (x, y):
        below, equal = values[None] < values[:, None], values[None] == values[:, None]
        ranks.append(counts @ below.T + counts @ equal.T / 2 - n / 2)  # less the mean rank
    first, second = ranks
    return divided((counts * first * second).sum(1), (counts * first**2).sum(1), (counts * second**2).sum(1))


def kendall(counts: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of each resample (R, n) of pairs x, y (n,): tau_b."""
    first, second = (np.sign(values[None] - values[:, None]) for values in (x, y))
    return divided(*(((counts @ each) * counts).sum(1) for each in (first * second, first**2, second**2)))


def divided(both: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """``both`` over the root of the others' product; not a number where one of them is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return both / np.sqrt(first * second)


MEASURES: tuple[Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray], ...] = (spearman, kendall)
