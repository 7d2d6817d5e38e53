"""Batches: what networks see of a training set and are told of it, as functions of (seed, epoch, batch)."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from distill import rng
from distill.augment.families import Augment
from distill.sets.base import TrainingSet
from distill.training.losses import CrossEntropy, Loss
from distill.training.recipe import Recipe


@dataclass(frozen=True)
class Batch:
    """What S networks are trained on in one step, each on B images of its own.

    Attributes:
        images: as they are, (S, B, C, H, W).
        views: the same, augmented and mixed.
        targets: classes (S, B), or for each class a probability or a teacher's logit (S, B, K), or both (S, B, 2 K), or
            whatever else the loss takes of an image, (S, B, k).
        weight: of each image in the loss, (S, B).
        index: places of the images in the training set, (S, B).
        epoch: 0 for the first.
        done: share of the epoch's batches before this one, in [0, 1).
    """

    images: Tensor
    views: Tensor
    targets: Tensor
    weight: Tensor
    index: Tensor
    epoch: int
    done: float = 0.0


@dataclass(frozen=True)
class Seen:
    """Views of one network's batch.

    Attributes:
        views: (B, C, H, W).
        index: places of their images, (B,).
        partner: places of the images that they are mixed with, (B,); None where nothing is mixed.
        share: of a view that is its own image's, in [0, 1].
        epoch: 0 for the first.
        stored: number of the stored view, (B,), -1 where it is the recipe's own; None where none are stored.
    """

    views: Tensor
    index: Tensor
    partner: Tensor | None
    share: float
    epoch: int
    stored: Tensor | None = None


@dataclass(frozen=True)
class Batches:
    """The batches of a training.

    Attributes:
        data: what the images are of.
        recipe: how large batches are, how they are mixed.
        augment: what ``recipe.views`` stands for on this data set.
        loss: what the targets are for.
        targets: what is told of views, where that is more than the set's own labels.
        replay: from what the recipe shows of images (B, C, H, W), and a draw, to what is shown, where views are stored.
        order: the images (n,) of an epoch in the order of its batches, where that is stored, too.
        cycle: epochs of batches and views, after which these come again; None where every epoch has its own.
    """

    data: TrainingSet
    recipe: Recipe
    augment: Augment
    loss: Loss = field(default_factory=CrossEntropy)
    targets: Callable[[Seen], Tensor] | None = None
    replay: Callable[[Seen, Tensor, int], Seen] | None = None
    order: Callable[[int], Tensor] | None = None
    cycle: int | None = None

    @cached_property
    def walk(self) -> TrainingSet:
        """`data` as this training walks it."""
        batch, parts = self.recipe.batch, self.recipe.micro_batches
        return self.data.walk(self.recipe.passes(len(self.data)), batch, math.ceil(batch / parts))

    def epoch(self, seeds: Sequence[int], number: int) -> Iterator[Batch]:
        """The batches of epoch ``number``; each of S networks has its own, a function of its seed."""
        shown = number if self.cycle is None else number % self.cycle
        walks = [self.walked(shown, seed) for seed in seeds]
        device, size = self.data.images.device, self.recipe.batch
        orders, weights = (
            torch.stack(parts).to(device, non_blocking=True).split(size, dim=1) for parts in zip(*walks, strict=True)
        )
        for place, (index, weight) in enumerate(zip(orders, weights, strict=True)):
            images = self.data.images[index]
            draws = [rng.derive(seed, "augment", shown, place) for seed in seeds]
            seen = [self.seen(*each, shown) for each in zip(images, index, draws, strict=True)]
            views, targets = (
                torch.stack(parts) for parts in zip(*((s.views, self.told(s)) for s in seen), strict=True)
            )
            yield Batch(images, views, targets, weight, index, number, place / len(orders))

    def walked(self, number: int, seed: int) -> tuple[Tensor, Tensor]:
        """The images (n,) of an epoch, in the order of its batches, and their weights in the loss (n,)."""
        if self.order is None:
            return self.walk.epoch(number, seed)
        order = self.order(number)
        return order, torch.ones(len(order))

    def seen(self, images: Tensor, index: Tensor, draw: int, epoch: int) -> Seen:
        """Views of images (B, C, H, W), as the recipe augments and mixes them."""
        views = self.view(images, draw)
        if self.recipe.mix is None:
            seen = Seen(views, index, None, 1.0, epoch)
            return seen if self.replay is None else self.replay(seen, images, draw)
        views, partner, share = self.recipe.mix(views, Generator().manual_seed(rng.derive(draw, "mix")))
        return Seen(views, index, index[partner], share, epoch)

    def view(self, images: Tensor, draw: int) -> Tensor:
        """Views of images (B, C, H, W) of the set, not mixed yet."""
        return self.augment(self.data.shown(images, draw), draw)

    def told(self, seen: Seen) -> Tensor:
        """What a network is told of its views: classes (B,), (B, K) or (B, 2 K)."""
        return (self.targets or self._own)(seen)

    @cached_property
    def _own(self) -> "OwnLabels":
        return OwnLabels(self.data.targets, self.data.num_classes)


class OwnLabels:
    """Labels of a set, classes (N,) or probabilities (N, K), for the views of a batch; mixed as the views are."""

    def __init__(self, targets: Tensor, num_classes: int):
        self.targets, self.num_classes = targets, num_classes

    def __call__(self, seen: Seen) -> Tensor:
        own = self.targets[seen.index]
        if seen.partner is None:
            return own
        other = self.targets[seen.partner]
        if own.ndim == 1:
            own, other = (F.one_hot(part, self.num_classes).to(seen.views) for part in (own, other))
        return seen.share * own + (1 - seen.share) * other
