"""Gradients of a loss for several networks at once, and the fastest way to them here."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import vmap

from distill.autotune import EAGER, fastest, fuse
from distill.networks.base import stateless
from distill.networks.flat import FlatStudent, flatten
from distill.training.batch import Batch, Batches
from distill.training.losses import Loss
from distill.training.recipe import Recipe


class Outputs(NamedTuple):
    """What S networks said of a batch: losses (S, B), unweighted, and logits (S, B, K), without their graph."""

    losses: Tensor
    logits: Tensor


class Gradients:
    """The gradient (S, P) of the weighted mean of a batch's losses at weights (S, P), for S networks at once.

    Args:
        compiled: size of the batches to use torch.compile for; None does without, as do networks with state.
    """

    def __init__(self, nets: Sequence[nn.Module], recipe: Recipe, loss: Loss, compiled: int | None):
        self.flats = [FlatStudent(net, with_state=True) for net in nets]
        self.stacked, self.batch = len(nets) > 1, compiled
        self.part = math.ceil(recipe.batch / recipe.micro_batches)
        self.parts = math.ceil(recipe.batch / self.part)  # of a full batch
        if not stateless(nets[0]):
            if self.stacked:
                raise ValueError(f"{type(nets[0]).__name__} keeps statistics or drops units: train one at a time")
            compiled = None
        self.losses = self.full_batch = self.objective(recipe, loss)
        if compiled is not None:
            key = (repr(nets[0]), recipe.precision, loss, self.stacked)
            self.full_batch = COMPILED.setdefault(key, fuse(self.losses))

    def objective(self, recipe: Recipe, loss: Loss) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
        """The sum of the networks' weighted means, losses (S, B) and logits (S, B, K) as a function of tensors alone."""
        flat = self.flats[0]

        def one(
            theta: Tensor, images: Tensor, views: Tensor, targets: Tensor, weight: Tensor, epoch: Tensor
        ) -> tuple[Tensor, Tensor, Tensor]:
            net = partial(flat, theta)
            logits = recipe.logits(net, views)
            losses = loss(net, images, logits, targets, epoch)
            return (weight * losses).mean(), losses.detach(), logits.detach()

        if self.stacked:

            def together(*tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
                means, losses, logits = vmap(one, in_dims=(0, 0, 0, 0, 0, None))(*tensors)
                return means.sum(), losses, logits

            return together

        def alone(
            theta: Tensor, images: Tensor, views: Tensor, targets: Tensor, weight: Tensor, epoch: Tensor
        ) -> tuple[Tensor, Tensor, Tensor]:
            view = views[0]
            if view.device.type == "cpu":  # where channels last are faster; not measured elsewhere
                view = view.contiguous(memory_format=torch.channels_last)
            mean, losses, logits = one(theta[0], images[0], view, targets[0], weight[0], epoch)
            return mean, losses[None], logits[None]

        return alone

    def on(self, batch: Batch) -> "Step":
        """The gradient on one batch, as a function of weights (S, P)."""
        return Step(self, batch)


class Step:
    """The gradient (S, P) on one batch, as a function of weights (S, P).

    Attributes:
        outputs: what the networks said under the weights that were asked about first.
    """

    def __init__(self, gradients: Gradients, batch: Batch):
        self.gradients, self.batch = gradients, batch
        self.outputs: Outputs | None = None

    def __call__(self, weights: Tensor) -> Tensor:
        of, batch = self.gradients, self.batch
        leaf = weights.detach().requires_grad_()
        objective = of.full_batch if batch.views.shape[1] == of.batch else of.losses
        when = torch.full((), float(batch.epoch), device=batch.views.device)
        tensors = (batch.images, batch.views, batch.targets, batch.weight)
        parts = zip(*(tensor.split(of.part, 1) for tensor in tensors), strict=True)
        means, losses, logits = zip(*(objective(leaf, *part, when) for part in parts), strict=True)
        if self.outputs is None:
            self.outputs = Outputs(torch.cat(losses, 1), torch.cat(logits, 1))
        total = sum(means) / of.parts
        assert isinstance(total, Tensor)
        return torch.autograd.grad(total, leaf)[0]


COMPILED: dict[Any, Callable[..., Any]] = {}  # a network of the same kind is not compiled again


def way_to_train(
    make: Callable[[], nn.Module], batches: Batches, stack: int, count: int, compile: bool | str
) -> tuple[bool, int]:
    """Whether to compile, and how many networks to train as one stack: whatever takes the least time here.

    Args:
        make: makes a network.
        batches: what the networks are going to be trained on.
        stack: networks that may go together.
        count: networks in all.
        compile: see `distill.autotune.fastest`.
    """
    data, recipe, loss = batches.data, batches.recipe, batches.loss
    device = data.images.device
    with torch.random.fork_rng():
        nets = [make().to(device) for _ in range(stack)]
    if not stateless(nets[0]):
        return False, 1
    stack = 1 if data.observes else stack
    weights = torch.stack([flatten(net) for net in nets[:stack]])
    first = next(replace(batches).epoch([0], 0))
    size = first.index.shape[1]
    parts = ("images", "views", "targets", "weight", "index")
    whole = {name: getattr(first, name).expand(stack, *getattr(first, name).shape[1:]) for name in parts}

    def work(compiled: bool, together: int) -> Callable[[], object]:
        def run() -> None:
            for place in range(0, stack, together):
                own = slice(place, place + together)
                gradients = Gradients(nets[own], recipe, loss, size if compiled else None)
                batch = Batch(**{name: part[own] for name, part in whole.items()}, epoch=0)
                recipe.optimizer.direction(gradients.on(batch), weights[own], gradients.flats[0])

        return run

    ways = {EAGER: (False, 1), "stacked": (False, stack), "compiled": (True, 1), "compiled stacked": (True, stack)}
    if stack == 1:
        ways = {name: way for name, way in ways.items() if "stacked" not in name}
    about = {
        "training": repr(nets[0]),
        "images": list(whole["images"].shape),
        "targets": str(first.targets.dtype),
        "loss": [recipe.precision, repr(loss)],
    }
    calls = math.ceil(count / stack) * recipe.updates(len(data))
    return ways[fastest({name: work(*way) for name, way in ways.items()}, about, calls, device, compile)]
