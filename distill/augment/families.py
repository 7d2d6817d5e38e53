"""Augmentations as functions of (images, draw): equal draws give equal views, so an inner loop can be replayed.

A draw is an integer from `rng.derive`. All families are differentiable in the images; ``draws`` is
how often their parameters are drawn: 1 moves all images alike, None draws for each. Images need not be square: shares of a
side are of each axis' own, angles are angles, and crops have the image's own shape but for the stretch that is drawn.
Sources: DSA, Zhao & Bilen, ICML 2021, arXiv:2102.08259; its compound in IDC, arXiv:2205.14959; RDED's patch
shuffle, arXiv:2312.03526; CutMix, arXiv:1905.04899; MixUp, arXiv:1710.09412.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from distill.checks import check_ranges

Augment = Callable[[Tensor, int], Tensor]


def none(images: Tensor, draw: int) -> Tensor:
    """The images themselves."""
    return images


class DSA:
    """Differentiable Siamese augmentation: one family a call, drawn for the whole batch; parameters image by image.

    Args:
        strategy: family names joined by ``_``, as papers write it: ``color_crop_cutout_flip_scale_rotate``.
        siamese: one draw of the parameters, too, for all images of a call: batches of any size that share a draw are
            moved alike.

    Raises:
        ValueError: a family is unknown.
    """

    def __init__(self, strategy: str, siamese: bool = False):
        check_ranges("augment", locals(), {"strategy": STRATEGY})
        self.families, self.siamese = [FAMILIES[name] for name in strategy.split("_")], siamese

    def __call__(self, images: Tensor, draw: int) -> Tensor:
        """Views of ``images`` (B, C, H, W), same shape; zero fill is the data set's mean in normalised space."""
        g = Generator().manual_seed(draw)
        family = self.families[int(torch.randint(len(self.families), (), generator=g))]
        return family(images, g, 1 if self.siamese else None)


class Compound:
    """IDC's composition: the mirror, then colours, then one of crop, scale and rotation, then a hole, of those in the strategy.

    The one is drawn for the whole batch, parameters image by image. Source: IDC (arXiv:2205.14959) and NCFM
    (arXiv:2502.20653), as their code has it; DSA's families in DSA's strengths, so that it is stronger than `DSA`.

    Args:
        strategy, siamese: see `DSA`.

    Raises:
        ValueError: a family is unknown.

    >>> Compound("color_cutout_flip")(torch.rand(4, 3, 8, 8), 7).shape
    torch.Size([4, 3, 8, 8])
    """

    def __init__(self, strategy: str, siamese: bool = False):
        check_ranges("augment", locals(), {"strategy": STRATEGY})
        self.names, self.siamese = strategy.split("_"), siamese

    def __call__(self, images: Tensor, draw: int) -> Tensor:
        """Views of ``images`` (B, C, H, W), same shape; zero fill is the data set's mean in normalised space."""
        g = Generator().manual_seed(draw)
        for choice in (("flip",), ("color",), ("crop", "scale", "rotate"), ("cutout",)):
            names = [name for name in choice if name in self.names]
            if names:
                name = names[int(torch.randint(len(names), (), generator=g))]
                images = FAMILIES[name](images, g, 1 if self.siamese else None)
        return images


def color(images: Tensor, g: Generator, draws: int | None = None) -> Tensor:
    """Brightness, then saturation, then contrast, strengths 1, 2 and 0.5.

    Means weigh channels alike and nothing is clipped, unlike kornia's and torchvision's, which are of pixels in [0, 1].
    """
    brightness, saturation, contrast = (_uniform(images, g, draws) for _ in range(3))
    x = images + (brightness - 0.5)
    grey = x.mean(1, keepdim=True)
    x = (x - grey) * (2 * saturation) + grey
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) * (contrast + 0.5) + mean


def crop(images: Tensor, g: Generator, draws: int | None = None, reflect: bool = False) -> Tensor:
    """Whole-pixel shifts up to an eighth of each side, filled with zeros, or with the image's own reflection."""
    height, width = images.shape[2:]

    def shifted(side: int) -> Tensor:
        # A shift as a 0/1 matrix: exact, and its gradient is a transposed product rather than a slow scatter.
        most = int(side * 0.125 + 0.5)
        pixels = torch.arange(side)
        source = pixels[:, None] + torch.randint(-most, most + 1, (draws or len(images), 1, 1), generator=g)
        source = side - 1 - (side - 1 - source.abs()).abs() if reflect else source
        return (source == pixels).to(images, non_blocking=True)

    rows, columns = shifted(height), shifted(width)
    return rows[:, None] @ images @ columns[:, None].mT


def cutout(images: Tensor, g: Generator, draws: int | None = None) -> Tensor:
    """A box of half of each side set to zero; its centre is uniform (the far edge included), what lies outside is lost."""
    height, width = images.shape[2:]

    def covered(side: int) -> Tensor:
        length = int(side * 0.5 + 0.5)
        centre = torch.randint(side + 1 - length % 2, (draws or len(images), 1), generator=g)
        first = centre - length // 2
        return (torch.arange(side) >= first) & (torch.arange(side) < first + length)

    hole = covered(height)[:, None, :, None] & covered(width)[:, None, None, :]
    return images * (~hole).to(images, non_blocking=True)


def flip(images: Tensor, g: Generator, draws: int | None = None) -> Tensor:
    """Mirror left and right with probability 0.5."""
    return torch.where(_uniform(images, g, draws) < 0.5, images.flip(3), images)


def scale(images: Tensor, g: Generator, draws: int | None = None, low: float = 1 / 1.2, high: float = 1.2) -> Tensor:
    """Stretch both axes independently by factors in [low, high]."""
    sx, sy = (low + (high - low) * _uniform(images, g, draws)[:, 0, 0, 0] for _ in range(2))
    zero = torch.zeros_like(sx)
    return warp(images, torch.stack([sx, zero, zero, zero, sy, zero], 1).view(-1, 2, 3))


def rotate(images: Tensor, g: Generator, draws: int | None = None, degrees: float = 15.0) -> Tensor:
    """Turn by an angle in [-degrees, degrees]."""
    angle = (2 * _uniform(images, g, draws)[:, 0, 0, 0] - 1) * math.radians(degrees)
    c, s, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    shape = images.shape[3] / images.shape[2]  # a grid's units are half the width along x and half the height along y
    return warp(images, torch.stack([c, -s / shape, zero, s * shape, c, zero], 1).view(-1, 2, 3))


def warp(images: Tensor, matrices: Tensor) -> Tensor:
    """Affine maps (B, 2, 3) or (1, 2, 3), bilinear, zero padding; equal to maps with aligned corners on square images.

    DC's code does not align them, MTT's, TESLA's, DATM's and AST's do.
    """
    grid = F.affine_grid(matrices.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)


FAMILIES: dict[str, Callable[[Tensor, Generator, int | None], Tensor]] = {
    "color": color, "crop": crop, "cutout": cutout, "flip": flip, "scale": scale, "rotate": rotate,
}  # fmt: skip

STRATEGY = f"some of {', '.join(FAMILIES)} joined by _"


def _uniform(images: Tensor, g: Generator, draws: int | None) -> Tensor:
    return torch.rand(draws or len(images), 1, 1, 1, generator=g).to(images, non_blocking=True)
