"""Schedules: how the step size moves, epoch by epoch or step by step."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from distill.checks import check_ranges, setting, stated


@dataclass(frozen=True)
class Schedule(ABC):
    """How a recipe's step size ``lr`` moves in its ``epochs``; epochs are counted from 0.

    Attributes:
        by_step: whether it moves from step to step: ``epoch`` is then a fraction, such as 2.5 halfway through the third.

    Raises:
        ValueError: a value is out of range.
    """

    by_step: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_ranges("recipe.schedule", vars(self), stated(type(self)))

    @abstractmethod
    def rate(self, lr: float, epoch: float, epochs: float) -> float:
        """Step size in ``epoch``; ``epochs`` is a fraction where steps are counted."""

    def restarts_after(self, epoch: int, epochs: float) -> bool:
        """Whether the optimiser starts afresh after ``epoch``."""
        return False

    def momentum(self, epoch: int, epochs: float) -> float | None:
        """The optimiser's momentum in ``epoch``, where it is another than its own."""
        return None


@dataclass(frozen=True)
class Constant(Schedule):
    """One step size."""

    def rate(self, lr: float, epoch: float, epochs: float) -> float:
        return lr


@dataclass(frozen=True)
class Drop(Schedule):
    """One drop, where the optimiser starts afresh.

    Attributes:
        decay: factor on the step size; 1 keeps it, and the optimiser too.
        decay_epoch: index of the last epoch before the drop; None is E // 2 + 1.
        decay_momentum: momentum from there on; None keeps it.

    Source: the evaluation of DC (arXiv:2006.05929), as its code and DC-BENCH's have it.
    """

    decay: float = setting("[0, 1]")
    decay_epoch: int | None = setting("null or whole [0, 100000]")
    decay_momentum: float | None = setting("null or [0, 1)")

    def last(self, epochs: float) -> float:
        """Index of the last epoch before the drop."""
        return epochs // 2 + 1 if self.decay_epoch is None else self.decay_epoch

    def dropped(self, epoch: float, epochs: float) -> bool:
        return self.decay != 1 and epoch > self.last(epochs)

    def rate(self, lr: float, epoch: float, epochs: float) -> float:
        return lr * self.decay if self.dropped(epoch, epochs) else lr

    def restarts_after(self, epoch: int, epochs: float) -> bool:
        return self.decay != 1 and epoch == self.last(epochs)

    def momentum(self, epoch: int, epochs: float) -> float | None:
        return self.decay_momentum if self.dropped(epoch, epochs) else None


@dataclass(frozen=True)
class Steps(Schedule):
    """A drop every so many epochs, with the optimiser left as it is: torch's ``StepLR``.

    Attributes:
        decay: factor on the step size.
        decay_every: epochs from drop to drop; None is half of all.

    >>> [Steps(0.1, 2).rate(1.0, epoch, 8) for epoch in (0, 1, 2)], Steps(0.1, None).rate(1.0, 4, 8)
    ([1.0, 1.0, 0.1], 0.1)
    """

    decay: float = setting("[0, 1]")
    decay_every: int | None = setting("null or whole [1, 100000]")

    def rate(self, lr: float, epoch: float, epochs: float) -> float:
        return lr * float(self.decay ** (epoch // (self.decay_every or max(1, epochs // 2))))


@dataclass(frozen=True)
class StepsAt(Schedule):
    """A drop after each of some shares of all epochs, with the optimiser left as it is: torch's ``MultiStepLR``.

    Attributes:
        decay: factor on the step size.
        decay_at: shares of all epochs.

    >>> [round(StepsAt(0.2, (0.6, 0.8)).rate(1.0, epoch, 1000), 3) for epoch in (599, 600, 800)]
    [1.0, 0.2, 0.04]
    """

    decay: float = setting("[0, 1]")
    decay_at: Sequence[float] = setting("list of [0, 1]")

    def rate(self, lr: float, epoch: float, epochs: float) -> float:
        return lr * float(self.decay ** sum(epoch >= share * epochs for share in self.decay_at))


@dataclass(frozen=True)
class Cosine(Schedule):
    """A cosine.

    Attributes:
        stretch: zeta; the cosine reaches zero after zeta E epochs, so that 2 ends at half the rate. None keeps it constant.

    Source: SRe2L (arXiv:2306.13092), RDED (arXiv:2312.03526), EDC (arXiv:2404.13733), as their code has it.
    """

    stretch: float | None = setting("null or (0, 1000000]")

    def rate(self, lr: float, epoch: float, epochs: float) -> float:
        if self.stretch is None:
            return lr
        return lr * 0.5 * (1 + math.cos(math.pi * epoch / max(1, epochs) / self.stretch))


@dataclass(frozen=True)
class WarmCosine(Cosine):
    """A cosine after a linear climb, over the epochs that are left.

    Attributes:
        warmup_epochs: epochs of the climb to ``lr``.
        warmup_start: share of ``lr`` it begins at.
    """

    warmup_epochs: int = setting("whole [1, 100000]")
    warmup_start: float = setting("[0, 1]")

    def rate(self, lr: float, epoch: float, epochs: float) -> float:
        if epoch < self.warmup_epochs:
            return lr * (self.warmup_start + (1 - self.warmup_start) * epoch / self.warmup_epochs)
        return super().rate(lr, epoch - self.warmup_epochs, epochs - self.warmup_epochs)


@dataclass(frozen=True)
class CosineByStep(Schedule):
    """A cosine from ``lr`` to a floor, which it would reach with the step after the last.

    Attributes:
        floor: step size at its end.

    >>> [round(CosineByStep(0.1).rate(1.0, epoch, 2), 3) for epoch in (0, 0.5, 1, 2)]
    [1.0, 0.868, 0.55, 0.1]

    Source: DeepCore (arXiv:2204.08499), CCS (arXiv:2210.15809), RS2 (arXiv:2305.18424), as their code has it.
    """

    by_step = True
    floor: float = setting("[0, 10]")

    def rate(self, lr: float, epoch: float, epochs: float) -> float:
        return annealed(lr, self.floor, epoch / (epochs or 1))


@dataclass(frozen=True)
class OneCycle(Schedule):
    """A climb to ``lr`` and a descent far below its start, cosines both: torch's ``OneCycleLR``, to within a step.

    Attributes:
        pct_start: share of the training that climbs.
        div_factor: ``lr`` over the first rate.
        final_div_factor: the first rate over the last.

    >>> cycle = OneCycle(pct_start=0.25, div_factor=10, final_div_factor=100)
    >>> [round(cycle.rate(1.0, epoch, 4), 3) for epoch in (0, 0.5, 1, 2.5, 4)]
    [0.1, 0.55, 1.0, 0.5, 0.001]

    Source: Smith & Topin, arXiv:1708.07120, in the form that InfoBatch and SeTa train with.
    """

    by_step = True
    pct_start: float = setting("(0, 1)")
    div_factor: float = setting("[1, 1000000]")
    final_div_factor: float = setting("[1, 1000000000]")

    def rate(self, lr: float, epoch: float, epochs: float) -> float:
        first, done = lr / self.div_factor, epoch / (epochs or 1)
        if done < self.pct_start:
            return annealed(first, lr, done / self.pct_start)
        return annealed(lr, first / self.final_div_factor, (done - self.pct_start) / (1 - self.pct_start))


def annealed(first: float, last: float, done: float) -> float:
    """From ``first`` to ``last`` along half a cosine, of which ``done`` in [0, 1] lies behind."""
    return last + (first - last) * (1 + math.cos(math.pi * done)) / 2
