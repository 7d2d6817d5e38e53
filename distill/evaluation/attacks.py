"""Images changed so that a network errs: FGSM and PGD, untargeted, with radii in units of pixels in [0, 1].

Written from the papers: FGSM (Goodfellow et al., ICLR 2015, arXiv:1412.6572), PGD (Madry et al., ICLR 2018,
arXiv:1706.06083), the margin (Carlini & Wagner, S&P 2017, arXiv:1608.04644).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

Model = Callable[[Tensor], Tensor]
"""Logits (B, K) of pixels (B, C, H, W) in [0, 1]; what it says of an image does not depend on the others of its batch."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""Of logits (B, K) and classes (B,), per image (B,): what an attack raises."""

PATH = 2.5  # length of PGD's path in radii, as Madry et al. have it: every point of the ball is within reach


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """In nats, per image (B,)."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """The largest logit of another class less that of the image's own, per image (B,): above 0 it is misclassified.

    >>> margin(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([0]))
    tensor([-1.])
    """
    own = F.one_hot(labels, logits.shape[1]).bool()
    return logits.masked_fill(own, -torch.inf).amax(1) - logits[own]


LOSSES: Mapping[str, Loss] = {"cross_entropy": cross_entropy, "margin": margin}


class Linf:
    """Changes (B, C, H, W) of which no pixel's channel is larger than the radius."""

    def direction(self, gradient: Tensor) -> Tensor:
        """The change of radius 1 that rises most along ``gradient``."""
        return gradient.sign()

    def project(self, change: Tensor, radius: float) -> Tensor:
        """The nearest change within the radius."""
        return change.clamp(-radius, radius)

    def draw(self, like: Tensor, radius: float, generator: Generator) -> Tensor:
        """Uniform in the ball."""
        return radius * (2 * torch.rand(like.shape, generator=generator).to(like) - 1)


class L2(Linf):
    """Changes (B, C, H, W) whose Euclidean length, over all of an image, is at most the radius."""

    def direction(self, gradient: Tensor) -> Tensor:
        return gradient / length(gradient).clamp_min(torch.finfo(gradient.dtype).tiny)

    def project(self, change: Tensor, radius: float) -> Tensor:
        return change * (radius / length(change).clamp_min(torch.finfo(change.dtype).tiny)).clamp_max(1)

    def draw(self, like: Tensor, radius: float, generator: Generator) -> Tensor:
        way = torch.randn(like.shape, generator=generator).to(like)
        share = torch.rand(len(like), 1, 1, 1, generator=generator).to(like) ** (1 / like[0].numel())
        return radius * share * self.direction(way)


def length(change: Tensor) -> Tensor:
    """Euclidean, of each image's change: (B, 1, 1, 1)."""
    return change.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


@dataclass(frozen=True)
class Attack:
    """Signed or normalised gradient steps within a ball around each image, and within [0, 1].

    Attributes:
        ball: which changes are within a radius.
        radius: in units of pixels in [0, 1].
        loss: what rises.
        steps: gradient steps.
        step: length of one, in radii.
        starts: random starts in the ball, each for the images that are still classified correctly; 0 begins at the image.
    """

    ball: Linf
    radius: float
    loss: Loss
    steps: int
    step: float
    starts: int

    def __call__(self, model: Model, images: Tensor, labels: Tensor, generator: Generator) -> Tensor:
        """Images (B, C, H, W) in [0, 1] after the attack; one that is misclassified anyway stays as it is.

        Args:
            model: in evaluation mode, so that what it keeps beside its parameters stays as it is.
            labels: classes (B,).
            generator: of the random starts.
        """
        found = images.clone()
        for _ in range(max(1, self.starts)):
            with torch.no_grad():
                left = (model(found).argmax(1) == labels).nonzero().flatten()
            if not len(left):
                break
            found[left] = self.climb(model, images[left], labels[left], generator)
        return found

    def climb(self, model: Model, images: Tensor, labels: Tensor, generator: Generator) -> Tensor:
        """The images where the steps lead, from one start each."""
        change = torch.zeros_like(images)
        if self.starts:
            change = inside(images, self.ball.draw(images, self.radius, generator))
        for _ in range(self.steps):
            views = (images + change).requires_grad_()
            (gradient,) = torch.autograd.grad(self.loss(model(views), labels).sum(), views)
            change = change + self.step * self.radius * self.ball.direction(gradient)
            change = inside(images, self.ball.project(change, self.radius))
        return (images + change).clamp(0, 1)


def inside(images: Tensor, change: Tensor) -> Tensor:
    """What of a change keeps pixels in [0, 1]; it is within the same balls."""
    return (images + change).clamp(0, 1) - images


def fgsm(radius: float, loss: Loss = cross_entropy) -> Attack:
    """One step as long as the radius, from the image itself.

    >>> model = lambda x: torch.stack([x.sum((1, 2, 3)), -x.sum((1, 2, 3))], 1)
    >>> images, labels = torch.full((1, 1, 2, 2), 0.5), torch.zeros(1, dtype=torch.long)
    >>> fgsm(0.25)(model, images, labels, torch.Generator())
    tensor([[[[0.2500, 0.2500],
              [0.2500, 0.2500]]]])
    """
    return Attack(Linf(), radius, loss, steps=1, step=1.0, starts=0)


def pgd(radius: float, loss: Loss = cross_entropy, *, ball: Linf, steps: int, restarts: int = 1) -> Attack:
    """``steps`` steps of 2.5 radii in all, from a random point of the ball; of several restarts the best."""
    return Attack(ball, radius, loss, steps=steps, step=PATH / steps, starts=restarts)
