"""What a training run is: `Recipe` for experts and teachers, `Protocol` for students and what is reported of them.

The values live in ``configs/protocol`` and ``configs/experts``; `distill.training` carries a recipe out.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad

from distill.files import digest

R = TypeVar("R", bound="Recipe")
Net = Callable[[Tensor], Tensor]  # images (B, C, H, W) -> logits (B, K)
MAX_LR = 10.0  # no published student rate is near it; beyond lies a learned rate that exploded


PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Recipe:
    """Everything about a training run but its images and labels.

    Attributes:
        name: what papers and reports call it.
        epochs: E.
        extra_epochs: 1 where the published loop counts 0..E inclusive, else 0.
        optimizer: ``sgd`` or ``adam``.
        lr: step size.
        momentum: of SGD.
        weight_decay: on all parameters.
        decay: factor on the step size, once; 1 keeps it constant.
        decay_epoch: index of the last epoch before the decay, where the optimiser starts afresh (momentum is cleared);
            None is E // 2 + 1.
        decay_momentum: momentum from there on; None keeps it.
        batch: images a step; the last, smaller batch of an epoch is kept.
        augment: ``none``, ``dsa`` or ``dc_mnist``.
        precision: of the network's forward and backward pass, ``fp32`` or ``bf16`` (autocast); weights stay in fp32.

    Raises:
        ValueError: a value is out of range.
    """

    name: str
    epochs: int
    extra_epochs: int
    optimizer: str
    lr: float
    momentum: float
    weight_decay: float
    decay: float
    decay_epoch: int | None
    decay_momentum: float | None
    batch: int
    augment: str
    precision: str

    def __post_init__(self) -> None:
        if not 0 < self.lr <= MAX_LR:
            raise ValueError(
                f"learning rate is {self.lr}, expected above 0 and at most {MAX_LR:g}: it diverged or was mistyped"
            )
        if self.optimizer not in ("sgd", "adam"):
            raise ValueError(f"unknown optimizer {self.optimizer!r}: one of sgd, adam")
        if self.precision not in PRECISIONS:
            raise ValueError(f"unknown precision {self.precision!r}: one of {', '.join(PRECISIONS)}")
        if self.epochs < 0 or self.batch < 1:
            raise ValueError(f"epochs {self.epochs} and batch {self.batch}: expected at least 0 and 1")

    @property
    def passes(self) -> int:
        """Epochs really run."""
        return self.epochs + self.extra_epochs

    @property
    def last_epoch_before_decay(self) -> int:
        return self.epochs // 2 + 1 if self.decay_epoch is None else self.decay_epoch

    @property
    def hash(self) -> str:
        """Twelve hex digits of all fields."""
        return digest(asdict(self))

    def with_(self: R, **fields: Any) -> R:
        """A copy with other values."""
        return replace(self, **fields)

    def steps(self, images: int) -> int:
        """Optimiser steps on a set of this many images."""
        return self.passes * math.ceil(images / self.batch)

    def make_optimizer(self, weights: Tensor, epoch: int) -> torch.optim.Optimizer:
        """A fresh optimiser over ``weights`` as ``epoch`` begins."""
        decayed = self.decay != 1 and epoch > self.last_epoch_before_decay
        lr = self.lr * self.decay if decayed else self.lr
        if self.optimizer == "adam":
            return torch.optim.Adam([weights], lr, weight_decay=self.weight_decay)
        momentum = self.decay_momentum if decayed and self.decay_momentum is not None else self.momentum
        return torch.optim.SGD([weights], lr, momentum, weight_decay=self.weight_decay)

    def loss(self, net: Net, images: Tensor, views: Tensor, targets: Tensor, epoch: Tensor) -> Tensor:
        """What a step lowers, a scalar.

        Args:
            net: maps images to logits, under the weights of the step.
            images: as they are, (B, C, H, W).
            views: the same images, augmented.
            targets: classes (B,) or soft labels (B, K).
            epoch: scalar, 0 in the first one.
        """
        return F.cross_entropy(self.logits(net, views), targets)

    @property
    def loss_settings(self) -> tuple[Any, ...]:
        """The fields that `loss` depends on."""
        return (self.precision,)

    def logits(self, net: Net, views: Tensor) -> Tensor:
        """What ``net`` says of ``views`` at this recipe's precision, float32."""
        dtype = PRECISIONS[self.precision]
        with torch.autocast(views.device.type, dtype, enabled=dtype is not None):
            return net(views).float()

    def direction(self, gradient: Callable[[Tensor], Tensor], weights: Tensor) -> Tensor:
        """What the optimiser takes for the gradient, (S, P), at ``weights`` (S, P)."""
        return gradient(weights)


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

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.gsam_rho is None) != (self.gsam_alpha is None):
            raise ValueError(
                f"gsam_rho is {self.gsam_rho} and gsam_alpha {self.gsam_alpha}: give both, or null for both"
            )
        if not 0 < self.ramp_start <= 1 or self.ramp_epochs < 0:
            raise ValueError(
                f"ramp_start {self.ramp_start} and ramp_epochs {self.ramp_epochs}: expected in (0, 1] and at least 0"
            )

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
class Protocol(Recipe):
    """A recipe for students and what is reported of them. Presets: ``configs/protocol``.

    Attributes:
        artefact_lr: train at the rate learned with the synthetic set, where it has one.
        labels: ``own`` (as stored, soft labels as soft cross-entropy), ``hard`` (soft labels arg-maxed) or ``both``.
        students: S, fresh students for each synthetic set.
        iterate: which snapshot counts: the ``last``, the best on ``val``, or the best on ``test`` (only to reproduce a
            paper that did so; the last is reported beside it and the best is marked).
        test_every: where ``iterate`` is ``test``, a student's best accuracy among tests after so many epochs is its number
            (AST); None takes the last epoch's.
        choices: candidate values of other fields; all combinations are tried on the validation split with one student
            each, the best is kept. A learned rate joins the candidates of ``lr``.
    """

    artefact_lr: bool
    labels: str
    students: int
    iterate: str
    test_every: int | None
    choices: Mapping[str, Sequence[Any]]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.labels not in ("own", "hard", "both"):
            raise ValueError(f"unknown labels {self.labels!r}: one of own, hard, both")
        if self.iterate not in ("last", "val", "test"):
            raise ValueError(f"unknown iterate {self.iterate!r}: one of last, val, test")
        if self.students < 1:
            raise ValueError(f"{self.students} students, expected at least 1")
        unknown = set(self.choices) - set(self.__dataclass_fields__)
        if unknown:
            raise ValueError(f"choices name {sorted(unknown)[0]!r}, which is no field of a protocol")


def gradient_penalty(net: Net, images: Tensor) -> Tensor:
    """(mean of the 2-norm over colour channels of d/dx (sum of logits) - 1)^2, one norm for each image and pixel.

    Args:
        net: maps images to logits.
        images: without augmentation, (B, C, H, W).

    Source: AST, arXiv:2310.10541, as its code has it.
    """
    slope = grad(lambda x: net(x).sum())(images)
    return (slope.square().sum(1).clamp_min(1e-24).sqrt().mean() - 1).square()


def gsam_gradient(gradient: Callable[[Tensor], Tensor], weights: Tensor, rho: float, alpha: float) -> Tensor:
    """FTD's update direction: the gradient at an adversarial neighbour, less ``alpha`` times the orthogonal rest.

    With g at w, e = rho * w*w*g / |w*g| and p the gradient at w + e, it is p - alpha * (g - <g, p> / |p|^2 p).

    Args:
        gradient: the gradient (S, P) at weights (S, P), on one fixed augmented batch for each network.
        weights: of S networks, (S, P).
        rho: radius; 0 gives the plain gradient.
        alpha: weight of the orthogonal part; 0 gives adaptive SAM.

    Source: Du et al., FTD, CVPR 2023, arXiv:2211.11004; Zhuang et al., GSAM, ICLR 2022, arXiv:2203.08065.
    """
    w = weights.detach()
    g = gradient(w)
    reach = rho / (w * g).norm(dim=1, keepdim=True).clamp_min(1e-12)
    p = gradient(w + reach * w * w * g)
    along = (g * p).sum(1, keepdim=True) / p.square().sum(1, keepdim=True).clamp_min(1e-24)
    return p - alpha * (g - along * p)
