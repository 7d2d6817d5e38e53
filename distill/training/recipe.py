"""Recipe: everything about a training run but its images and labels."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.augment.makers import MAKERS
from distill.checks import check_ranges, stated
from distill.identity import digits
from distill.training.losses import Net

R = TypeVar("R", bound="Recipe")

MAX_LR = 10.0  # no published student rate is near it; beyond lies a learned rate that exploded


PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}

VIEWS = f"one of {', '.join([*MAKERS, 'crop_flip_black'])}"  # `distill.training.views.augmentation` makes them


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
        augment: ``none``, ``dsa``, ``siamese``, ``crop_scale_rotate`` (DC's), ``crop_flip`` (what comes in is mean grey)
            or ``crop_flip_black``; with a committee ``resized_crop`` too.
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

    group: ClassVar[str] = "recipe"  # what messages call the settings
    RANGES: ClassVar[Mapping[str, Any]] = {
        "name": "text",
        "epochs": "whole [0, 100000]",
        "extra_epochs": "whole [0, 100000]",
        "optimizer": "one of sgd, adam",
        "lr": f"(0, {MAX_LR:g}]",
        "momentum": "[0, 1)",
        "weight_decay": "[0, 1000]",
        "decay": "[0, 1]",
        "decay_epoch": "null or whole [0, 100000]",
        "decay_momentum": "null or [0, 1)",
        "batch": "whole [1, 1000000]",
        "augment": VIEWS,
        "precision": f"one of {', '.join(PRECISIONS)}",
    }

    def __post_init__(self) -> None:
        check_ranges(self.group, vars(self), stated(type(self)))

    @property
    def passes(self) -> int:
        """Epochs really run."""
        return self.epochs + self.extra_epochs

    @property
    def parts(self) -> int:
        """Pieces of a batch that go through the network one after another; they matter with batch norm alone."""
        return 1

    @property
    def mean_decay(self) -> float | None:
        """Decay of the running mean of weights that training ends with; None ends with the last weights."""
        return None

    @property
    def last_epoch_before_decay(self) -> int:
        return self.epochs // 2 + 1 if self.decay_epoch is None else self.decay_epoch

    @property
    def identity(self) -> dict[str, Any]:
        """What stores and rows know it by: its values."""
        return asdict(self)

    @property
    def hash(self) -> str:
        """Twelve hex digits of `identity`."""
        return digits(self.identity)

    def with_(self: R, **fields: Any) -> R:
        """A copy with other values."""
        return replace(self, **fields)

    def steps(self, images: int) -> int:
        """Optimiser steps on a set of this many images."""
        return self.passes * math.ceil(images / self.batch)

    def make_optimizer(self, weights: Tensor, epoch: int) -> torch.optim.Optimizer:
        """A fresh optimiser over ``weights`` as ``epoch`` begins."""
        decayed = self.decay != 1 and epoch > self.last_epoch_before_decay
        lr = self.rate(epoch)
        if self.optimizer == "adam":
            return torch.optim.Adam([weights], lr, weight_decay=self.weight_decay)
        momentum = self.decay_momentum if decayed and self.decay_momentum is not None else self.momentum
        return torch.optim.SGD([weights], lr, momentum, weight_decay=self.weight_decay)

    def prepare(self, weights: Tensor, optimizer: torch.optim.Optimizer, epoch: int, matrices: Tensor) -> None:
        """What happens to weights (S, P) and optimiser before a step; ``matrices`` (P,) is 1 on kernels, 0 on biases, norms."""

    def rate(self, epoch: int) -> float:
        """Step size in ``epoch``."""
        return self.lr * self.decay if self.decay != 1 and epoch > self.last_epoch_before_decay else self.lr

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
