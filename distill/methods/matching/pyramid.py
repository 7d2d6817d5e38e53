"""Pyramids: images as sums of levels, from a single pixel up to their own size, in colours without correlation."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from distill.networks.base import Shape

# From channels without correlation to ImageNet's colours, (3, 3): the constants of arXiv:2511.16674's code, before scaling.
IMAGENET = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))
CONTRAST = 2.0  # of the sum of levels, before the sigmoid


def sides(shape: Shape) -> list[tuple[int, int]]:
    """Height and width of each level: powers of two, and the image's own.

    >>> sides((1, 8, 6))
    [(1, 1), (2, 2), (4, 4), (8, 6)]
    """
    _, height, width = shape
    smaller = [2**power for power in range(max(height, width).bit_length()) if 2**power < max(height, width)]
    return [*((min(side, height), min(side, width)) for side in smaller), (height, width)]


def start(count: int, shape: Shape, g: Generator) -> list[Tensor]:
    """Levels of ``count`` images, (count, C, h, w) each, standard normal: the first is there, the others are yet to `grow`."""
    return [torch.randn(count, shape[0], *size, generator=g) for size in sides(shape)]


@torch.no_grad()
def grow(levels: Sequence[Tensor]) -> None:
    """Let the last of these levels come in among those before it: n - 1 of them have 1 / (n - 1) of a sum, now all 1 / n.

    >>> levels = [torch.tensor([6.0]), torch.tensor([3.0]), torch.tensor([3.0])]
    >>> grow(levels)
    >>> levels
    [tensor([4.]), tensor([2.]), tensor([1.])]
    """
    *before, new = levels
    for level in before:
        level *= len(before) / len(levels)
    new /= len(levels)


def pixels(levels: Sequence[Tensor], shape: Shape, colours: Tensor) -> Tensor:
    """Pixels (N, C, H, W) in (0, 1): the sigmoid of twice the summed levels, resized bilinearly, in the images' colours.

    Args:
        levels: as many as are there yet, the coarsest first.
        colours: from uncorrelated channels to the images', (C, C), as `scaled` or `colours_of` gives it.
    """
    size = shape[1:]
    total = torch.stack([F.interpolate(level, size, mode="bilinear", align_corners=False) for level in levels]).sum(0)
    return (CONTRAST * torch.einsum("dc,nchw->ndhw", colours, total)).sigmoid()


def scaled(colours: Tensor) -> Tensor:
    """``colours`` (C, C) with a longest column of length 1, or the identity if all are zero."""
    longest = colours.norm(dim=0).max()
    return colours / longest if longest > 0 else torch.eye(len(colours)).to(colours)


def colours_of(pixels: Tensor) -> Tensor:
    """The square root of the covariance of pixels' channels, `scaled`, (C, C) of images (N, C, H, W).

    Channels of unit variance that know nothing of each other become correlated as the images' are.
    """
    flat = pixels.transpose(0, 1).flatten(1).double()
    values, vectors = torch.linalg.eigh(torch.cov(flat).reshape(len(flat), len(flat)))
    return scaled(vectors * values.clamp_min(0).sqrt() @ vectors.T).to(pixels)
