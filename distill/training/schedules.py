"""Schedules: how the step size moves, epoch by epoch."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from distill.checks import check_ranges, setting, stated


@dataclass(frozen=True)
class Schedule(ABC):
    """How a recipe's step size ``lr`` moves in its ``epochs``; epochs are counted from 0.

    Raises:
        ValueError: a value is out of range.
    """

    def __post_init__(self) -> None:
        check_ranges("recipe.schedule", vars(self), stated(type(self)))

    @abstractmethod
    def rate(self, lr: float, epoch: int, epochs: int) -> float:
        """Step size in ``epoch``."""

    def restarts_after(self, epoch: int, epochs: int) -> bool:
        """Whether the optimiser starts afresh after ``epoch``."""
        return False

    def momentum(self, epoch: int, epochs: int) -> float | None:
        """The optimiser's momentum in ``epoch``, where it is another than its own."""
        return None


@dataclass(frozen=True)
class Constant(Schedule):
    """One step size."""

    def rate(self, lr: float, epoch: int, epochs: int) -> float:
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

    def last(self, epochs: int) -> int:
        """Index of the last epoch before the drop."""
        return epochs // 2 + 1 if self.decay_epoch is None else self.decay_epoch

    def dropped(self, epoch: int, epochs: int) -> bool:
        return self.decay != 1 and epoch > self.last(epochs)

    def rate(self, lr: float, epoch: int, epochs: int) -> float:
        return lr * self.decay if self.dropped(epoch, epochs) else lr

    def restarts_after(self, epoch: int, epochs: int) -> bool:
        return self.decay != 1 and epoch == self.last(epochs)

    def momentum(self, epoch: int, epochs: int) -> float | None:
        return self.decay_momentum if self.dropped(epoch, epochs) else None


@dataclass(frozen=True)
class Cosine(Schedule):
    """A cosine.

    Attributes:
        stretch: zeta; the cosine reaches zero after zeta E epochs, so that 2 ends at half the rate. None keeps it constant.

    Source: SRe2L (arXiv:2306.13092), RDED (arXiv:2312.03526), EDC (arXiv:2404.13733), as their code has it.
    """

    stretch: float | None = setting("null or (0, 1000000]")

    def rate(self, lr: float, epoch: int, epochs: int) -> float:
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

    def rate(self, lr: float, epoch: int, epochs: int) -> float:
        if epoch < self.warmup_epochs:
            return lr * (self.warmup_start + (1 - self.warmup_start) * epoch / self.warmup_epochs)
        return super().rate(lr, epoch - self.warmup_epochs, epochs - self.warmup_epochs)
