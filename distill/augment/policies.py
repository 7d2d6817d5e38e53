"""AutoAugment (arXiv:1805.09501), RandAugment (arXiv:1909.13719) and DC-BENCH's two others: operations on pixels in [0, 1].

Operations and the tables of policies are kornia's, strengths those of the papers' code as torchvision has them: a level is a
share of an operation's strongest, its sign is drawn. `kornia.augmentation.auto` itself is another augmentation: one policy
for a whole batch, shears of up to 54 degrees where the papers' reach 17, a brightness that adds, a contrast that multiplies
without a mean, a saturation of HSV, and RandAugment from another list without replacement.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import kornia.enhance
import torch
from kornia.augmentation.auto.autoaugment import autoaugment
from kornia.geometry.transform import warp_affine
from torch import Generator, Tensor

from distill.augment.crops import Space
from distill.augment.families import crop, cutout, flip

POLICIES = {
    "cifar10": autoaugment.cifar10_policy,
    "imagenet": autoaugment.imagenet_policy,
    "svhn": autoaugment.svhn_policy,
}


class OnPixels(ABC):
    """Views of the pixels behind a preprocessing, clipped to [0, 1].

    Args:
        pixels: the images' preprocessing.
        whole_batch: one draw for all images of a call; False draws for each.
        eight_bits: pixels are rounded to 256 levels before they are moved. DC-BENCH's code does both.
    """

    def __init__(self, pixels: Space, whole_batch: bool = False, eight_bits: bool = False):
        self.pixels, self.whole_batch, self.eight_bits = pixels, whole_batch, eight_bits

    def __call__(self, images: Tensor, draw: int) -> Tensor:
        """Views of ``images`` (B, C, H, W), same shape; what is moved in is black."""
        g = Generator().manual_seed(draw)
        pixels = self.pixels.inverse(images).clamp(0, 1)
        views = self.of(eight_bits(pixels) if self.eight_bits else pixels, 1 if self.whole_batch else len(images), g)
        return self.pixels(views)

    @abstractmethod
    def of(self, pixels: Tensor, draws: int, g: Generator) -> Tensor:
        """Views of pixels, from so many draws: one, or one for each image."""


class Policy(OnPixels):
    """Operations that are drawn."""

    def of(self, pixels: Tensor, draws: int, g: Generator) -> Tensor:
        return operated(pixels, *self.drawn(draws, g))

    @abstractmethod
    def drawn(self, draws: int, g: Generator) -> tuple[Tensor, Tensor]:
        """Operations (draws, n), numbers of `NAMES`, and their strengths, as `operated` takes them."""


class AutoAugment(Policy):
    """One of a policy's 25 pairs of operations for each image, each of the two with its probability and its level of 0 to 9.

    Args:
        policy: the data set it was searched on, ``cifar10``, ``imagenet`` or ``svhn``.
        how: see `OnPixels`.
    """

    STRONGEST = 9

    def __init__(self, policy: str, pixels: Space, **how: bool):
        super().__init__(pixels, **how)
        pairs = POLICIES[policy]
        self.operations = torch.tensor([[NAMES.index(name) for name, _, _ in pair] for pair in pairs])
        self.chances = torch.tensor([[chance for _, chance, _ in pair] for pair in pairs])
        self.levels = torch.tensor([[level or 0 for _, _, level in pair] for pair in pairs])

    def drawn(self, draws: int, g: Generator) -> tuple[Tensor, Tensor]:
        pair = torch.randint(len(self.operations), (draws,), generator=g)
        skipped = torch.rand(draws, 2, generator=g) >= self.chances[pair]
        strengths = _signs(draws, 2, g) * self.levels[pair] / self.STRONGEST
        return self.operations[pair].masked_fill(skipped, NAMES.index("identity")), strengths


class RandAugment(Policy):
    """``count`` of 14 operations for each image, drawn with replacement, all at one level.

    Args:
        count: the paper's N.
        level: the paper's M of 0 to 30, as torchvision counts; the paper calls 10 what is 30 here.
        how: see `OnPixels`.
    """

    STRONGEST = 30

    def __init__(self, count: int, level: int, pixels: Space, **how: bool):
        super().__init__(pixels, **how)
        self.count, self.level = count, level

    def drawn(self, draws: int, g: Generator) -> tuple[Tensor, Tensor]:
        operations = torch.randint(NAMES.index("invert"), (draws, self.count), generator=g)  # which RandAugment has not
        return operations, _signs(draws, self.count, g) * self.level / self.STRONGEST


class Shifted(OnPixels):
    """Images that are moved by up to an eighth of each side, over black, and half of them mirrored.

    Args:
        mirror: False where a mirrored image is another sign.
        how: see `OnPixels`.
    """

    def __init__(self, mirror: bool, pixels: Space, **how: bool):
        super().__init__(pixels, **how)
        self.mirror = mirror

    def of(self, pixels: Tensor, draws: int, g: Generator) -> Tensor:
        moved = crop(pixels, g, draws)
        return flip(moved, g, draws) if self.mirror else moved


class Jitter(Shifted):
    """Then torchvision's ColorJitter: four operations in a random order (DC-BENCH's imagenet_aug)."""

    RANGES = {"brightness": 0.4 / 0.9, "contrast": 0.4 / 0.9, "color": 0.4 / 0.9, "hue": 0.2 / 0.5}

    def of(self, pixels: Tensor, draws: int, g: Generator) -> Tensor:
        return operated(super().of(pixels, draws, g), *self.drawn(draws, g))

    def drawn(self, draws: int, g: Generator) -> tuple[Tensor, Tensor]:
        order = torch.rand(draws, len(self.RANGES), generator=g).argsort(1)
        widths = torch.tensor(list(self.RANGES.values()))
        strengths = (2 * torch.rand(draws, len(widths), generator=g) - 1) * widths[order]
        return torch.tensor([NAMES.index(name) for name in self.RANGES])[order], strengths


class Holed(Shifted):
    """Then a box of half of each side at the data set's mean (DC-BENCH's cifar_aug)."""

    def of(self, pixels: Tensor, draws: int, g: Generator) -> Tensor:
        views = self.pixels(super().of(pixels, draws, g))
        return self.pixels.inverse(cutout(views, g, draws))  # zero is the mean behind the preprocessing


def _signs(count: int, each: int, g: Generator) -> Tensor:
    return 2 * torch.randint(2, (count, each), generator=g) - 1


def operated(pixels: Tensor, operations: Tensor, strengths: Tensor) -> Tensor:
    """Operations (B, n) or (1, n), numbers of `NAMES`, one after another on ``pixels`` (B, C, H, W) in [0, 1].

    Args:
        strengths: as many, signed shares of the strongest, in [-1, 1].
    """
    views, shape = pixels.clone(), (len(pixels), operations.shape[1])
    for which, strength in zip(operations.expand(shape).T, strengths.expand(shape).T, strict=True):
        for number in which.unique().tolist():
            own = (which == number).nonzero()[:, 0]
            here, strong = (part.to(pixels.device, non_blocking=True) for part in (own, strength[own].float()))
            views[here] = OPERATIONS[NAMES[number]](views[here], strong)
    return views


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


def hue(images: Tensor, strength: Tensor) -> Tensor:
    """Colours turn by up to half of the circle; grey images have none."""
    return images if images.shape[1] == 1 else kornia.enhance.adjust_hue(images, math.pi * strength)


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
    "hue": hue,
}  # the strength of a batch's images, (B,), is a signed share of the strongest, in [-1, 1]

NAMES = list(OPERATIONS)
