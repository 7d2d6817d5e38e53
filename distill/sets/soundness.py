"""What holds of every synthetic set: finite values of a sane size, labels of its classes, constants that fit its images."""

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from distill.checks import check_ranges
from distill.data.preprocessing import Preprocessing

MAX_LR = 10.0  # no published student rate is near it; beyond lies a learned rate that exploded

LABEL_KINDS = ("hard", "logits", "probabilities", "vectors")

LARGEST = 1e4  # of a pixel in any space, and of a logit; real images in ours stay below 1e3, where a deviation is 0.001

MOST_CLASSES = 100_000  # ImageNet-21k has 21,841

MOST_CHOICES = 1000  # that a command line makes, or networks that are judged

RECORD = {  # what a file says of a set, as far as somebody reads it
    **{
        "data": "text",
        "class_names": "list of text",
        "space": "text",
        "label_kind": "text",
        "method": "absent or text",
    },
    "tiles": "absent or whole [1, 1000]",
    "factors": "absent or list of whole [1, 1000]",
    **dict.fromkeys(("seed", "step", "skipped_steps"), "absent or whole [0, 1e20]"),
    **dict.fromkeys(("config", "choices", "protocol"), "absent or map of text to anything"),
    **{"picked_on": "absent or text", "overrides": "absent or any number of text"},
}

TYPES = {  # of a set's own tensors in a file
    "images": (torch.float32, torch.uint8),
    "labels": (torch.int64, torch.float32),
    "classes": (torch.int64,),
    "lr": (torch.float32,),
}


def check_record(record: Mapping[str, Any]) -> None:
    """Raise ValueError unless the fields of a set's record are what their readers take; others may be anything."""
    check_ranges("", record, RECORD)
    check_ranges("config", record.get("config", {}), {"data": "absent or map of text to anything"})
    for name in ("overrides", "choices"):
        parts = record.get(name, {}).values() if name == "choices" else [record.get(name)]
        most = max((len(part) for part in parts if isinstance(part, list)), default=0)
        if most > MOST_CHOICES:
            raise ValueError(f"{name} hold {most} values, expected at most {MOST_CHOICES}")


def check_framing(record: Mapping[str, Any], side: int) -> None:
    """Raise ValueError unless a record says how pictures become images of ``side``, as far as it says anything."""
    test_resize = f"absent or null or whole [{side}, {8 * side}]"
    ranges = {**dict.fromkeys(("crop", "lazy"), "absent or true or false"), "test_resize": test_resize}
    check_ranges("config.data", record.get("config", {}).get("data", {}), ranges)


def check_types(tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless ``tensors`` have the names and types of a set's own, constants apart; ``lr`` may be missing."""
    if not tensors.keys() <= TYPES.keys() or not TYPES.keys() - {"lr"} <= tensors.keys():
        raise ValueError(f"it holds {reprlib.repr(sorted(tensors))}, expected {', '.join(TYPES)}")
    for name, tensor in tensors.items():
        if tensor.dtype not in TYPES[name]:
            raise ValueError(f"its {name} are {tensor.dtype}, expected {' or '.join(map(str, TYPES[name]))}")


def check_images(images: Tensor, preprocessing: Preprocessing) -> None:
    """Raise ValueError unless ``images`` (N, C, H, W), N >= 1, are finite values of the space of ``preprocessing``."""
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.numel():
        raise ValueError(f"synthetic images are {tuple(images.shape)}, expected (N, C, H, W) with C of 1 or 3")
    _check_size("images", images)
    preprocessing.check_shape(tuple(images.shape[1:]))
    if preprocessing.space == "pixel01":
        outside = ((images < -0.01) | (images > 1.01)).float().mean()
        if outside > 0.05:
            raise ValueError(f"{outside:.0%} of the pixels lie outside [0, 1]: the set is not in space pixel01")


def check_labels(labels: Tensor, classes: Tensor, kind: str, images: int, num_classes: int) -> None:
    """Raise ValueError unless ``labels`` and ``classes`` (N,) are of ``kind`` for N images of K classes."""
    if kind not in LABEL_KINDS:
        raise ValueError(f"unknown label kind {reprlib.repr(kind)}: one of {', '.join(LABEL_KINDS)}")
    wide = max(1, *labels.shape[1:2]) if kind == "vectors" else num_classes
    shape = (images,) if kind == "hard" else (images, wide)
    if tuple(labels.shape) != shape or labels.is_floating_point() != (kind != "hard"):
        raise ValueError(f"{kind} labels are {labels.dtype} {tuple(labels.shape)}, expected {shape}")
    _check_size("labels", labels)
    if classes.shape != (images,):
        raise ValueError(f"the set's classes are {tuple(classes.shape)}, expected {(images,)}")
    for hard in (classes, *([labels] if kind == "hard" else [])):
        low, high = (int(each) for each in hard.aminmax())
        if low < 0 or high >= num_classes:
            raise ValueError(f"the set's labels span {low} to {high}, expected 0 to {num_classes - 1}")
    if kind == "probabilities":
        if not torch.allclose(labels.sum(1), torch.ones(()).to(labels), atol=1e-3):
            raise ValueError("the set's probabilities do not sum to 1 in every row: are they logits?")
        if float(labels.min()) < 0:
            raise ValueError(f"the set's probabilities reach {float(labels.min()):g}, expected none below 0")


def check_names(names: Sequence[str]) -> None:
    """Raise ValueError unless ``names`` tell the classes apart."""
    if not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"the set's classes are called {reprlib.repr(names)}, expected a text for each")
    if not 1 <= len(names) <= MOST_CLASSES:
        raise ValueError(f"the set has {len(names)} classes, expected 1 to {MOST_CLASSES}")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two of the set's classes are called {reprlib.repr(twice)}")


def check_tiles(images: Tensor, tiles: int) -> None:
    """Raise ValueError unless ``images`` (N, C, H, W) divide into ``tiles`` along each side."""
    height, width = images.shape[2:]
    if tiles < 1 or height % tiles or width % tiles:
        raise ValueError(
            f"the set has {tiles}x{tiles} tiles in images of {height}x{width}: expected sides that divide by it"
        )


def check_rate(lr: Tensor) -> None:
    """Raise ValueError unless ``lr`` is a rate that a student can learn with."""
    if lr.numel() != 1 or not 0 < float(lr) <= MAX_LR:
        rate = f"{float(lr):g}" if lr.numel() == 1 else f"of shape {tuple(lr.shape)}"
        raise ValueError(f"the set's learned rate is {rate}, expected above 0 and at most {MAX_LR:g}: it diverged")


def _check_size(name: str, values: Tensor) -> None:
    if not values.is_floating_point():
        return
    low, high = (float(each) for each in values.detach().aminmax())  # NaN if there is one
    if not torch.isfinite(torch.tensor([low, high])).all():
        wrong = int((~torch.isfinite(values)).sum())
        raise ValueError(f"the set's {name} hold {wrong} values that are NaN or infinite")
    if max(-low, high) > LARGEST:
        raise ValueError(f"the set's {name} span {low:g} to {high:g}, expected at most {LARGEST:g}: it diverged")
