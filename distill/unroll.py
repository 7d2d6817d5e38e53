"""The inner loop: a student trained on the synthetic set, differentiable in images, labels and its own step size.

    v_i = momentum * v_(i-1) + g_i,   theta_(i+1) = theta_i - lr * v_i,   g_i = gradient of the loss of step i at theta_i

Three ways to the gradient:

- ``full``: autograd keeps the graph of every step. Memory grows with the steps; the oracle of the tests.
- ``recompute``: exact with one step's activations. The forward pass stores the weights theta_i alone; the backward pass
  walks them in reverse, rebuilds one step at a time and pulls the cotangent through its second derivatives.
- ``tesla``: Cui et al., ICML 2023, arXiv:2211.10586. The end point's cotangent is applied at every step, without any
  Hessian product: what a step does to the steps after it is left out. Exact for one step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

# (theta (P,), images (B, C, H, W), labels (B,) or (B, K), draw) -> scalar
InnerLoss = Callable[[Tensor, Tensor, Tensor, int], Tensor]

MODES = ("full", "recompute", "tesla")


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


def unroll(
    loss: InnerLoss,
    start: Tensor,
    images: Tensor,
    labels: Tensor,
    lr: Tensor,
    plan: Sequence[InnerStep],
    *,
    mode: str = "recompute",
    momentum: float = 0.0,
    stops: Sequence[int] | None = None,
) -> Tensor:
    """Weights of the student after the inner loop.

    Args:
        loss: mean loss of one batch; called again with equal arguments, it must return the same.
        start: where the student begins, (P,); no gradient flows into it.
        images: the synthetic set, (N, C, H, W).
        labels: classes (N,) int64, or soft labels or logits (N, K).
        lr: scalar, raw (not its logarithm).
        plan: the steps, fixed beforehand.
        mode: one of `MODES`.
        momentum: of the heavy ball, 0 in MTT, TESLA and DATM.
        stops: numbers of steps after which weights are wanted, ascending; the last step alone by default.

    Returns:
        (len(stops), P), differentiable once in images, labels and lr (``full``: to any order).

    Raises:
        ValueError: the mode is unknown, or is ``tesla`` with momentum or several stops, where its formula has no meaning.
    """
    stops = [len(plan)] if stops is None else list(stops)
    if mode not in MODES:
        raise ValueError(f"unknown memory mode {mode!r}: one of {', '.join(MODES)}")
    if mode == "tesla" and (momentum or stops != [len(plan)]):
        raise ValueError("memory mode tesla knows neither momentum nor intermediate stops: use recompute")
    if mode == "full":
        return torch.stack(_steps(loss, start.detach(), images, labels, lr, plan, momentum, stops, graph=True)[0])
    return _Unroll.apply(images, labels, lr, start.detach(), loss, plan, momentum, stops, mode == "recompute")


def _steps(
    loss: InnerLoss,
    theta: Tensor,
    images: Tensor,
    labels: Tensor,
    lr: Tensor,
    plan: Sequence[InnerStep],
    momentum: float,
    stops: Sequence[int],
    graph: bool,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Run the inner loop; returns the weights at the stops, and theta_i and v_i of every step."""
    thetas, velocities, landed = [], [], []
    velocity = torch.zeros_like(theta)
    for number, step in enumerate(plan, 1):
        with torch.enable_grad():
            here = theta if theta.requires_grad else theta.requires_grad_()
            value = loss(here, images[step.index], labels[step.index], step.draw)
            (gradient,) = torch.autograd.grad(value, here, create_graph=graph)
        velocity = momentum * velocity + gradient if momentum else gradient
        thetas.append(theta)
        velocities.append(velocity)
        theta = theta - lr * velocity
        if number in stops:
            landed.append(theta)
    return landed, thetas, velocities


class _Unroll(torch.autograd.Function):
    """Forward without a graph; backward in reverse, one step's graph at a time (memory modes recompute and tesla)."""

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        labels: Tensor,
        lr: Tensor,
        start: Tensor,
        loss: InnerLoss,
        plan: Sequence[InnerStep],
        momentum: float,
        stops: Sequence[int],
        exact: bool,
    ) -> Tensor:
        landed, thetas, velocities = _steps(loss, start.clone(), images, labels, lr, plan, momentum, stops, graph=False)
        # Without momentum v_i is g_i, which the reverse pass rebuilds anyway.
        ctx.trajectory = [theta.detach() for theta in thetas], velocities if momentum else None
        ctx.save_for_backward(images, labels, lr)
        ctx.settings = loss, plan, momentum, stops, exact
        return torch.stack(landed).detach()

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        loss, plan, momentum, stops, exact = ctx.settings
        thetas, velocities = ctx.trajectory
        images, labels, lr = ctx.saved_tensors
        soft = labels.is_floating_point()
        images_grad, labels_grad, lr_grad = torch.zeros_like(images), torch.zeros_like(labels), torch.zeros_like(lr)
        at_stop = dict(zip(stops, cotangents[0], strict=True))
        towards = torch.zeros_like(thetas[0])  # dL/dtheta_(i+1), lambda in the derivation
        pull = torch.zeros_like(towards)  # dL/dg_i, nu in the derivation
        for i in reversed(range(len(plan))):
            if i + 1 in at_stop:
                towards = towards + at_stop[i + 1]
            index = plan[i].index
            with torch.enable_grad():
                theta = thetas[i].requires_grad_()
                x = images[index].detach().requires_grad_()
                y = labels[index].detach().requires_grad_(soft)
                (gradient,) = torch.autograd.grad(loss(theta, x, y, plan[i].draw), theta, create_graph=True)
            lr_grad -= towards @ (velocities[i] if velocities else gradient.detach())
            pull = momentum * pull - lr * towards
            inputs = [x, *([y] if soft else []), *([theta] if exact else [])]
            products = torch.autograd.grad(gradient, inputs, pull, allow_unused=True, materialize_grads=True)
            images_grad.index_add_(0, index, products[0])
            if soft:
                labels_grad.index_add_(0, index, products[1])
            if exact:
                towards = towards + products[-1]
        return images_grad, labels_grad if soft else None, lr_grad, *[None] * 6
