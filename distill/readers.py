"""Readers of image files: each gives uint8 images (N, H, W, C) and integer labels (N,), as they were published."""

import inspect
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import numpy as np

from distill.students import pick

Arrays = tuple[
    np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[str]
]  # x_train, y_train, x_test, y_test, class_names


def _digits(root: Path, download: bool) -> Arrays:
    """scikit-learn's handwritten digits, 1,797 images of 8x8, in a fixed stratified split of 80 to 20."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bundle = load_digits()
    images = (bundle.images / 16 * 255).round().astype(np.uint8)[..., None]
    split = train_test_split(images, bundle.target, test_size=0.2, stratify=bundle.target, random_state=0)
    return split[0], split[2], split[1], split[3], [str(digit) for digit in range(10)]


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
        return arrays[0], arrays[1], arrays[2], arrays[3], list(names)

    return read


def _tiny_imagenet(root: Path, download: bool) -> Arrays:
    """Tiny-ImageNet-200 as it unpacks: its validation images are flat, their classes in ``val_annotations.txt``."""
    folder = root / "tiny-imagenet-200"
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    classes = sorted(path.name for path in (folder / "train").iterdir() if path.is_dir())
    train = [
        (path, k) for k, wnid in enumerate(classes) for path in sorted((folder / "train" / wnid / "images").iterdir())
    ]
    rows = [line.split("\t")[:2] for line in (folder / "val" / "val_annotations.txt").read_text().splitlines()]
    test = [(folder / "val" / "images" / file, classes.index(wnid)) for file, wnid in rows]
    words = dict(line.split("\t", 1) for line in (folder / "words.txt").read_text().splitlines())
    return *_images(train, 64), *_images(test, 64), [words[wnid].split(",")[0] for wnid in classes]


READERS: dict[str, Callable[[Path, bool], Arrays]] = {
    "digits": _digits,
    "mnist": _torchvision("MNIST"),
    "fashion_mnist": _torchvision("FashionMNIST"),
    "svhn": _torchvision("SVHN"),
    "cifar10": _torchvision("CIFAR10"),
    "cifar100": _torchvision("CIFAR100"),
    "tiny_imagenet": _tiny_imagenet,
}


def read(name: str, root: Path, download: bool, path: str | Path | None, size: int | None) -> Arrays:
    """The arrays of a named set, or of the .npz file or image folder at ``path``; see `distill.data.load`."""
    if path is not None:
        return _npz(Path(path)) if Path(path).suffix == ".npz" else _folder(Path(path), size)
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
        raise FileNotFoundError(f"no file {path}: data.path names an .npz file or an image folder")
    keys = ("x_train", "y_train", "x_test", "y_test", "class_names")
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [key for key in keys if key not in file.files]
            if missing:
                raise ValueError(f"{missing[0]} is missing, it holds {', '.join(file.files)}")
            x_train, y_train, x_test, y_test, class_names = (file[key] for key in keys)
    except Exception as error:  # zip, zlib and numpy each raise their own for a damaged file
        raise ValueError(
            f"cannot read {path} ({error}): expected {', '.join(keys)}, uint8 NHWC images of one size"
        ) from None
    return x_train, y_train, x_test, y_test, [str(item) for item in class_names]


def listing(path: Path) -> tuple[list[tuple[Path, int]], list[tuple[Path, int]], list[str]]:
    """Files and classes of an image folder's training and test images, and the names of the classes, sorted."""
    tests = [path / name for name in ("test", "val") if (path / name).is_dir()]
    if not (path / "train").is_dir() or not tests:
        raise FileNotFoundError(
            f"no train/ and test/ folders in {path}: expected {path}/train/<class>/*.png and {path}/test/<class>/*.png"
        )
    classes = sorted(folder.name for folder in (path / "train").iterdir() if folder.is_dir())
    strangers = sorted({folder.name for folder in tests[0].iterdir() if folder.is_dir()} - set(classes))
    if strangers:
        raise ValueError(f"class {strangers[0]!r} is in {tests[0]} but not in {path / 'train'}")

    def files(folder: Path) -> list[tuple[Path, int]]:
        return [
            (file, k)
            for k, cls in enumerate(classes)
            if (folder / cls).is_dir()
            for file in sorted((folder / cls).iterdir())
        ]

    train, test = files(path / "train"), files(tests[0])
    for folder, found in ((path / "train", train), (tests[0], test)):
        empty = set(range(len(classes))) - {k for _, k in found}
        if empty:
            raise ValueError(f"{folder / classes[min(empty)]} holds no images: every class needs some there")
    return train, test, classes


def _folder(path: Path, size: int | None) -> Arrays:
    train, test, classes = listing(path)
    return *_images(train, size), *_images(test, size), classes


def decode(file: Path, side: int) -> np.ndarray:
    """The middle of an image, uint8 (side, side, 3): its shorter edge becomes 8/7 of ``side`` first, as at 224 px.

    Raises:
        ValueError: the file is not an image.
    """
    from PIL import Image

    try:
        with Image.open(file) as image:
            rgb = image.convert("RGB")
            share = side * 8 // 7 / min(rgb.size)
            scaled = rgb.resize([round(edge * share) for edge in rgb.size], Image.Resampling.BILINEAR)
            left, top = ((edge - side) // 2 for edge in scaled.size)
            return np.asarray(scaled.crop((left, top, left + side, top + side)))
    except OSError as error:
        raise ValueError(f"{file} is not an image ({error})") from None


def _images(files: list[tuple[Path, int]], size: int | None) -> tuple[np.ndarray, np.ndarray]:
    from PIL import Image

    arrays: list[np.ndarray] = []
    for file, _ in files:
        try:
            with Image.open(file) as image:
                rgb = image.convert("RGB")
                arrays.append(np.asarray(rgb.resize((size, size), Image.Resampling.BILINEAR) if size else rgb))
        except OSError as error:
            raise ValueError(f"{file} is not an image ({error})") from None
        if arrays[-1].shape != arrays[0].shape:
            (height, width), (h, w) = arrays[0].shape[:2], arrays[-1].shape[:2]
            raise ValueError(
                f"{file} is {w}x{h}, the first image {width}x{height}: all must share one size, resize with data.size=SIDE"
            )
    if not arrays:
        raise ValueError("the image folder holds no images")
    return np.stack(arrays), np.array([k for _, k in files])
