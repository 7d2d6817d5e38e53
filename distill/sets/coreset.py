"""Coreset: real images by their places in a split; nothing is copied, images of files stay in their files."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from distill.data.split import Split
from distill.files import digest, hash_tensors
from distill.sets.base import TrainingSet


class Coreset(TrainingSet):
    """Real images at ``index`` (n,) of a split, in this order, with hard labels.

    >>> import distill
    >>> real = distill.load_data("digits")
    >>> coreset = Coreset(real.train, real.train.of_class(3)[:5])
    >>> len(coreset), coreset.counts[3], coreset.images[torch.tensor([0, 4])].shape
    (5, 5, torch.Size([2, 1, 8, 8]))
    """

    label_kind, lr = "hard", None

    def __init__(self, split: Split, index: Tensor):
        self.split, self.index = split, index.to(split.labels.device)
        self.images = Picked(split.images, self.index)
        self.labels = self.classes = split.labels[self.index]
        self.class_names, self.preprocessing = split.class_names, split.preprocessing
        self.record: dict[str, Any] = {}

    @classmethod
    def whole(cls, split: Split) -> Coreset:
        """All images of a split."""
        return cls(split, torch.arange(len(split)))

    @cached_property
    def hash(self) -> str:  # type: ignore[override]
        """Of pixels and labels, as a `SyntheticSet`'s; of the places where images are files, which are not read for it."""
        if not self.split.in_memory:
            return digest({"split": self.split.name, "index": self.index.tolist(), "labels": self.labels.tolist()})
        tensors = {"images": self.images[:], "labels": self.labels, "classes": self.classes}
        own = {f"preprocessing.{name}": tensor for name, tensor in self.preprocessing.tensors.items()}
        return hash_tensors(tensors | own)[:12]

    @property
    def image_bytes(self) -> int:
        return self.images.shape.numel()  # in eight bits, as real images are

    def to(self, device: torch.device) -> Coreset:
        """Itself: it lives where its split does."""
        return self


class Picked:
    """Some of other images; stands where a tensor (n, C, H, W) stands."""

    def __init__(self, images: Any, index: Tensor):
        self.source, self.index = images, index

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.index), *self.source.shape[1:]))

    @property
    def device(self) -> torch.device:
        return self.source.device

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """Images (*index.shape, C, H, W)."""
        return self.source[self.index[index]]
