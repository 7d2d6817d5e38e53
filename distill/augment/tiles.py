"""Tiles: several small images in a large one."""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


def stitched(tiles: Tensor, factor: int) -> Tensor:
    """Images of factor x factor tiles, row by row, (N, C, factor h, factor w).

    Args:
        tiles: tile k of every image at k, (factor^2, N, C, h, w).

    >>> stitched(torch.arange(4.0).view(4, 1, 1, 1, 1), 2)[0, 0]
    tensor([[0., 1.],
            [2., 3.]])
    """
    rows = tiles.unflatten(0, (factor, factor))
    return torch.cat([torch.cat(list(row), 3) for row in rows], 2)


def one_tile(images: Tensor, factor: int, g: Generator) -> Tensor:
    """A random tile of each image, as large as the whole: bilinear, no pixel beyond it leaks in, (B, C, H, W).

    Args:
        images: of factor x factor tiles, (B, C, H, W).

    >>> one_tile(torch.arange(4.0).view(1, 1, 2, 2), 2, Generator().manual_seed(0)).unique()
    tensor([3.])
    """
    batch, _, height, width = images.shape
    tiles = images.unflatten(2, (factor, -1)).unflatten(4, (factor, -1)).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    which = torch.randint(factor**2, (batch,), generator=g).to(images.device, non_blocking=True)
    own = tiles[torch.arange(batch, device=images.device), which]
    return F.interpolate(own, (height, width), mode="bilinear", align_corners=False)
