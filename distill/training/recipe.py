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
from distill.training.schedules import Schedule
from distill.training.views import Mix, Views

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Recipe:
    """How networks are trained, whatever on.

    Attributes:
        epochs: E.
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
        ValueError: a value is out of range.
    """

    epochs: int = setting("whole [0, 100000]")
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

    @property
    def passes(self) -> int:
        """Epochs really run."""
        return self.epochs + self.extra_epochs

    def with_(self, **fields: Any) -> "Recipe":
        """A copy with other values."""
        return replace(self, **fields)

    def steps(self, images: int) -> int:
        """Optimiser steps on a set of this many images."""
        return self.passes * math.ceil(images / self.batch)

    def rate(self, epoch: int) -> float:
        """Step size in ``epoch``."""
        return self.schedule.rate(self.lr, epoch, self.epochs)

    def make_optimizer(self, weights: Tensor, epoch: int) -> torch.optim.Optimizer:
        """A fresh optimiser over ``weights`` as ``epoch`` begins."""
        return self.optimizer.make(weights, self.rate(epoch), self.schedule.momentum(epoch, self.epochs))

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
    "networks": "list of text",
    "count": "whole [1, 100]",
    "minimum": "[0, 1]",
    "priors": "null or list of [0, 100]",
    "mode": "one of eval, batch",
    "recipe": Recipe,
}
