"""Walks of the real set: all of its images are stored, and every epoch is a round over some of them.

What a walk is matched on with a small set is optimiser steps, not storage: its rows are a block of their own.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from distill import rng
from distill.checks import check_ranges, setting, stated
from distill.data.split import Split
from distill.files import digest
from distill.identity import parts_of
from distill.sets.coreset import Coreset

UNSEEN, WORST = 3.0, 1e6  # losses of an image that was not seen yet, and of one where a network lost its way


@dataclass(frozen=True)
class Walk(ABC):
    """How a training goes through a real set, round by round; epochs, batches and schedule are those of a set of one round.

    Raises:
        ValueError: a value is out of range.
    """

    observes: ClassVar[bool] = False  # whether losses decide what a round takes

    def __post_init__(self) -> None:
        check_ranges("walk", vars(self), stated(type(self)))

    def on(self, split: Split, counts: Sequence[int]) -> "Walked":
        """All images of ``split``, in rounds of so many of each class; raises a ValueError where a class has fewer.

        >>> import distill
        >>> train = distill.load_data("digits").train
        >>> subsets = Rs2(replacement=True, stratified=True).on(train, [10] * 10)
        >>> len(subsets), len(subsets.images) == len(train), subsets.epoch(0, seed=0)[0].shape
        (100, True, torch.Size([100]))
        """
        split.check_counts(counts)
        return Walked(split, self, counts)

    @abstractmethod
    def round(self, of: "Walked", number: int, seed: int) -> tuple[Tensor, Tensor]:
        """The images of epoch ``number``, in the order of its batches: indices (n,) and their weights in the loss (n,)."""


class Walked(Coreset):
    """All images of a split, walked in rounds; it is as long as a round.

    Attributes:
        rule: how it is walked.
        losses: of each image when it was last seen, (N,).
        epochs, batch, part: of the training, see `walk`.
        described_by: what gave it vectors for labels (`described`), if anything.
    """

    described_by = ""

    def __init__(self, split: Split, rule: Walk, counts: Sequence[int]):
        super().__init__(split, torch.arange(len(split)))
        self.rule, self.round, self.observes = rule, tuple(counts), rule.observes
        self.losses = torch.full((len(split),), UNSEEN, device=split.labels.device)
        self.epochs, self.batch, self.part = 0, 1, 1

    def __len__(self) -> int:
        return sum(self.round)

    @property
    def counts(self) -> tuple[int, ...]:
        """Images of each class in a round; on average, where it is drawn from all classes at once."""
        return self.round

    @cached_property
    def images_hash(self) -> str:  # type: ignore[override]
        return Coreset.whole(self.split).hash

    @cached_property
    def hash(self) -> str:  # type: ignore[override]
        own = {"images": self.images_hash, "walk": parts_of(self.rule), "round": self.round}
        return digest(own | ({"vectors": self.described_by} if self.has_vectors else {}))

    @cached_property
    def members(self) -> tuple[Tensor, ...]:
        """Places of the images of each class."""
        return self.classes.cpu().argsort(stable=True).split(self.split.counts)

    def described(self, vectors: Tensor, by: str) -> "Walked":
        """A copy whose labels are vectors (N, D) of its images.

        Args:
            by: stands for the network that gave them; no digits of theirs do, which are a machine's own.
        """
        own = copy.copy(self)
        own.labels, own.label_kind, own.described_by = vectors, "vectors", by
        return own

    def walk(self, epochs: int, batch: int, part: int) -> "Walked":
        own = copy.copy(self)
        own.losses = torch.full_like(self.losses, UNSEEN)
        own.epochs, own.batch, own.part = epochs, batch, part
        return own

    def epoch(self, number: int, seed: int) -> tuple[Tensor, Tensor]:
        return self.rule.round(self, number, seed)

    @property
    def heard(self) -> dict[str, Tensor]:
        return {"losses": self.losses} if self.observes else {}

    def observe(self, index: Tensor, losses: Tensor) -> None:
        self.losses[index] = losses.to(self.losses).nan_to_num(nan=WORST, posinf=WORST)


@dataclass(frozen=True)
class Rs2(Walk):
    """Repeated random subsets: every round takes a fresh one.

    Attributes:
        replacement: rounds are drawn independently of each other. If false, a shuffle is cut into rounds; what does not
            fill a round is left out, as is what does not fill a batch, and the next shuffle follows.
        stratified: rounds have as many images of each class as they should, not only on average.

    Source: Okanovic et al., arXiv:2305.18424.
    """

    replacement: bool = setting("true or false")
    stratified: bool = setting("true or false")

    def round(self, of: Walked, number: int, seed: int) -> tuple[Tensor, Tensor]:
        strata = list(zip(of.members, of.round, strict=True)) if self.stratified else [(torch.cat(of.members), len(of))]
        taken = []
        for place, (members, count) in enumerate(strata):
            shuffle, part = (number, 0) if self.replacement or not count else divmod(number, len(members) // count)
            g = rng.generator(seed, "subset", shuffle, place)
            taken.append(members[torch.randperm(len(members), generator=g)][part * count : (part + 1) * count])
        index = torch.cat(taken)
        index = index[torch.randperm(len(index), generator=rng.generator(seed, "batches", number))]
        whole = len(index) // of.batch * of.batch or len(index)
        index = index if self.replacement else index[:whole]
        return index, torch.ones(len(index))


@dataclass(frozen=True)
class Short(Walk):
    """Everything, for as many steps as a small set: shuffles of all images, one after the other, cut into rounds.

    `Rs2` without replacement is this, but for what it leaves out.
    """

    def round(self, of: Walked, number: int, seed: int) -> tuple[Tensor, Tensor]:
        images, first = len(of.split), number * len(of)
        shuffles = range(first // images, (first + len(of) - 1) // images + 1)
        order = torch.cat([torch.randperm(images, generator=rng.generator(seed, "shuffle", each)) for each in shuffles])
        index = order[first % images :][: len(of)]
        return index, torch.ones(len(index))


@dataclass(frozen=True)
class Pruning(Walk):
    """Rounds over what losses leave of all images, epoch by epoch; how much a training saves is what it did not see.

    Attributes:
        ratio: r, see each rule.
        delta: losses decide in that share of the epochs, in the last ones they do not.
    """

    observes = True
    ratio: float = setting("[0, 1)")
    delta: float = setting("[0, 1]")

    def on(self, split: Split, counts: Sequence[int]) -> Walked:
        """All images of ``split``, whatever ``counts`` asks for: a round is what is left of them."""
        return super().on(split, split.counts)

    def round(self, of: Walked, number: int, seed: int) -> tuple[Tensor, Tensor]:
        index, weights = self.pruned(of.losses.cpu(), number, seed, number + 1 <= self.delta * of.epochs)
        alone = len(index) > 1 and len(index) % of.batch % of.part == 1  # one image has no batch statistics
        order = torch.randperm(len(index), generator=rng.generator(seed, "batches", number))[int(alone) :]
        return index[order], weights[order]

    @abstractmethod
    def pruned(self, losses: Tensor, number: int, seed: int, active: bool) -> tuple[Tensor, Tensor]:
        """What is left in epoch ``number`` by the images' losses (N,): indices (n,) and weights (n,); see `Pruning`."""


@dataclass(frozen=True)
class InfoBatch(Pruning):
    """Images below the mean loss are left out with probability r; those that stay weigh 1 / (1 - r), so that gradients of an
    epoch stay as they are in expectation. The last epochs take all.

    Source: Qin et al., arXiv:2303.04947.
    """

    def pruned(self, losses: Tensor, number: int, seed: int, active: bool) -> tuple[Tensor, Tensor]:
        learned = (losses < losses.mean()) & active
        lucky = torch.rand(len(losses), generator=rng.generator(seed, "pruning", number)) >= self.ratio
        kept = (~learned | lucky).nonzero()[:, 0]
        return kept, torch.where(learned, 1 / (1 - self.ratio), 1.0)[kept]


@dataclass(frozen=True)
class SeTa(Pruning):
    """A random 1 - r of all images, and of these a window of groups of like losses that slides from easy to hard, again and
    again. The first epoch, which knows no losses, and the last ones take all groups. Images are not weighed.

    Attributes:
        groups: G.
        window: rho: the window spans rho G groups, rounded, a half to the even number as Python does.

    Source: arXiv:2503.13385.
    """

    groups: int = setting("whole [1, 1000]")
    window: float = setting("(0, 1]")

    def pruned(self, losses: Tensor, number: int, seed: int, active: bool) -> tuple[Tensor, Tensor]:
        g = rng.generator(seed, "pruning", number)
        kept = torch.randperm(len(losses), generator=g)[: max(1, round((1 - self.ratio) * len(losses)))]
        if active and number:
            span = max(1, round(self.window * self.groups))
            first = (number - 1) % (self.groups - span + 1)
            group = grouped(losses[kept], self.groups, rng.derive(seed, "groups", number))
            inside = (group >= first) & (group < first + span)
            kept = kept[inside] if inside.any() else kept  # losses may have fewer values than there are groups
        return kept, torch.ones(len(kept))


def grouped(losses: Tensor, count: int, seed: int) -> Tensor:
    """The group (n,) of each loss (n,), 0 that of the smallest: k-means in one dimension.

    >>> grouped(torch.tensor([9.0, 0.1, 4.1, 0.0, 4.0]), 3, seed=0)
    tensor([2, 0, 1, 0, 1])
    """
    from sklearn.cluster import KMeans  # late: no other set needs it

    count = min(count, len(losses.unique()))
    found = KMeans(count, n_init=1, random_state=seed % 2**32).fit(losses[:, None].numpy())
    rank = found.cluster_centers_[:, 0].argsort().argsort()
    return torch.from_numpy(rank[found.labels_])
