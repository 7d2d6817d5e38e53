"""Crops: shifted as CIFAR is trained on, and resized boxes (RDED, arXiv:2312.03526)."""

from functools import partial
from typing import Protocol

import torch
from torch import Generator, Tensor
from torchvision.transforms import RandomResizedCrop

from distill.augment.families import crop, flip


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
        reflect: fill with the image's own reflection.
    """

    def __init__(self, mirror: bool, pixels: Space | None = None, reflect: bool = False):
        self.mirror, self.pixels, self.reflect = mirror, pixels, reflect

    def __call__(self, images: Tensor, draw: int) -> Tensor:
        """Views of ``images`` (B, C, H, W), same shape."""
        g = Generator().manual_seed(draw)
        shifted = partial(crop, g=g, reflect=self.reflect)
        views = shifted(images) if self.pixels is None else self.pixels(shifted(self.pixels.inverse(images)))
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
    index = (order[:, :, None] * length + torch.arange(length)).flatten(1).to(images.device, non_blocking=True)
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

    Two products with matrices; equal to cutting the box out and interpolating it, so that no pixel beyond it leaks in. That
    is torchvision's; kornia's `crop_and_resize` puts the centres of a box's outer pixels on those of the image instead.
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
