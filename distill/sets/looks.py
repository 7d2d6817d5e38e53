"""What a synthetic set looks like."""

import base64
import io

import torch
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

SIDE = 32  # pixels that an image is shown at, or more


def grid(pixels: Tensor, classes: Tensor) -> Tensor:
    """At most ten images of each class, a row for each class, (3, H', W') in [0, 1].

    Args:
        pixels: (N, C, H, W) in [0, 1].
        classes: (N,).
    """
    rows = [(classes == cls).nonzero()[:10, 0] for cls in range(int(classes.max()) + 1)]
    widest = max(map(len, rows))
    white = torch.ones(1, *pixels.shape[1:]).to(pixels)
    pixels = torch.cat([torch.cat([pixels[row], white.expand(widest - len(row), -1, -1, -1)]) for row in rows])
    times = max(1, SIDE // pixels.shape[2])
    large = pixels.repeat_interleave(times, 2).repeat_interleave(times, 3)
    return make_grid(large, nrow=widest, padding=2, pad_value=1.0)


def as_html(picture: Tensor) -> str:
    """A picture (3, H, W) in [0, 1] as an element that needs no file."""
    buffer = io.BytesIO()
    to_pil_image(picture.cpu()).save(buffer, "png")
    return f'<img src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'
