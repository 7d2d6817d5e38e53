"""The one loop that trains networks: experts, teachers, proxies and students alike."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from distill import rng
from distill.networks.flat import flatten
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
        after_epoch: called with where training stands; the networks hold their weights of that moment.
        progress: where an earlier call stood: training goes on from there; its epochs count as whole ones.
    """
    batches = replace(batches)  # with a walk that heard nothing yet
    recipe, images = batches.recipe, len(batches.data)
    gradients = Gradients(nets, recipe, batches.loss, min(recipe.batch, images) if compiled else None)
    weights = torch.stack([flatten(net) for net in nets]) if progress is None else progress.weights.clone()
    first = 0 if progress is None else progress.epochs
    each, span = recipe.batches(images), recipe.span(images)
    optimizer = recipe.make_optimizer(weights, first, span)
    matrices = gradients.flats[0].matrices().to(weights, non_blocking=True)
    mean = weights.clone() if recipe.ema is not None else None
    if progress is not None:
        restore_optimizer(optimizer, progress.optimizer)
    for net in nets:
        net.train()
    epoch, taken = first, first * each
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
            gradients.put(weights)
            after_epoch(Progress(epoch, weights.detach().clone(), optimizer_tensors(optimizer)))
    gradients.put(weights if mean is None else mean)


@dataclass(frozen=True)
class Progress:
    """Where training stands: epochs done, weights (S, P) and the optimiser's tensors."""

    epochs: int
    weights: Tensor
    optimizer: Mapping[str, Tensor]


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state by name, for `restore_optimizer`."""
    states = optimizer.state_dict()["state"]
    return {f"{i}.{k}": v.clone() for i, state in states.items() for k, v in state.items() if isinstance(v, Tensor)}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give a fresh optimiser the state that `optimizer_tensors` took."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        i, key = name.split(".")
        state.setdefault(int(i), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def named(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin with ``prefix``, under the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
