"""How a network is trained: `Recipe` states it, `train` does it, for experts, teachers and students alike.

`Protocol` is a recipe plus how its outcome is measured. The values live in ``configs/protocol`` and ``configs/experts``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill import augment, rng
from distill.augment import Augment
from distill.data import Split
from distill.files import digest

R = TypeVar("R", bound="Recipe")
MAX_LR = 10.0  # no published student rate is near it; beyond lies a learned rate that exploded


@dataclass(frozen=True)
class Recipe:
    """Everything about a training run but its images and labels.

    Attributes:
        name: what papers and reports call it.
        epochs: E.
        extra_epochs: 1 where the published loop counts 0..E inclusive, else 0.
        optimizer: ``sgd``, ``adam`` or ``gsam`` (SGD on FTD's sharpness-aware gradient).
        lr: step size.
        momentum: of SGD.
        weight_decay: on all parameters.
        decay: factor on the step size, once; 1 keeps it constant.
        decay_epoch: index of the last epoch before the decay, where the optimiser starts afresh (momentum is cleared);
            None is E // 2 + 1.
        batch: images a step; the last, smaller batch of an epoch is kept.
        augment: ``none``, ``dsa`` or ``dc_mnist``.
        gsam_rho, gsam_alpha: radius and weight of the orthogonal part (`gsam_gradient`); None without GSAM.

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
    batch: int
    augment: str
    gsam_rho: float | None
    gsam_alpha: float | None

    def __post_init__(self) -> None:
        if not 0 < self.lr <= MAX_LR:
            raise ValueError(
                f"learning rate is {self.lr}, expected above 0 and at most {MAX_LR:g}: it diverged or was mistyped"
            )
        if self.optimizer not in ("sgd", "adam", "gsam"):
            raise ValueError(f"unknown optimizer {self.optimizer!r}: one of sgd, adam, gsam")
        if self.optimizer == "gsam" and (self.gsam_rho is None or self.gsam_alpha is None):
            raise ValueError("optimizer gsam needs gsam_rho and gsam_alpha")
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

    def make_optimizer(self, net: nn.Module, lr: float) -> torch.optim.Optimizer:
        """A fresh optimiser over all parameters."""
        if self.optimizer == "adam":
            return torch.optim.Adam(net.parameters(), lr, weight_decay=self.weight_decay)
        return torch.optim.SGD(net.parameters(), lr, self.momentum, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class Protocol(Recipe):
    """A recipe for students and what is reported of them. Presets: ``configs/protocol``.

    Attributes:
        artefact_lr: train at the rate learned with the synthetic set, where it has one.
        labels: ``own`` (as stored, soft labels as soft cross-entropy), ``hard`` (soft labels arg-maxed) or ``both``.
        students: S, fresh students for each synthetic set.
        iterate: which snapshot counts: the ``last``, the best on ``val``, or the best on ``test`` (only to reproduce a
            paper that did so; the last is reported beside it and the best is marked).
        choices: candidate values of other fields; all combinations are tried on the validation split with one student
            each, the best is kept. A learned rate joins the candidates of ``lr``.
    """

    artefact_lr: bool
    labels: str
    students: int
    iterate: str
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


def train(
    net: nn.Module,
    images: Tensor,
    targets: Tensor,
    recipe: Recipe,
    *,
    seed: int,
    augment: Augment,
    after_epoch: Callable[[int], None] | None = None,
) -> None:
    """Train ``net`` in place.

    Args:
        images: (N, C, H, W), on the network's device.
        targets: classes (N,) int64 or soft labels (N, K) whose rows sum to 1.
        seed: batches, augmentation and dropout are functions of it.
        augment: what ``recipe.augment`` stands for on this data set (`augmentation`).
        after_epoch: called with 0, 1, ... when an epoch is done.
    """
    net.train()
    params = list(net.parameters())
    optimizer = recipe.make_optimizer(net, recipe.lr)
    with rng.seeded(seed, "dropout"):
        for epoch in range(recipe.passes):
            order = torch.randperm(len(images), generator=rng.generator(seed, "batches", epoch)).to(images.device)
            for batch, index in enumerate(order.split(recipe.batch)):
                views, wanted = augment(images[index], rng.derive(seed, "augment", epoch, batch)), targets[index]

                def gradient(views: Tensor = views, wanted: Tensor = wanted) -> tuple[Tensor, ...]:
                    return torch.autograd.grad(F.cross_entropy(net(views), wanted), params)

                if recipe.optimizer == "gsam":
                    assert recipe.gsam_rho is not None and recipe.gsam_alpha is not None
                    gradients = gsam_gradient(gradient, params, recipe.gsam_rho, recipe.gsam_alpha)
                else:
                    gradients = gradient()
                for param, grad in zip(params, gradients, strict=True):
                    param.grad = grad
                optimizer.step()
            if recipe.decay != 1 and epoch == recipe.last_epoch_before_decay:
                optimizer = recipe.make_optimizer(net, recipe.lr * recipe.decay)
            if after_epoch:
                after_epoch(epoch)


def gsam_gradient(
    gradient: Callable[[], tuple[Tensor, ...]], params: Sequence[Tensor], rho: float, alpha: float
) -> tuple[Tensor, ...]:
    """FTD's update direction: the gradient at an adversarial neighbour, less ``alpha`` times the orthogonal rest.

    With g at w, e = rho * w*w*g / |w*g| and p the gradient at w + e, it is p - alpha * (g - <g, p> / |p|^2 p).

    Args:
        gradient: the gradient at the present values of ``params``, on one fixed augmented batch.
        params: moved to the neighbour and back, bit for bit.
        rho: radius; 0 gives the plain gradient.
        alpha: weight of the orthogonal part; 0 gives adaptive SAM.

    Source: Du et al., FTD, CVPR 2023, arXiv:2211.11004; Zhuang et al., GSAM, ICLR 2022, arXiv:2203.08065.
    """
    plain = gradient()
    kept = [param.detach().clone() for param in params]
    reach = rho / _norm([w * g for w, g in zip(kept, plain, strict=True)]).clamp_min(1e-12)
    with torch.no_grad():
        for param, w, g in zip(params, kept, plain, strict=True):
            param.add_(reach * w * w * g)
    perturbed = gradient()
    with torch.no_grad():
        for param, w in zip(params, kept, strict=True):
            param.copy_(w)
    inner = sum((g * p).sum() for g, p in zip(plain, perturbed, strict=True))
    along = inner / _norm(perturbed).square().clamp_min(1e-24)
    return tuple(p - alpha * (g - along * p) for g, p in zip(plain, perturbed, strict=True))


def augmentation(recipe: Recipe, strategy: str) -> Augment:
    """The recipe's augmentation with a data set's DSA families."""
    return augment.make(recipe.augment, strategy)


@torch.no_grad()
def accuracy(net: nn.Module, split: Split, batch: int = 1000) -> float:
    """Fraction of ``split`` classified correctly, in [0, 1]; ``net`` is left in evaluation mode."""
    net.eval()
    parts = zip(split.images.split(batch), split.labels.split(batch), strict=True)
    correct = sum((net(images).argmax(1) == labels).sum() for images, labels in parts)
    return float(correct) / len(split)


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack([tensor.norm() for tensor in tensors]).norm()
