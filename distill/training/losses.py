"""Losses image by image, and directions that papers take for the gradient."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad

from distill.checks import check_ranges, setting, stated

Net = Callable[[Tensor], Tensor]  # images (B, C, H, W) -> logits (B, K)


@dataclass(frozen=True)
class Loss(ABC):
    """What a step lowers, for each image.

    Raises:
        ValueError: a value is out of range.
    """

    def __post_init__(self) -> None:
        check_ranges("loss", vars(self), stated(type(self)))

    @abstractmethod
    def __call__(self, net: Net, images: Tensor, logits: Tensor, targets: Tensor, epoch: Tensor) -> Tensor:
        """Losses (B,).

        Args:
            net: maps images to logits, under the weights of the step.
            images: as they are, (B, C, H, W).
            logits: what ``net`` says of their views, (B, K).
            targets: classes (B,), or for each class a probability, or a teacher's logit (B, K), or both (B, 2 K);
                `TwoDistances` has numbers of its own.
            epoch: scalar, 0 in the first one.
        """


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """With classes (B,) or probabilities (B, K)."""

    def __call__(self, net: Net, images: Tensor, logits: Tensor, targets: Tensor, epoch: Tensor) -> Tensor:
        return F.cross_entropy(logits, targets, reduction="none")


@dataclass(frozen=True)
class Smoothed(CrossEntropy):
    """With labels that keep 1 - ``smoothing`` and share the rest among all K classes, their own too (arXiv:1512.00567)."""

    smoothing: float = setting("(0, 1]")

    def __call__(self, net: Net, images: Tensor, logits: Tensor, targets: Tensor, epoch: Tensor) -> Tensor:
        return F.cross_entropy(logits, targets, reduction="none", label_smoothing=self.smoothing)


@dataclass(frozen=True)
class Clipped(CrossEntropy):
    """Cross-entropy whose weight grows, and the gradient penalty, which makes experts easier to follow.

    Attributes:
        ramp_start, ramp_epochs: the cross-entropy's weight grows linearly from ``ramp_start`` in epoch 0 to 1 in epoch
            ``ramp_epochs``.
        gradient_penalty: weight of `gradient_penalty`, which is not ramped.

    Source: AST, arXiv:2310.10541.
    """

    ramp_start: float = setting("(0, 1]")
    ramp_epochs: int = setting("whole [0, 100000]")
    gradient_penalty: float = setting("[0, 1000000]")

    def ramp(self, epoch: Tensor) -> Tensor:
        """Weight of the cross-entropy in ``epoch``."""
        return (self.ramp_start + (1 - self.ramp_start) * epoch / max(1, self.ramp_epochs)).clamp(max=1.0)

    def __call__(self, net: Net, images: Tensor, logits: Tensor, targets: Tensor, epoch: Tensor) -> Tensor:
        losses = self.ramp(epoch) * super().__call__(net, images, logits, targets, epoch)
        return losses + self.gradient_penalty * gradient_penalty(net, images) if self.gradient_penalty else losses


@dataclass(frozen=True)
class Divergence(Loss):
    """KL(softmax(teacher / tau) || softmax(student / tau)) from a teacher's logits.

    Attributes:
        temperature: tau.
        squared: multiply by tau squared.
    """

    temperature: float = setting("(0, 1000000]")
    squared: bool = setting("true or false")

    def __call__(self, net: Net, images: Tensor, logits: Tensor, targets: Tensor, epoch: Tensor) -> Tensor:
        losses = divergence(logits, targets, self.temperature)
        return self.temperature**2 * losses if self.squared else losses


@dataclass(frozen=True)
class Distillation(Divergence):
    """(1 - alpha) cross-entropy + alpha `Divergence`, from a hard label and a teacher's logits side by side (B, 2 K).

    Attributes:
        alpha: the teacher's share.

    Source: Hinton et al., arXiv:1503.02531; on pruned data arXiv:2403.07854.
    """

    alpha: float = setting("[0, 1]")

    def __call__(self, net: Net, images: Tensor, logits: Tensor, targets: Tensor, epoch: Tensor) -> Tensor:
        own, teacher = targets.chunk(2, 1)
        taught = super().__call__(net, images, logits, teacher, epoch)
        return (1 - self.alpha) * F.cross_entropy(logits, own, reduction="none") + self.alpha * taught


@dataclass(frozen=True)
class TwoDistances(Loss):
    """Cross-entropy of mixed classes, and how far the student is from the teacher's distances to both.

    For classes y and y' of a view and of what it is mixed with, share s and distances d = -log p of either:
    s d_S(y) + (1 - s) d_S(y') + alpha (abs(d_S(y) - d_T(y)) + abs(d_S(y') - d_T(y'))). Targets are y, y', s, d_T(y) and
    d_T(y'), (B, 5).

    Attributes:
        alpha: weight of the second part.

    Source: DBR of NRR-DD (arXiv:2503.18267); that the distance is absolute, and how the first part is mixed, is assumed.
    """

    alpha: float = setting("[0, 1000000]")

    def __call__(self, net: Net, images: Tensor, logits: Tensor, targets: Tensor, epoch: Tensor) -> Tensor:
        own = -logits.log_softmax(1).gather(1, targets[:, :2].long())
        share, teacher = targets[:, 2], targets[:, 3:]
        mixed = share * own[:, 0] + (1 - share) * own[:, 1]
        return mixed + self.alpha * (own - teacher).abs().sum(1)


@dataclass(frozen=True)
class Squares(Loss):
    """Mean square of what outputs lack to vectors (B, D)."""

    def __call__(self, net: Net, images: Tensor, logits: Tensor, targets: Tensor, epoch: Tensor) -> Tensor:
        return (logits - targets).square().mean(1)


@dataclass(frozen=True)
class Regression(Loss):
    """Mean square of what logits lack to a teacher's + ``hard`` cross-entropy, from a label and these side by side (B, 2 K).

    Attributes:
        hard: weight of the cross-entropy.

    Source: EDC, arXiv:2404.13733.
    """

    hard: float = setting("[0, 1000000]")

    def __call__(self, net: Net, images: Tensor, logits: Tensor, targets: Tensor, epoch: Tensor) -> Tensor:
        own, teacher = targets.chunk(2, 1)
        return (logits - teacher).square().mean(1) + self.hard * F.cross_entropy(logits, own, reduction="none")


@dataclass(frozen=True)
class Calibrated(Divergence):
    """`Divergence`, or in some epochs cross-entropy, from a label and a teacher's logits side by side (B, 2 K).

    Attributes:
        first, last: the epochs of the label, without the last.
        smoothing: share of a label's probability that all K classes have alike.

    Source: HALD, arXiv:2512.15647.
    """

    first: int = setting("whole [0, 100000000]")
    last: int = setting("whole [0, 100000000]")
    smoothing: float = setting("[0, 1]")

    def __call__(self, net: Net, images: Tensor, logits: Tensor, targets: Tensor, epoch: Tensor) -> Tensor:
        own, teacher = targets.chunk(2, 1)
        soft = super().__call__(net, images, logits, teacher, epoch)
        hard = F.cross_entropy(logits, own, reduction="none", label_smoothing=self.smoothing)
        return torch.where((epoch >= self.first) & (epoch < self.last), hard, soft)


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL(softmax(teacher / tau) || softmax(student / tau)) of logits (B, K), for each image (B,); no factor tau squared."""
    target, own = (logits.div(temperature).log_softmax(1) for logits in (teacher, student))
    return F.kl_div(own, target, reduction="none", log_target=True).sum(1)


def gradient_penalty(net: Net, images: Tensor) -> Tensor:
    """Mean over pixels of (n - 1)^2 for each image, (B,) >= 0; n is the 2-norm over colour channels of d/dx (sum of logits).

    Args:
        net: maps images to logits.
        images: without augmentation, (B, C, H, W).

    Source: AST, arXiv:2310.10541, as its code has it.
    """
    slope = grad(lambda x: net(x).sum())(images)
    return (slope.square().sum(1).clamp_min(1e-24).sqrt() - 1).square().flatten(1).mean(1)


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
