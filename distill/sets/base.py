"""TrainingSet: what a student trains on, whoever made it and wherever its images lie."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from distill import rng
from distill.data.preprocessing import Preprocessing
from distill.sizes import Size, counts


class TrainingSet(ABC):
    """Images with labels, and how a training walks them.

    A walk of its own (random subsets, pruning) is a subclass with another `epoch`, and perhaps `observe`.

    Attributes:
        images: (N, C, H, W).
        labels: classes (N,) int64, soft labels (N, K): logits or probabilities, or vectors (N, D), as ``label_kind`` says.
        classes: the class each image stands for, (N,) int64.
        class_names: K names, in the order of the labels.
        preprocessing: how pixels in [0, 1] became these images.
        lr: the student's step size learned with the images, scalar; None if there is none.
        record: how it was made.
        observes: whether `observe` changes the walk: then each student has one of its own.
    """

    images: Any
    labels: Tensor
    classes: Tensor
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    label_kind: str
    lr: Tensor | None
    record: Mapping[str, Any]

    observes: bool = False

    def __len__(self) -> int:
        return len(self.images)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def counts(self) -> tuple[int, ...]:
        """Images of each class."""
        return tuple(torch.bincount(self.classes, minlength=self.num_classes).tolist())

    @property
    def ipc(self) -> float:
        """Images per class, on average; whole where every class has as many."""
        mean = len(self) / self.num_classes
        return int(mean) if len(set(self.counts)) == 1 else mean

    def first(self, ipc: Size) -> Tensor:
        """Indices (n,) of the first ``ipc`` images of each class, in the order of the classes.

        Raises:
            ValueError: a class has fewer, or ``ipc`` is no size (see `distill.sizes`).
        """
        asked = counts(ipc, self.class_names, self.counts)
        short = [cls for cls, count in enumerate(asked) if count > self.counts[cls]]
        if short:
            name, has = self.class_names[short[0]], self.counts[short[0]]
            raise ValueError(f"ipc is {asked[short[0]]}, but class {name!r} of the set has {has} images")
        return torch.cat([(self.classes == cls).nonzero()[:count, 0] for cls, count in enumerate(asked)])

    @property
    def targets(self) -> Tensor:
        """What `torch.nn.functional.cross_entropy` takes: classes (N,), or probabilities (N, K); or vectors (N, D)."""
        return self.labels.softmax(1) if self.label_kind == "logits" else self.labels

    @property
    def hard(self) -> Tensor:
        """Classes (N,): the labels, arg-maxed if they are soft; beside vectors, those that the images were made for."""
        if self.has_vectors:
            return self.classes
        return self.labels if self.label_kind == "hard" else self.labels.argmax(1)

    @property
    def is_soft(self) -> bool:
        """Whether the labels are distributions over the classes."""
        return self.label_kind in ("logits", "probabilities")

    @property
    def has_vectors(self) -> bool:
        """Whether the labels are no classes but vectors, which networks are regressed onto."""
        return self.label_kind == "vectors"

    @property
    @abstractmethod
    def hash(self) -> str:
        """Twelve hex digits of its content."""

    @property
    def images_hash(self) -> str:
        """Twelve hex digits that labels of its images are known by, however the images are walked."""
        return self.hash

    @property
    @abstractmethod
    def image_bytes(self) -> int:
        """What the images take where they are stored."""

    @property
    def label_bytes(self) -> int:
        """What the labels take where they are stored."""
        return self.labels.numel() * self.labels.element_size()

    @property
    def class_bytes(self) -> int:
        """What classes take in their place."""
        return self.classes.numel() * self.classes.element_size()

    @property
    def decoded(self) -> TrainingSet:
        """What networks are trained on: the set itself, or the images that its stored ones hold."""
        return self

    def walk(self, epochs: int, batch: int, part: int) -> TrainingSet:
        """The set as one training walks it; one that listens has heard nothing yet.

        Args:
            epochs: of the training.
            batch: images of a step.
            part: images of it that go through a network at once.
        """
        return self

    def epoch(self, number: int, seed: int) -> tuple[Tensor, Tensor]:
        """The images of epoch ``number``, in the order of its batches: indices (n,) and their weights in the loss (n,)."""
        order = torch.randperm(len(self), generator=rng.generator(seed, "batches", number))
        return order, torch.ones(len(order))

    def observe(self, index: Tensor, losses: Tensor) -> None:  # noqa: B027  # most walks do not listen
        """Be told the losses (1, B) of a batch's images ``index`` (1, B)."""

    @property
    def heard(self) -> dict[str, Tensor]:
        """What of it counts for the epochs to come: ``losses`` of all images (N,)."""
        return {}

    @property
    def is_shown_whole(self) -> bool:
        """Whether views are made of the whole of stored images."""
        return True

    def shown(self, images: Tensor, draw: int) -> Tensor:
        """What a view is made of, where not of the whole of stored images (B, C, H, W); same shape, a function of ``draw``."""
        return images

    @abstractmethod
    def to(self, device: torch.device) -> TrainingSet:
        """The same set on another device."""
