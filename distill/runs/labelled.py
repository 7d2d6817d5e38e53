"""Labels that other projects stored with their views, for a set that is at hand: FKD's folders.

Which images a file is about is nowhere in it: a sampler drew them. Both ways in which it may have are tried, and the
classes tell which one it was.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from distill.checks import check_ranges, setting, stated
from distill.presets import unknown
from distill.sets.importers.base import Importer
from distill.sets.importers.safe import read_torch, tensor
from distill.sets.reading import load
from distill.sets.synthetic import SyntheticSet
from distill.teachers.given import GivenStore, Views

SEED = 42  # of the sampler
DRAWS = (2, 1)  # permutations that a sampler draws an epoch: of torch today, and of before
AGREE = 0.5  # share of the labels that must be of their image's class, or its partner's
LOOKED_AT = 5  # epochs that tell the order
CLEARLY = 0.2  # by how much more than under the other order


@dataclass(frozen=True, kw_only=True)
class LabelWords:
    """What a user says of somebody's labels.

    Attributes:
        path: the folder of ``epoch_0``, ``epoch_1``, ...
        synset: the set that they are of.
        out: a new folder.
        draws: permutations that the sampler drew for each epoch; None lets the classes tell.
        large: read files however large.
    """

    path: str = setting("path")
    synset: str = setting("path")
    out: str = setting("absent or path", "labels")
    draws: int | None = setting("absent or null or whole [1, 2]", None)
    large: bool = setting("absent or true or false", False)

    def __post_init__(self) -> None:
        check_ranges("", vars(self), stated(type(self)))

    @classmethod
    def of(cls, **values: Any) -> "LabelWords":
        """Words by their names; raises a ValueError for one that there is not."""
        names = [each.name for each in fields(cls)]
        for name in values:
            if name not in names:
                raise ValueError(unknown("word of an import of labels", name, names))
        return cls(**values)


@dataclass(frozen=True)
class Batch:
    """What a file holds of one batch of B views; see `distill.teachers.given.Views`."""

    boxes: Tensor
    mirrored: Tensor
    partner: Tensor
    share: float
    hole: tuple[int, ...]
    logits: Tensor
    classes: Tensor | None
    index: Tensor | None


@dataclass(frozen=True)
class Fkd(Importer):
    """``epoch_<e>/batch_<b>.tar``, each of torch.save: ``[coords, flip, mix_index, lam, bbox, logits]``.

    A seventh entry is classes (B, k) of logits (B, k), or the images (B,). Source: SRe2L (arXiv:2306.13092) and after.
    """

    brings: ClassVar[str] = "labels"
    needs: ClassVar[tuple[str, ...]] = ("path", "synset")

    def bring(self, words: LabelWords) -> list[str]:
        """Convert the files; lines to print.

        Raises:
            FileNotFoundError, FileExistsError: a folder or a batch is missing; ``out`` has labels.
            ValueError: a file is none of these, or its labels are of other images.
        """
        synset, out = load(words.synset), Path(words.out)
        if (out / "labels.json").exists():
            raise FileExistsError(f"{out} has labels: name a new folder with out=DIR")
        folders = epochs_in(Path(words.path))
        first = list(batches_in(folders[0], words.large))
        size, images = len(first[0].logits), sum(len(batch.logits) for batch in first)
        if images != len(synset):
            raise ValueError(f"{folders[0]} has labels of {images} images, {words.synset} has {len(synset)}")
        check_columns(first[0], synset, folders[0])
        draws, how = (0, "read in the files") if first[0].index is not None else drawn(folders, synset, words)
        orders = permutations(len(synset), draws)
        about = {"images": synset.images_hash, "batch": size, "epochs": len(folders), "order": how}
        for epoch, folder in enumerate(folders):
            views = assembled(list(batches_in(folder, words.large)), next(orders), folder)
            if (share := agreement(views, synset, size)) < AGREE:
                raise ValueError(
                    f"{folder}: {share:.0%} of the labels are of their image's class, expected {AGREE:.0%}: another set's"
                )
            GivenStore.write(out, epoch, views)
        GivenStore.finish(out, about)
        return [
            f"labels of {len(folders)} epochs, batches of {size}, order {how}",
            f"wrote {out}",
            f"use them: synset={words.synset} protocol/labels=given labels_path={out} baselines=[] "
            f"protocol.recipe.mix=null protocol.recipe.batch={size} protocol.recipe.epochs={len(folders)}",
        ]


def epochs_in(path: Path) -> list[Path]:
    """The folders of the epochs, all there are from 0 on.

    Raises:
        FileNotFoundError: there is none, or one between is missing.
    """
    found = {
        int(each[1]): folder for folder in path.glob("epoch_*") if (each := re.fullmatch(r"epoch_(\d+)", folder.name))
    }
    missing = sorted(set(range(max(found, default=0) + 1)) - set(found))
    if missing:
        raise FileNotFoundError(f"no folder {path / f'epoch_{missing[0]}'}: FKD has one for each epoch, from 0 on")
    return [found[epoch] for epoch in sorted(found)]


def batches_in(folder: Path, large: bool) -> Iterator[Batch]:
    """The batches of an epoch, in order; raises FileNotFoundError where one is missing."""
    count = len(list(folder.glob("batch_*.tar")))
    if not count:
        raise FileNotFoundError(f"no batch_0.tar in {folder}")
    for number in range(count):
        path = folder / f"batch_{number}.tar"
        yield batch_of(read_torch(path, large), path)


def batch_of(held: Any, path: Path) -> Batch:
    """A file's content.

    Raises:
        ValueError: it is of another form.
    """
    if not isinstance(held, list | tuple) or not 6 <= len(held) <= 7:
        size = f"{len(held)} entries" if isinstance(held, list | tuple) else type(held).__name__
        raise ValueError(
            f"{path} has {size}, expected coords, flip, mix_index, lam, bbox, logits (and classes or images): tiles that "
            "change places and random operations are not read"
        )
    boxes, mirrored, partner = (tensor(held[i], name, path) for i, name in enumerate(("coords", "flip", "mix_index")))
    logits = tensor(held[5], "logits", path)
    views = len(boxes)
    if boxes.shape != (views, 4) or mirrored.shape != (views,) or partner.shape != (views,) or len(logits) != views:
        shapes = [tuple(each.shape) for each in (boxes, mirrored, partner, logits)]
        raise ValueError(f"{path} has shapes {shapes}, expected [(B, 4), (B,), (B,), (B, K)]")
    more = tensor(held[6], "seventh entry", path).long() if len(held) == 7 else None
    hole = (0, 0, 0, 0) if held[4] is None else tuple(int(each) for each in held[4])
    rows = (hole[0], hole[2], hole[1], hole[3])  # from corners to rows and columns
    kept, images = (more, None) if more is not None and more.ndim == 2 else (None, more)
    if kept is not None and kept.shape != logits.shape:
        raise ValueError(f"{path} has {tuple(kept.shape)} classes for {tuple(logits.shape)} logits")
    return Batch(boxes.float(), mirrored.bool(), partner.long(), float(held[3]), rows, logits.float(), kept, images)


def check_columns(batch: Batch, synset: SyntheticSet, folder: Path) -> None:
    """Raise ValueError unless the logits have a column for each class, or say which classes they are of."""
    columns, classes = batch.logits.shape[1], synset.num_classes
    if batch.classes is None and columns != classes:
        raise ValueError(
            f"{folder} has {columns} logits a view, the set {classes} classes, and nothing says which ones"
        )


def assembled(batches: list[Batch], order: Tensor, folder: Path) -> Views:
    """The batches as an epoch of the images in ``order`` (N,), or of those that they name.

    Raises:
        ValueError: they are not of as many images, or name one twice.
    """
    sizes = [len(batch.logits) for batch in batches]
    if any(batch.index is not None for batch in batches):
        order = torch.cat([batch.index for batch in batches if batch.index is not None])
    if any(int(batch.partner.max()) >= len(batch.logits) or int(batch.partner.min()) < 0 for batch in batches):
        raise ValueError(f"{folder} mixes views with some that are not in their batch")
    if (
        sum(sizes) != len(order)
        or len(set(sizes[:-1])) > 1
        or not torch.equal(order.sort().values, torch.arange(len(order)))
    ):
        raise ValueError(f"{folder} has batches of {sorted(set(sizes))}, expected each of {len(order)} images once")
    kept = [batch.classes for batch in batches if batch.classes is not None]
    return Views(
        order,
        torch.cat([batch.boxes for batch in batches]),
        torch.cat([batch.mirrored for batch in batches]),
        torch.cat([batch.partner for batch in batches]),
        torch.cat([torch.full((len(batch.logits),), batch.share) for batch in batches]),
        torch.cat([torch.tensor(batch.hole).expand(len(batch.logits), 4) for batch in batches]),
        torch.cat([batch.logits for batch in batches]),
        torch.cat(kept) if kept else None,
    )


def permutations(images: int, draws: int) -> Iterator[Tensor]:
    """The orders of the epochs, of a sampler that draws so many permutations in each and uses the first."""
    g = Generator().manual_seed(SEED)
    while True:
        yield torch.randperm(images, generator=g)
        for _ in range(draws - 1):
            torch.randperm(images, generator=g)


def drawn(folders: list[Path], synset: SyntheticSet, words: LabelWords) -> tuple[int, str]:
    """How many permutations an epoch the sampler drew, as labels of the first epochs tell, and how that is known.

    Raises:
        ValueError: neither fits, or both do as well.
    """
    looked_at = [list(batches_in(folder, words.large)) for folder in folders[:LOOKED_AT]]
    shares = dict[int, float]()
    for draws in DRAWS if words.draws is None else (words.draws,):
        orders = permutations(len(synset), draws)
        found = [
            agreement(assembled(batches, next(orders), folder), synset, len(batches[0].logits))
            for batches, folder in zip(looked_at, folders, strict=False)
        ][1:] or [1.0]  # the first order is the same
        shares[draws] = sum(found) / len(found)
    best = max(shares, key=shares.__getitem__)
    told = ", ".join(f"{share:.0%} with draws={draws}" for draws, share in shares.items())
    if len(folders) > 1 and any(shares[best] - share < CLEARLY for draws, share in shares.items() if draws != best):
        raise ValueError(f"the labels are of their image's class for {told}: state draws=1 or draws=2")
    return best, f"drawn with seed {SEED}, draws={best} ({told} are of their image's class)"


def agreement(views: Views, synset: SyntheticSet, batch: int) -> float:
    """The share of views, in batches of so many, whose largest logit is of its image's class, or its partner's."""
    said, own = views.said(slice(None), synset.num_classes).argmax(1), synset.classes[views.order]
    other = own[torch.arange(len(own)) // batch * batch + views.partner]
    return float(((said == own) | (said == other)).float().mean())
