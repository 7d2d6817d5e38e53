"""What a recipe's augmentation is on a data set."""

from distill import augment
from distill.augment.families import Augment
from distill.data.split import Split
from distill.training.protocol import CommitteeProtocol
from distill.training.recipe import Recipe


def augmentation(recipe: Recipe, split: Split) -> Augment:
    """The recipe's augmentation of a data set's images, with its DSA families and its preprocessing."""
    mirror = "flip" in split.strategy
    if recipe.augment == "crop_flip_black":
        return augment.PaddedCrop(mirror, split.preprocessing)
    if isinstance(recipe, CommitteeProtocol) and recipe.augment == "resized_crop":
        return augment.ResizedCrop(recipe.area, recipe.shuffle, mirror)
    return augment.make(recipe.augment, split.strategy)


def families(recipe: Recipe, strategy: str) -> str:
    """What `augmentation` depends on of a data set's DSA families: all of them, whether images are mirrored, or nothing."""
    if recipe.augment in ("dsa", "siamese"):
        return strategy
    mirrors = recipe.augment in ("crop_flip", "crop_flip_black", "resized_crop")
    return "flip" if mirrors and "flip" in strategy else ""
