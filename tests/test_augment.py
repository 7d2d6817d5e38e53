import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from kornia import enhance
from kornia.geometry.transform import rotate
from PIL import Image
from torchvision.transforms.functional import pad, to_tensor

from distill import augment
from distill.augment import families
from distill.augment.crops import PaddedCrop
from distill.augment.families import DSA, FAMILIES, Compound
from distill.data.preprocessing import Preprocessing, fit_zca, normalised

ALL = "color_crop_cutout_flip_scale_rotate"
draws = st.integers(0, 2**62)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@given(draws)
@settings(max_examples=20)
def test_equal_draws_give_equal_views(draw):
    images = torch.rand(4, 3, 8, 8)
    assert torch.equal(DSA(ALL)(images, draw), DSA(ALL)(images, draw))


@pytest.fixture
def seen(monkeypatch):
    """Names of the families that are called, which change nothing."""
    names = []
    calls = {name: (lambda images, g, draws, name=name: names.append(name) or images) for name in FAMILIES}
    monkeypatch.setattr(families, "FAMILIES", calls)
    return names


def test_a_call_applies_one_family_and_all_are_equally_likely(seen):
    dsa = DSA(ALL)
    for draw in range(3000):
        dsa(torch.zeros(1, 1, 2, 2), draw * 7919)
    counts = [seen.count(name) for name in FAMILIES]
    assert sum(counts) == 3000
    assert max(abs(count - 500) for count in counts) < 3 * (3000 * 1 / 6 * 5 / 6) ** 0.5


def test_a_compound_applies_flip_colour_one_of_three_and_cutout_of_what_is_listed(seen):
    for draw in range(900):
        Compound(ALL)(torch.zeros(1, 1, 2, 2), draw * 7919)
    calls = [seen[i : i + 4] for i in range(0, len(seen), 4)]
    assert all((a, b, d) == ("flip", "color", "cutout") for a, b, _, d in calls) and len(calls) == 900
    counts = [sum(call[2] == name for call in calls) for name in ("crop", "scale", "rotate")]
    assert sum(counts) == 900 and max(abs(count - 300) for count in counts) < 3 * (900 * 1 / 3 * 2 / 3) ** 0.5
    seen.clear()
    Compound("crop_color")(torch.zeros(1, 1, 2, 2), 1)
    assert seen == ["color", "crop"]


def test_a_siamese_compound_moves_batches_of_any_size_alike_and_another_each_image():
    images = torch.rand(5, 3, 16, 16)
    siamese = Compound(ALL, siamese=True)
    alone = torch.cat([siamese(image[None], 3) for image in images])
    assert torch.allclose(siamese(images, 3), alone, atol=1e-6)
    views = Compound(ALL)(images[:1].expand(5, -1, -1, -1), 3)
    assert len(views.flatten(1).unique(dim=0)) == 5


def test_parameters_differ_from_image_to_image():
    images = torch.rand(1, 3, 16, 16).expand(8, -1, -1, -1)
    for family in FAMILIES.values():
        views = family(images, generator(3))
        assert any(not torch.equal(views[0], view) for view in views[1:]), family.__name__
    for name in FAMILIES:
        views = DSA(name)(images, 3)
        assert any(not torch.equal(views[0], view) for view in views[1:]), name


def test_crop_shifts_by_at_most_an_eighth_and_fills_with_zero():
    images = torch.zeros(200, 1, 32, 32)
    images[:, :, 16, 16] = 1.0
    places = families.crop(images, generator()).nonzero()
    shifts = places[:, 2:] - 16
    assert len(places) == 200 and shifts.abs().max() == 4 and set(shifts.unique().tolist()) == set(range(-4, 5))
    assert families.crop(torch.ones(200, 1, 32, 32), generator()).unique().tolist() == [0.0, 1.0]


def test_crop_moves_whole_pixels_exactly():
    images = torch.rand(5, 3, 8, 8)
    views = families.crop(images, generator(1))
    kept = [torch.isin(view[view != 0], image).all() for view, image in zip(views, images, strict=True)]
    assert all(kept)


def test_cutout_removes_at_most_half_the_side_squared_and_stays_inside():
    views = families.cutout(torch.ones(500, 2, 32, 32), generator())
    removed = (views[:, 0] == 0).sum((1, 2))
    assert removed.max() == 16 * 16 and removed.min() < 16 * 16  # the square is clipped at the border
    assert torch.equal(views[:, 0], views[:, 1])
    rows = (views[:, 0] == 0).any(2)  # a centre on either edge leaves half of the square
    assert rows[rows[:, 0]].sum(1).min() == 8 == rows[rows[:, -1]].sum(1).min()


def test_flip_is_its_own_inverse_and_happens_half_the_time():
    images = torch.rand(1000, 1, 4, 4)
    views = families.flip(images, generator())
    assert torch.equal(families.flip(views, generator()), images)
    flipped = sum(not torch.equal(view, image) for view, image in zip(views, images, strict=True))
    assert abs(flipped - 500) < 3 * 250**0.5


def test_color_keeps_what_the_rules_keep():
    # Saturation and contrast leave a grey, flat image alone; brightness moves it by less than a half.
    flat = torch.full((50, 3, 8, 8), 0.3)
    moved = families.color(flat, generator()) - flat
    assert moved.abs().max() <= 0.5 and moved.std() > 0.1
    assert torch.allclose(moved, moved[:, :1, :1, :1].expand_as(moved), atol=1e-6)


def test_brightness_and_contrast_are_kornias_where_channels_are_alike_but_for_its_clipping():
    images, g = torch.rand(20, 1, 8, 8).expand(-1, 3, -1, -1), generator()
    brightness, _, contrast = (torch.rand(20, 1, 1, 1, generator=g).flatten() for _ in range(3))
    theirs = enhance.adjust_brightness(images, brightness - 0.5, clip_output=False)
    theirs = enhance.adjust_contrast_with_mean_subtraction(theirs, contrast + 0.5)
    assert torch.allclose(families.color(images, generator()).clamp(0, 1), theirs, atol=1e-6)


def test_rotation_is_kornias():
    images = torch.rand(20, 3, 16, 16)
    degrees = 15 * (2 * torch.rand(20, 1, 1, 1, generator=generator()).flatten() - 1)
    theirs = rotate(images, degrees, padding_mode="zeros", align_corners=False)
    assert torch.allclose(families.rotate(images, generator()), theirs, atol=1e-5)


@pytest.mark.parametrize(
    "warp",
    [
        lambda x: families.scale(x, generator(), low=1.0, high=1.0),
        lambda x: families.rotate(x, generator(), degrees=0.0),
    ],
)
def test_neutral_warps_are_the_identity(warp):
    images = torch.rand(3, 3, 32, 32)
    assert torch.allclose(warp(images), images, atol=1e-5)


@pytest.mark.parametrize("draw", range(12))
def test_siamese_batches_of_any_size_are_moved_alike(draw):
    images = torch.rand(5, 3, 16, 16)
    siamese = DSA(ALL, siamese=True)
    views = siamese(images, draw)
    alone = torch.cat([siamese(image[None], draw) for image in images])
    assert torch.allclose(views, alone, atol=1e-6)


def test_siamese_draws_differ():
    images = torch.rand(1, 3, 16, 16)
    views = [DSA(ALL, siamese=True)(images, draw) for draw in range(40)]
    assert len({tuple(view.flatten().tolist()) for view in views}) > 20  # flip has only two outcomes


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_through_each_family_are_right(name):
    images = torch.rand(2, 3, 6, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: FAMILIES[name](x, generator(5)), images)


@pytest.mark.parametrize(
    "space, mode", [("normalised", "constant"), ("zca", "constant"), ("pixel01", "constant"), ("normalised", "reflect")]
)
def test_crops_are_those_of_torchvision_before_the_preprocessing(space, mode):
    g = np.random.default_rng(0)
    pictures = [Image.fromarray(g.integers(0, 256, (16, 24, 3), dtype=np.uint8)) for _ in range(6)]
    pixels = torch.stack([to_tensor(picture) for picture in pictures])
    spaces = {
        "normalised": normalised([0.49, 0.48, 0.45], [0.2, 0.3, 0.4]),
        "zca": fit_zca(torch.rand(50, 3, 16, 24)),
        "pixel01": Preprocessing("pixel01"),
    }
    prepare = spaces[space]
    black = prepare if mode == "constant" else None  # a reflection is one before and after the preprocessing
    views = PaddedCrop(mirror=False, pixels=black, reflect=mode == "reflect")(prepare(pixels), 5)
    moved = set()
    for picture, view in zip(pictures, views, strict=True):  # RandomCrop((16, 24), padding=(3, 2)), at every place
        padded = to_tensor(pad(picture, [3, 2], padding_mode=mode))
        places = torch.stack([padded[:, i : i + 16, j : j + 24] for i in range(5) for j in range(7)])
        apart = (prepare(places) - view).abs().amax((1, 2, 3))
        nearest, next_one, *_ = apart.sort().values
        assert nearest < 1e-4 and next_one > 0.1
        moved.add(int(apart.argmin()))
    assert len(moved) > 3


def test_unknown_names_are_told_with_the_known_ones():
    with pytest.raises(
        ValueError, match="augment.strategy is 'crop_blur', expected some of color, crop, .* joined by _"
    ):
        DSA("crop_blur")
    with pytest.raises(ValueError, match="unknown augment.name 'x': one of none, dsa"):
        augment.make("x", ALL)


def test_square_views_are_those_of_sampling_with_aligned_corners_too():
    images = torch.rand(6, 3, 32, 32)
    angle, (sx, sy) = torch.empty(6).uniform_(-0.26, 0.26), torch.empty(2, 6).uniform_(1 / 1.2, 1.2)
    turn = torch.stack([angle.cos(), -angle.sin(), 0 * angle, angle.sin(), angle.cos(), 0 * angle], 1).view(6, 2, 3)
    stretch = torch.stack([sx, 0 * sx, 0 * sx, 0 * sx, sy, 0 * sx], 1).view(6, 2, 3)
    for matrices in (turn, stretch):
        grid = F.affine_grid(matrices, [6, 3, 32, 32], align_corners=True)
        aligned = F.grid_sample(images, grid, padding_mode="zeros", align_corners=True)  # MTT's, TESLA's, DATM's, AST's
        assert torch.allclose(families.warp(images, matrices), aligned, atol=1e-4)
