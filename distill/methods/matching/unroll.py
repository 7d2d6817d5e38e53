"""The inner loop: a student trained on the synthetic set, differentiable in images, labels and its own step size.

    v_i = momentum * v_(i-1) + g_i,   theta_(i+1) = theta_i - lr * v_i,   g_i = gradient of the loss of step i at theta_i

Four ways to the gradient:

- ``full``: autograd keeps the graph of every step. Memory grows with the steps; the oracle of the tests.
- ``segments``: exact, with the graph of about sqrt(N) of N steps at a time (Chen et al., arXiv:1604.06174): that of the last
  segment stays from the forward pass, those before it are made again.
- ``recompute``: exact with one step's activations. The forward pass stores the weights theta_i alone; the backward pass
  walks them in reverse, rebuilds one step at a time and pulls the cotangent through its second derivatives.
- ``tesla``: Cui et al., ICML 2023, arXiv:2211.10586. The end point's cotangent is applied at every step, without any
  Hessian product: what a step does to the steps after it is left out. Exact for one step.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor
from torch.autograd.function import once_differentiable
from torch.func import grad

from distill.augment.families import Augment, none
from distill.autotune import fuse

InnerLoss = Callable[
    [Tensor, Tensor, Tensor], Tensor
]  # (theta (P,), views (B, C, H, W), labels (B,) or (B, K)) -> scalar

MODES = ("full", "segments", "recompute", "tesla")


@dataclass(frozen=True)
class InnerStep:
    """One step of the inner loop: which synthetic images (B,), and the draw of their augmentation."""

    index: Tensor
    draw: int


def chunks(n: int, batch: int | None, steps: int, g: Generator) -> list[Tensor]:
    """Indices of ``steps`` batches out of ``n`` images.

    A random permutation is split into chunks of ``batch``, taken from the end, so that a short remainder comes first;
    when none is left, the next permutation begins. None, or a batch of at least ``n``, is the whole set every time.

    Source: MTT's code, as specified.
    """
    queue: list[Tensor] = []
    batches = []
    for _ in range(steps):
        queue = queue or list(torch.randperm(n, generator=g).split(batch or n))
        batches.append(queue.pop())
    return batches


class Derivatives:
    """First and second derivatives of a step's loss, by autograd; see `CompiledDerivatives` for the fast ones."""

    def __init__(self, loss: InnerLoss):
        self.loss = loss

    def gradient(self, theta: Tensor, views: Tensor, labels: Tensor, graph: bool) -> Tensor:
        """d loss / d theta, (P,); with ``graph`` differentiable once more in all three."""
        with torch.enable_grad():
            here = theta if theta.requires_grad else theta.detach().requires_grad_()
            return torch.autograd.grad(self.loss(here, views, labels), here, create_graph=graph)[0]

    def products(
        self, theta: Tensor, views: Tensor, labels: Tensor, pull: Tensor, exact: bool
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """The gradient g (P,), and ``pull`` (P,) times its derivative in views, soft labels and, if ``exact``, theta.

        None where labels are hard, and in place of the last where it is not asked for.
        """
        soft = labels.is_floating_point()
        theta, views = theta.detach().requires_grad_(), views.detach().requires_grad_()
        labels = labels.detach().requires_grad_(soft)
        g = self.gradient(theta, views, labels, graph=True)
        wanted = [views, *([labels] if soft else []), *([theta] if exact else [])]
        found = torch.autograd.grad(g, wanted, pull, allow_unused=True, materialize_grads=True)
        return g.detach(), found[0], found[1] if soft else None, found[-1] if exact else None


class CompiledDerivatives(Derivatives):
    """The same through torch.compile, for batches of one size; other sizes go the eager way.

    What is compiled contains `torch.func.grad`: a compiled module could not be differentiated twice.
    """

    def __init__(self, loss: InnerLoss, batch: int):
        super().__init__(loss)
        self.batch = batch
        self.first = fuse(grad(loss))
        self.second = fuse(self._second)

    def gradient(self, theta: Tensor, views: Tensor, labels: Tensor, graph: bool) -> Tensor:
        if len(views) != self.batch:
            return super().gradient(theta, views, labels, graph)
        with torch.set_grad_enabled(graph):
            return self.first(theta, views, labels)

    def products(
        self, theta: Tensor, views: Tensor, labels: Tensor, pull: Tensor, exact: bool
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        if len(views) != self.batch:
            return super().products(theta, views, labels, pull, exact)
        with torch.no_grad():
            return self.second(theta.detach(), views.detach(), labels.detach(), pull, exact)

    def _second(
        self, theta: Tensor, views: Tensor, labels: Tensor, pull: Tensor, exact: bool
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        soft = labels.is_floating_point()

        def pulled(theta: Tensor, views: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            g = grad(self.loss)(theta, views, labels)
            return g @ pull, g

        wanted = (1, *((2,) if soft else ()), *((0,) if exact else ()))
        found, g = grad(pulled, argnums=wanted, has_aux=True)(theta, views, labels)
        return g, found[0], found[1] if soft else None, found[-1] if exact else None


@dataclass(frozen=True)
class InnerLoop:
    """The inner loop but for its tensors.

    Attributes:
        derivatives: of the mean loss of one batch.
        plan: the steps, fixed beforehand.
        augment: makes the views of a step from its images and its draw; called again, it must return the same.
        momentum: of the heavy ball, 0 in MTT, TESLA and DATM.
        scale: of the loss, the same in every step (AST's balanced inner loss).
        stops: numbers of steps after which weights are wanted, ascending; None is the last step alone.
    """

    derivatives: Derivatives
    plan: Sequence[InnerStep]
    augment: Augment = none
    momentum: float = 0.0
    scale: float = 1.0
    stops: Sequence[int] | None = None

    @property
    def landings(self) -> list[int]:
        """The stops."""
        return [len(self.plan)] if self.stops is None else list(self.stops)

    def segments(self) -> list["InnerLoop"]:
        """The loop in parts of about the square root of its steps, each with the stops that are its own."""
        size = math.isqrt(len(self.plan) - 1) + 1
        starts = range(0, len(self.plan), size)
        stops = [[stop - start for stop in self.landings if start < stop <= start + size] for start in starts]
        return [
            replace(self, plan=self.plan[start : start + size], stops=own)
            for start, own in zip(starts, stops, strict=True)
        ]

    def run(
        self, theta: Tensor, images: Tensor, labels: Tensor, lr: Tensor, graph: bool, velocity: Tensor | None = None
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """The weights at the stops; theta_i of every step, and after the last; v_i of every step, without momentum the last."""
        thetas, velocities, landed = [], list[Tensor](), []
        velocity = torch.zeros_like(theta) if velocity is None else velocity
        for number, step in enumerate(self.plan, 1):
            views = self.augment(images[step.index], step.draw)
            gradient = self.scale * self.derivatives.gradient(theta, views, labels[step.index], graph)
            velocity = self.momentum * velocity + gradient if self.momentum else gradient
            thetas.append(theta)
            velocities = [*velocities, velocity] if self.momentum else [velocity]
            theta = theta - lr * velocity
            if number in self.landings:
                landed.append(theta)
        return landed, [*thetas, theta], velocities


def unroll(
    loop: InnerLoop, start: Tensor, images: Tensor, labels: Tensor, lr: Tensor, mode: str = "recompute"
) -> Tensor:
    """Weights of the student after the inner loop.

    Args:
        start: where the student begins, (P,); no gradient flows into it.
        images: the synthetic set, (N, C, H, W).
        labels: classes (N,) int64, or soft labels or logits (N, K).
        lr: scalar, raw (not its logarithm).
        mode: one of `MODES`.

    Returns:
        (stops, P), differentiable once in images, labels and lr.

    Raises:
        ValueError: the mode is unknown, or is ``tesla`` with momentum or several stops, where its formula has no meaning.
    """
    if mode not in MODES:
        raise ValueError(f"unknown memory mode {mode!r}: one of {', '.join(MODES)}")
    if mode == "tesla" and (loop.momentum or loop.landings != [len(loop.plan)]):
        raise ValueError("memory mode tesla knows neither momentum nor intermediate stops: use recompute")
    if mode == "full":
        return torch.stack(loop.run(start.detach(), images, labels, lr, graph=True)[0])
    if mode == "segments":
        return _Segments.apply(images, labels, lr, start.detach(), loop)
    return _Unroll.apply(images, labels, lr, start.detach(), loop, mode == "recompute")


class _Unroll(torch.autograd.Function):
    """Forward without a graph; backward in reverse, one step's graph at a time (memory modes recompute and tesla)."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, labels: Tensor, lr: Tensor, start: Tensor, loop: InnerLoop, exact: bool
    ) -> Tensor:
        landed, thetas, velocities = loop.run(start.clone(), images, labels, lr, graph=False)
        # Without momentum v_i is g_i, which the reverse pass rebuilds anyway.
        ctx.trajectory = thetas, velocities if loop.momentum else None
        ctx.save_for_backward(images, labels, lr)
        ctx.loop, ctx.exact = loop, exact
        return torch.stack(landed)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        loop, (thetas, velocities) = ctx.loop, ctx.trajectory
        images, labels, lr = ctx.saved_tensors
        images_grad, lr_grad = torch.zeros_like(images), torch.zeros_like(lr)
        labels_grad = torch.zeros_like(labels) if labels.is_floating_point() else None
        at_stop = dict(zip(loop.landings, cotangents[0], strict=True))
        towards = torch.zeros_like(thetas[0])  # dL/dtheta_(i+1), lambda in the derivation
        pull = torch.zeros_like(towards)  # dL/dg_i, nu in the derivation
        for i in reversed(range(len(loop.plan))):
            if i + 1 in at_stop:
                towards = towards + at_stop[i + 1]
            step = loop.plan[i]
            pull = loop.momentum * pull - lr * towards
            with torch.enable_grad():
                x = images[step.index].detach().requires_grad_()
                views = loop.augment(x, step.draw)
            gradient, in_views, in_labels, in_theta = loop.derivatives.products(
                thetas[i], views, labels[step.index], loop.scale * pull, ctx.exact
            )
            lr_grad -= towards @ (velocities[i] if velocities else loop.scale * gradient)
            images_grad.index_add_(0, step.index, torch.autograd.grad(views, x, in_views)[0])
            if labels_grad is not None:
                labels_grad.index_add_(0, step.index, in_labels)
            if in_theta is not None:
                towards = towards + in_theta
        return images_grad, labels_grad, lr_grad, None, None, None


class _Segments(torch.autograd.Function):
    """Forward without a graph but for the last segment; backward in reverse, one segment's graph at a time."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, labels: Tensor, lr: Tensor, start: Tensor, loop: InnerLoop) -> Tensor:
        *before, last = loop.segments()
        theta, velocity = start.clone(), torch.zeros_like(start)
        ctx.begun, landed = [], []
        for segment in before:
            ctx.begun.append((segment, theta, velocity))
            stops, thetas, velocities = segment.run(theta, images, labels, lr, False, velocity)
            theta, velocity = thetas[-1], velocities[-1]
            landed += stops
        ctx.save_for_backward(images, labels, lr)
        ctx.last = _graph(last, theta, velocity, images, labels, lr)
        return torch.stack([*landed, *ctx.last[1][:-2]]).detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangents: Tensor) -> tuple[Tensor | None, ...]:
        images, labels, lr = ctx.saved_tensors
        inputs = [each for each in (images, lr, labels) if each.is_floating_point()]
        left, totals = list(cotangents), [torch.zeros_like(each) for each in inputs]
        leaves, ends = ctx.last
        ctx.last = None
        towards = [torch.zeros_like(end) for end in ends[-2:]]  # of theta and velocity after the segment
        for segment, theta, velocity in (*reversed(ctx.begun), (None, None, None)):
            stops = len(left) - (len(ends) - 2)
            wanted = [leaf for leaf in leaves if leaf.requires_grad]
            pulls = [*left[stops:], *towards]
            found = torch.autograd.grad(ends, wanted, pulls, allow_unused=True, materialize_grads=True)
            left, towards = left[:stops], list(found[:2])
            totals = [total + more for total, more in zip(totals, found[2:], strict=True)]
            if segment is not None:
                leaves, ends = _graph(segment, theta, velocity, images, labels, lr)
        in_images, in_lr, *in_labels = totals
        return in_images, in_labels[0] if in_labels else None, in_lr, None, None


def _graph(
    segment: InnerLoop, theta: Tensor, velocity: Tensor, images: Tensor, labels: Tensor, lr: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Leaves (theta, velocity, images, lr, labels) of a segment's graph, and its ends: stops, theta and velocity."""
    leaves = [each.detach().requires_grad_(each.is_floating_point()) for each in (theta, velocity, images, lr, labels)]
    with torch.enable_grad():
        theta, velocity, images, lr, labels = leaves
        stops, thetas, velocities = segment.run(theta, images, labels, lr, True, velocity)
    return leaves, [*stops, thetas[-1], velocities[-1]]
