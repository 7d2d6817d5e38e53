"""RealData: a real image set as tensors, split once, preprocessed once.

Train and val come from the published training set (val is cut from it, class by class, always the same images); test is
reached by the final evaluation only. A batch is an index into one tensor, there is no loader; images of a large folder stay
in their files until such an index asks for them.
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from distill import preprocessing
from distill.preprocessing import Preprocessing
from distill.ranges import check_ranges
from distill.readers import Arrays, decode, listing, read
from distill.students import Shape


class LazyImages:
    """Images of files, decoded by several threads when they are asked for; stands where a tensor (N, 3, H, W) stands.

    Args:
        files: N of them.
        side: of the square that is cut from their middle, in pixels.
        prepare: from pixels to what networks see.
        device: where decoded images live.
        workers: threads.
    """

    def __init__(self, files: Sequence[Path], side: int, prepare: Preprocessing, device: torch.device, workers: int):
        self.files, self.side, self.prepare, self.device, self.workers = list(files), side, prepare, device, workers

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.files), 3, self.side, self.side))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """Images (*index.shape, 3, H, W)."""
        index = torch.arange(len(self))[index] if isinstance(index, slice) else index.cpu()
        files = [self.files[i] for i in index.flatten().tolist()]
        with ThreadPoolExecutor(self.workers) as pool:
            decoded = list(pool.map(partial(decode, side=self.side), files))
        pixels = _to_pixels(np.stack(decoded)) if decoded else torch.zeros(0, *self.shape[1:])
        return self.prepare(pixels.to(self.device)).view(*index.shape, *self.shape[1:])

    def split(self, size: int) -> Iterator[Tensor]:
        """One part after the other, as `torch.Tensor.split` gives them."""
        return (self[first : first + size] for first in range(0, len(self), size))


@dataclass(frozen=True)
class Split:
    """Preprocessed images (N, C, H, W) float32 and their classes (N,) int64 in 0..K-1; images of files may be `LazyImages`.

    Attributes:
        class_names: K names, in order.
        name: of the real set, as in ``configs/data``.
        preprocessing: how pixels in [0, 1] became these images.
        strategy: the DSA families that keep this set's classes apart, joined by ``_``.
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    name: str
    preprocessing: Preprocessing
    strategy: str

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def shape(self) -> Shape:
        _, channels, height, width = self.images.shape
        return channels, height, width

    def of_class(self, cls: int) -> Tensor:
        """Indices (n,) of one class, ascending."""
        return (self.labels == cls).nonzero()[:, 0]

    def check_ipc(self, ipc: int) -> None:
        """Raise a ValueError unless every class has ``ipc`` images, and ipc is at least 1."""
        sizes = [len(self.of_class(cls)) for cls in range(self.num_classes)]
        if not isinstance(ipc, int) or not 1 <= ipc <= min(sizes):
            smallest = self.class_names[sizes.index(min(sizes))]
            raise ValueError(
                f"ipc is {ipc}, expected 1 to {min(sizes)}: class {smallest!r} has {min(sizes)} training images"
            )

    def sample(self, cls: int, n: int, g: Generator) -> Tensor:
        """``n`` different images of one class, (n, C, H, W)."""
        return self.images[self.draw(cls, n, g)]

    def draw(self, cls: int, n: int, g: Generator) -> Tensor:
        """Indices (n,) of ``n`` different images of one class, in random order."""
        members = self.of_class(cls)
        return members[torch.randperm(len(members), generator=g)[:n].to(members.device)]


@dataclass(frozen=True)
class RealData:
    """A real set; methods are given ``train`` alone, ``val`` may be empty.

    Attributes:
        fingerprint: twelve hex digits of the training images, their classes, the split and the preprocessing.
    """

    train: Split
    val: Split
    test: Split
    fingerprint: str


def load(
    name: str,
    *,
    root: str | Path,
    strategy: str,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    zca: bool,
    val: float,
    download: bool,
    classes: Sequence[int | str] | None = None,
    path: str | Path | None = None,
    size: int | None = None,
    lazy: bool = False,
    workers: int = 4,
    prepare: Preprocessing | None = None,
    device: str | torch.device = "cpu",
) -> RealData:
    """Read, check, split and preprocess a real set.

    Args:
        name: a key of `distill.readers.READERS`, or any name for the set that ``path`` holds.
        root: folder of data sets and of the ZCA cache; ``<root>/<name>.npz`` is read when it is there.
        strategy: DSA families, see `RealData`.
        mean, std: per-channel constants; None fits them on the training images.
        zca: whiten instead.
        val: fraction of the training set kept back for choices, in [0, 1); 0 trains on everything, as papers do.
        download: fetch a missing set.
        classes: keep these classes only (indices or names), in this order; constants stay those of the whole set.
        path: an ``.npz`` file or an image folder (``train/<class>/*``, ``test/<class>/*``) instead of a named set.
        size: resize an image folder to squares of this side, in pixels.
        lazy: keep an image folder's files on disk and decode them when they are asked for; needs ``size``, ``mean``, ``std``.
        workers: threads that decode.
        prepare: the preprocessing of an existing synthetic set, used as it is instead of ``mean``, ``std`` or a fresh ZCA.
        device: where the tensors live.

    Raises:
        FileNotFoundError: the files are missing and could not be fetched.
        ValueError: the set is unusable: labels out of range, fewer than two classes, wrong shapes or types.
    """
    check_ranges("data", {"workers": workers}, {"workers": "whole [1, inf)"})
    if lazy:
        if path is None or size is None or mean is None or std is None or zca:
            raise ValueError(
                "data.lazy needs an image folder (data.path), data.size, data.mean and data.std, and no data.zca"
            )
        prepare = prepare or preprocessing.normalised(list(mean), list(std))
        return _lazy(name, Path(path), size, prepare, val, classes, strategy, torch.device(device), workers)
    x_train, y_train, x_test, y_test, class_names = _checked(name, *read(name, Path(root), download, path, size))
    train, val_index = _stratified(y_train, val)
    pixels = _to_pixels(x_train[train])
    source = hashlib.sha256(np.ascontiguousarray(x_train).data)
    source.update(repr((y_train.tolist(), val)).encode())
    if prepare is not None:
        if zca != (prepare.space == "zca"):
            made, needed = str(zca).lower(), str(not zca).lower()
            raise ValueError(
                f"the synthetic set lives in space {prepare.space}, data.zca={made} makes other images: "
                f"use data.zca={needed}"
            )
    elif zca:
        prepare = preprocessing.cached_zca(pixels, source.hexdigest()[:12], Path(root) / "cache")
    elif mean is None or std is None:
        prepare = preprocessing.fit_constants(pixels)
    else:
        prepare = preprocessing.normalised(list(mean), list(std))
    kept = _kept(classes, class_names)

    def split(x: Tensor, y: np.ndarray) -> Split:
        labels = torch.full((len(class_names),), -1)
        labels[kept] = torch.arange(len(kept))
        own = labels[torch.from_numpy(y)]
        images = prepare(x[own >= 0])
        names = tuple(class_names[k] for k in kept)
        return Split(images.to(device), own[own >= 0].to(device), names, name, prepare, strategy)

    source.update(repr((kept, prepare.fingerprint)).encode())
    return RealData(
        split(pixels, y_train[train]),
        split(_to_pixels(x_train[val_index]), y_train[val_index]),
        split(_to_pixels(x_test), y_test),
        source.hexdigest()[:12],
    )


def _lazy(
    name: str,
    path: Path,
    side: int,
    prepare: Preprocessing,
    val: float,
    classes: Sequence[int | str] | None,
    strategy: str,
    device: torch.device,
    workers: int,
) -> RealData:
    train, test, class_names = listing(path)
    if len(class_names) < 2:
        raise ValueError(f"{path / 'train'} holds {len(class_names)} class folders, expected at least 2")
    kept = _kept(classes, class_names)
    place = {cls: i for i, cls in enumerate(kept)}
    names = tuple(class_names[cls] for cls in kept)
    train, test = ([(file, place[cls]) for file, cls in files if cls in place] for files in (train, test))
    first, held_out = _stratified(np.array([cls for _, cls in train]), val)
    source = hashlib.sha256(repr((val, side, names, prepare.fingerprint)).encode())
    for file, cls in train:
        source.update(f"{file.relative_to(path)} {file.stat().st_size} {cls}".encode())

    def split(files: list[tuple[Path, int]]) -> Split:
        images: Any = LazyImages([file for file, _ in files], side, prepare, device, workers)
        labels = torch.tensor([cls for _, cls in files], dtype=torch.long, device=device)
        return Split(images, labels, names, name, prepare, strategy)

    parts = [[train[i] for i in index] for index in (first, held_out)]
    return RealData(split(parts[0]), split(parts[1]), split(test), source.hexdigest()[:12])


def _checked(name: str, x_train: Any, y_train: Any, x_test: Any, y_test: Any, class_names: list[str]) -> Arrays:
    for part, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
        if np.issubdtype(x.dtype, np.floating) and np.isnan(x).any():
            raise ValueError(
                f"{name}: x_{part} holds {int(np.isnan(x).sum())} NaN pixels: expected uint8 images without gaps"
            )
        if x.dtype != np.uint8 or x.ndim != 4 or x.shape[3] not in (1, 3):
            raise ValueError(f"{name}: x_{part} is {x.dtype} {x.shape}, expected uint8 (N, H, W, C) with C of 1 or 3")
        if y.shape != (len(x),) or not np.issubdtype(y.dtype, np.integer):
            raise ValueError(f"{name}: y_{part} is {y.dtype} {y.shape}, expected {len(x)} integers")
        if len(y) and not (y.min() >= 0 and y.max() < len(class_names)):
            raise ValueError(
                f"{name}: y_{part} spans {y.min()} to {y.max()}, expected 0 to {len(class_names) - 1} "
                f"({len(class_names)} class names)"
            )
    if x_train.shape[1:] != x_test.shape[1:]:
        raise ValueError(
            f"{name}: training images are {x_train.shape[1:]}, test images {x_test.shape[1:]}: expected one size"
        )
    if len(np.unique(y_train)) < 2:
        raise ValueError(f"{name}: {len(np.unique(y_train))} class in the training set, expected at least 2")
    return x_train, y_train.astype(np.int64), x_test, y_test.astype(np.int64), class_names


def _stratified(labels: np.ndarray, val: float) -> tuple[np.ndarray, np.ndarray]:
    if not 0 <= val < 1:
        raise ValueError(f"data.val is {val}, expected a fraction in [0, 1)")
    if val == 0:
        return np.arange(len(labels)), np.arange(0)
    from sklearn.model_selection import train_test_split

    try:
        train, held_out = train_test_split(np.arange(len(labels)), test_size=val, stratify=labels, random_state=0)
    except ValueError as error:
        raise ValueError(
            f"cannot cut a validation split of {val} ({error}): set data.val=0 or bring more images"
        ) from None
    return np.sort(train), np.sort(held_out)


def _kept(classes: Sequence[int | str] | None, class_names: list[str]) -> list[int]:
    if classes is None:
        return list(range(len(class_names)))
    names = {name: k for k, name in enumerate(class_names)}
    kept = [cls if isinstance(cls, int) else names.get(str(cls), -1) for cls in classes]
    for cls, k in zip(classes, kept, strict=True):
        if not 0 <= k < len(class_names):
            raise ValueError(f"unknown class {cls!r}: one of {', '.join(class_names)} or 0 to {len(class_names) - 1}")
    if len(set(kept)) < 2:
        raise ValueError(f"data.classes keeps {len(set(kept))} class, expected at least 2")
    return kept


def _to_pixels(x: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))).float() / 255
