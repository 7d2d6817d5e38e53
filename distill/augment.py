"""Augmentations as functions of (images, draw): equal draws give equal views, so an inner loop can be replayed.

A draw is an integer from `rng.derive`. All families are differentiable in the images; ``draws`` is
how often their parameters are drawn: 1 moves all images alike, None draws for each. Images need not be square: shares of a
side are of each axis' own, angles are angles, and crops have the image's own shape but for the stretch that is drawn.
Sources: DSA, Zhao & Bilen, ICML 2021, arXiv:2102.08259; RDED's patch shuffle, arXiv:2312.03526; CutMix, arXiv:1905.04899;
MixUp, arXiv:1710.09412.
"""

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torchvision.transforms import RandomResizedCrop

from distill.dc_views import crop_scale_rotate
from distill.ranges import check_ranges

Augment = Callable[[Tensor, int], Tensor]


def none(images: Tensor, draw: int) -> Tensor:
    """The images themselves."""
    return images


class DSA:
    """Differentiable Siamese augmentation: one family a call, drawn for the whole batch; parameters image by image.

    Args:
        strategy: family names joined by ``_``, as papers write it: ``color_crop_cutout_flip_scale_rotate``.
        siamese: one draw of the parameters, too, for all images of a call: batches of any size that share a draw are
            moved alike.

    Raises:
        ValueError: a family is unknown.
    """

    def __init__(self, strategy: str, siamese: bool = False):
        check_ranges("augment", locals(), {"strategy": STRATEGY})
        self.families, self.siamese = [FAMILIES[name] for name in strategy.split("_")], siamese

    def __call__(self, images: Tensor, draw: int) -> Tensor:
        """Views of ``images`` (B, C, H, W), same shape; zero fill is the data set's mean in normalised space."""
        g = Generator().manual_seed(draw)
        family = self.families[int(torch.randint(len(self.families), (), generator=g))]
        return family(images, g, 1 if self.siamese else None)


class Space(Protocol):
    """What images live in: a map of pixels in [0, 1], and its inverse."""

    def __call__(self, pixels: Tensor) -> Tensor: ...

    def inverse(self, images: Tensor) -> Tensor: ...


class PaddedCrop:
    """Shifts up to an eighth of each side (4 px at 32), and half of the images mirrored: how CIFAR is trained on.

    Args:
        mirror: False where a mirrored image is another sign.
        pixels: the images' preprocessing fills with black pixels, as if images were moved before it; None fills with zeros
            after it, the mean grey of normalised images.
    """

    def __init__(self, mirror: bool, pixels: Space | None = None):
        self.mirror, self.pixels = mirror, pixels

    def __call__(self, images: Tensor, draw: int) -> Tensor:
        """Views of ``images`` (B, C, H, W), same shape."""
        g = Generator().manual_seed(draw)
        views = crop(images, g) if self.pixels is None else self.pixels(crop(self.pixels.inverse(images), g))
        return flip(views, g) if self.mirror else views


class ResizedCrop:
    """RDED's view: strips change places, a random crop fills the image, half of them are mirrored; image by image.

    Args:
        area: smallest share of an image that a crop keeps.
        shuffle: strips along each axis; 1 leaves them where they are.
        mirror: False where a mirrored image is another sign.
    """

    def __init__(self, area: float, shuffle: int, mirror: bool):
        if not 0 < area <= 1:
            raise ValueError(f"crops keep a share of at least {area}, expected above 0 and at most 1")
        self.area, self.shuffle, self.mirror = area, shuffle, mirror

    def __call__(self, images: Tensor, draw: int) -> Tensor:
        """Views of ``images`` (B, C, H, W), same shape."""
        g = Generator().manual_seed(draw)
        views = shuffle_strips(shuffle_strips(images, g, self.shuffle, 3), g, self.shuffle, 2)
        views = resize_boxes(views, boxes(len(images), views, self.area, g), (images.shape[2], images.shape[3]))
        return flip(views, g) if self.mirror else views


def shuffle_strips(images: Tensor, g: Generator, strips: int, dim: int) -> Tensor:
    """Equal strips along ``dim`` in a random order, image by image."""
    if strips == 1:
        return images
    order = torch.rand(len(images), strips, generator=g).argsort(1)
    length = images.shape[dim] // strips
    index = (order[:, :, None] * length + torch.arange(length)).flatten(1).to(images.device)
    shape = [len(images), 1, 1, 1]
    shape[dim] = index.shape[1]
    return images.gather(dim, index.view(shape).expand_as(images.narrow(dim, 0, index.shape[1])))


def boxes(count: int, images: Tensor, area: float, g: Generator, stretch: float = 4 / 3) -> Tensor:
    """``count`` boxes (top, left, height, width), (count, 4), as torchvision's RandomResizedCrop draws them on a square.

    Args:
        area: smallest share of an image that a box keeps.
        stretch: a box's width / height is at least 1 / stretch and at most stretch times the image's own.
    """
    shape = images.shape[3] / images.shape[2]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=g)))
        ratio = [shape / stretch, shape * stretch]
        drawn = [RandomResizedCrop.get_params(images, [area, 1.0], ratio) for _ in range(count)]
    return torch.tensor(drawn)


def resize_boxes(images: Tensor, boxes: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Each image's box (B, 4), or one for all (1, 4), as a whole image (of ``size``): bilinear, antialiased where it shrinks.

    Two products with matrices; equal to cutting the box out and interpolating it, so that no pixel beyond it leaks in.
    """
    height, width = images.shape[2:]
    tall_to, wide_to = size or (height, width)

    def sampling(first: Tensor, length: Tensor, of: int, to: int) -> Tensor:
        first, length = first[:, None, None].double(), length[:, None, None].double()
        shrinks = (length / to).clamp_min(1)  # a tent as wide as a pixel of what comes, or of what was there
        at = first - 0.5 + (torch.arange(to)[:, None] + 0.5) * length / to
        at = torch.where(shrinks > 1, at, at.maximum(first).minimum(first + length - 1))
        pixels = torch.arange(of)
        weights = (1 - (pixels - at).abs() / shrinks).clamp_min(0) * ((pixels >= first) & (pixels < first + length))
        return (weights / weights.sum(2, keepdim=True)).to(images, non_blocking=True)

    top, left, tall, wide = boxes.unbind(1)
    rows, columns = sampling(top, tall, height, tall_to), sampling(left, wide, width, wide_to)
    return rows[:, None] @ images @ columns[:, None].mT


def cutmix(images: Tensor, g: Generator, alpha: float) -> tuple[Tensor, Tensor, float]:
    """One box of all images replaced by their partners' (a permutation): the views, the partners, the share that stays."""
    share, partner = _share(g, alpha), torch.randperm(len(images), generator=g).to(images.device)
    height, width = images.shape[2:]
    spans = []
    for length in (height, width):
        half, centre = int(length * math.sqrt(1 - share)) // 2, int(torch.randint(length, (), generator=g))
        spans.append((max(0, centre - half), min(length, centre + half)))
    (top, bottom), (left, right) = spans
    views = images.clone()
    views[:, :, top:bottom, left:right] = images[partner, :, top:bottom, left:right]
    return views, partner, 1 - (bottom - top) * (right - left) / (height * width)


def mixup(images: Tensor, g: Generator, alpha: float) -> tuple[Tensor, Tensor, float]:
    """Every image blended with a partner (a permutation): the views, the partners, the share that stays."""
    share, partner = _share(g, alpha), torch.randperm(len(images), generator=g).to(images.device)
    return share * images + (1 - share) * images[partner], partner, share


def _share(g: Generator, alpha: float) -> float:
    """From Beta(alpha, alpha)."""
    state = np.random.default_rng(int(torch.randint(2**62, (), generator=g)))
    return float(state.beta(alpha, alpha))


def make(name: str, strategy: str) -> Augment:
    """The augmentation of this name; ``crop_flip``, ``dsa`` and ``siamese`` follow the data set's strategy."""
    check_ranges("augment", locals(), RANGES)
    return MAKERS[name](strategy)


def color(images: Tensor, g: Generator, draws: int | None = None) -> Tensor:
    """Brightness, then saturation, then contrast, strengths 1, 2 and 0.5."""
    brightness, saturation, contrast = (_uniform(images, g, draws) for _ in range(3))
    x = images + (brightness - 0.5)
    grey = x.mean(1, keepdim=True)
    x = (x - grey) * (2 * saturation) + grey
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) * (contrast + 0.5) + mean


def crop(images: Tensor, g: Generator, draws: int | None = None) -> Tensor:
    """Whole-pixel shifts up to an eighth of each side, zero filled."""
    height, width = images.shape[2:]

    def shifted(side: int) -> Tensor:
        # A shift as a 0/1 matrix: exact, and its gradient is a transposed product rather than a slow scatter.
        most = int(side * 0.125 + 0.5)
        pixels = torch.arange(side)
        offset = torch.randint(-most, most + 1, (draws or len(images), 1, 1), generator=g)
        return (pixels[:, None] + offset == pixels).to(images)

    rows, columns = shifted(height), shifted(width)
    return rows[:, None] @ images @ columns[:, None].mT


def cutout(images: Tensor, g: Generator, draws: int | None = None) -> Tensor:
    """A box of half of each side set to zero; its centre is uniform (the far edge included), what lies outside is lost."""
    height, width = images.shape[2:]

    def covered(side: int) -> Tensor:
        length = int(side * 0.5 + 0.5)
        centre = torch.randint(side + 1 - length % 2, (draws or len(images), 1), generator=g)
        first = centre - length // 2
        return (torch.arange(side) >= first) & (torch.arange(side) < first + length)

    hole = covered(height)[:, None, :, None] & covered(width)[:, None, None, :]
    return images * (~hole).to(images)


def flip(images: Tensor, g: Generator, draws: int | None = None) -> Tensor:
    """Mirror left and right with probability 0.5."""
    return torch.where(_uniform(images, g, draws) < 0.5, images.flip(3), images)


def scale(images: Tensor, g: Generator, draws: int | None = None, low: float = 1 / 1.2, high: float = 1.2) -> Tensor:
    """Stretch both axes independently by factors in [low, high]."""
    sx, sy = (low + (high - low) * _uniform(images, g, draws)[:, 0, 0, 0] for _ in range(2))
    zero = torch.zeros_like(sx)
    return warp(images, torch.stack([sx, zero, zero, zero, sy, zero], 1).view(-1, 2, 3))


def rotate(images: Tensor, g: Generator, draws: int | None = None, degrees: float = 15.0) -> Tensor:
    """Turn by an angle in [-degrees, degrees]."""
    angle = (2 * _uniform(images, g, draws)[:, 0, 0, 0] - 1) * math.radians(degrees)
    c, s, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    shape = images.shape[3] / images.shape[2]  # a grid's units are half the width along x and half the height along y
    return warp(images, torch.stack([c, -s / shape, zero, s * shape, c, zero], 1).view(-1, 2, 3))


def warp(images: Tensor, matrices: Tensor) -> Tensor:
    """Affine maps (B, 2, 3) or (1, 2, 3), bilinear, zero padding; equal to maps with aligned corners on square images.

    DC's code does not align them, MTT's, TESLA's, DATM's and AST's do.
    """
    grid = F.affine_grid(matrices.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)


FAMILIES: dict[str, Callable[[Tensor, Generator, int | None], Tensor]] = {
    "color": color, "crop": crop, "cutout": cutout, "flip": flip, "scale": scale, "rotate": rotate,
}  # fmt: skip
STRATEGY = f"some of {', '.join(FAMILIES)} joined by _"


MAKERS: dict[str, Callable[[str], Augment]] = {
    "none": lambda strategy: none,
    "dsa": DSA,
    "siamese": lambda strategy: DSA(strategy, siamese=True),
    "crop_scale_rotate": lambda strategy: crop_scale_rotate,
    "crop_flip": lambda strategy: PaddedCrop("flip" in strategy),
}
RANGES = {"name": f"one of {', '.join(MAKERS)}", "strategy": STRATEGY}  # of `make`


def _uniform(images: Tensor, g: Generator, draws: int | None) -> Tensor:
    return torch.rand(draws or len(images), 1, 1, 1, generator=g).to(images)
