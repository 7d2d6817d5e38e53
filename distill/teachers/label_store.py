"""LabelStore: a committee's labels on disk, once for all students; views are functions of a draw, so logits alone are kept.

Source: FKD as SRe2L (arXiv:2306.13092) uses it.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from distill import rng
from distill.identity import LABELLED, UNSAID, flat_recipe, parts_of
from distill.teachers.codecs import Codec
from distill.teachers.shelf import Shelf
from distill.training.batch import Batches, Seen

Key = tuple[int, int]  # epoch and batch

VIEWS = ("epochs", "extra_epochs", "batch", "augment", "area", "shuffle", "mix", "mix_alpha", "micro_batches")


class LabelStore(Shelf, Dataset):
    """What a committee says of each view of each epoch, on disk as a codec keeps it; the views follow from the seed.

    As a torch ``Dataset`` it maps a key (epoch, batch) to what a student sees and is told, for most codecs ``(views, logits)``;
    with ``DataLoader(store, sampler=store.keys(), batch_size=None)`` it is a whole training.

    Args:
        folder: of this store, or of many, where its own is found by content.
        batches: what students see.
        seed: of batches and views.
        ask: what the committee says of views (B, C, H, W), logits (B, K); asked for epochs that are not there yet.
        committee: who is asked, and how: its part of the store's identity.
        codec: how what it says is kept.
        count: epochs that are stored; a training goes on with the first of them.

    Raises:
        ValueError: the folder holds labels of other images, other views or another committee.
    """

    kind = "epoch"

    def __init__(
        self,
        folder: Path,
        batches: Batches,
        seed: int,
        ask: Callable[[Tensor], Tensor],
        committee: Mapping[str, Any],
        codec: Codec,
        count: int,
    ):
        self.batches, self.seed, self.ask, self.codec, self.stored = batches, seed, ask, codec, count
        self.data, self.recipe = batches.data, batches.recipe
        values = flat_recipe(parts_of(self.recipe), LABELLED)
        views = {name: values[name] for name in VIEWS}
        own = parts_of(self.recipe.views)  # of other views than crops, such as the level of RandAugment
        views |= {
            name: value
            for name, value in own.items()
            if name not in ("kind", *VIEWS) and value != UNSAID.get(name, ...)
        }
        about = {
            "images": self.data.hash,
            "views": {**views, "seed": seed},
            "committee": dict(committee),
            **codec.about,
        }
        super().__init__(folder, about)
        self.at_hand: tuple[int, dict[str, Tensor], Tensor] | None = None  # an epoch's, as `opened` gives them

    def __len__(self) -> int:
        return self.recipe.updates(self.round)

    def keys(self) -> Sampler:
        """The keys of a training, in order."""
        return _Keys(len(self), self.recipe.batches(self.round), self.stored)

    @property
    def round(self) -> int:
        """Images of an epoch."""
        return len(self.order(0))

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor]:
        seen = self.seen(*key)
        return seen.views, self(seen)

    def __call__(self, seen: Seen) -> Tensor:
        """What is told of the views of a batch, (B, k); made and kept if it is not there."""
        if self.at_hand is None or self.at_hand[0] != seen.epoch:
            self.at_hand = seen.epoch, *self.opened(seen.epoch)
        _, kept, places = self.at_hand
        own = places[seen.index]
        return self.codec.unpack({name: each[own] for name, each in kept.items()}, self.data.num_classes)

    def order(self, epoch: int) -> Tensor:
        """The images (n,) of an epoch, in the order of its batches."""
        return self.batches.walk.epoch(epoch, self.seed)[0]

    def seen(self, epoch: int, batch: int) -> Seen:
        """What a student sees, and of which images."""
        index = self.order(epoch).split(self.recipe.batch)[batch].to(self.data.images.device, non_blocking=True)
        return self.batches.seen(self.data.images[index], index, rng.derive(self.seed, "augment", epoch, batch), epoch)

    def read(self, epoch: int) -> Tensor:
        """What is told of an epoch's views, (N, k) by image; NaN for one that it leaves out."""
        kept, places = self.opened(epoch)
        by_image = self.codec.unpack(kept, self.data.num_classes)[places]
        return by_image.masked_fill_(places[:, None] < 0, math.nan)

    def opened(self, epoch: int) -> tuple[dict[str, Tensor], Tensor]:
        """What is kept of an epoch's views, in the bytes that it is kept in, and where that of each image is, (N,); else -1."""
        tensors, device = self.load(epoch), self.data.images.device
        seen = tensors.pop("seen", None)  # files of before have none
        try:
            order = checked_order(tensors, self.order(epoch))
            self.codec.check(tensors, self.data.num_classes, len(order))
            if seen is not None:
                check_views(seen, glimpse(self.seen(epoch, 0).views))
        except ValueError as error:
            raise ValueError(f"{self.path(epoch)} {error}: delete {self.folder} to have it made anew") from None
        places = torch.full((len(self.data.labels),), -1).index_copy_(0, order, torch.arange(len(order)))
        return {name: each.to(device) for name, each in tensors.items()}, places.to(device, non_blocking=True)

    @property
    def count(self) -> int:
        return self.stored

    def asked(self, epoch: int) -> dict[str, Tensor]:
        order, hard = self.order(epoch), self.data.hard
        parts = []
        for batch in range(math.ceil(len(order) / self.recipe.batch)):
            seen = self.seen(epoch, batch)
            other = seen.index if seen.partner is None else seen.partner
            asked = self.ask(seen.views).cpu(), hard[seen.index].cpu(), hard[other].cpu()
            parts.append(self.codec.pack(*asked))
        kept = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return {"order": order.int(), **kept, "seen": glimpse(self.seen(epoch, 0).views)}


def checked_order(tensors: dict[str, Tensor], order: Tensor) -> Tensor:
    """The images (n,) of an epoch, which are taken out of its file; raises ValueError, without the file's name, for others."""
    kept = tensors.pop("order", None)
    if kept is None or kept.dtype != torch.int32 or kept.shape != order.shape:
        raise ValueError(f"holds {sorted(tensors)}, expected the order of {len(order)} images, too")
    if not torch.equal(kept.long(), order):
        raise ValueError("was made for another order of the images")
    return order


def glimpse(views: Tensor) -> Tensor:
    """What tells views (B, C, H, W) from others, in few bytes: the means of four quarters of the first eight, float16."""
    return F.adaptive_avg_pool2d(views[:8], 2).flatten(1).cpu().half()


def check_views(seen: Tensor, now: Tensor) -> None:
    """Raise ValueError, without the file's name, unless labels were made for the views at hand, up to rounding of devices."""
    if seen.shape != now.shape or not torch.allclose(seen.float(), now.float(), rtol=0.01, atol=0.02):
        raise ValueError("was made for other views: another mirroring or another augmentation")


class _Keys(Sampler):
    def __init__(self, steps: int, batches: int, epochs: int):
        self.steps, self.batches, self.epochs = steps, batches, epochs

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Key]:
        return ((step // self.batches % self.epochs, step % self.batches) for step in range(self.steps))
