"""The one loop that trains networks: experts, teachers, proxies and students alike."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from distill import rng
from distill.networks.flat import flatten, put
from distill.sets.base import TrainingSet
from distill.training.batch import Batch, Batches
from distill.training.gradients import Gradients, Outputs


def train(
    nets: Sequence[nn.Module],
    batches: Batches,
    *,
    seeds: Sequence[int],
    compiled: bool = False,
    after_batch: Callable[[Batch, Outputs], None] | None = None,
    after_epoch: "Callable[[Progress], None] | None" = None,
    progress: "Progress | None" = None,
) -> None:
    """Train networks of one architecture in place, each on batches and views of its own; several go as one stack.

    Args:
        nets: S networks on the device of the images; S > 1 takes networks without state (`stateless`).
        seeds: one for each network; its batches, augmentation and dropout are functions of it.
        compiled: use torch.compile, for full batches of networks without state.
        after_batch: called with a batch and what the networks said of it, before their step.
        after_epoch: called with where training stands.
        progress: where an earlier call stood: training goes on from there.
    """
    batches = replace(batches)  # with a walk that heard nothing yet
    recipe, images = batches.recipe, len(batches.data)
    gradients = Gradients(nets, recipe, batches.loss, min(recipe.batch, images) if compiled else None)
    start = progress or Progress(0, torch.stack([flatten(net) for net in nets]))
    weights, epoch = start.weights.clone(), start.epochs
    each, span = recipe.batches(images), recipe.span(images)
    optimizer = recipe.make_optimizer(weights, epoch, span)
    matrices = gradients.flats[0].matrices().to(weights, non_blocking=True)
    mean = start.rest.get("mean", weights).to(weights, copy=True) if recipe.ema is not None else None
    taken = int(start.rest.get("steps", epoch * each))
    restore_optimizer(optimizer, start.optimizer)
    put_rest(start.rest, nets[0], batches.walk)
    for net in nets:
        net.train()
    while not recipe.is_over(epoch, taken):
        with rng.seeded(seeds[0], "dropout", epoch):
            for batch in batches.epoch(seeds, epoch):
                # In steps where they are counted: a walk may hand out fewer than a whole epoch's.
                now = epoch + batch.done if recipe.steps is None else taken / each
                lr = optimizer.param_groups[0]["lr"] = recipe.rate(now, span)
                step = gradients.on(batch)
                weights.grad = recipe.optimizer.direction(step, weights, gradients.flats[0])
                assert step.outputs is not None
                batches.walk.observe(batch.index, step.outputs.losses)
                if after_batch:
                    after_batch(batch, step.outputs)
                recipe.optimizer.decay(weights, lr, matrices)
                optimizer.step()
                if mean is not None and recipe.ema is not None:
                    mean.lerp_(weights.detach(), 1 - recipe.ema)
                taken += 1
                if recipe.is_over(epoch, taken):
                    break
        if recipe.schedule.restarts_after(epoch, span):
            optimizer = recipe.make_optimizer(weights, epoch + 1, span)
        epoch += 1
        if after_epoch:
            rest = rest_of(nets[0], batches.walk, taken, mean)
            after_epoch(Progress(epoch, weights.detach(), optimizer_tensors(optimizer), rest))
    put(nets, weights.detach() if mean is None else mean)


@dataclass(frozen=True)
class Progress:
    """Where training stands after an epoch, in tensors that it goes on to change: `copy` keeps them.

    Attributes:
        epochs: that are done.
        weights: (S, P).
        optimizer: its tensors by name.
        rest: by name what else training goes on from: ``steps`` taken, ``statistics.*`` of a network that keeps some, the
            ``mean`` of the weights, ``losses`` that a walk heard. Where one is missing, it is as in whole epochs until now.
    """

    epochs: int
    weights: Tensor
    optimizer: Mapping[str, Tensor] = field(default_factory=dict)
    rest: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, epochs: int, weights: Tensor, tensors: Mapping[str, Tensor]) -> "Progress":
        """From what `tensors` gave."""
        optimizer = {name: tensor for name, tensor in tensors.items() if name[0].isdigit()}
        return cls(epochs, weights, optimizer, {name: tensors[name] for name in tensors.keys() - optimizer.keys()})

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All but the weights, to be stored."""
        return {**self.optimizer, **self.rest}

    def copy(self) -> "Progress":
        """The same in tensors of its own."""
        own = {name: tensor.clone() for name, tensor in self.tensors.items()}
        return Progress.of(self.epochs, self.weights.clone(), own)


def rest_of(net: nn.Module, walk: TrainingSet, steps: int, mean: Tensor | None) -> dict[str, Tensor]:
    """`Progress.rest`; who keeps statistics is trained alone."""
    rest = {f"statistics.{name}": buffer for name, buffer in net.named_buffers()}
    return {**rest, **walk.heard, **({} if mean is None else {"mean": mean}), "steps": torch.tensor(steps)}


def put_rest(rest: Mapping[str, Tensor], net: nn.Module, walk: TrainingSet) -> None:
    """Let a network have its statistics again, and a walk hear again what it heard."""
    net.load_state_dict(named(rest, "statistics."), strict=False)
    losses = rest.get("losses", torch.empty(0))
    walk.observe(torch.arange(len(losses)), losses)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state by name, each a parameter's number and a dot before its own; the optimiser goes on to change it."""
    states = optimizer.state_dict()["state"]
    return {f"{i}.{k}": v for i, state in states.items() for k, v in state.items() if isinstance(v, Tensor)}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give a fresh optimiser a copy of the state that `optimizer_tensors` took."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        i, key = name.split(".")
        state.setdefault(int(i), {})[key] = tensor.clone()
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def named(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin with ``prefix``, under the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
