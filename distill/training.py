"""How networks are trained and tested, experts, teachers and students alike: as their `distill.recipes.Recipe` says."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

from distill import augment, rng
from distill.augment import Augment
from distill.data import Split
from distill.fastest import EAGER, fastest, fuse
from distill.recipes import CommitteeProtocol, Recipe
from distill.students import FlatStudent, flatten, stateless


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
        compile: see `distill.fastest.fastest`.
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


def augmentation(recipe: Recipe, split: Split) -> Augment:
    """The recipe's augmentation of a data set's images, with its DSA families and its preprocessing."""
    mirror = "flip" in split.strategy
    if recipe.augment == "crop_flip_black":
        return augment.PaddedCrop(mirror, split.preprocessing)
    if isinstance(recipe, CommitteeProtocol) and recipe.augment == "resized_crop":
        return augment.ResizedCrop(recipe.area, recipe.shuffle, mirror)
    return augment.make(recipe.augment, split.strategy)


def families(recipe: Recipe, strategy: str) -> str:
    """What `augmentation` depends on of a data set's DSA families: all of them, whether images are mirrored, or nothing."""
    if recipe.augment in ("dsa", "siamese"):
        return strategy
    mirrors = recipe.augment in ("crop_flip", "crop_flip_black", "resized_crop")
    return "flip" if mirrors and "flip" in strategy else ""


@torch.no_grad()
def hits(net: nn.Module, split: Split, recipe: Recipe, compiled: bool = False, batch: int = 250) -> list[int]:
    """Images of each of K classes that are classified correctly at the recipe's precision; ``net`` stays in evaluation mode.

    With ``compiled``, whole batches of a network without state go through torch.compile.
    """
    net.eval()
    plain = whole = partial(recipe.logits, net)
    if compiled and stateless(net):
        flat, key = FlatStudent(net), ("logits", repr(net), recipe.precision)
        own = fuse(lambda theta, x: recipe.logits(partial(flat, theta), x))
        whole = partial(COMPILED.setdefault(key, own), flatten(net))
    correct = torch.zeros(split.num_classes, dtype=torch.long, device=split.labels.device)
    for images, labels in zip(split.images.split(batch), split.labels.split(batch), strict=True):
        logits = (whole if len(images) == batch else plain)(images)
        correct += torch.bincount(labels[logits.argmax(1) == labels], minlength=split.num_classes)
    return correct.tolist()


def accuracy(net: nn.Module, split: Split, recipe: Recipe) -> float:
    """Fraction of ``split`` classified correctly, in [0, 1]; see `hits`."""
    return sum(hits(net, split, recipe)) / len(split)
