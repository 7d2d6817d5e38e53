"""Recipes of experts and teachers; their values live in ``configs/experts``."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from distill.training.losses import Net, gradient_penalty, gsam_gradient
from distill.training.recipe import Recipe


@dataclass(frozen=True)
class ExpertRecipe(Recipe):
    """A recipe for experts, with what papers add to make their trajectories easier to follow.

    Attributes:
        gsam_rho, gsam_alpha: radius and weight of the orthogonal part of FTD's gradient (`gsam_gradient`); None without.
        ramp_start, ramp_epochs: the cross-entropy's weight grows linearly from ``ramp_start`` in epoch 0 to 1 in epoch
            ``ramp_epochs`` (AST's clipping loss); 1 and 0 for no ramp.
        gradient_penalty: weight of `gradient_penalty` (AST); 0 for none.
    """

    gsam_rho: float | None
    gsam_alpha: float | None
    ramp_start: float
    ramp_epochs: int
    gradient_penalty: float

    RANGES: ClassVar[Mapping[str, Any]] = {
        "gsam_rho": "null or [0, 1000]",
        "gsam_alpha": "null or [0, 1000]",
        "ramp_start": "(0, 1]",
        "ramp_epochs": "whole [0, 100000]",
        "gradient_penalty": "[0, 1000000]",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.gsam_rho is None) != (self.gsam_alpha is None):
            raise ValueError(
                f"gsam_rho is {self.gsam_rho} and gsam_alpha {self.gsam_alpha}: give both, or null for both"
            )

    @property
    def identity(self) -> dict[str, Any]:
        """Its values, and which penalty is meant: stores of the square of the mean, as it once was, hold other experts."""
        return super().identity | ({"penalty": "mean of squares"} if self.gradient_penalty else {})

    @property
    def loss_settings(self) -> tuple[Any, ...]:
        """The fields that `loss` depends on."""
        return self.precision, self.ramp_start, self.ramp_epochs, self.gradient_penalty

    def ramp(self, epoch: Tensor) -> Tensor:
        """Weight of the cross-entropy in ``epoch``."""
        return (self.ramp_start + (1 - self.ramp_start) * epoch / max(1, self.ramp_epochs)).clamp(max=1.0)

    def loss(self, net: Net, images: Tensor, views: Tensor, targets: Tensor, epoch: Tensor) -> Tensor:
        """Ramped cross-entropy plus the gradient penalty, which is not ramped."""
        loss = super().loss(net, images, views, targets, epoch)
        if self.ramp_start < 1:
            loss = self.ramp(epoch) * loss
        if self.gradient_penalty:
            loss = loss + self.gradient_penalty * gradient_penalty(net, images)
        return loss

    def direction(self, gradient: Callable[[Tensor], Tensor], weights: Tensor) -> Tensor:
        """The gradient, or GSAM's."""
        if self.gsam_rho is None or self.gsam_alpha is None:
            return gradient(weights)
        return gsam_gradient(gradient, weights, self.gsam_rho, self.gsam_alpha)


@dataclass(frozen=True)
class CosineRecipe(Recipe):
    """A recipe whose step size follows a cosine, epoch by epoch: that of teachers and of their students.

    Attributes:
        stretch: zeta; the cosine reaches zero after zeta E epochs, so that 2 ends at half the rate. None keeps it constant.
        warmup_epochs: epochs of a linear climb to ``lr`` before the cosine.
        warmup_start: share of ``lr`` it begins at.
        decoupled_decay: AdamW's weight decay, of kernels alone (tensors of two dimensions and more); 0 for none.

    Source: SRe2L (arXiv:2306.13092), RDED (arXiv:2312.03526), EDC (arXiv:2404.13733), as their code has it.
    """

    stretch: float | None
    warmup_epochs: int
    warmup_start: float
    decoupled_decay: float

    RANGES: ClassVar[Mapping[str, Any]] = {
        "stretch": "null or (0, 1000000]",
        "warmup_epochs": "whole [0, 100000]",
        "warmup_start": "[0, 1]",
        "decoupled_decay": "[0, 1000]",
    }

    def rate(self, epoch: int) -> float:
        """Step size in ``epoch``."""
        if epoch < self.warmup_epochs:
            return self.lr * (self.warmup_start + (1 - self.warmup_start) * epoch / self.warmup_epochs)
        if self.stretch is None:
            return self.lr
        done = (epoch - self.warmup_epochs) / max(1, self.epochs - self.warmup_epochs)
        return self.lr * 0.5 * (1 + math.cos(math.pi * done / self.stretch))

    def prepare(self, weights: Tensor, optimizer: torch.optim.Optimizer, epoch: int, matrices: Tensor) -> None:
        """The epoch's step size, and the decay that is no part of the gradient."""
        rate = self.rate(epoch)
        for group in optimizer.param_groups:
            group["lr"] = rate
        if self.decoupled_decay:
            weights.data.mul_(1 - rate * self.decoupled_decay * matrices)


EXPERTS: dict[str, Any] = {
    "count": "whole [1, 10000]",
    "recipe": ExpertRecipe,
}  # settings of trajectories, ``configs/experts``

TEACHERS: dict[str, Any] = {  # settings of a committee, there too
    "networks": "list of text",
    "count": "whole [1, 100]",
    "minimum": "[0, 1]",
    "priors": "null or list of [0, 100]",
    "mode": "one of eval, batch",
    "recipe": Recipe,
}
