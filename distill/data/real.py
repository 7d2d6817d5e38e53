"""RealData: a real image set as tensors, split once, preprocessed once.

Train and val come from the published training set (val is cut from it, class by class, always the same images); test is
reached by the final evaluation only. A batch is an index into one tensor, there is no loader; images of a large folder stay
in their files until such an index asks for them.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distill.augment.families import STRATEGY
from distill.checks import check_ranges
from distill.data import folders, preprocessing
from distill.data.content import content_of
from distill.data.lazy import LazyImages
from distill.data.pictures import zoomed
from distill.data.preprocessing import Preprocessing, to_pixels
from distill.data.readers import read
from distill.data.selection import kept_classes, stratified
from distill.data.split import Split
from distill.text import check_name
from distill.wording import listed


@dataclass(frozen=True)
class RealData:
    """A real set; methods are given ``train`` alone, ``val`` may be empty.

    Attributes:
        fingerprint: twelve hex digits of the training images, their classes, the split and the preprocessing.
        hash: the same of all that an accuracy depends on: the test images and their labels, the names of the classes and the
            DSA families, too.
        notes: what a user should be told about the files, in lines.
        stated: what `distill.load_data` was asked for, as a command line states it.
    """

    train: Split
    val: Split
    test: Split
    fingerprint: str
    hash: str
    notes: tuple[str, ...] = ()
    stated: tuple[str, ...] = ()


RANGES = {  # of what `load` takes from a configuration
    "name": "text",
    "root": "path",
    "path": "absent or null or path",
    "size": "absent or null or whole [1, 4096]",
    "crop": "absent or true or false",
    "test_resize": "absent or null or whole [1, 4096]",
    "lazy": "absent or true or false",
    "workers": "absent or whole [1, 256]",
    "classes": "absent or null or list of text or whole [0, 1000000]",
    "val": "[0, 1)",
    "download": "true or false",
    "strategy": STRATEGY,
    "mean": "null or list of [0, 1]",
    "std": "null or list of (0, 1]",
    "zca": "true or false",
}


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
    crop: bool = False,
    test_resize: int | None = None,
    lazy: bool = False,
    workers: int = 4,
    prepare: Preprocessing | None = None,
    device: str | torch.device = "cpu",
) -> RealData:
    """Read, check, split and preprocess a real set.

    Args:
        name: a key of `distill.data.readers.READERS`, or any name for the set that ``path`` holds.
        root: folder of data sets and of the ZCA cache; ``<root>/<name>.npz`` is read when it is there.
        strategy: DSA families, see `RealData`.
        mean, std: per-channel constants; None fits them on the training images.
        zca: whiten instead.
        val: fraction of the training set kept back for choices, in [0, 1); 0 trains on everything, as papers do.
        download: fetch a missing set.
        classes: keep these classes only, in this order: names, or indices where no class is called by a number; constants
            stay those of the whole set.
        path: an ``.npz`` file or an image folder (see `distill.data.folders`) instead of a named set.
        size: make squares of this side, in pixels, into which images are squeezed,
        crop: or from which, their shorter edge at 8/7 of ``size``, the middle is taken.
        test_resize: bring the shorter edge of test images to this and take the middle, as large as they were (RDED: 72 at 64).
        lazy: keep an image folder's files on disk and decode them when they are asked for; needs ``size``, ``mean``, ``std``.
        workers: threads that decode.
        prepare: the preprocessing of an existing synthetic set, used as it is instead of ``mean``, ``std`` or a fresh ZCA.
        device: where the tensors live.

    Raises:
        FileNotFoundError: the files are missing and could not be fetched.
        ValueError: the set is unusable: labels out of range, fewer than two classes, wrong shapes or types.
    """
    given = {"name": name, "path": None if path is None else str(path), "root": str(root), "classes": classes}
    check_ranges("data", locals() | given, RANGES)
    check_name("data.name", name)
    if (mean is None) != (std is None) or (mean is not None and std is not None and len(mean) != len(std)):
        raise ValueError(f"data.mean is {mean}, data.std {std}: give one of each for every channel, or null for both")
    root, path = Path(root).expanduser(), None if path is None else Path(path).expanduser()
    if crop and size is None:
        raise ValueError("data.crop=true takes the middle of images brought to data.size, which is null")
    if lazy and test_resize is not None:
        raise ValueError("data.test_resize needs images that are held in memory: data.lazy=false")
    if lazy:
        _check_constants(mean, 3, name)
        if prepare is None and mean is not None and std is not None:
            prepare = preprocessing.normalised(list(mean), list(std))
        if path is None or path.suffix == ".npz" or size is None or prepare is None or zca:
            raise ValueError(
                "data.lazy needs an image folder (data.path), data.size, data.mean and data.std, and no data.zca"
            )
        place, cache = torch.device(device), root / "cache"
        return _lazy(name, path, size, crop, prepare, val, classes, strategy, place, workers, cache)
    x_train, y_train, x_test, y_test, class_names, notes = read(name, root, download, path, size, crop)
    _check_constants(mean, x_train.shape[3], name)
    if test_resize is not None:
        x_test = np.stack([zoomed(image, test_resize) for image in x_test])
    train, val_index = stratified(y_train, val)
    pixels = to_pixels(x_train[train])
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
        prepare = preprocessing.cached_zca(pixels, source.hexdigest()[:12], root / "cache")
    elif mean is None or std is None:
        prepare = preprocessing.fit_constants(pixels)
    else:
        prepare = preprocessing.normalised(list(mean), list(std))
    kept = kept_classes(classes, class_names)

    def split(x: Tensor, y: np.ndarray) -> Split:
        labels = torch.full((len(class_names),), -1)
        labels[kept] = torch.arange(len(kept))
        own = labels[torch.from_numpy(y)]
        images = prepare(x[own >= 0])
        names = tuple(class_names[k] for k in kept)
        return Split(images.to(device), own[own >= 0].to(device), names, name, prepare, strategy)

    source.update(repr((kept, prepare.fingerprint)).encode())
    fingerprint = source.hexdigest()[:12]
    source.update(repr((x_test.shape, y_test.tolist(), class_names, strategy)).encode())
    source.update(np.ascontiguousarray(x_test).data)
    parts = [(pixels, y_train[train]), (to_pixels(x_train[val_index]), y_train[val_index]), (to_pixels(x_test), y_test)]
    return _joined([split(x, y) for x, y in parts], fingerprint, source.hexdigest()[:12], notes)


def _check_constants(mean: Sequence[float] | None, channels: int, name: str) -> None:
    if mean is not None and len(mean) != channels:
        raise ValueError(
            f"data.mean and data.std have {len(mean)} values, {name} has {channels} channels: give one for each"
        )


def _lazy(
    name: str,
    path: Path,
    side: int,
    crop: bool,
    prepare: Preprocessing,
    val: float,
    classes: Sequence[int | str] | None,
    strategy: str,
    device: torch.device,
    workers: int,
    cache: Path,
) -> RealData:
    tree = folders.tree(path)
    kept = kept_classes(classes, tree.classes)
    place = {cls: i for i, cls in enumerate(kept)}
    names = tuple(tree.classes[cls] for cls in kept)
    train, test = ([(file, place[cls]) for file, cls in files if cls in place] for files in (tree.train, tree.test))
    first, held_out = stratified(np.array([cls for _, cls in train]), val)

    def split(files: list[tuple[Path, int]]) -> Split:
        images: Any = LazyImages([file for file, _ in files], side, crop, prepare, device, workers)
        labels = torch.tensor([cls for _, cls in files], dtype=torch.long, device=device)
        return Split(images, labels, names, name, prepare, strategy, in_memory=False)

    splits = [split([train[i] for i in first]), split([train[i] for i in held_out]), split(test)]
    source = hashlib.sha256(repr((val, side, crop, names, prepare.fingerprint)).encode())
    source.update(repr([cls for _, cls in train]).encode())
    source.update(content_of([file for file, _ in train], cache, workers).encode())
    fingerprint = source.hexdigest()[:12]
    source.update(repr(([cls for _, cls in test], strategy)).encode())
    source.update(content_of([file for file, _ in test], cache, workers).encode())
    return _joined(splits, fingerprint, source.hexdigest()[:12], tree.notes)


def _joined(splits: list[Split], fingerprint: str, whole: str, notes: tuple[str, ...]) -> RealData:
    train, val, test = splits
    train = replace(train, held_out=val.counts)
    if 0 in train.counts:
        told, found = "".join(f"; {note}" for note in notes), train.size_of(train.counts.index(0))
        raise ValueError(f"{found}: every class needs one, or name others with data.classes{told}")
    untested = [name for name, count in zip(train.class_names, test.counts, strict=True) if not count]
    if len(untested) == train.num_classes:
        raise ValueError(f"there are no test images of {listed(train.class_names)}: students are judged on some")
    if untested:
        notes += (f"no test images of {listed(untested)}: accuracy is that on the other classes",)
    return RealData(train, val, test, fingerprint, whole, notes)
