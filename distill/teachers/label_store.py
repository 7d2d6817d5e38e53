"""LabelStore: a committee's labels on disk, once for all students; views are functions of a draw, so logits alone are kept.

Source: FKD as SRe2L (arXiv:2306.13092) uses it.
"""

import math
import reprlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from distill import rng
from distill.identity import LABELLED, UNSAID, flat_recipe, parts_of
from distill.teachers.shelf import Shelf
from distill.training.batch import Batches, Seen

Key = tuple[int, int]  # epoch and batch

VIEWS = ("epochs", "extra_epochs", "batch", "augment", "area", "shuffle", "mix", "mix_alpha", "micro_batches")


class LabelStore(Shelf, Dataset):
    """A committee's logits for each view of each epoch, on disk in half precision; the views follow from the seed.

    As a torch ``Dataset`` it maps a key (epoch, batch) to what a student sees and is told, ``(views, logits)``; with
    ``DataLoader(store, sampler=store.keys(), batch_size=None)`` it is a whole training.

    Args:
        folder: of this store, or of many, where its own is found by content.
        batches: what students see.
        seed: of batches and views.
        ask: what the committee says of views (B, C, H, W), logits (B, K); asked for epochs that are not there yet.
        committee: who is asked, and how: its part of the store's identity.
        temperature: of the loss.
        top_k: logits kept of each; None keeps all.

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
        temperature: float,
        top_k: int | None,
    ):
        self.batches, self.seed, self.ask, self.temperature, self.top_k = batches, seed, ask, temperature, top_k
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
            "top_k": top_k,
        }
        super().__init__(folder, about)
        self.at_hand: tuple[int, Tensor] | None = None

    def __len__(self) -> int:
        return self.recipe.updates(self.round)

    def keys(self) -> Sampler:
        """The keys of a training, in order."""
        return _Keys(len(self), self.recipe.batches(self.round))

    @property
    def round(self) -> int:
        """Images of an epoch."""
        return len(self.order(0))

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor]:
        seen = self.seen(*key)
        return seen.views, self(seen)

    def __call__(self, seen: Seen) -> Tensor:
        """Logits (B, K) for the views of a batch; made and kept if they are not there."""
        if self.at_hand is None or self.at_hand[0] != seen.epoch:
            self.at_hand = seen.epoch, self.read(seen.epoch)
        return self.at_hand[1][seen.index]

    def order(self, epoch: int) -> Tensor:
        """The images (n,) of an epoch, in the order of its batches."""
        return self.batches.walk.epoch(epoch, self.seed)[0]

    def seen(self, epoch: int, batch: int) -> Seen:
        """What a student sees, and of which images."""
        index = self.order(epoch).split(self.recipe.batch)[batch].to(self.data.images.device, non_blocking=True)
        return self.batches.seen(self.data.images[index], index, rng.derive(self.seed, "augment", epoch, batch), epoch)

    def read(self, epoch: int) -> Tensor:
        """Logits (N, K) of an epoch, by image; NaN for one that it leaves out."""
        tensors = self.load(epoch)
        seen = tensors.pop("seen", None)  # files of before have none
        try:
            check_labels(tensors, self.order(epoch), self.data.num_classes)
            if seen is not None:
                check_views(seen, glimpse(self.seen(epoch, 0).views))
        except ValueError as error:
            raise ValueError(f"{self.path(epoch)} {error}: delete {self.folder} to have it made anew") from None
        by_place = tensors["logits"].float()
        if "classes" in tensors:
            full = tensors["rest"].float()[:, None].expand(-1, self.data.num_classes)
            by_place = full.scatter(1, tensors["classes"].long(), by_place)
        device = self.data.images.device
        by_image = torch.full((len(self.data.labels), self.data.num_classes), math.nan)
        return by_image.index_copy_(0, tensors["order"].long(), by_place).to(device, non_blocking=True)

    @property
    def count(self) -> int:
        return self.recipe.passes(self.round)

    def asked(self, epoch: int) -> dict[str, Tensor]:
        order = self.order(epoch)
        batches = range(math.ceil(len(order) / self.recipe.batch))
        logits = torch.cat([self.ask(self.seen(epoch, batch).views) for batch in batches]).cpu()
        tensors = {"order": order.int(), "logits": logits.half()}
        if self.top_k is not None and self.top_k < logits.shape[1]:
            kept, classes = logits.topk(self.top_k, 1)
            # The others share what is left of the softmax at the loss's temperature.
            others = logits.scatter(1, classes, -math.inf).div(self.temperature).logsumexp(1)
            rest = self.temperature * (others - math.log(logits.shape[1] - self.top_k))
            tensors = {"order": order.int(), "logits": kept.half(), "classes": classes.int(), "rest": rest.half()}
        return tensors | {"seen": glimpse(self.seen(epoch, 0).views)}


def check_labels(tensors: Mapping[str, Tensor], order: Tensor, num_classes: int) -> None:
    """Raise ValueError, without the file's name, unless ``tensors`` are what `LabelStore.write` makes for ``order`` (N,)."""
    n, some = len(order), "classes" in tensors
    columns = tensors["classes"].shape[-1] if some and tensors["classes"].ndim else num_classes
    expected = {"order": (torch.int32, (n,)), "logits": (torch.float16, (n, columns))}
    expected |= {"classes": (torch.int32, (n, columns)), "rest": (torch.float16, (n,))} if some else {}
    found = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    if found != expected:
        raise ValueError(f"holds {reprlib.repr(found)}, expected {expected}")
    if not torch.equal(tensors["order"].long(), order):
        raise ValueError("was made for another order of the images")
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise ValueError("holds logits that are NaN or infinite")
    if some:
        classes = tensors["classes"].sort(1).values
        if columns and (
            int(classes.min()) < 0 or int(classes.max()) >= num_classes or (classes.diff(dim=1) == 0).any()
        ):
            raise ValueError(f"names classes twice, or outside 0 to {num_classes - 1}")


def glimpse(views: Tensor) -> Tensor:
    """What tells views (B, C, H, W) from others, in few bytes: the means of four quarters of the first eight, float16."""
    return F.adaptive_avg_pool2d(views[:8], 2).flatten(1).cpu().half()


def check_views(seen: Tensor, now: Tensor) -> None:
    """Raise ValueError, without the file's name, unless labels were made for the views at hand, up to rounding of devices."""
    if seen.shape != now.shape or not torch.allclose(seen.float(), now.float(), rtol=0.01, atol=0.02):
        raise ValueError("was made for other views: another mirroring or another augmentation")


class _Keys(Sampler):
    def __init__(self, steps: int, batches: int):
        self.steps, self.batches = steps, batches

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Key]:
        return (divmod(step, self.batches) for step in range(self.steps))
