"""Readers of image sets: each gives uint8 images (N, H, W, C) and integer labels (N,), as they were published."""

import inspect
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError

import numpy as np

from distill.autotune import memory_of
from distill.data import folders
from distill.data.pictures import from_array, picture, pixels
from distill.wording import pick


class Arrays(NamedTuple):
    """Images and labels of both parts, the names of the classes, and what a user should be told about the files."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    class_names: list[str]
    notes: tuple[str, ...] = ()


def _digits(root: Path, download: bool) -> Arrays:
    """scikit-learn's handwritten digits, 1,797 images of 8x8, in a fixed stratified split of 80 to 20."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bundle = load_digits()
    images = (bundle.images / 16 * 255).round().astype(np.uint8)[..., None]
    split = train_test_split(images, bundle.target, test_size=0.2, stratify=bundle.target, random_state=0)
    return Arrays(split[0], split[2], split[1], split[3], [str(digit) for digit in range(10)])


def _torchvision(name: str) -> Callable[[Path, bool], Arrays]:
    def read(root: Path, download: bool) -> Arrays:
        from torchvision import datasets

        reader = getattr(datasets, name)
        on = "split" if "split" in inspect.signature(reader).parameters else "train"
        sets = [
            reader(root, **{on: part}, download=download)
            for part in (("train", "test") if on == "split" else (True, False))
        ]
        arrays: list[np.ndarray] = []
        for part in sets:
            images = np.asarray(part.data)
            images = images.transpose(0, 2, 3, 1) if images.shape[1] == 3 else images  # SVHN is stored NCHW
            images = images[..., None] if images.ndim == 3 else images
            arrays += [images, np.asarray(part.targets if hasattr(part, "targets") else part.labels)]
        names = getattr(sets[0], "classes", None) or [str(digit) for digit in range(10)]
        return Arrays(arrays[0], arrays[1], arrays[2], arrays[3], list(names))

    return read


def _tiny_imagenet(root: Path, download: bool) -> Arrays:
    """Tiny-ImageNet-200 as it unpacks: its validation images are flat, their classes in ``val_annotations.txt``."""
    folder = root / "tiny-imagenet-200"
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    classes = [path.name for path in folders.visible_folders(folder / "train")]
    train = [
        (path, k) for k, wnid in enumerate(classes) for path in folders.pictures(folder / "train" / wnid / "images")
    ]
    rows = [line.split("\t")[:2] for line in (folder / "val" / "val_annotations.txt").read_text().splitlines()]
    test = [(folder / "val" / "images" / file, classes.index(wnid)) for file, wnid in rows]
    words = dict(line.split("\t", 1) for line in (folder / "words.txt").read_text().splitlines())
    return Arrays(*_images(train), *_images(test), [words[wnid].split(",")[0] for wnid in classes])


READERS: dict[str, Callable[[Path, bool], Arrays]] = {
    "digits": _digits,
    "mnist": _torchvision("MNIST"),
    "fashion_mnist": _torchvision("FashionMNIST"),
    "svhn": _torchvision("SVHN"),
    "cifar10": _torchvision("CIFAR10"),
    "cifar100": _torchvision("CIFAR100"),
    "tiny_imagenet": _tiny_imagenet,
}


def read(name: str, root: Path, download: bool, path: Path | None, size: int | None, crop: bool) -> Arrays:
    """The arrays of a named set, or of the .npz file or image folder at ``path``; see `distill.data.real.load`."""
    if path is not None and path.suffix != ".npz":
        return _checked(name, _folder(path, size, crop))
    arrays = _checked(name, _npz(path) if path is not None else _named(name, root, download))
    if size is None:
        return arrays
    _check_memory(len(arrays.x_train) + len(arrays.x_test), size, arrays.x_train.shape[3], "")

    def framed(images: np.ndarray) -> np.ndarray:
        return np.stack([pixels(from_array(image), image.shape[2], (size, size), crop) for image in images])

    return arrays._replace(x_train=framed(arrays.x_train), x_test=framed(arrays.x_test))


def _named(name: str, root: Path, download: bool) -> Arrays:
    if (root / f"{name}.npz").exists():
        return _npz(root / f"{name}.npz")
    reader = pick(READERS, name, "data set")
    try:
        return reader(root, download)
    except (URLError, OSError, RuntimeError) as error:
        asked = "could not be downloaded" if download else "data.download=false"
        reason = str(error).splitlines()[0]
        raise FileNotFoundError(
            f"no {name} under {root} and {asked} ({reason}): "
            f"put {root / name}.npz there (x_train, y_train, x_test, y_test, class_names; uint8 NHWC) or name another data.root"
        ) from None


def _npz(path: Path) -> Arrays:
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}: data.path names an .npz file or an image folder")
    keys = ("x_train", "y_train", "x_test", "y_test", "class_names")
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            missing = [key for key in keys if key not in file.files]
            if missing:
                raise ValueError(f"{missing[0]} is missing, it holds {', '.join(file.files)}")
            x_train, y_train, x_test, y_test, class_names = (file[key] for key in keys)
        if class_names.ndim != 1:
            raise ValueError(f"class_names are {class_names.shape}, expected one for each class")
        names = [item.decode() if hasattr(item, "decode") else str(item) for item in class_names.tolist()]
    except Exception as error:  # zip, zlib and numpy each raise their own for a damaged file
        raise ValueError(
            f"cannot read {str(path)!r} ({error}): expected {', '.join(keys)}, uint8 NHWC images of one size"
        ) from None
    return Arrays(x_train, y_train, x_test, y_test, names)


def _folder(path: Path, size: int | None, crop: bool) -> Arrays:
    tree = folders.tree(path)
    if size is not None:
        _check_memory(len(tree.train) + len(tree.test), size, 3, " or data.lazy=true")
    frame = None if size is None else (size, size)
    return Arrays(*_images(tree.train, frame, crop), *_images(tree.test, frame, crop), tree.classes, tree.notes)


def _check_memory(images: int, side: int, channels: int, other_help: str) -> None:
    """Refuse squares that cannot fit: each pixel is held as it was read (uint8) and as networks see it (float32)."""
    need, memory = images * side**2 * channels * 5, memory_of()
    if need > memory:
        raise ValueError(
            f"data.size={side} makes {images} images of {need / 1e9:.3g} GB, this machine has {memory / 1e9:.3g} GB: "
            f"use a smaller data.size{other_help}"
        )


def _images(
    files: folders.Files, size: tuple[int, int] | None = None, crop: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    arrays: list[np.ndarray] = []
    for file, _ in files:
        arrays.append(picture(file, size, crop))
        if arrays[-1].shape != arrays[0].shape:
            (height, width), (h, w) = arrays[0].shape[:2], arrays[-1].shape[:2]
            raise ValueError(
                f"{str(file)!r} is {w}x{h}, the first image {width}x{height}: all must share one size, "
                "resize with data.size=SIDE"
            )
    return np.stack(arrays), np.array([k for _, k in files])


def _checked(name: str, arrays: Arrays) -> Arrays:
    x_train, y_train, x_test, y_test, class_names, _ = arrays
    class_names = [unicodedata.normalize("NFC", each) for each in class_names]
    for part, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
        if np.issubdtype(x.dtype, np.floating) and np.isnan(x).any():
            raise ValueError(
                f"{name}: x_{part} holds {int(np.isnan(x).sum())} NaN pixels: expected uint8 images without gaps"
            )
        if x.dtype != np.uint8 or x.ndim != 4 or x.shape[3] not in (1, 3):
            raise ValueError(f"{name}: x_{part} is {x.dtype} {x.shape}, expected uint8 (N, H, W, C) with C of 1 or 3")
        if y.shape != (len(x),) or not np.issubdtype(y.dtype, np.integer):
            raise ValueError(f"{name}: y_{part} is {y.dtype} {y.shape}, expected {len(x)} integers")
        if not x.size:
            raise ValueError(f"{name}: x_{part} is empty, {x.shape}: expected at least one image")
        if not (y.min() >= 0 and y.max() < len(class_names)):
            raise ValueError(
                f"{name}: y_{part} spans {y.min()} to {y.max()}, expected 0 to {len(class_names) - 1} "
                f"({len(class_names)} class names)"
            )
    if len(set(class_names)) < len(class_names):
        twice = next(each for each in class_names if class_names.count(each) > 1)
        raise ValueError(f"{name}: two classes are called {twice!r}, expected a name for each")
    if x_train.shape[1:] != x_test.shape[1:]:
        raise ValueError(
            f"{name}: training images are {x_train.shape[1:]}, test images {x_test.shape[1:]}: expected one size"
        )
    if len(np.unique(y_train)) < 2:
        raise ValueError(f"{name}: {len(np.unique(y_train))} class in the training set, expected at least 2")
    return arrays._replace(y_train=y_train.astype(np.int64), y_test=y_test.astype(np.int64), class_names=class_names)
