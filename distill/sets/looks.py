"""What a synthetic set looks like."""

import base64
import io

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

SIDE = 32  # pixels that an image is shown at, or more
EACH = 10  # images of a class that are shown
TALLEST = 4096  # pixels of a picture: more than a hundred classes of images of 32 x 32


def firsts(classes: Tensor, rows: int) -> Tensor:
    """The first ten images of each of the first classes that there are, so many, (n,).

    >>> firsts(torch.tensor([3, 1, 3, 5]), 2)
    tensor([1, 0, 2])
    """
    return torch.cat([(classes == cls).nonzero()[:EACH, 0] for cls in classes.unique()[:rows]])


def rows_of(side: int) -> int:
    """Classes whose images of so many pixels a picture shows.

    >>> rows_of(8), rows_of(224)
    (128, 18)
    """
    return max(1, TALLEST // max(SIDE, side))


def grid(pixels: Tensor, classes: Tensor) -> Tensor:
    """At most ten images of each class, a row for each class, or ten classes of one image, (3, H', W') in [0, 1].

    Args:
        pixels: (N, C, H, W) in [0, 1].
        classes: (N,).
    """
    rows = [(classes == cls).nonzero()[:EACH, 0] for cls in classes.unique()]
    widest = max(map(len, rows))
    white = torch.ones(1, *pixels.shape[1:]).to(pixels)
    pixels = torch.cat([torch.cat([pixels[row], white.expand(widest - len(row), -1, -1, -1)]) for row in rows])
    times = max(1, SIDE // pixels.shape[2])
    large = pixels.repeat_interleave(times, 2).repeat_interleave(times, 3)
    return make_grid(large, nrow=widest if widest > 1 else EACH, padding=2, pad_value=1.0)


def eight_bit(picture: Tensor) -> Image.Image:
    """A picture (C, H, W) in [0, 1], rounded to eight bits."""
    return to_pil_image(picture.mul(255).round().byte().cpu())


def as_uri(picture: Tensor) -> str:
    """A picture (C, H, W) in [0, 1] as a data URI, which needs no file."""
    file = io.BytesIO()
    eight_bit(picture).save(file, format="png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
