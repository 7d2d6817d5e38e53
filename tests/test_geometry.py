"""Images that are not square: angles are angles, shifts and cut-outs are what they say; square ones are treated as ever."""

import math

import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.functional import resized_crop

from distill.augment import families
from distill.augment.crops import ResizedCrop, boxes, shuffle_strips
from distill.augment.mixing import cutmix
from distill.networks.compact import VGG11, AlexNet, LeNet
from distill.networks.convnet import ConvNet

SIZES = [(16, 32), (32, 16)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def drawing(height, width):
    """A picture without any symmetry, zero at its border."""
    image = torch.zeros(1, 1, height, width)
    image[..., 3:9, 4:7], image[..., 9:11, 4:12] = 1.0, 0.5
    return image


@pytest.mark.parametrize("size", [*SIZES, (16, 16)])
@pytest.mark.parametrize("degrees", [90.0, 37.0])
def test_a_rotation_turns_by_its_angle(size, degrees):
    image, share = drawing(*size), 2 * float(torch.rand(1, generator=generator())) - 1  # of the largest angle
    (turned,) = families.rotate(image, generator(), degrees=degrees / share).numpy()[0]
    expected = ndimage.rotate(image[0, 0].numpy(), degrees, reshape=False, order=1, mode="grid-constant")
    assert abs(turned - expected).max() < 1e-4 and abs(turned - image[0, 0].numpy()).max() > 0.4


def test_rotations_of_a_square_are_as_they_were():
    images, g = torch.rand(5, 3, 32, 32), generator(7)
    angle = (2 * torch.rand(5, 1, 1, 1, generator=g)[:, 0, 0, 0] - 1) * math.radians(15.0)
    c, s, zero = angle.cos(), angle.sin(), torch.zeros(5)
    grid = F.affine_grid(
        torch.stack([c, -s, zero, s, c, zero], 1).view(5, 2, 3), list(images.shape), align_corners=False
    )
    expected = F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)
    assert torch.equal(families.rotate(images, generator(7)), expected)


@pytest.mark.parametrize("size", SIZES)
def test_a_scale_stretches_each_axis_by_its_own_factor(size):
    image, g = drawing(*size), generator()
    along_x, along_y = (1 / 1.2 + (1.2 - 1 / 1.2) * torch.rand(20, generator=g) for _ in range(2))
    assert (along_x - along_y).abs().max() > 0.3
    scaled = families.scale(image.expand(20, -1, -1, -1), generator())[:, 0].numpy()
    for view, *stretch in zip(scaled, along_y.tolist(), along_x.tolist(), strict=True):
        offset = [(side - 1) / 2 * (1 - factor) for side, factor in zip(size, stretch, strict=True)]
        expected = ndimage.affine_transform(image[0, 0].numpy(), stretch, offset, order=1, mode="grid-constant")
        assert abs(view - expected).max() < 1e-4
    assert abs(scaled - image[0, 0].numpy()).max() > 0.2


@pytest.mark.parametrize("size", SIZES)
def test_shifts_and_cutouts_take_their_share_of_each_side(size):
    height, width = size
    images = torch.zeros(300, 1, height, width)
    images[:, :, height // 2, width // 2] = 1.0
    down, right = families.crop(images, generator()).nonzero()[:, 2:].sub(torch.tensor([height // 2, width // 2])).T
    assert [down.abs().max(), right.abs().max()] == [height // 8, width // 8]
    holes = families.cutout(torch.ones(300, 1, height, width), generator())[:, 0] == 0
    assert [int(holes.any(2).sum(1).max()), int(holes.any(1).sum(1).max())] == [height // 2, width // 2]
    assert holes.any(0).all() and holes.flatten(1).any(1).all()  # anywhere, and in every image
    mirrored = families.flip(torch.arange(width).expand(300, 1, height, width).float(), generator())[:, 0, 0]
    assert {tuple(row.tolist()) for row in mirrored} == {tuple(range(width)), tuple(reversed(range(width)))}


@pytest.mark.parametrize("size", SIZES)
def test_a_cutmix_box_takes_the_same_share_of_each_side(size):
    images = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 1, *size)
    reached = torch.zeros(size, dtype=torch.bool)
    for seed in range(100):
        views, partner, share = cutmix(images, generator(seed), 1.0)
        if partner[0] == 0:
            continue
        box = views[0, 0] == 1
        rows, columns = box.any(1), box.any(0)
        assert share == pytest.approx(1 - box.float().mean().item())
        if not box[[0, -1]].any() and not box[:, [0, -1]].any():  # all of it lies inside
            assert (rows.float().mean() - columns.float().mean()).abs() <= 2 / min(size)
        reached |= box
    assert reached.all()


@pytest.mark.parametrize("size", SIZES)
def test_crops_have_the_images_shape_but_for_their_stretch(size):
    height, width = size
    images = torch.zeros(1, 3, 10 * height, 10 * width)
    assert (boxes(20, images, 1.0, generator()) == torch.tensor([0, 0, 10 * height, 10 * width])).all()
    found = boxes(500, images, 0.2, generator(1))
    stretch = (found[:, 3] / found[:, 2]) / (width / height)
    assert 0.74 < stretch.min() < 0.78 and 1.28 < stretch.max() < 1.36
    own = boxes(50, images, 0.08, generator(2), stretch=1.0)
    assert ((own[:, 3] / own[:, 2]) / (width / height) - 1).abs().max() < 0.03


def test_crops_of_a_square_are_torchvisions():
    found = boxes(30, torch.zeros(1, 3, 32, 32), 0.08, generator(4))
    with torch.random.fork_rng():
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator(4))))
        drawn = [RandomResizedCrop.get_params(torch.zeros(3, 32, 32), [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(30)]
    assert torch.equal(found, torch.tensor(drawn))


@pytest.mark.parametrize("size, strips", [((16, 32), 1), ((16, 32), 2), ((16, 30), 4)])
def test_views_keep_their_size_and_are_torchvisions(size, strips):
    images = torch.rand(4, 3, *size)
    views = ResizedCrop(0.3, strips, mirror=False)(images, 11)
    assert views.shape == images.shape
    if strips == 1:
        box = boxes(4, images, 0.3, generator(11)).tolist()
        expected = [
            resized_crop(image[None], *at, list(size), antialias=True) for image, at in zip(images, box, strict=True)
        ]
        assert torch.allclose(views, torch.cat(expected), atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dim", [2, 3])
def test_strips_of_either_side_change_places(size, dim):
    images = torch.rand(20, 3, *size)
    views = shuffle_strips(images, generator(), 2, dim)
    swapped = images.roll(size[dim - 2] // 2, dim)
    kept, moved = ((views == each).flatten(1).all(1) for each in (images, swapped))
    assert (kept ^ moved).all() and kept.any() and moved.any()


@pytest.mark.parametrize("make", [LeNet, AlexNet, lambda *a: VGG11(*a, norm="none")])
def test_networks_pad_each_side_of_28_pixels_for_itself(make):
    first = make((1, 28, 32), 10).features
    while not isinstance(first, torch.nn.Conv2d):
        first = first[0]
    assert first.padding[0] == first.padding[1] + 2


@pytest.mark.parametrize("size", [(16, 64), (64, 16)])
def test_a_convnet_is_as_deep_as_the_shorter_side_allows(size):
    net = ConvNet((3, *size), 10, depth=None, width=4, norm="none", pooling="avg", activation="relu")
    assert sum(isinstance(module, torch.nn.Conv2d) for module in net.modules()) == 2
