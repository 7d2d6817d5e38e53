"""Recipe: everything about a training run but its images and labels."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from distill.checks import check_ranges, setting, stated
from distill.sets.soundness import MAX_LR
from distill.training.losses import Loss, Net
from distill.training.optimizers import Optimizer
from distill.training.pretext import BarlowTwins
from distill.training.schedules import Schedule
from distill.training.views import Mix, Views

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Recipe:
    """How networks are trained, whatever on.

    Attributes:
        epochs: E; None where steps are counted.
        steps: optimiser steps, exactly, whatever the size of the set: the last epoch is cut, and the schedule is over these
            steps. None where epochs are counted.
        extra_epochs: 1 where the published loop counts 0..E inclusive, else 0.
        lr: step size, which ``schedule`` moves.
        batch: images a step; the last, smaller batch of an epoch is kept.
        micro_batches: parts of a batch that go through networks one after another, with batch statistics of their own. Of an
            epoch's last, smaller batch students take parts of the same size (whole where it fits into one), each weighed
            as a part of a full batch; teachers take as many parts as ever.
        ema: decay of the running mean of weights that training ends with; None ends with the last weights.
        precision: of the network's forward and backward pass, ``fp32`` or ``bf16`` (autocast); weights stay in fp32.
        mix: None leaves views unmixed.

    Raises:
        ValueError: a value is out of range, or both epochs and steps are counted, or neither.
    """

    epochs: int | None = setting("null or whole [0, 100000]")
    steps: int | None = setting("null or whole [1, 100000000]")
    extra_epochs: int = setting("whole [0, 100000]")
    lr: float = setting(f"(0, {MAX_LR:g}]")
    batch: int = setting("whole [1, 1000000]")
    micro_batches: int = setting("whole [1, 1000]")
    ema: float | None = setting("null or [0, 1]")
    precision: str = setting(f"one of {', '.join(PRECISIONS)}")
    optimizer: Optimizer = setting(Optimizer)
    schedule: Schedule = setting(Schedule)
    views: Views = setting(Views)
    mix: Mix | None = setting(("null", Mix))

    def __post_init__(self) -> None:
        check_ranges("recipe", vars(self), stated(type(self)))
        if self.micro_batches > self.batch:
            raise ValueError(
                f"recipe.micro_batches is {self.micro_batches}, expected at most the batch of {self.batch}"
            )
        if (self.epochs is None) == (self.steps is None) or (self.steps is not None and self.extra_epochs):
            raise ValueError(
                f"recipe counts epochs={self.epochs} and {self.extra_epochs} extra, and steps={self.steps}: expected epochs "
                "with steps=null, or steps with epochs=null and extra_epochs=0"
            )

    def with_(self, **fields: Any) -> "Recipe":
        """A copy with other values."""
        return replace(self, **fields)

    def batches(self, images: int) -> int:
        """Optimiser steps in an epoch on a set of this many images."""
        return math.ceil(images / self.batch)

    def span(self, images: int) -> float:
        """Epochs that the schedule is over, on a set of this many images; a fraction where steps are counted."""
        return (self.epochs or 0) if self.steps is None else self.steps / self.batches(images)

    def passes(self, images: int) -> int:
        """Epochs really run on a set of this many images; where steps are counted the last may be cut."""
        return math.ceil(self.span(images)) + self.extra_epochs

    def updates(self, images: int) -> int:
        """Optimiser steps in all, on a set of this many images."""
        return self.passes(images) * self.batches(images) if self.steps is None else self.steps

    def is_over(self, epochs: int, steps: int) -> bool:
        """Whether training ends after so many epochs, or optimiser steps."""
        return epochs >= (self.epochs or 0) + self.extra_epochs if self.steps is None else steps >= self.steps

    def rate(self, epoch: float, span: float) -> float:
        """Step size in ``epoch`` of a schedule over ``span`` epochs."""
        return self.schedule.rate(self.lr, epoch if self.schedule.by_step else int(epoch), span)

    def make_optimizer(self, weights: Tensor, epoch: int, span: float) -> torch.optim.Optimizer:
        """A fresh optimiser over ``weights`` as ``epoch`` begins."""
        return self.optimizer.make(weights, self.rate(epoch, span), self.schedule.momentum(epoch, span))

    def logits(self, net: Net, views: Tensor) -> Tensor:
        """What ``net`` says of ``views`` at this recipe's precision, float32."""
        dtype = PRECISIONS[self.precision]
        with torch.autocast(views.device.type, dtype, enabled=dtype is not None):
            return net(views).float()


EXPERTS: dict[str, Any] = {  # settings of trajectories, ``configs/experts``
    "name": "text",
    "count": "whole [1, 10000]",
    "recipe": Recipe,
    "loss": Loss,
}

TEACHERS: dict[str, Any] = {  # settings of a committee, there too
    "name": "text",
    "networks": "null or list of text",
    "count": "whole [1, 100]",
    "minimum": "[0, 1]",
    "priors": "null or list of [0, 100]",
    "mode": "one of eval, batch",
    "dynamics": "absent or true or false",
    "pretext": ("absent or null", BarlowTwins),
    "recipe": Recipe,
}
