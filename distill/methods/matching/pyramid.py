"""Pyramids: images as sums of levels, from a single pixel up to their own size, in colours without correlation."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from distill.networks.base import Shape

START = 0.01  # standard deviation of the numbers that a level starts from: nearly grey images


def sides(shape: Shape) -> list[tuple[int, int]]:
    """Height and width of each level: powers of two, and the image's own.

    >>> sides((1, 8, 6))
    [(1, 1), (2, 2), (4, 4), (8, 6)]
    """
    _, height, width = shape
    smaller = [2**power for power in range(max(height, width).bit_length()) if 2**power < max(height, width)]
    return [*((min(side, height), min(side, width)) for side in smaller), (height, width)]


def start(count: int, shape: Shape, g: Generator) -> list[Tensor]:
    """Levels of ``count`` images, (count, C, h, w) each, near zero."""
    return [START * torch.randn(count, shape[0], *size, generator=g) for size in sides(shape)]


def pixels(levels: Sequence[Tensor], shape: Shape, colours: Tensor) -> Tensor:
    """Pixels (N, C, H, W) in (0, 1): the sigmoid of the summed levels, resized bilinearly, in the images' colours.

    Args:
        levels: as many as are there yet, the coarsest first.
        colours: from uncorrelated channels to the images', (C, C), as `colours_of` gives it.
    """
    size = shape[1:]
    total = torch.stack([F.interpolate(level, size, mode="bilinear", align_corners=False) for level in levels]).sum(0)
    return torch.einsum("dc,nchw->ndhw", colours, total).sigmoid()


def colours_of(pixels: Tensor) -> Tensor:
    """The square root of the covariance of pixels' channels, (C, C) of images (N, C, H, W), its longest row of length 1.

    Channels of unit variance that know nothing of each other become correlated as the images' are.
    """
    flat = pixels.transpose(0, 1).flatten(1).double()
    values, vectors = torch.linalg.eigh(torch.cov(flat).reshape(len(flat), len(flat)))
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    longest = root.norm(dim=1).max()
    return (root / longest if longest > 0 else torch.eye(len(flat), dtype=root.dtype)).to(pixels)
