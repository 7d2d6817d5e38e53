"""DC's augmentation against libraries that move one image at a time."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from distill.augment.dc import crop_scale_rotate, rotated


def middle(picture, height, width):
    top, left = (picture.shape[1] - height) // 2, (picture.shape[2] - width) // 2
    return picture[:, top : top + height, left : left + width]


def turned(image, degrees, fill):
    picture = ndimage.rotate(image.numpy(), degrees, axes=(-2, -1), cval=fill)
    return torch.from_numpy(middle(picture, *image.shape[1:]))


def stretched(image, height, width):
    largest = max(height, width, *image.shape[1:])
    square = torch.zeros(len(image), largest, largest)
    middle(square, height, width)[:] = F.interpolate(image[None], (height, width))[0]
    return middle(square, *image.shape[1:])


def every_view(image, means):
    """All that one image may become: shifts by whole pixels, sizes, and turns by whole degrees."""
    _, height, width = image.shape
    padded = means.view(-1, 1, 1).repeat(1, height + 8, width + 8)
    padded[:, 4:-4, 4:-4] = image
    shifts = [padded[:, i : i + height, j : j + width] for i in range(8) for j in range(8)]
    heights, widths = (range(int(0.8 * side), int(1.2 * side) + 1) for side in (height, width))
    sizes = [stretched(image, h, w) for h in heights for w in widths]
    turns = [turned(image, degrees, float(means.mean())) for degrees in range(-45, 45)]
    return torch.stack([*shifts, *sizes, *turns]), [0] * len(shifts) + [1] * len(sizes) + [2] * len(turns)


@pytest.mark.parametrize("size", [(10, 10), (8, 12), (12, 8)])
def test_every_image_gets_one_of_the_published_changes(size):
    images = 0.5 + torch.rand(30, 2, *size, generator=torch.Generator().manual_seed(0))
    images[:, 1] += 1.0  # a mean of each channel
    views, kinds = crop_scale_rotate(images, 3), []
    for image, view in zip(images, views, strict=True):
        possible, kind = every_view(image, images.mean((0, 2, 3)))
        apart = (possible - view).abs().amax((1, 2, 3))
        assert apart.min() < 1e-5
        kinds.append(kind[int(apart.argmin())])
    assert all(3 < kinds.count(kind) < 20 for kind in range(3))
    assert torch.equal(views, crop_scale_rotate(images, 3)) and not torch.equal(views, crop_scale_rotate(images, 4))


def test_changes_reach_as_far_as_the_papers():
    image = 0.5 + torch.rand(1, 20, 20, generator=torch.Generator().manual_seed(0))
    views = crop_scale_rotate(image.expand(6000, -1, -1, -1), 0)
    possible, _ = every_view(image, image.mean((1, 2)))
    names = [*itertools.product(range(-4, 4), repeat=2), *itertools.product(range(16, 25), repeat=2), *range(-45, 45)]
    found = torch.cdist(views.flatten(1), possible.flatten(1), compute_mode="donot_use_mm_for_euclid_dist") < 1e-3
    assert found.any(1).all() and found[:, 145:].sum(1).max() == 1  # one degree is told from the next
    largest = {sides for sides in names[64:145] if 24 in sides}  # 1.2 times 20 pixels, the open end
    assert {name for name, seen in zip(names, found.any(0), strict=True) if not seen} == largest


@pytest.mark.parametrize("size", [(28, 28), (15, 16), (16, 22)])
def test_rotations_are_scipys_at_every_degree(size):
    degrees = torch.arange(-45, 45)
    images = torch.rand(90, 1, *size)
    for image, view, angle in zip(images, rotated(images, degrees, torch.tensor(0.3)), degrees.tolist(), strict=True):
        if ndimage.rotate(image[0].numpy(), angle).shape >= size:  # or scipy's picture has no middle of that size
            assert (turned(image, angle, 0.3) - view).abs().max() < 2e-6


def test_gradients_pass_through_every_change():
    images = torch.rand(5, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: crop_scale_rotate(x, 1), images, fast_mode=True)
