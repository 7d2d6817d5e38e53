"""Several images in one: what a stored image decodes to, for whoever made it, imports it or trains on it.

Source: multi-formation of IDC (Kim et al., ICML 2022, arXiv:2205.14959), which DREAM and NCFM took over.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

GREY = 0.5  # of what is added at the right and below, where a side is no multiple of the factor
WHOLE = (1,)  # the factors of a set whose images are stored as they are trained on


def images_in_one(factors: Sequence[int]) -> int:
    """How many images each stored one becomes.

    >>> images_in_one([2]), images_in_one([1, 2, 3])
    (4, 14)
    """
    return sum(factor**2 for factor in factors)


def decoded(pixels: Tensor, factors: Sequence[int]) -> Tensor:
    """Each factor's cells as images as large as the whole (n, C, H, W): those of the upper left cell first, row by row.

    Args:
        pixels: (N, C, H, W) in [0, 1]; a side that is no multiple of a factor is filled up with grey at the right and below.
        factors: cells on a side; several, IDC's ``multi``, go one after the other.

    Source: IDC's code: bilinear, corners not aligned. Differentiable in the pixels.

    >>> decoded(torch.rand(3, 1, 8, 8), [2]).shape
    torch.Size([12, 1, 8, 8])
    """
    return torch.cat([part for factor in factors for part in _cells(pixels, factor)])


def _cells(pixels: Tensor, factor: int) -> list[Tensor]:
    if factor == 1:
        return [pixels]
    height, width = pixels.shape[2:]
    padded = F.pad(pixels, (0, -width % factor, 0, -height % factor), value=GREY)
    cells = [cell for row in padded.chunk(factor, dim=2) for cell in row.chunk(factor, dim=3)]
    return [F.interpolate(cell, (height, width), mode="bilinear", align_corners=False) for cell in cells]


def tiled(pixels: Tensor, factor: int) -> Tensor:
    """N / factor² images of factor² shrunk ones each, row by row, (n, C, H, W): where IDC's images start.

    Args:
        pixels: (N, C, H, W), each shrunk to its nearest pixels, as far as its cell lies in the image; N is a multiple of
            factor².

    >>> tiled(torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 2, 2), 2)[0, 0]
    tensor([[0., 1.],
            [2., 3.]])
    """
    cells = pixels.unflatten(0, (-1, factor**2)).unbind(1)
    images = torch.empty_like(cells[0])
    height, width = (-(-side // factor) for side in pixels.shape[2:])
    for place, cell in enumerate(cells):
        row, column = place // factor * height, place % factor * width
        room = images[:, :, row : row + height, column : column + width]
        if room.numel():
            room.copy_(F.interpolate(cell, room.shape[2:], mode="nearest"))
    return images


def check_factors(factors: Sequence[int], side: int) -> None:
    """Raise ValueError unless ``factors`` are different ones that images of ``side`` pixels can be cut by."""
    if not factors or len(set(factors)) < len(factors) or not all(1 <= each <= side for each in factors):
        raise ValueError(
            f"the set's factors are {list(factors)[:5]}, expected different whole numbers from 1 to {side}: an image holds "
            "factor x factor smaller ones"
        )
