"""AutoAugment and RandAugment are the papers', as torchvision has them: tables, operations, strengths, and how drawn."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from conftest import load_npz
from torchvision import transforms
from torchvision.transforms import InterpolationMode, autoaugment

from distill.augment import policies
from distill.augment.policies import NAMES, OPERATIONS, POLICIES, AutoAugment, RandAugment
from distill.data.preprocessing import Preprocessing, fit_zca, normalised
from distill.training import views

PIXELS = Preprocessing("pixel01")
BLENDS = {"brightness", "color", "contrast", "sharpness", "auto_contrast"}  # torchvision rounds them to eight bits


def theirs(name):
    """An operation's name in torchvision."""
    return "".join(part.title() for part in name.split("_"))


def eight_bit_images(channels, height, width, count=12):
    images = torch.randint(256, (count, channels, height, width), generator=torch.Generator().manual_seed(0)).byte()
    images[count // 2 :] = (images[count // 2 :] * 0.6 + 30).byte()  # that leave room for more contrast
    images[-1] = 77  # and one all alike
    return images


def operated(images, name, magnitude):
    return torch.stack(
        [autoaugment._apply_op(each, name, magnitude, InterpolationMode.NEAREST, None) for each in images]
    )


def half_way(name, shear, height, width):
    """Where a shear asks for points half way between two pixels, of which rounding takes one: rows or columns of an image."""
    if not name.startswith("shear"):
        return torch.tensor(False)
    moved = shear * (torch.arange(height if name == "shear_x" else width) + 0.5)
    half = (moved.frac().abs() - 0.5).abs() < 1e-4
    return half[:, None] if name == "shear_x" else half


@pytest.mark.parametrize("policy", POLICIES)
def test_policies_are_those_of_torchvision(policy):
    pairs = transforms.AutoAugment(transforms.AutoAugmentPolicy(policy)).policies
    assert [tuple((theirs(name), chance, level) for name, chance, level in pair) for pair in POLICIES[policy]] == pairs


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8), (3, 12, 20)])
@pytest.mark.parametrize("kind, levels", [(transforms.AutoAugment, 10), (transforms.RandAugment, 31)])
def test_operations_are_those_of_torchvision_at_every_level(kind, levels, shape):
    images = eight_bit_images(*shape)
    pixels, space = images / 255, kind()._augmentation_space(levels, shape[1:])
    assert set(space) | {"Identity", "Invert", "Hue"} == {*map(theirs, NAMES)}
    for name, (magnitudes, signed) in ((each, space[theirs(each)]) for each in NAMES if theirs(each) in space):
        for level, sign in itertools.product(range(levels), (1, -1) if signed else (1,)):
            magnitude = sign * float(magnitudes[level]) if magnitudes.ndim else 0.0
            ours = OPERATIONS[name](pixels, torch.full((len(images),), sign * level / (levels - 1)))
            if name not in BLENDS:
                differ = (ours - operated(images, theirs(name), magnitude) / 255).abs() > 1e-6
                assert not (differ & ~half_way(name, magnitude, *shape[1:])).any(), (name, level)
            else:
                assert torch.allclose(ours, operated(pixels, theirs(name), magnitude), atol=1e-4), (name, level)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_mean_of_many_views_is_that_of_the_papers_pairs_chances_and_signs(policy):
    image, pairs = eight_bit_images(3, 8, 8)[:1] / 255, POLICIES[policy]
    chosen, strengths, weights = [], [], []
    for pair in pairs:
        for signs in itertools.product((0, 1, -1), repeat=2):  # 0: skipped
            chosen.append(
                [NAMES.index(name if sign else "identity") for (name, _, _), sign in zip(pair, signs, strict=True)]
            )
            strengths.append([sign * (level or 0) / 9 for (_, _, level), sign in zip(pair, signs, strict=True)])
            shares = [chance / 2 if sign else 1 - chance for (_, chance, _), sign in zip(pair, signs, strict=True)]
            weights.append(math.prod(shares) / len(pairs))
    weights = torch.tensor(weights)[:, None, None, None]
    views = policies.operated(image.expand(len(chosen), -1, -1, -1), torch.tensor(chosen), torch.tensor(strengths))
    mean = (weights * views).sum(0)
    error = ((weights * (views - mean).square()).sum(0) / 4000).sqrt()
    drawn = AutoAugment(policy, PIXELS)(image.expand(4000, -1, -1, -1), 3)
    assert weights.sum() == pytest.approx(1.0)
    assert ((drawn.mean(0) - mean).abs() < 5 * error + 1e-4).all()


@pytest.mark.parametrize("count", [1, 2])
def test_rand_augments_operations_are_equally_likely_and_drawn_with_replacement(count):
    image = (eight_bit_images(1, 32, 32)[-2:-1] / 255).expand(4000, -1, -1, -1)
    moved = RandAugment(count, 0, PIXELS)(image, 5)  # at level 0 two of 14 change an image, for good
    share = ((moved - image).abs() < 1e-6).flatten(1).all(1).float().mean()
    expected = (12 / 14) ** count
    assert share == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 4000))


@pytest.mark.parametrize("made", [lambda space: AutoAugment("cifar10", space), lambda space: RandAugment(3, 20, space)])
def test_a_policy_moves_pixels_whatever_space_the_images_live_in(made):
    pixels = eight_bit_images(3, 8, 8, 100) / 255
    views = made(PIXELS)(pixels, 7)
    assert not torch.equal(views, pixels) and torch.equal(views, made(PIXELS)(pixels, 7))
    assert not torch.equal(views, made(PIXELS)(pixels, 8))
    for space in (normalised([0.5, 0.4, 0.3], [0.2, 0.3, 0.25]), fit_zca(pixels)):
        assert torch.allclose(space.inverse(made(space)(space(pixels), 7)), views, atol=1e-4)


def test_what_synthetic_images_have_beyond_pixels_is_clipped_first():
    images = torch.randn(20, 3, 8, 8)
    for policy in (AutoAugment("imagenet", PIXELS), RandAugment(2, 9, PIXELS)):
        views = policy(images, 1)
        assert torch.equal(views, policy(images.clamp(0, 1), 1)) and views.min() >= 0 and views.max() <= 1


def test_images_that_are_neither_grey_nor_rgb_are_refused(npz):
    split = load_npz(npz).train
    two = replace(split, images=split.images[:, :2])
    with pytest.raises(ValueError, match="AutoAugment is for grey and RGB images, these have 2 channels"):
        views.AutoAugment(policy="svhn", whole_batch=False, eight_bits=False).on(two)


@pytest.mark.parametrize("share", [-1.0, -0.4, 0.0, 0.3, 1.0])
def test_hues_turn_as_torchvision_turns_them(share):
    pixels = eight_bit_images(3, 8, 8) / 255
    ours = OPERATIONS["hue"](pixels, torch.full((len(pixels),), share))
    assert torch.allclose(ours, transforms.functional.adjust_hue(pixels, share / 2), atol=1e-4)


def test_jitter_draws_each_image_an_order_and_strengths_of_its_own():
    operations, strengths = policies.Jitter(True, PIXELS).drawn(6000, torch.Generator().manual_seed(0))
    orders = operations.unique(dim=0, return_counts=True)[1]
    assert len(orders) == 24 and (orders - 250).abs().max() < 5 * 250**0.5
    own = {name: strengths[operations == NAMES.index(name)] for name in ("brightness", "contrast", "color", "hue")}
    for name, widest in {"brightness": 0.4, "contrast": 0.4, "color": 0.4, "hue": 0.2}.items():
        factor = own[name] * (
            0.5 if name == "hue" else 0.9
        )  # what is added to 1, or to the hue as torchvision counts it
        assert factor.abs().max() <= widest + 1e-6 and factor.abs().mean() == pytest.approx(widest / 2, rel=0.05)


KINDS = {
    "autoaugment": lambda **how: AutoAugment("cifar10", PIXELS, **how),
    "randaugment": lambda **how: RandAugment(1, 9, PIXELS, **how),
    "jitter": lambda **how: policies.Jitter(True, PIXELS, **how),
    "holed": lambda **how: policies.Holed(True, PIXELS, **how),
}


@pytest.mark.parametrize("kind", KINDS)
def test_one_draw_for_the_batch_moves_all_images_alike(kind):
    image = (eight_bit_images(3, 12, 12)[:1] / 255).expand(16, -1, -1, -1)
    for draw in range(5):
        together = KINDS[kind](whole_batch=True)(image, draw)
        assert torch.equal(together, together[:1].expand_as(together))
    assert any(len(KINDS[kind]()(image, draw).flatten(1).unique(dim=0)) > 4 for draw in range(5))


@pytest.mark.parametrize("kind", KINDS)
def test_eight_bits_lose_what_lies_between_the_levels(kind):
    image = torch.rand(16, 3, 12, 12, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.2
    near = (image.clamp(0, 1) * 255).round() / 255
    assert torch.equal(KINDS[kind](eight_bits=True)(image, 3), KINDS[kind]()(near, 3))
    assert not torch.equal(KINDS[kind]()(image, 3), KINDS[kind]()(near, 3))


def test_a_hole_is_the_mean_behind_the_preprocessing_and_covers_what_dsa_covers():
    space = normalised([0.3, 0.5, 0.7], [0.2, 0.2, 0.2])
    images = space(torch.full((500, 3, 16, 16), 0.9))
    views = policies.Holed(True, space)(images, 0)
    holes = (views.abs() < 1e-5).all(1)
    assert 0.12 < holes.float().mean() < 0.25 and holes.flatten(1).any(1).all()  # a quarter, less what lies outside
