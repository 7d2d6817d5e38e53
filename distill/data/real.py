"""RealData: a real image set as tensors, split once, preprocessed once.

Train and val come from the published training set (val is cut from it, class by class, always the same images); test is
reached by the final evaluation only. A batch is an index into one tensor, there is no loader; images of a large folder stay
in their files until such an index asks for them.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distill.data import folders, preprocessing
from distill.data.content import content_of
from distill.data.lazy import LazyImages
from distill.data.pictures import zoomed
from distill.data.preprocessing import Preprocessing, to_pixels
from distill.data.readers import read
from distill.data.selection import kept_classes, stratified
from distill.data.settings import DataSettings
from distill.data.split import Split
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


def load(
    name: str, *, prepare: Preprocessing | None = None, device: str | torch.device = "cpu", **settings: Any
) -> RealData:
    """Read, check, split and preprocess a real set.

    Args:
        name, settings: see `distill.data.settings.DataSettings`.
        prepare: the preprocessing of an existing synthetic set, used as it is instead of ``mean``, ``std`` or a fresh ZCA.
        device: where the tensors live.

    Raises:
        FileNotFoundError: the files are missing and could not be fetched.
        ValueError: the set is unusable: labels out of range, fewer than two classes, wrong shapes or types.
    """
    stated = DataSettings(name=name, **settings)
    return (_lazy if stated.lazy else _in_memory)(stated, prepare, torch.device(device))


def _in_memory(settings: DataSettings, prepare: Preprocessing | None, device: torch.device) -> RealData:
    name, val, strategy = settings.name, settings.val, settings.strategy
    place, crop = settings.place, settings.crop
    x_train, y_train, x_test, y_test, class_names, notes = read(
        name, settings.folder, settings.download, place, settings.size, crop
    )
    settings.check_channels(x_train.shape[3])
    if settings.test_resize is not None:
        x_test = np.stack([zoomed(image, settings.test_resize) for image in x_test])
    train, val_index = stratified(y_train, val)
    pixels = to_pixels(x_train[train])
    source = hashlib.sha256(np.ascontiguousarray(x_train).data)
    source.update(repr((y_train.tolist(), val)).encode())
    prepare = _preprocessing(settings, prepare, pixels, source.hexdigest()[:12])
    kept = kept_classes(settings.classes, class_names)

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


def _preprocessing(settings: DataSettings, given: Preprocessing | None, pixels: Tensor, source: str) -> Preprocessing:
    """The one that is given, or the settings' own, fit on the training ``pixels`` where they give no constants."""
    if given is not None:
        if settings.zca != (given.space == "zca"):
            made, needed = str(settings.zca).lower(), str(not settings.zca).lower()
            raise ValueError(
                f"the synthetic set lives in space {given.space}, data.zca={made} makes other images: "
                f"use data.zca={needed}"
            )
        return given
    if settings.zca:
        return preprocessing.cached_zca(pixels, source, settings.folder / "cache")
    return settings.constants or preprocessing.fit_constants(pixels)


def _lazy(settings: DataSettings, prepare: Preprocessing | None, device: torch.device) -> RealData:
    settings.check_channels(3)
    prepare, path, side = prepare or settings.constants, settings.place, settings.size
    if path is None or path.suffix == ".npz" or side is None or prepare is None or settings.zca:
        raise ValueError(
            "data.lazy needs an image folder (data.path), data.size, data.mean and data.std, and no data.zca"
        )
    name, crop, val, strategy = settings.name, settings.crop, settings.val, settings.strategy
    workers, cache = settings.workers, settings.folder / "cache"
    tree = folders.tree(path)
    kept = kept_classes(settings.classes, tree.classes)
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
