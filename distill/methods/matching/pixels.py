"""What IDC and NCFM share: pixels are learned, several images in each stored one, by classes that take turns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from distill import rng
from distill.checks import setting
from distill.methods.base import Inputs
from distill.methods.matching.classes import ClassMatching, ClassSettings
from distill.methods.matching.turns import Turns
from distill.sets.formation import check_factors, decoded, images_in_one, tiled
from distill.sets.synthetic import SyntheticSet


@dataclass(frozen=True, kw_only=True)
class PixelSettings(ClassSettings):
    """Of every `PixelMatching`.

    Attributes:
        factors: how many images each stored one holds (`distill.sets.formation`); of the largest it is put together at first.
        turns: classes that one optimiser steps for one after another; all K where that is null. 1: all step together.
    """

    factors: Sequence[int] = setting("list of whole [1, 1000]")
    turns: int | None = setting("null or whole [1, 1000000]")


class PixelMatching(ClassMatching):
    """Learns pixels in [0, 1]; networks see what they decode to, in the space of the real images.

    A subclass gives `make_optimizer`, and calls `turned` once in a step before it asks for `batches`.

    Raises:
        ValueError: the factors fit no image, or the turns not the classes.
    """

    settings: PixelSettings

    def __init__(self, inputs: Inputs, settings: PixelSettings):
        super().__init__(inputs, settings)
        self.factors, classes = tuple(settings.factors), self.real.num_classes
        check_factors(self.factors, min(self.real.shape[1:]))
        self.in_turn = settings.turns or classes
        if classes % self.in_turn:
            raise ValueError(f"method.turns is {self.in_turn}, expected a divisor of the {classes} classes")
        copies, starts = images_in_one(self.factors), [sum(self.counts[:cls]) for cls in range(classes)]
        every = torch.arange(sum(self.counts) * copies).view(copies, -1)  # cell by cell
        device = self.real.labels.device
        self.own = [
            every[:, a : a + n].flatten().to(device, non_blocking=True)
            for a, n in zip(starts, self.counts, strict=True)
        ]
        self.shown = [len(places) for places in self.own]

    @property
    def start_each(self) -> int:
        return max(self.settings.factors) ** 2

    @property
    def copies(self) -> int:
        return images_in_one(self.factors)

    def initial_set(self) -> SyntheticSet:
        """Noise, or images, shrunk, as many in each stored one as the largest factor cuts it into."""
        if self.settings.init == "noise":
            return super().initial_set()
        g, prepare, images = rng.generator(self.seed, "initial images"), self.real.preprocessing, self.start
        if images is None:
            drawn = [self.real.draw(cls, count * self.real_each, g) for cls, count in enumerate(self.counts)]
            images = self.real.images[torch.cat(drawn)]
        pixels = prepare.inverse(images)
        return SyntheticSet.blank(self.real, self.inputs.ipc).with_(
            images=prepare(tiled(pixels, max(self.factors)).clamp(0, 1))
        )

    def begin(self, synset: SyntheticSet | None = None) -> None:
        self.synset = (synset or self.initial_set()).with_(factors=self.factors)
        self.pixels = self.real.preprocessing.inverse(self.synset.images).requires_grad_()
        self.turns = Turns(self.synset.classes, self.in_turn, self.make_optimizer)
        self.optimizer = self.make_optimizer(self.pixels)

    def extra_tensors(self) -> dict[str, Tensor]:
        return {"pixels": self.pixels.detach()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            self.pixels.copy_(tensors["pixels"])

    def make_optimizer(self, pixels: Tensor) -> torch.optim.Optimizer:
        """Of the images, in one group."""
        raise NotImplementedError

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer

    def turned(self) -> Tensor:
        """The pixels as the turn of each class finds them, with a graph of their own from here on."""
        self.leaf = self.turns.ahead(self.pixels, self.optimizer).requires_grad_()
        return self.leaf

    def synthetic(self, step: int) -> list[Tensor]:
        """The decoded images of each class, in the space of the real ones."""
        images = self.real.preprocessing(decoded(self.leaf, self.factors))
        return [images[places] for places in self.own]

    def take(self) -> None:
        self.turns.step(self.pixels, self.optimizer)
        self.show()

    def clamp(self) -> None:
        """Bring the pixels back to [0, 1]."""
        with torch.no_grad():
            self.pixels.clamp_(0, 1)
        self.show()

    def show(self) -> None:
        """Make the set's images those of the pixels."""
        with torch.no_grad():
            self.synset.images.copy_(self.real.preprocessing(self.pixels))
