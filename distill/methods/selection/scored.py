"""Rules that pick one end of a score, or cover its range; the mathematics is in functions of their own."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from distill.checks import setting
from distill.methods.selection import scores
from distill.methods.selection.coverage import ccs, left_out
from distill.methods.selection.rules import Pool, Rule


@dataclass(frozen=True)
class Score(Rule):
    """Picks one end of a score of each image; the mean over proxies, where there are several. Ties go to the first image.

    Attributes:
        keep: the end that is kept.
    """

    keep: str = setting("one of easy, hard")
    hard_is_high: ClassVar[bool] = True  # whether images of high scores are the hard ones

    @abstractmethod
    def of_each(self, pool: Pool) -> list[Tensor]:
        """By every proxy, (n,)."""

    def scores(self, pool: Pool) -> Tensor:
        """(n,).

        Raises:
            ValueError: one is NaN.
        """
        found = torch.stack(self.of_each(pool)).mean(0)
        scores.check_scores(type(self).__name__, found)
        return found

    def pick(self, pool: Pool, count: int) -> Tensor:
        return scores.ranked(self.scores(pool), count, highest=(self.keep == "hard") == self.hard_is_high)


@dataclass(frozen=True)
class Forgetting(Score):
    """`distill.methods.selection.scores.forgetting`.

    Attributes:
        unlearned: what an image counts that no epoch was right about.
    """

    unlearned: str = setting("one of zero, infinite")

    def of_each(self, pool: Pool) -> list[Tensor]:
        return [scores.forgetting(correct, self.unlearned) for correct, _, _ in pool.logs]


@dataclass(frozen=True)
class EL2N(Score):
    """`distill.methods.selection.scores.el2n`.

    Attributes:
        epochs: the first ones, which are summed.
    """

    epochs: int = setting("whole [1, 100000]")

    def of_each(self, pool: Pool) -> list[Tensor]:
        return [scores.el2n(errors, self.epochs) for _, _, errors in pool.logs]


@dataclass(frozen=True)
class AUM(Score):
    """`distill.methods.selection.scores.aum`."""

    hard_is_high = False

    def of_each(self, pool: Pool) -> list[Tensor]:
        return [scores.aum(margins) for _, margins, _ in pool.logs]


@dataclass(frozen=True)
class GraNd(Score):
    """`distill.methods.selection.scores.grand`."""

    def of_each(self, pool: Pool) -> list[Tensor]:
        return [scores.grand(features, logits, pool.labels) for features, logits in pool.answers]


@dataclass(frozen=True)
class Entropy(Score):
    """`distill.methods.selection.scores.entropy`, less its sign: low is uncertain."""

    hard_is_high = False

    def of_each(self, pool: Pool) -> list[Tensor]:
        return [scores.entropy(logits) for _, logits in pool.answers]


@dataclass(frozen=True)
class Margin(Score):
    """`distill.methods.selection.scores.margin`."""

    hard_is_high = False

    def of_each(self, pool: Pool) -> list[Tensor]:
        return [scores.margin(logits) for _, logits in pool.answers]


@dataclass(frozen=True)
class LeastConfidence(Score):
    """`distill.methods.selection.scores.least_confidence`."""

    hard_is_high = False

    def of_each(self, pool: Pool) -> list[Tensor]:
        return [scores.least_confidence(logits) for _, logits in pool.answers]


@dataclass(frozen=True)
class CCS(Rule):
    """`distill.methods.selection.coverage.ccs`, at cut-offs that are chosen among on the validation split.

    Attributes:
        score: the importance whose range is covered.
        cutoffs: shares of the pool, those of the lowest area under the margin, that are left out.
        strata: of equal width.
    """

    score: Score = setting(Score)
    cutoffs: Sequence[float] = setting("list of [0, 1)")
    strata: int = setting("whole [1, 1000000]")

    @property
    def variants(self) -> Sequence[Rule]:
        return [replace(self, cutoffs=[cutoff]) for cutoff in self.cutoffs]

    def check(self, images: int, count: int) -> None:
        for cutoff in self.cutoffs:
            left_out(images, count, cutoff)

    def pick(self, pool: Pool, count: int) -> Tensor:
        aum = torch.stack([scores.aum(margins) for _, margins, _ in pool.logs]).mean(0)
        return ccs(self.score.scores(pool), aum, count, self.cutoffs[0], self.strata, pool.generator())
