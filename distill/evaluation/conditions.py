"""What students are measured under: clean images, attacks at several radii, corruptions at several strengths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from distill import rng
from distill.checks import check_ranges, setting, stated
from distill.data.split import Split
from distill.evaluation.attacks import L2, LOSSES, Linf, Model, fgsm, pgd
from distill.evaluation.corruptions import KINDS, Corruption

ATTACKS = ("fgsm", "pgd", "pgd_l2")
BATCH = 250
LEVELS = 255  # a radius is given in levels of an eight-bit image

Change = Callable[[Model, Tensor, Tensor, torch.Generator], Tensor]
"""Called with a model, images, classes and a generator; gives the images that the model is shown instead."""


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """What students stand.

    Attributes:
        attacks: some of ``fgsm``, ``pgd`` (both change each pixel by at most a radius) and ``pgd_l2``.
        radii: of the first two, in 1/255 of the range of pixels.
        l2_radii: of ``pgd_l2``: Euclidean lengths over an image, in 1/255.
        steps, restarts: of PGD.
        loss: what attacks raise.
        corruptions, strengths: see `distill.evaluation.corruptions`.
        images: test images, None all.

    Raises:
        ValueError: a value is out of range.
    """

    attacks: Sequence[str] = setting(f"any number of one of {', '.join(ATTACKS)}")
    radii: Sequence[float] = setting("list of (0, 255]")
    l2_radii: Sequence[float] = setting("list of (0, 1e6]")
    steps: int = setting("whole [1, 100000]")
    restarts: int = setting("whole [1, 1000]")
    loss: str = setting(f"one of {', '.join(LOSSES)}")
    corruptions: Sequence[str] = setting(f"any number of one of {', '.join(KINDS)}")
    strengths: Sequence[int] = setting("list of whole [1, 5]")
    images: int | None = setting("null or whole [1, 1000000000]")

    def __post_init__(self) -> None:
        check_ranges("robustness", vars(self), stated(type(self)))
        if not self.attacks and not self.corruptions:
            raise ValueError("robustness.attacks and robustness.corruptions are both empty: name one at least")

    def conditions(self) -> list[Condition]:
        """All there are; the first shows the images as they are."""
        loss, more = LOSSES[self.loss], {"steps": self.steps, "restarts": self.restarts}
        makes: Mapping[str, tuple[Sequence[float], Callable[[float], Change], dict[str, Any]]] = {
            "fgsm": (self.radii, lambda radius: fgsm(radius, loss), {}),
            "pgd": (self.radii, lambda radius: pgd(radius, loss, ball=Linf(), **more), more),
            "pgd_l2": (self.l2_radii, lambda radius: pgd(radius, loss, ball=L2(), **more), more),
        }
        found = [Condition("clean", 0, lambda model, images, labels, generator: images, {})]
        for name in dict.fromkeys(self.attacks):
            radii, make, own = makes[name]
            told = {"loss": self.loss, **own}
            found += [Condition(name, each, make(each / LEVELS), told) for each in dict.fromkeys(radii)]
        for kind in dict.fromkeys(self.corruptions):
            found += [Condition(kind, each, Corruption(kind, each), {}) for each in dict.fromkeys(self.strengths)]
        return found


@dataclass(frozen=True)
class Condition:
    """What images go through before a student sees them.

    Attributes:
        name: of an attack or a corruption, or ``clean``.
        strength: a radius in 1/255, or 1 to 5; 0 of ``clean``.
        more: what else tells it apart.
    """

    name: str
    strength: float
    change: Change
    more: Mapping[str, Any]

    @property
    def told(self) -> dict[str, Any]:
        return {"name": self.name, "strength": float(self.strength), **self.more}

    @property
    def text(self) -> str:
        return self.name + f" {self.strength:g}" * (self.strength > 0)


def correct(model: Model, split: Split, change: Change) -> list[int]:
    """Images of each of K classes that are classified correctly after ``change``."""
    found = torch.zeros(split.num_classes, dtype=torch.long, device=split.labels.device)
    parts = zip(split.images.split(BATCH), split.labels.split(BATCH), strict=True)
    for number, (images, labels) in enumerate(parts):
        changed = change(model, images, labels, rng.generator(0, "robustness", number))
        with torch.no_grad():
            found.index_add_(0, labels, (model(changed).argmax(1) == labels).long())
    return found.tolist()


def chosen(labels: Tensor, count: int) -> Tensor:
    """Indices, ascending, of ``count`` images whose classes have their shares; of fewer, some of the same.

    >>> labels = torch.tensor([0] * 6 + [1] * 3)
    >>> labels[chosen(labels, 3)].tolist()
    [0, 0, 1]
    """
    order = torch.randperm(len(labels), generator=rng.generator(0, "robustness images")).to(labels.device)
    share = torch.zeros(len(labels), device=labels.device)
    for cls in labels.unique():
        own = order[labels[order] == cls]
        share[own] = (torch.arange(len(own), device=labels.device) + 0.5) / len(own)
    return order[share[order].argsort(stable=True)[:count]].sort().values
