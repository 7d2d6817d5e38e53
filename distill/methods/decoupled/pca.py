"""PCA (Prune, Combine and Augment; arXiv:2502.06434): easy real images, several in one, for students with hard labels."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from distill.augment.crops import resize_boxes
from distill.augment.tiles import stitched
from distill.checks import setting
from distill.methods.base import Inputs, Settings
from distill.methods.decoupled.rded import check_factor
from distill.methods.picked import RealPixels
from distill.methods.selection.method import Selection, SelectionSettings
from distill.methods.selection.rules import Rule
from distill.sets.synthetic import SyntheticSet


@dataclass(frozen=True, kw_only=True)
class PCASettings(Settings):
    """Of `PCA`.

    Attributes:
        rule: which images of a class are kept: those that an early network errs least on (`EL2N`), in the paper.
        factor: an image is put together from factor x factor whole ones, each that much smaller.
    """

    rule: Rule = setting(Rule)
    factor: int = setting("whole [1, 100]")

    @property
    def prune(self) -> SelectionSettings:
        """Of the selection: the paper's is balanced."""
        return SelectionSettings(rule=self.rule, balanced=True)

    @property
    def pace(self) -> tuple[int, int, int]:
        return self.prune.pace


class PCA(RealPixels):
    """Prune the training images by a rule, combine what is left to composites; a view is made inside one tile.

    The last is the set's own (`SyntheticSet.shown`), so that it holds under whatever protocol.

    Raises:
        ValueError: the image's side is no multiple of the factor, or a class has fewer than ipc x factor^2 images.
    """

    RANGES: ClassVar[Mapping[str, Any]] = Selection.RANGES
    learns = False
    settings_type = PCASettings
    settings: PCASettings

    def __init__(self, inputs: Inputs, settings: PCASettings):
        check_factor(inputs.real, settings.factor)
        super().__init__(inputs, settings)
        counts = {name: count * self.real_each for name, count in zip(self.real.class_names, self.counts, strict=True)}
        self.pruned = Selection(replace(inputs, ipc=counts), settings.prune)

    @property
    def real_each(self) -> int:
        return self.settings.factor**2

    @property
    def is_shown_whole(self) -> bool:
        return self.settings.factor == 1

    def check_choice(self, val: bool) -> None:
        self.pruned.check_choice(val)

    def initial_set(self) -> SyntheticSet:
        return self.by(self.settings.rule.variants[0])

    def learn(self, step: int) -> None:
        """Take the set of the rule's next variant."""
        self.synset = self.by(self.settings.rule.variants[step + 1])

    def by(self, rule: Rule) -> SyntheticSet:
        """The set of the images that a rule picks, with their places in its record, class by class as the rule ranks them."""
        ranks, factor = self.pruned.ranks(rule), self.settings.factor
        images = torch.cat([combined(self.real.images[index], factor) for index in ranks if len(index)])
        blank = SyntheticSet.blank(self.real, self.inputs.ipc)
        return blank.with_(images=images, tiles=factor, record={"selected": torch.cat(ranks).tolist()})


def combined(images: Tensor, factor: int) -> Tensor:
    """Images in each of which factor x factor whole ones stand, that much smaller, as large as one of them (n, C, H, W).

    Tile k of image i holds source k n + i, as in RDED's composites: the best n sources are at the upper left. What the paper
    does is not told.

    Args:
        images: n factor^2 of them, best first, (n factor^2, C, H, W).

    >>> combined(torch.arange(8.0).view(8, 1, 1, 1).expand(8, 1, 2, 2), 2)[0, 0]
    tensor([[0., 2.],
            [4., 6.]])
    """
    height, width = images.shape[2:]
    whole = torch.tensor([[0, 0, height, width]])
    small = resize_boxes(images, whole, (height // factor, width // factor))
    return stitched(small.unflatten(0, (factor**2, -1)), factor)
