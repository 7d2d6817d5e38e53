"""DD-Ranking (arXiv:2505.13300): a set beside all real images with hard labels, and beside random ones under its own recipe.

The release takes the best epoch and the best rate on the test split, and puts percent into the exponential. Here every arm
chooses its rate among the same ones on the validation split, the last epoch counts, and accuracies are fractions.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy import stats

from distill.checks import setting
from distill.comparison.forms import MISSING, Form, plain
from distill.report.gains import sample
from distill.report.rows import Row
from distill.suites.base import RANDOM, WHOLE, Cell, Judged, Rows, Subject, Suite

OTHERS = "others"
WIDER = " again"  # behind the name of a cell that tries more rates
WORDS = "map of text to list of text"
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
Part = tuple[float, np.ndarray]  # a weight, and a number for each run


@dataclass(frozen=True)
class DdRanking(Suite):
    """HLR (lower is better), IOR, LRS and ARS.

    Attributes:
        weight: w of LRS.
        gamma: of ARS.
        rates: that every arm but the whole real set tries on the validation split.
        widen: where an arm's best is the largest or the smallest, all arms try again, with one more at either end, this factor
            away; None never.
        hard, real: words of a run: for sets with hard labels, and for the whole real set.
        own: words of a method's own recipe and labels, by method; ``others`` of all that are not named.
        bare: words that take augmentation out of these, or mixing.
    """

    weight: float = setting("[0, 1]")
    gamma: float = setting("[0, 1]")
    rates: Sequence[float] = setting("list of (0, 10]")
    widen: float | None = setting("null or (1, 100]")
    hard: Sequence[str] = setting("list of text")
    real: Sequence[str] = setting("list of text")
    own: Mapping[str, Sequence[str]] = setting(WORDS)
    bare: Mapping[str, Sequence[str]] = setting(WORDS)

    scores = ("HLR", "IOR", "LRS", "ARS")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, words in (("own", self.own), ("bare", self.bare)):
            if OTHERS not in words:
                raise ValueError(f"suite.{name} has no {OTHERS}: the words of methods that it does not name")

    @property
    def notes(self) -> list[str]:
        w, gamma = self.weight, self.gamma
        return [
            "HLR: accuracy of all real images less the set's, both with hard labels (lower is better). IOR: the set's less "
            "that of as many random images of draws of their own, both under the set's recipe. "
            f"LRS: of {w:g} IOR - {1 - w:g} HLR. ARS: of {gamma:g} the gain over random with augmentation and {1 - gamma:g} "
            "that without. Both are 26.9 where nothing is lost or gained. ddranking's tables call HLR hard_label_recovery, IOR "
            "improvement_over_random.",
            "Rates were chosen on the validation split, the last epoch counts. [ ]: the 95 % interval, over R syntheses; where "
            "R = 1 over students.",
        ]

    def check(self, val: bool) -> None:
        if not val:
            raise ValueError("suite=ddranking chooses rates on the validation split, and data.val is 0: leave it out")

    def cells(self, rows: Rows, method: str) -> list[Cell]:
        arms = self.arms(method, self.rates)
        names = [cell.name for cell in arms if cell.of != WHOLE]
        if self.widen is None or (all(name in rows for name in names) and not self.at_end(rows)):
            return arms
        wider = [cell for cell in self.arms(method, self.wider) if cell.of != WHOLE]
        return [*arms, *(replace(cell, name=cell.name + WIDER, sure=self.at_end(rows)) for cell in wider)]

    def arms(self, method: str, rates: Sequence[float]) -> list[Cell]:
        """The cells of a method whose rate is one of these."""
        tried = f"++protocol.candidates.lr=[{','.join(map(str, rates))}]"
        own = (*self.own.get(method, self.own[OTHERS]), tried)
        bare = (*own, *self.bare.get(method, self.bare[OTHERS]))
        return [
            Cell("syn_hard", self.student, (*self.hard, tried)),
            Cell("syn_any", self.student, own),
            Cell("rdm_any", self.student, own, of=RANDOM),
            Cell("syn_bare", self.student, bare),
            Cell("rdm_bare", self.student, bare, of=RANDOM),
            Cell("real_hard", self.student, tuple(self.real), of=WHOLE),
        ]

    @property
    def wider(self) -> list[float]:
        """The rates, and one more at either end."""
        factor = self.widen or 1.0
        return [float(f"{min(self.rates) / factor:.6g}"), *self.rates, float(f"{max(self.rates) * factor:.6g}")]

    def at_end(self, rows: Rows) -> bool:
        """Whether an arm chose the largest or the smallest rate."""
        tried = [
            row["chosen"]["lr"] for name, row in rows.items() if not name.endswith(WIDER) and "lr" in row["chosen"]
        ]
        return self.widen is not None and any(lr in (min(self.rates), max(self.rates)) for lr in tried)

    def counted(self, rows: Rows) -> Rows:
        """The rows that count, by arm: where all arms try again, those."""
        again = {name.removesuffix(WIDER): row for name, row in rows.items() if name.endswith(WIDER)}
        real = {name: row for name, row in rows.items() if name == "real_hard"}
        return again | real if self.at_end(rows) else rows

    def parts(self, rows: Rows) -> dict[str, list[Part] | None]:
        """What the scores are sums of, LRS and ARS before the exponential; None where a row is missing."""
        w, gamma, rows = self.weight, self.gamma, self.counted(rows)
        return {
            "HLR": parts(rows, real_hard=1.0, syn_hard=-1.0),
            "IOR": parts(rows, syn_any=1.0, rdm_any=-1.0),
            "LRS": self.label_robust(rows, w),
            "ARS": parts(rows, syn_any=gamma, syn_bare=1 - gamma, rdm_any=-gamma, rdm_bare=gamma - 1),
        }

    @staticmethod
    def label_robust(rows: Rows, weight: float) -> list[Part] | None:
        return parts(rows, syn_any=weight, syn_hard=1 - weight, rdm_any=-weight, real_hard=weight - 1)

    def score(self, rows: Rows, random: Rows) -> dict[str, float | None]:
        found = {name: None if own is None else total(own) for name, own in self.parts(rows).items()}
        return {name: value if name in ("HLR", "IOR") else score_of(value) for name, value in found.items()}

    def intervals(self, rows: Rows, random: Rows) -> dict[str, tuple[float, float]]:
        found = {name: interval(own) for name, own in self.parts(rows).items() if own is not None}
        plainly = {name: ends for name, ends in found.items() if ends is not None}
        return {
            name: ends if name in ("HLR", "IOR") else (squashed(ends[0]), squashed(ends[1]))
            for name, ends in plainly.items()
        }

    def tables(self, judged: Judged) -> list[Form]:
        return [self.weighed(judged), self.chosen(judged)]

    def weighed(self, judged: Judged) -> Form:
        """LRS at several weights, and where two methods change places."""
        body, alphas = [], dict[Subject, list[float]]()
        for subject, rows in judged.items():
            found = [self.label_robust(self.counted(rows), weight) for weight in WEIGHTS]
            known = [total(own) for own in found if own is not None]
            texts = [f"{100 * squashed(alpha):.2f}" for alpha in known] or [MISSING] * len(WEIGHTS)
            body.append(plain(subject.name, subject.size, *texts))
            alphas |= {subject: known} if known else {}
        notes = ["w = 0 ranks by accuracy with hard labels, w = 1 by the gain over random images."]
        for (one, first), (other, second) in combinations(alphas.items(), 2):
            at = meeting(first[0] - second[0], first[-1] - second[-1])
            if one.size == other.size and at is not None:
                notes.append(f"{one.name} and {other.name}, ipc {one.size}, change places at w = {at:.2f}.")
        columns = ["method", "ipc", *(f"w = {weight:g}" for weight in WEIGHTS)]
        return Form("ddranking-weights", "LRS by the weight of IOR, %", columns, body, notes)

    def chosen(self, judged: Judged) -> Form:
        """The rates that the arms chose."""
        names, body = [cell.name for cell in self.arms(OTHERS, ()) if cell.of != WHOLE], []
        for subject, rows in judged.items():
            own, grid = self.counted(rows), self.wider if self.at_end(rows) else self.rates
            texts = [rate(own[name], grid) if name in own else None for name in names]
            body.append(plain(subject.name, subject.size, *texts))
        notes = [
            "end: the largest or the smallest of those that were tried; try more with suite.rates=[...]. Learned: the rate "
            "that came with the set, and the accuracies on the validation split of both.",
        ]
        return Form("ddranking-rates", "Rates chosen on the validation split", ["method", "ipc", *names], body, notes)


def rate(row: Row, grid: Sequence[float]) -> str:
    """The rate that a row chose among those of a grid and perhaps a learned one, and what was noteworthy of it."""
    chosen = row["chosen"]
    tried, values = chosen["candidates"]["lr"], chosen["validation_accuracies"]
    end = " (end)" if chosen["lr"] in (min(grid), max(grid)) else ""
    learned = len(tried) > len(grid)
    beside = (
        f"; learned {tried[-1]:.4g}: {100 * values[-1]:.1f}, others {100 * max(values[:-1]):.1f}" if learned else ""
    )
    return f"{chosen['lr']:.4g}{end}{beside}"


def parts(rows: Rows, **weights: float) -> list[Part] | None:
    """A weighed sum of cells as parts that are independent of each other; None where a cell has no row.

    Cells of the same sets have a number for each synthesis, which are summed first: what is good for one is for the other.
    """
    if any(name not in rows for name in weights):
        return None
    found: dict[tuple[str, int], Part] = {}
    for name, weight in weights.items():
        runs = fractions(sample(rows[name]), name)
        key = (name.partition("_")[0], len(runs))
        found[key] = (1.0, found.get(key, (1.0, np.zeros(len(runs))))[1] + weight * runs)
    return list(found.values())


def fractions(values: np.ndarray, name: str) -> np.ndarray:
    """The values, which are accuracies.

    Raises:
        ValueError: one is none in [0, 1], as in percent: the exponential would be of another number.

    Examples:
        >>> fractions(np.array([0.25, 0.5]), "syn_any")
        array([0.25, 0.5 ])
    """
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(
            f"accuracies of {name} are {values.tolist()}, expected fractions in [0, 1]; in percent divide by 100"
        )
    return values


def total(found: Sequence[Part]) -> float:
    return float(sum(weight * runs.mean() for weight, runs in found))


def interval(found: Sequence[Part]) -> tuple[float, float] | None:
    """The 95 % interval of a sum of independent means, with Welch's and Satterthwaite's degrees of freedom.

    None where a part is a single number, or where nothing varies.

    Examples:
        >>> low, high = interval([(1.0, np.array([0.5, 0.7])), (-1.0, np.array([0.2, 0.4]))])
        >>> round(low, 3), round(high, 3)
        (-0.308, 0.908)
    """
    if any(len(runs) < 2 for _, runs in found):
        return None
    variances = [weight**2 * runs.var(ddof=1) / len(runs) for weight, runs in found]
    if (variance := sum(variances)) < 1e-24:
        return None
    degrees = variance**2 / sum(each**2 / (len(runs) - 1) for each, (_, runs) in zip(variances, found, strict=True))
    half = float(stats.t.ppf(0.975, degrees) * math.sqrt(variance))
    return total(found) - half, total(found) + half


def squashed(alpha: float) -> float:
    """[-1, 1] to [0, 1]: (e^alpha - e^-1) / (e - e^-1), DD-Ranking's map; 0 goes to 0.269.

    Examples:
        >>> squashed(-1), round(squashed(0), 3), squashed(1)
        (0.0, 0.269, 1.0)
    """
    return (math.exp(alpha) - math.exp(-1)) / (math.e - math.exp(-1))


def score_of(alpha: float | None) -> float | None:
    return None if alpha is None else squashed(alpha)


def meeting(at_zero: float, at_one: float) -> float | None:
    """Where in (0, 1) a line from one number to another is 0; None where it is nowhere.

    Examples:
        >>> meeting(-0.1, 0.3), meeting(0.1, 0.3)
        (0.25, None)
    """
    return at_zero / (at_zero - at_one) if at_zero * at_one < 0 else None
