"""Gradients of a recipe's loss for several networks at once, and the fastest way to them here."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

from distill.autotune import EAGER, fastest, fuse
from distill.networks.base import stateless
from distill.networks.flat import FlatStudent, flatten
from distill.training.recipe import Recipe


class Gradients:
    """The gradient (S, P) of a recipe's loss at weights (S, P), for S networks at once.

    Args:
        compiled: size of the batches to use torch.compile for; None does without, as do networks with state.
    """

    def __init__(self, nets: Sequence[nn.Module], recipe: Recipe, compiled: int | None):
        self.flats = [FlatStudent(net, with_state=True) for net in nets]
        self.stacked, self.batch = len(nets) > 1, compiled
        self.part = math.ceil(recipe.batch / recipe.parts)
        self.parts = math.ceil(recipe.batch / self.part)  # of a full batch
        if not stateless(nets[0]):
            if self.stacked:
                raise ValueError(f"{type(nets[0]).__name__} keeps statistics or drops units: train one at a time")
            compiled = None
        self.loss = self.full_batch = self.objective(recipe)
        if compiled is not None:
            key = (repr(nets[0]), recipe.loss_settings, self.stacked)
            self.full_batch = COMPILED.setdefault(key, fuse(self.loss))

    def objective(self, recipe: Recipe) -> Callable[..., Tensor]:
        """The sum of the networks' losses as a function of tensors alone."""
        flat = self.flats[0]

        def loss(weights: Tensor, images: Tensor, views: Tensor, targets: Tensor, epoch: Tensor) -> Tensor:
            return recipe.loss(partial(flat, weights), images, views, targets, epoch)

        if self.stacked:
            return lambda *tensors: vmap(loss, in_dims=(0, 0, 0, 0, None))(*tensors).sum()
        if stateless(flat.net):
            return lambda weights, images, views, targets, epoch: loss(
                weights[0], images[0], views[0], targets[0], epoch
            )

        def alone(weights: Tensor, images: Tensor, views: Tensor, targets: Tensor, epoch: Tensor) -> Tensor:
            # Batch norm and depthwise convolutions are faster with the channels last; measured on a CPU alone.
            layout = torch.channels_last if views.device.type == "cpu" else torch.contiguous_format
            return loss(weights[0], images[0], views[0].contiguous(memory_format=layout), targets[0], epoch)

        return alone

    def __call__(self, weights: Tensor, images: Tensor, views: Tensor, targets: Tensor, epoch: int) -> Tensor:
        leaf = weights.detach().requires_grad_()
        loss = self.full_batch if views.shape[1] == self.batch else self.loss
        when = torch.tensor(float(epoch), device=views.device)
        parts = list(zip(*(tensor.split(self.part, 1) for tensor in (images, views, targets)), strict=True))
        total = sum(loss(leaf, *part, when) for part in parts) / self.parts
        assert isinstance(total, Tensor)
        return torch.autograd.grad(total, leaf)[0]

    def put(self, weights: Tensor) -> None:
        """Copy ``weights`` into the networks."""
        for flat, row in zip(self.flats, weights.detach(), strict=True):
            for parameter, value in zip(flat.net.parameters(), flat.unflatten(row).values(), strict=True):
                parameter.copy_(value)


COMPILED: dict[Any, Callable[..., Tensor]] = {}  # a second network of the same kind is not compiled again


def way_to_train(
    make: Callable[[], nn.Module],
    images: Tensor,
    targets: Tensor,
    recipe: Recipe,
    stack: int,
    count: int,
    compile: bool | str,
) -> tuple[bool, int]:
    """Whether to compile, and how many networks to train as one stack: whatever takes the least time here.

    Args:
        make: makes a network.
        images, targets: what the networks are going to be trained on.
        stack: networks that may go together.
        count: networks in all.
        compile: see `distill.autotune.fastest`.
    """
    with torch.random.fork_rng():
        nets = [make().to(images.device) for _ in range(stack)]
    if not stateless(nets[0]):
        return False, 1
    weights = torch.stack([flatten(net) for net in nets])
    size = min(recipe.batch, len(images))
    x, y = (part[:size].expand(stack, *part[:size].shape) for part in (images, targets))

    def work(compiled: bool, together: int) -> Callable[[], object]:
        def run() -> None:
            for part in range(0, stack, together):
                own = slice(part, part + together)
                gradients = Gradients(nets[own], recipe, size if compiled else None)
                recipe.direction(partial(gradients, images=x[own], views=x[own], targets=y[own], epoch=0), weights[own])

        return run

    ways = {EAGER: (False, 1), "stacked": (False, stack), "compiled": (True, 1), "compiled stacked": (True, stack)}
    if stack == 1:
        ways = {name: way for name, way in ways.items() if "stacked" not in name}
    about = {
        "training": repr(nets[0]),
        "images": [stack, *x.shape[1:]],
        "targets": str(targets.dtype),
        "loss": recipe.loss_settings,
    }
    calls = math.ceil(count / stack) * recipe.steps(len(images))
    return ways[fastest({name: work(*way) for name, way in ways.items()}, about, calls, images.device, compile)]
