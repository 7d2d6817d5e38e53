"""Images corrupted without looking at a network: noise, blur, JPEG, less contrast, each at five strengths.

They are ours: neither kinds nor strengths are those of CIFAR-10-C, and numbers must not stand beside its own.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from kornia.filters import gaussian_blur2d
from PIL import Image
from torch import Generator, Tensor
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

from distill.checks import check_ranges
from distill.evaluation.attacks import Model

NOISE = (0.04, 0.08, 0.12, 0.18, 0.26)  # standard deviation
BLUR = (0.03, 0.045, 0.06, 0.08, 0.1)  # standard deviation in shorter sides: 1 to 3.2 px at 32 px
QUALITY = (60, 40, 25, 15, 7)  # of JPEG, as libjpeg counts
CONTRAST = (0.75, 0.6, 0.45, 0.3, 0.2)  # of an image's distances from its own mean that is left


def noise(images: Tensor, strength: int, generator: Generator) -> Tensor:
    """Normal, for each pixel and channel alone."""
    return images + NOISE[strength - 1] * torch.randn(images.shape, generator=generator).to(images)


def blur(images: Tensor, strength: int, generator: Generator) -> Tensor:
    """A Gaussian's, relative to the image's size; borders are mirrored."""
    sides = images.shape[2:]
    sigma = BLUR[strength - 1] * min(sides)
    height, width = (min(2 * max(1, round(3 * sigma)) + 1, 2 * ((side - 1) // 2) + 1) for side in sides)
    return gaussian_blur2d(images, (height, width), (sigma, sigma))


def jpeg(images: Tensor, strength: int, generator: Generator) -> Tensor:
    """Written on eight bits and read again, image by image; of one channel or three."""
    found = [_written(image, QUALITY[strength - 1]) for image in (255 * images).round().byte().cpu()]
    return torch.stack(found).to(images) / 255


def _written(image: Tensor, quality: int) -> Tensor:
    """Bytes (C, H, W) as a JPEG has them."""
    file = io.BytesIO()
    to_pil_image(image).save(file, "jpeg", quality=quality)
    return pil_to_tensor(Image.open(file))


def contrast(images: Tensor, strength: int, generator: Generator) -> Tensor:
    """Nearer to the image's own mean over pixels and channels."""
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + CONTRAST[strength - 1] * (images - mean)


KINDS: Mapping[str, Callable[[Tensor, int, Generator], Tensor]] = {
    "noise": noise, "blur": blur, "jpeg": jpeg, "contrast": contrast,
}  # fmt: skip

RANGES = {"kind": f"one of {', '.join(KINDS)}", "strength": f"whole [1, {len(NOISE)}]"}


@dataclass(frozen=True)
class Corruption:
    """One kind at one strength.

    Attributes:
        kind: of `KINDS`.
        strength: 1 to 5.

    Raises:
        ValueError: there is no such kind or strength.
    """

    kind: str
    strength: int

    def __post_init__(self) -> None:
        check_ranges("", vars(self), RANGES)

    def __call__(self, model: Model, images: Tensor, labels: Tensor, generator: Generator) -> Tensor:
        """Images (B, C, H, W) in [0, 1], corrupted, in [0, 1]; called as an `Attack` is, it looks at the images alone.

        >>> images = torch.tensor([0.0, 0.5, 0.5, 1.0]).view(1, 1, 2, 2)
        >>> Corruption("contrast", 5)(None, images, None, torch.Generator()).flatten()
        tensor([0.4000, 0.5000, 0.5000, 0.6000])
        """
        return KINDS[self.kind](images, self.strength, generator).clamp(0, 1)
