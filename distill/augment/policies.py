"""AutoAugment (arXiv:1805.09501) and RandAugment (arXiv:1909.13719): operations drawn image by image, on pixels in [0, 1].

Operations and the tables of policies are kornia's, strengths those of the papers' code as torchvision has them: a level is a
share of an operation's strongest, its sign is drawn. `kornia.augmentation.auto` itself is another augmentation: one policy
for a whole batch, shears of up to 54 degrees where the papers' reach 17, a brightness that adds, a contrast that multiplies
without a mean, a saturation of HSV, and RandAugment from another list without replacement.
"""

import math
from collections.abc import Callable

import kornia.enhance
import torch
from kornia.augmentation.auto.autoaugment import autoaugment
from kornia.geometry.transform import warp_affine
from torch import Generator, Tensor

from distill.augment.crops import Space

POLICIES = {
    "cifar10": autoaugment.cifar10_policy,
    "imagenet": autoaugment.imagenet_policy,
    "svhn": autoaugment.svhn_policy,
}


class AutoAugment:
    """One of a policy's 25 pairs of operations for each image, each of the two with its probability and its level of 0 to 9.

    Args:
        policy: the data set it was searched on, ``cifar10``, ``imagenet`` or ``svhn``.
        pixels: the images' preprocessing.
    """

    STRONGEST = 9

    def __init__(self, policy: str, pixels: Space):
        pairs = POLICIES[policy]
        self.pixels = pixels
        self.operations = torch.tensor([[NAMES.index(name) for name, _, _ in pair] for pair in pairs])
        self.chances = torch.tensor([[chance for _, chance, _ in pair] for pair in pairs])
        self.levels = torch.tensor([[level or 0 for _, _, level in pair] for pair in pairs])

    def __call__(self, images: Tensor, draw: int) -> Tensor:
        """Views of ``images`` (B, C, H, W), same shape; what is moved in is black."""
        g, count = Generator().manual_seed(draw), len(images)
        pair = torch.randint(len(self.operations), (count,), generator=g)
        skipped = torch.rand(count, 2, generator=g) >= self.chances[pair]
        strengths = _signs(count, 2, g) * self.levels[pair] / self.STRONGEST
        operations = self.operations[pair].masked_fill(skipped, NAMES.index("identity"))
        return in_pixels(images, self.pixels, operations, strengths)


class RandAugment:
    """``count`` of 14 operations for each image, drawn with replacement, all at one level.

    Args:
        count: the paper's N.
        level: the paper's M of 0 to 30, as torchvision counts; the paper calls 10 what is 30 here.
        pixels: the images' preprocessing.
    """

    STRONGEST = 30

    def __init__(self, count: int, level: int, pixels: Space):
        self.count, self.level, self.pixels = count, level, pixels

    def __call__(self, images: Tensor, draw: int) -> Tensor:
        """Views of ``images`` (B, C, H, W), same shape; what is moved in is black."""
        g, shape = Generator().manual_seed(draw), (len(images), self.count)
        operations = torch.randint(NAMES.index("invert"), shape, generator=g)  # which RandAugment has not
        return in_pixels(images, self.pixels, operations, _signs(*shape, g) * self.level / self.STRONGEST)


def _signs(count: int, each: int, g: Generator) -> Tensor:
    return 2 * torch.randint(2, (count, each), generator=g) - 1


def in_pixels(images: Tensor, space: Space, operations: Tensor, strengths: Tensor) -> Tensor:
    """Operations (B, n), numbers of `NAMES`, one after another on the pixels of ``images`` (B, C, H, W), clipped to [0, 1].

    Args:
        strengths: (B, n), signed shares of the strongest, in [-1, 1].
    """
    pixels = space.inverse(images).clamp(0, 1)
    for which, strength in zip(operations.T, strengths.T, strict=True):
        for number in which.unique().tolist():
            own = (which == number).nonzero()[:, 0]
            here, strong = (part.to(images.device, non_blocking=True) for part in (own, strength[own].float()))
            pixels[here] = OPERATIONS[NAMES[number]](pixels[here], strong)
    return space(pixels)


def warped(images: Tensor, *matrices: list[float | Tensor]) -> Tensor:
    """Where the pixels of images (B, C, H, W) go, two rows of an affine map, each entry one number or (B,); nearest, black."""
    rows = [
        [torch.as_tensor(each).to(images, non_blocking=True).expand(len(images)) for each in row] for row in matrices
    ]
    maps = torch.stack([torch.stack(row, 1) for row in rows], 1)
    size = (images.shape[2], images.shape[3])
    return warp_affine(images, maps, size, mode="nearest", padding_mode="zeros", align_corners=True)


def shear_x(images: Tensor, strength: Tensor) -> Tensor:
    """Rows move by up to 0.3 of their distance from the upper edge."""
    return warped(images, [1, -0.3 * strength, -0.15 * strength], [0, 1, 0])


def shear_y(images: Tensor, strength: Tensor) -> Tensor:
    """Columns move by up to 0.3 of their distance from the left edge."""
    return warped(images, [1, 0, 0], [-0.3 * strength, 1, -0.15 * strength])


def translate_x(images: Tensor, strength: Tensor) -> Tensor:
    """Whole pixels, up to 150 of 331."""
    return warped(images, [1, 0, (strength * 150 / 331 * images.shape[3]).trunc()], [0, 1, 0])


def translate_y(images: Tensor, strength: Tensor) -> Tensor:
    """Whole pixels, up to 150 of 331."""
    return warped(images, [1, 0, 0], [0, 1, (strength * 150 / 331 * images.shape[2]).trunc()])


def rotate(images: Tensor, strength: Tensor) -> Tensor:
    """Up to 30 degrees, to the left where the sign is positive."""
    y, x = ((side - 1) / 2 for side in images.shape[2:])
    c, s = (strength * math.radians(30)).cos(), (strength * math.radians(30)).sin()
    return warped(images, [c, s, x - c * x - s * y], [-s, c, y + s * x - c * y])


def color(images: Tensor, strength: Tensor) -> Tensor:
    """Saturation: away from the grey image, or towards it; grey images have none."""
    if images.shape[1] == 1:
        return images
    return kornia.enhance.adjust_saturation_with_gray_subtraction(images, 1 + 0.9 * strength)


def contrast(images: Tensor, strength: Tensor) -> Tensor:
    """Away from the mean of the grey image, or towards it."""
    three = images.expand(-1, 3, -1, -1)  # kornia before 0.9 takes the mean of one-channel images over the batch
    return kornia.enhance.adjust_contrast_with_mean_subtraction(three, 1 + 0.9 * strength)[:, : images.shape[1]]


def posterize(images: Tensor, strength: Tensor) -> Tensor:
    """Eight bits of each pixel, or down to the first four."""
    return kornia.enhance.posterize(eight_bits(images), (8 - (4 * strength.abs()).round()).int())


def solarize(images: Tensor, strength: Tensor) -> Tensor:
    """Pixels from a threshold on are inverted, from 255 down to 0 of 255."""
    first = (255 * (1 - strength.abs()) - 1e-3).ceil()  # of the levels of eight bits; rounding may not move it
    return kornia.enhance.solarize(images, (first - 0.5) / 255)


def auto_contrast(images: Tensor, strength: Tensor) -> Tensor:
    """Each channel from 0 to 1; one that is all alike stays."""
    alike = images.amax((2, 3), keepdim=True) == images.amin((2, 3), keepdim=True)
    return torch.where(alike, images, kornia.enhance.normalize_min_max(images))


def eight_bits(pixels: Tensor) -> Tensor:
    """The nearest of 256 levels; kornia would take the next lower."""
    return (pixels * 255).round() / 255


OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "identity": lambda images, strength: images,
    **{
        "shear_x": shear_x,
        "shear_y": shear_y,
        "translate_x": translate_x,
        "translate_y": translate_y,
        "rotate": rotate,
    },
    "brightness": lambda images, strength: kornia.enhance.adjust_brightness_accumulative(images, 1 + 0.9 * strength),
    "color": color,
    "contrast": contrast,
    "sharpness": lambda images, strength: kornia.enhance.sharpness(images, 1 + 0.9 * strength),
    "posterize": posterize,
    "solarize": solarize,
    "auto_contrast": auto_contrast,
    "equalize": lambda images, strength: kornia.enhance.equalize(eight_bits(images)),
    "invert": lambda images, strength: 1 - images,
}  # the strength of a batch's images, (B,), is a signed share of the strongest, in [-1, 1]

NAMES = list(OPERATIONS)
