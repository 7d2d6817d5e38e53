"""Views of images as functions of a draw."""

from distill.augment.crops import PaddedCrop, ResizedCrop
from distill.augment.families import DSA, STRATEGY, Augment, Compound, none
from distill.augment.makers import make
from distill.augment.mixing import cutmix, mixup

__all__ = ["DSA", "STRATEGY", "Augment", "Compound", "PaddedCrop", "ResizedCrop", "cutmix", "make", "mixup", "none"]
