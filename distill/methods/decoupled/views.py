"""What teachers see of the images that are recovered: crops whose least size follows a curriculum, mirrored and rolled.

SRe2L (arXiv:2306.13092) draws one crop for a batch; the curriculum is CDA's (arXiv:2311.18838).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from distill import rng
from distill.augment.crops import boxes, resize_boxes
from distill.checks import setting
from distill.methods.base import LoopSettings
from distill.methods.decoupled.units import Unit
from distill.sets.synthetic import SyntheticSet

CURRICULA = {
    "none": lambda done: 0.0,
    "step": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
}


@dataclass(frozen=True, kw_only=True)
class ViewSettings(LoopSettings):
    """Of the views; recovery has more.

    Attributes:
        iterations: T, of each unit.
        curriculum: ``none``, ``step``, ``linear`` or ``cosine``: how the smallest share of the image that a crop keeps goes
            from 1 to ``area``, until ``milestone`` T.
        area: that share; None crops and mirrors nothing.
        roll: largest circular shift in pixels along each axis, from zero, or from its negative with ``roll_both``.
        crop_each: a crop, mirror and shift for each image instead of one for the unit.
    """

    iterations: int = setting("whole [1, 10000000]")
    curriculum: str = setting(f"one of {', '.join(CURRICULA)}")
    milestone: float = setting("[0, 1]")
    area: float | None = setting("null or (0, 1]")
    roll: int = setting("whole [0, 10000]")
    roll_both: bool = setting("true or false")
    crop_each: bool = setting("true or false")


def unit_views(images: Tensor, unit: Unit, iteration: int, seed: int, mirror: bool, settings: ViewSettings) -> Tensor:
    """Views of one unit's images (block, C, H, W) at an iteration; the draw is of the seed, the unit's key and the iteration.

    Args:
        mirror: half of the crops.
    """
    g = rng.generator(seed, "views", unit.ipc_index, unit.block, iteration)
    count = len(images) if settings.crop_each else 1
    if settings.area is not None:
        done = iteration / settings.iterations
        low = smallest_crop(settings.curriculum, settings.area, settings.milestone, done)
        images = resize_boxes(images, boxes(count, images, low, g))
        if mirror:
            mirrored = (torch.rand(count, 1, 1, 1, generator=g) < 0.5).to(images.device, non_blocking=True)
            images = torch.where(mirrored, images.flip(3), images)
    if not settings.roll:
        return images
    first = -settings.roll if settings.roll_both else 0
    shifts = torch.randint(first, settings.roll + 1, (count, 2), generator=g).tolist()
    if count == 1:
        return images.roll(shifts[0], (2, 3))
    return torch.stack([image.roll(shift, (1, 2)) for image, shift in zip(images, shifts, strict=True)])


def smallest_crop(curriculum: str, area: float, milestone: float, done: float) -> float:
    """Smallest share of an image that a crop keeps when the share ``done`` of the iterations lies behind.

    Source: CDA's code.
    """
    if done >= milestone:
        return area
    return area + (1 - area) * CURRICULA[curriculum](done / milestone)


def displayable(synset: SyntheticSet) -> tuple[Tensor, Tensor]:
    """The least and the largest values (C, 1, 1) that pixels in [0, 1] have in the set's space."""
    black = torch.zeros(1, synset.images.shape[1], 1, 1).to(synset.images)
    low, high = (synset.preprocessing(black + value)[0] for value in (0.0, 1.0))
    return low, high
