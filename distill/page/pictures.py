"""Pictures of a page: many images as one, within so many bytes."""

import base64
import io
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.functional import resize
from torchvision.utils import make_grid

from distill.sets.looks import eight_bit

MOST_IMAGES = 10  # of a class

SIDES = (96, 64, 48, 32, 24, 16, 8)  # pixels that an image is shrunk to

MOST_PIXELS = 2**24  # of a picture, before it is shrunk to fit into its bytes

LEAST_BYTES = 250  # of an image of 16 x 16 as JPEG

MOST_SIDE_BY_SIDE = 3  # images of a class, of which several classes share a row


@dataclass(frozen=True)
class Picture:
    """Images of one size row by row, without gaps.

    Attributes:
        uri: a data URI.
        height, width: of each, in pixels.
        columns: of the picture.
    """

    uri: str
    height: int
    width: int
    columns: int

    @classmethod
    def of(cls, images: Tensor, columns: int, most: int) -> "Picture":
        """``images`` (N, C, H, W) in [0, 1]: exact if they fit into ``most`` bytes, else as JPEG, shrunk until they do.

        Images of 8 x 8 are shrunk no more.

        Examples:
            >>> found = Picture.of(torch.rand(6, 1, 8, 8), 3, 10_000)
            >>> found.uri[:15], found.height, found.width, found.columns
            ('data:image/png;', 8, 8, 3)
        """
        longest = max(images.shape[2:])
        for side in [longest, *(side for side in SIDES if side < longest)]:
            small = images if side == longest else resize(images, _shape(images, side), antialias=True).clamp(0, 1)
            joined = eight_bit(make_grid(small, nrow=columns, padding=0)[: images.shape[1]])
            for kind in ("png", "jpeg"):
                file = io.BytesIO()
                joined.save(file, format=kind, **({"quality": 85} if kind == "jpeg" else {}))
                data = file.getvalue()
                if len(data) <= most:
                    break
            if len(data) <= most:
                break
        height, width = small.shape[2:]
        return cls(f"data:image/{kind};base64,{base64.b64encode(data).decode()}", height, width, columns)


def small_enough(images: Tensor, count: int) -> Tensor:
    """Some of ``count`` images, (n, C, H, W), as they are, or shrunk until all of them have `MOST_PIXELS` at most.

    Examples:
        >>> [small_enough(torch.zeros(1, 3, 224, 224), count).shape[2] for count in (300, 1000, 5000)]
        [224, 96, 48]
    """
    longest = max(images.shape[2:])
    sides = [side for side in (longest, *SIDES) if side <= longest]
    side = next((side for side in sides if count * side**2 <= MOST_PIXELS), sides[-1])
    return images if side == longest else resize(images, _shape(images, side), antialias=True).clamp(0, 1)


def _shape(images: Tensor, side: int) -> list[int]:
    """Of images whose longer side is ``side``."""
    longest = max(images.shape[2:])
    return [max(1, round(side * each / longest)) for each in images.shape[2:]]


def first_images(classes: Tensor, values: int, most: int) -> Tensor:
    """Which images to show within ``most`` bytes: the first of each class, equally many; at least one; indices (n,).

    Args:
        classes: (N,).
        values: of an image, C x H x W.

    Examples:
        >>> first_images(torch.tensor([0, 0, 0, 1, 1, 1]), 3072, 1000)
        tensor([0, 1, 3, 4])
    """
    present, count = classes.unique(), room(values, most)
    each = min(MOST_IMAGES, max(1, count // len(present)))
    return torch.cat([(classes == cls).nonzero()[:each, 0] for cls in present[: count // each]])


def room(values: int, most: int) -> int:
    """How many images of so many values ``most`` bytes have room for, shrunk; at least one.

    Examples:
        >>> room(3072, 2500), room(64, 2500), room(3072, 1)
        (10, 39, 1)
    """
    return max(1, most // min(LEAST_BYTES, values))


def columns(count: int, each: int) -> int:
    """Of a picture of ``count`` images, ``each`` of a class: a row for each class, or about a square of whole rows.

    Examples:
        >>> columns(100, 10), columns(10, 1), columns(20, 2), columns(7, 1)
        (10, 5, 5, 3)
    """
    if each > MOST_SIDE_BY_SIDE:
        return each
    square = math.ceil(count**0.5)
    return next((wide for wide in range(square, 2 * square + 1) if count % wide == 0), square)
