"""Optimisers of weights (S, P), those of S networks at once."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from distill.checks import check_ranges, setting, stated
from distill.networks.flat import FlatStudent
from distill.training.losses import gsam_gradient

Gradient = Callable[[Tensor], Tensor]  # weights (S, P) -> (S, P)


@dataclass(frozen=True)
class Optimizer(ABC):
    """What takes the steps.

    Raises:
        ValueError: a value is out of range.
    """

    def __post_init__(self) -> None:
        check_ranges("recipe.optimizer", vars(self), stated(type(self)))

    @abstractmethod
    def make(self, weights: Tensor, lr: float, momentum: float | None) -> torch.optim.Optimizer:
        """A fresh one over ``weights``; ``momentum`` is another than its own, where it has some."""

    def direction(self, gradient: Gradient, weights: Tensor, net: FlatStudent) -> Tensor:
        """What it takes for the gradient, (S, P), at ``weights`` (S, P) of networks like ``net``."""
        return gradient(weights)

    def decay(self, weights: Tensor, lr: float, matrices: Tensor) -> None:  # noqa: B027  # most do nothing
        """Shrink weights (S, P) before a step; ``matrices`` (P,) is 1 on kernels, 0 on biases and norms."""


@dataclass(frozen=True)
class Sgd(Optimizer):
    """Stochastic gradient descent.

    Attributes:
        weight_decay: on all parameters, added to the gradient.
    """

    momentum: float = setting("[0, 1)")
    weight_decay: float = setting("[0, 1000]")

    def make(self, weights: Tensor, lr: float, momentum: float | None) -> torch.optim.Optimizer:
        own = self.momentum if momentum is None else momentum
        return torch.optim.SGD([weights], lr, own, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class Nesterov(Sgd):
    """SGD that looks ahead along its momentum, as torch has it."""

    momentum: float = setting("(0, 1)")

    def make(self, weights: Tensor, lr: float, momentum: float | None) -> torch.optim.Optimizer:
        own = self.momentum if momentum is None else momentum
        return torch.optim.SGD([weights], lr, own, weight_decay=self.weight_decay, nesterov=True)


@dataclass(frozen=True)
class Lars(Sgd):
    """SGD with momentum on a direction that is scaled kernel by kernel.

    Biases and norms are neither scaled nor decayed: our choice.

    Attributes:
        trust: eta; without momentum and decay a step at rate 1 moves a kernel by this share of its own length.

    Source: You et al., arXiv:1708.03888.
    """

    trust: float = setting("(0, 1000]")

    def make(self, weights: Tensor, lr: float, momentum: float | None) -> torch.optim.Optimizer:
        return torch.optim.SGD([weights], lr, self.momentum if momentum is None else momentum)

    def direction(self, gradient: Gradient, weights: Tensor, net: FlatStudent) -> Tensor:
        kernels, slopes = (each.split(net.sizes, 1) for each in (weights.detach(), gradient(weights)))
        parts = zip(kernels, slopes, net.shapes, strict=True)
        return torch.cat([self.scaled(w, g) if len(shape) > 1 else g for w, g, shape in parts], 1)

    def scaled(self, w: Tensor, g: Tensor) -> Tensor:
        """eta |w| / (|g| + lambda |w|) (g + lambda w), (S, n), of one kernel of S networks; lambda is the weight decay.

        A kernel of zeros, which would stay so, takes 1 for the ratio.
        """
        length, slope = (each.norm(dim=1, keepdim=True) for each in (w, g))
        ratio = length / (slope + self.weight_decay * length).clamp_min(1e-12)
        return self.trust * torch.where(length > 0, ratio, 1.0) * (g + self.weight_decay * w)


@dataclass(frozen=True)
class Gsam(Sgd):
    """SGD on FTD's direction (`gsam_gradient`).

    Attributes:
        gsam_rho, gsam_alpha: radius, and weight of the orthogonal part.
    """

    gsam_rho: float = setting("[0, 1000]")
    gsam_alpha: float = setting("[0, 1000]")

    def direction(self, gradient: Gradient, weights: Tensor, net: FlatStudent) -> Tensor:
        return gsam_gradient(gradient, weights, self.gsam_rho, self.gsam_alpha)


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam; ``weight_decay`` is added to the gradient, of all parameters."""

    weight_decay: float = setting("[0, 1000]")

    def make(self, weights: Tensor, lr: float, momentum: float | None) -> torch.optim.Optimizer:
        return torch.optim.Adam([weights], lr, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with weight decay that is no part of the gradient.

    Attributes:
        decoupled_decay: of kernels (tensors of two dimensions and more), or
        decay_biases: of biases and norms too.
    """

    decoupled_decay: float = setting("[0, 1000]")
    decay_biases: bool = setting("true or false")

    def make(self, weights: Tensor, lr: float, momentum: float | None) -> torch.optim.Optimizer:
        return torch.optim.Adam([weights], lr)

    def decay(self, weights: Tensor, lr: float, matrices: Tensor) -> None:
        reach = torch.ones_like(matrices) if self.decay_biases else matrices
        weights.data.mul_(1 - lr * self.decoupled_decay * reach)
