"""Gradients of real and synthetic images, and distances between them (DC, arXiv:2006.05929; DCC, DSAC)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, grad_and_value, vjp, vmap

from distill.autotune import fuse
from distill.methods.matching.classes import stacks
from distill.methods.peers import Peers
from distill.networks.flat import FlatStudent
from distill.sizes import are_equal

Gradient = Mapping[str, Tensor]  # by parameter name

EPS = 1e-6


def row_distance(a: Gradient, b: Gradient) -> Tensor:
    """Sum over the rows of all weights of one minus the cosine of ``a``'s and ``b``'s row; biases and norms do not count.

    A row belongs to one output: (O, I, k, k) and (O, I) have O of them.

    Returns:
        Scalar in [0, 2 x rows], up to the 1e-6 beside the norms' product.

    Source: DC's code.
    """
    total = next(iter(a.values())).new_zeros(())
    for name, tensor in a.items():
        if tensor.dim() > 1:
            x, y = tensor.flatten(1), b[name].flatten(1)
            total = total + (1 - (x * y).sum(1) / (x.norm(dim=1) * y.norm(dim=1) + EPS)).sum()
    return total


def squared_distance(a: Gradient, b: Gradient) -> Tensor:
    """Squared 2-norm of the difference of all gradients, biases included."""
    return sum(((a[name] - b[name]).square().sum() for name in a), torch.zeros(()))


def cosine_distance(a: Gradient, b: Gradient) -> Tensor:
    """One minus the cosine of all gradients laid end to end, biases included."""
    x, y = (torch.cat([part.flatten() for part in parts]) for parts in (list(a.values()), [b[name] for name in a]))
    return 1 - x @ y / (x.norm() * y.norm() + EPS)


DISTANCES: dict[str, Callable[[Gradient, Gradient], Tensor]] = {
    "rows": row_distance, "squared": squared_distance, "cosine": cosine_distance,
}  # fmt: skip


def kernels_squared(a: Gradient, b: Gradient) -> Tensor:
    """Sum of squared differences of convolutions' kernels; biases, norms and the linear layer do not count (IDC's code)."""
    return torch.stack([(a[name] - b[name]).square().sum() for name in a if a[name].dim() == 4]).sum()


def kernels_absolute(a: Gradient, b: Gradient) -> Tensor:
    """The same of absolute differences."""
    return torch.stack([(a[name] - b[name]).abs().sum() for name in a if a[name].dim() == 4]).sum()


KERNELS: dict[str, Callable[[Gradient, Gradient], Tensor]] = {
    "squared": kernels_squared, "absolute": kernels_absolute,
}  # fmt: skip


class Matcher:
    """The matching loss of two batches under one network, and its gradient in the synthetic images.

    Class by class it is the sum over classes of the distance of their gradients, each that of the mean loss of a class's
    images; collective it is the distance of the means over classes of these gradients, not over images: classes count alike,
    as they do on the real side, however many synthetic images they have. The second-order graph of one call lives at a time.

    Args:
        net: the network, called with its weights.
        distance: of two gradients.
        compiled: use torch.compile; what is compiled contains `torch.func.grad`.
        together: real images of one call. If several classes' fit they go as a stack (`torch.func.vmap`), larger batches
            go in pieces.
    """

    def __init__(
        self, net: FlatStudent, distance: Callable[[Gradient, Gradient], Tensor], compiled: bool, together: int
    ):
        self.net, self.distance, self.together = net, distance, together
        first, second = grad(self.loss), grad_and_value(self.mismatch, argnums=1)
        made: list[Callable[..., Any]] = [first, second, vmap(first, (None, 0, 0)), vmap(second, (None, 0, 0, 0))]
        if compiled:
            made = [fuse(each) for each in made]
        self.first, self.second, *self.wide = made

    def loss(self, theta: Tensor, images: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        """Mean over images, or weighted by class, (K,)."""
        return F.cross_entropy(self.net(theta, images), labels, weight)

    def mismatch(
        self, theta: Tensor, synthetic: Tensor, labels: Tensor, target: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        """Distance of the synthetic images' gradient from ``target`` (P,)."""
        own = grad(self.loss)(theta, synthetic, labels, weight)
        return self.distance(self.net.unflatten(own), self.net.unflatten(target))

    def target(self, theta: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """Gradient (P,) of the mean loss of images (N, C, H, W)."""
        total = torch.zeros_like(theta)
        for part, its in zip(images.split(self.together), labels.split(self.together), strict=True):
            total += self.first(theta, part, its) * (len(part) / len(images))
        return total

    def class_wise(
        self, theta: Tensor, real: Tensor, synthetic: Tensor, counts: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Loss, and gradient (N, C, H, W), of real (K, B, C, H, W) and synthetic images (N, C, H, W), ``counts`` of each."""
        group = max(1, self.together // real.shape[1])
        losses, gradients, first_class = [], [], 0
        for own in (part for stack in stacks(synthetic, counts) for part in stack.split(group)):
            images = real[first_class : first_class + len(own)]
            labels, own_labels = (labels_like(part, first_class) for part in (images, own))
            first_class += len(own)
            if group > 1:
                first, second = self.wide
                gradient, loss = second(theta, own, own_labels, first(theta, images, labels))
            else:
                gradient, loss = self.second(theta, own[0], own_labels[0], self.target(theta, images[0], labels[0]))
            losses.append(loss.sum())
            gradients.append(gradient.reshape(-1, *synthetic.shape[1:]))
        return torch.stack(losses).sum(), torch.cat(gradients)

    def collective(
        self, theta: Tensor, real: Tensor, synthetic: Tensor, counts: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """The same of the collective loss; all classes' images are one batch."""
        target = self.target(theta, real.flatten(0, 1), labels_like(real).flatten())
        each = torch.tensor(counts)
        labels = torch.arange(len(each)).repeat_interleave(each).to(real.device, non_blocking=True)
        weight = (
            None if are_equal(counts) else 1 / each.to(theta, non_blocking=True)
        )  # the plain mean is this where classes are equal
        gradient, loss = self.second(theta, synthetic, labels, target, weight)
        return loss, gradient


class SlicedMatcher(Matcher):
    """The same by peers, each with a slice of every class's images; a class at a time, and without torch.compile.

    Images that go in, and gradients that come out, are those of the slice; counts are of all. The gradient of a class is the
    weighted sum of its slices', their distance that of whole gradients, and what pulls at them is the same for all.

    Args:
        batch_real: real images of a class, in all slices.
    """

    def __init__(self, like: Matcher, peers: Peers, batch_real: int):
        super().__init__(like.net, like.distance, False, like.together)
        self.peers, self.batch_real = peers, batch_real

    def target(self, theta: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        return self.peers.total(self.peers.weight(self.batch_real) * super().target(theta, images, labels))

    def pulled(
        self,
        theta: Tensor,
        synthetic: Tensor,
        labels: Tensor,
        target: Tensor,
        share: float,
        weight: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Loss, and its gradient in the slice ``synthetic``, whose part of the mean is ``share``."""
        own, pull = vjp(lambda images: self.first(theta, images, labels, weight), synthetic)  # type: ignore[misc]
        whole = self.peers.total(share * own)
        slope, loss = grad_and_value(lambda g: self.distance(self.net.unflatten(g), self.net.unflatten(target)))(whole)
        return loss, share * pull(slope)[0]

    def class_wise(
        self, theta: Tensor, real: Tensor, synthetic: Tensor, counts: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        losses, gradients = [], []
        slices = synthetic.split([self.peers.own(count) for count in counts])
        for cls, (images, own, count) in enumerate(zip(real, slices, counts, strict=True)):
            target = self.target(theta, images, labels_like(images[None], cls)[0])
            labels = labels_like(own[None], cls)[0]
            loss, gradient = self.pulled(theta, own, labels, target, self.peers.weight(count))
            losses.append(loss)
            gradients.append(gradient)
        return torch.stack(losses).sum(), torch.cat(gradients)

    def collective(
        self, theta: Tensor, real: Tensor, synthetic: Tensor, counts: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        target = self.target(theta, real.flatten(0, 1), labels_like(real).flatten())
        each = torch.tensor([self.peers.own(count) for count in counts])
        labels = torch.arange(len(each)).repeat_interleave(each).to(real.device, non_blocking=True)
        weight = 1 / torch.tensor(counts).to(theta, non_blocking=True)  # an image's, by its class
        share = sum(map(self.peers.weight, counts)) / len(counts)
        return self.pulled(theta, synthetic, labels, target, share, weight)


def shared_by(matcher: Matcher, peers: Peers, batch_real: int) -> Matcher:
    """``matcher`` for slices, where there are peers."""
    return matcher if peers.size == 1 else SlicedMatcher(matcher, peers, batch_real)


def labels_like(images: Tensor, first: int = 0) -> Tensor:
    """Classes (k, B) of images (k, B, C, H, W) of the classes from ``first`` on."""
    classes, batch = images.shape[:2]
    return torch.arange(first, first + classes, device=images.device)[:, None].expand(classes, batch)
