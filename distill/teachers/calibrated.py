"""Stored labels of few views, and the classes for some epochs between (HALD, arXiv:2512.15647)."""

from dataclasses import dataclass, replace

from distill.checks import setting
from distill.teachers.labels import Teaching, Told, both
from distill.teachers.stored import Stored
from distill.training.batch import Batches
from distill.training.losses import Calibrated


@dataclass(frozen=True)
class SoftHardSoft(Stored):
    """Students learn from a committee's stored logits, then from smoothed classes, then from the logits again.

    Classes say what an image is where the few stored crops (``kept``) look like something else.

    Attributes:
        start, stop: shares of the epochs after which classes begin and end.
        smoothing: of the classes; of mixed views, those of both with their shares.

    Raises:
        ValueError: classes end before they begin.

    Source: HALD: the order of the three, smoothing and CutMix among the classes; when they begin and end is ours.
    """

    name = "hald"
    start: float = setting("[0, 1]")
    stop: float = setting("[0, 1]")
    smoothing: float = setting("[0, 1]")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stop < self.start:
            raise ValueError(f"protocol.labels.stop is {self.stop}, expected at least start, {self.start}")

    def on(self, batches: Batches, seed: int, teaching: Teaching) -> Told:
        told = super().on(batches, seed, teaching)
        epochs = batches.recipe.passes(len(batches.walk.epoch(0, seed)[0]))
        first, last = (round(share * epochs) for share in (self.start, self.stop))
        loss = Calibrated(self.temperature, self.squared, first, last, self.smoothing)
        return replace(both(told, batches, loss), bytes=lambda: told.bytes() + batches.data.class_bytes)

    def takes(self, images: int, classes: int, passes: int, own: int) -> int:
        return super().takes(images, classes, passes, own) + 8 * images
