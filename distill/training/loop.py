"""How networks are trained and tested, experts, teachers and students alike: as their `distill.training.recipe.Recipe` says."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from distill import rng
from distill.augment.families import Augment
from distill.networks.flat import flatten
from distill.training.gradients import Gradients
from distill.training.recipe import Recipe


def train(
    nets: Sequence[nn.Module],
    images: Tensor,
    targets: Tensor,
    recipe: Recipe,
    *,
    seeds: Sequence[int],
    augment: Augment,
    label: "Label | None" = None,
    compiled: bool = False,
    after_epoch: "Callable[[Progress], None] | None" = None,
    progress: "Progress | None" = None,
) -> None:
    """Train networks of one architecture in place, each on batches and views of its own; several go as one stack.

    Args:
        nets: S networks on the device of the images; S > 1 takes networks without state (`stateless`).
        images: (N, C, H, W).
        targets: classes (N,) int64 or soft labels (N, K) whose rows sum to 1.
        seeds: one for each network; its batches, augmentation and dropout are functions of it.
        augment: what ``recipe.augment`` stands for on this data set (`augmentation`).
        label: what a batch of views finally is and shows, where that is more than ``targets``: see `Label`.
        compiled: use torch.compile, for full batches of networks without state.
        after_epoch: called with where training stands; the networks hold their weights of that moment.
        progress: where an earlier call stood: training goes on from there.
    """
    gradients = Gradients(nets, recipe, min(recipe.batch, len(images)) if compiled else None)
    weights = torch.stack([flatten(net) for net in nets]) if progress is None else progress.weights.clone()
    first = 0 if progress is None else progress.epochs
    optimizer = recipe.make_optimizer(weights, first)
    matrices = gradients.flats[0].matrices().to(weights)
    mean = weights.clone() if recipe.mean_decay is not None else None
    if progress is not None:
        restore_optimizer(optimizer, progress.optimizer)
    for net in nets:
        net.train()
    for epoch in range(first, recipe.passes):
        orders = [torch.randperm(len(images), generator=rng.generator(seed, "batches", epoch)) for seed in seeds]
        with rng.seeded(seeds[0], "dropout", epoch):
            for batch, index in enumerate(torch.stack(orders).to(images.device).split(recipe.batch, dim=1)):
                own = images[index]
                draws = [rng.derive(seed, "augment", epoch, batch) for seed in seeds]
                views = torch.stack([augment(part, draw) for part, draw in zip(own, draws, strict=True)])
                shown = targets[index]
                if label is not None:
                    seen = [label(*each, epoch) for each in zip(views, index, draws, strict=True)]
                    views, shown = (torch.stack(parts) for parts in zip(*seen, strict=True))
                gradient = partial(gradients, images=own, views=views, targets=shown, epoch=epoch)
                weights.grad = recipe.direction(gradient, weights)
                recipe.prepare(weights, optimizer, epoch, matrices)
                optimizer.step()
                if mean is not None and recipe.mean_decay is not None:
                    mean.lerp_(weights.detach(), 1 - recipe.mean_decay)
        if recipe.decay != 1 and epoch == recipe.last_epoch_before_decay:
            optimizer = recipe.make_optimizer(weights, epoch + 1)
        if after_epoch:
            gradients.put(weights)
            after_epoch(Progress(epoch + 1, weights.detach().clone(), optimizer_tensors(optimizer)))
    gradients.put(weights if mean is None else mean)


# (views (B, C, H, W), indices of their images (B,), draw, epoch) -> (what the student sees, what it is told of it)
Label = Callable[[Tensor, Tensor, int, int], tuple[Tensor, Tensor]]


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
