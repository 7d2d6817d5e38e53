"""A real set that is not here, for plans: so many images of noise, made when they are asked for."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from distill.data import preprocessing
from distill.data.lazy import LazyImages
from distill.data.real import RealData
from distill.data.settings import DataSettings
from distill.data.split import Split


class Noise(LazyImages):
    """Stands where a tensor (N, 3, H, W) stands; no file is opened."""

    def __init__(self, count: int, side: int, device: torch.device):
        self.files, self.side, self.device = range(count), side, device  # type: ignore[assignment]

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        index = torch.arange(len(self))[index] if isinstance(index, slice) else index
        return torch.randn(*index.shape, *self.shape[1:]).to(self.device)


def imagined(settings: Mapping[str, Any], train: int, test: int, classes: int, device: torch.device) -> RealData:
    """A real set with so many images, in equal parts of so many classes.

    Args:
        settings: of ``configs/data``; ``size`` is the images' side, ``val`` and ``lazy`` count.

    Raises:
        ValueError: the size is not stated, or a class would have no image.
    """
    stated = DataSettings(**settings)
    if stated.size is None:
        raise ValueError("data.size is null, expected the side of images that are imagined: data.size=224")
    if not 2 <= classes <= min(train, test):
        raise ValueError(
            f"{classes} classes of train={train} and test={test} images, expected 2 or more, with an image of each"
        )
    mean = list(stated.mean or [0.5] * 3)
    prepare = preprocessing.normalised(mean, list(stated.std or [0.5] * 3))
    names = tuple(f"class {number}" for number in range(classes))
    held_out = round(train * stated.val)

    def split(count: int) -> Split:
        labels, images = torch.arange(count, device=device) % classes, Noise(count, stated.size or 1, device)
        own: Any = images
        return Split(own, labels, names, stated.name, prepare, stated.strategy, in_memory=not stated.lazy)

    return RealData(split(train - held_out), split(held_out), split(test), "imagined", "imagined")
