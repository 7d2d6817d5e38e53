"""Augmentations by the names that configurations use."""

from collections.abc import Callable

from distill.augment.crops import PaddedCrop
from distill.augment.dc import crop_scale_rotate
from distill.augment.families import DSA, STRATEGY, Augment, Compound, none
from distill.checks import check_ranges


def make(name: str, strategy: str) -> Augment:
    """The augmentation of this name; those that mirror images and those of DSA's families follow the data set's strategy."""
    check_ranges("augment", locals(), RANGES)
    return MAKERS[name](strategy)


MAKERS: dict[str, Callable[[str], Augment]] = {
    "none": lambda strategy: none,
    "dsa": DSA,
    "siamese": lambda strategy: DSA(strategy, siamese=True),
    "dsa-compound": Compound,
    "siamese-compound": lambda strategy: Compound(strategy, siamese=True),
    "crop_scale_rotate": lambda strategy: crop_scale_rotate,
    "crop_flip": lambda strategy: PaddedCrop("flip" in strategy),
    "crop_flip_reflect": lambda strategy: PaddedCrop("flip" in strategy, reflect=True),
}

RANGES = {"name": f"one of {', '.join(MAKERS)}", "strategy": STRATEGY}  # of `make`
