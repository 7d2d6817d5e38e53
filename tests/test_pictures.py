"""A picture file means what a viewer shows, whichever way it is read."""

import os
import struct

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from distill.data import readers
from distill.data import real as data
from distill.data.pictures import check, from_array, picture, pixels, zoomed
from distill.sets.synthetic import SyntheticSet

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
HALF = np.stack(
    [RAMP, RAMP.T, 255 - RAMP, np.where(RAMP < 128, 0, 128).astype(np.uint8)], 2
)  # transparent, half opaque


def tiff(path, values, bits, photometric=1, orientation=1, sample_format=1):
    """A TIFF of one strip with the tags that Pillow's writer does not set freely."""
    height, width = values.shape
    if bits == 12:
        text = "".join("".join(f"{value:012b}" for value in row) for row in values)
        strip = int(text, 2).to_bytes(len(text) // 8, "big")
    else:
        strip = values.astype(f"<u{bits // 8}").tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 0, 274: orientation, 277: 1, 278: height}
    tags |= {279: len(strip), 339: sample_format}
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + strip)
    return path


def saved(path, image, **settings):
    image.save(path, **settings)
    return path


def over_white(rgba):
    alpha = rgba[..., 3:] / 255
    return rgba[..., :3] * alpha + 255 * (1 - alpha)


def test_greys_of_more_than_eight_bits_are_scaled_by_the_range_that_the_file_states(tmp_path):
    files = {
        "16 bits": saved(tmp_path / "a.png", Image.fromarray(RAMP.astype(np.uint16) * 257)),
        "16 bits, TIFF": tiff(tmp_path / "a.tif", RAMP.astype(int) * 257, 16),
        "16 bits, white is zero": tiff(tmp_path / "b.tif", 65535 - RAMP.astype(int) * 257, 16, photometric=0),
        "12 bits": tiff(tmp_path / "c.tif", np.round(RAMP * (4095 / 255)).astype(int), 12),
    }
    (tmp_path / "d.pgm").write_bytes(b"P5 16 16 4095\n" + np.round(RAMP * (4095 / 255)).astype(">u2").tobytes())
    files["12 bits of PGM"] = tmp_path / "d.pgm"
    for kind, file in files.items():
        assert np.array_equal(picture(file), np.repeat(RAMP[..., None], 3, 2)), kind


@pytest.mark.parametrize("bits, sample_format", [(8, 2), (16, 2), (32, 1), (32, 3)])
def test_values_without_a_stated_range_are_refused_by_file_and_mode(tmp_path, bits, sample_format):
    file = tiff(tmp_path / "odd.tif", RAMP, bits, sample_format=sample_format)
    for read in (picture, check):
        with pytest.raises(
            ValueError, match=r"odd.tif' is not an image that can be read \(mode (L|I|F), .*8 or 16 bits"
        ):
            read(file)


def test_what_is_transparent_is_laid_over_white(tmp_path):
    clear = Image.new("P", (2, 1))
    clear.putpalette([10, 20, 30, 200, 100, 0])
    clear.putpixel((1, 0), 1)
    for mode in ("RGBA", "LA"):
        image = Image.fromarray(HALF).convert(mode)
        expected = over_white(np.asarray(image.convert("RGBA")))
        for file in (saved(tmp_path / "a.png", image), saved(tmp_path / "a.tif", image)):
            assert np.abs(picture(file) - expected).max() <= 1
    for file in (
        saved(tmp_path / "p.png", clear, transparency=0),
        saved(tmp_path / "p.gif", clear, transparency=0),
        saved(tmp_path / "q.png", clear, transparency=bytes([0, 255])),
        saved(
            tmp_path / "t.png",
            Image.fromarray(np.array([[[1, 2, 3], [200, 100, 0]]], np.uint8)),
            transparency=(1, 2, 3),
        ),
    ):
        assert picture(file).tolist() == [[[255, 255, 255], [200, 100, 0]]], file.name
    for values in (RAMP, RAMP.astype(np.uint16) * 257):
        shown = picture(saved(tmp_path / "grey.png", Image.fromarray(values), transparency=int(values[0, 7])))[..., 0]
        assert shown[0, 7] == 255 and np.array_equal(np.delete(shown, 7), np.delete(RAMP, 7))


def test_modes_without_transparency_are_shown_as_they_are(tmp_path):
    bits = Image.fromarray((RAMP % 3 == 0) * np.uint8(255)).convert("1")
    assert np.array_equal(picture(saved(tmp_path / "a.png", bits))[..., 0], np.asarray(bits.convert("L")))
    cyan = Image.new("CMYK", (2, 2), (255, 0, 0, 0))
    assert picture(saved(tmp_path / "a.tif", cyan))[0, 0].tolist() == [0, 255, 255]
    shown = picture(saved(tmp_path / "b.jpg", cyan, quality=100))[0, 0]
    assert np.abs(shown.astype(int) - [0, 255, 255]).max() < 6
    red = Image.new("LAB", (2, 2), (136, 208, 195))  # L* 53, a* 80, b* 67
    assert np.abs(picture(saved(tmp_path / "c.tif", red))[0, 0].astype(int) - [255, 0, 0]).max() < 12
    for suffix in ("bmp", "webp", "png", "tif"):
        lossless = {"lossless": True} if suffix == "webp" else {}
        file = saved(tmp_path / f"c.{suffix}", Image.fromarray(HALF[..., :3]), **lossless)
        assert np.array_equal(picture(file), HALF[..., :3]), suffix


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_the_first_frame_counts(tmp_path, suffix):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime", "blue")]
    settings = {"webp": {"lossless": True}}.get(suffix, {})
    file = saved(tmp_path / f"a.{suffix}", frames[0], save_all=True, append_images=frames[1:], **settings)
    with Image.open(file) as image:
        assert image.n_frames == 3
    assert picture(file)[0, 0].tolist() == [255, 0, 0]


def test_an_image_is_turned_as_its_orientation_says(tmp_path):
    upright = HALF[:8, :, :3]
    turned = {3: np.rot90(upright, 2), 6: np.rot90(upright, 1), 8: np.rot90(upright, -1), 2: upright[:, ::-1]}
    for orientation, stored in turned.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        for suffix in ("png", "tif"):
            file = saved(tmp_path / f"a.{suffix}", Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
            assert np.array_equal(picture(file), upright), (orientation, suffix)
    grey = tiff(tmp_path / "b.tif", 65535 - np.rot90(RAMP[:8], 1).astype(int) * 257, 16, photometric=0, orientation=6)
    assert np.array_equal(picture(grey)[..., 0], RAMP[:8])


def test_damaged_exif_data_leave_an_image_as_it_is(tmp_path):
    for suffix in ("png", "jpg"):
        file = saved(tmp_path / f"a.{suffix}", Image.fromarray(RAMP), exif=b"Exif\0\0no tags")
        assert np.abs(picture(file)[..., 0].astype(int) - RAMP).max() < 9


def test_damaged_files_are_found_without_decoding(tmp_path):
    whole = {
        suffix: saved(tmp_path / f"whole.{suffix}", Image.fromarray(HALF[..., :3])) for suffix in ("png", "jpg", "bmp")
    }
    for file in whole.values():
        check(file)
    for suffix, file in whole.items():
        cut = tmp_path / f"cut.{suffix}"
        cut.write_bytes(file.read_bytes()[:-200])
        with pytest.raises(ValueError, match=f"cut.{suffix}' is not an image that can be read"):
            check(cut)
    (tmp_path / "empty.png").touch()
    with pytest.raises(ValueError, match=r"empty.png' is not an image that can be read \(it is empty\)"):
        check(tmp_path / "empty.png")


def test_what_is_no_regular_file_is_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "broken.png").symlink_to(tmp_path / "nowhere.png")
    for name, reason in {"pipe": "it is no regular file", "broken": "No such file"}.items():
        with pytest.raises(ValueError, match=f"{name}.png' is not an image that can be read .{reason}"):
            picture(tmp_path / f"{name}.png")


def test_an_image_above_pillows_limit_is_named(tmp_path, monkeypatch):
    file = saved(tmp_path / "huge.png", Image.new("1", (40, 40)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
    with pytest.raises(ValueError, match=r"huge.png' .*more than Pillow's limit of 1,400 pixels: shrink it first"):
        check(file)


def test_arrays_are_images_of_eight_bits():
    assert np.array_equal(pixels(from_array(RAMP), 1), RAMP[..., None])
    assert np.array_equal(pixels(from_array(RAMP[..., None]), 1), RAMP[..., None])
    assert np.array_equal(pixels(from_array(HALF[..., :3]), 3), HALF[..., :3])
    assert np.abs(pixels(from_array(HALF), 3) - over_white(HALF)).max() <= 1
    for array in (RAMP.astype(np.uint16), RAMP / 255, RAMP[0], HALF[..., :2]):
        with pytest.raises(ValueError, match="expected uint8"):
            from_array(array)


def odd_pictures(folder):
    """Files of one class each, in several kinds and sizes."""
    exif = Image.Exif()
    exif[0x0112] = 6
    folder.mkdir(parents=True)
    return [
        saved(folder / "a.png", Image.fromarray(RAMP.astype(np.uint16) * 257)),
        saved(folder / "b.png", Image.fromarray(HALF)),
        saved(folder / "c.jpg", Image.fromarray(HALF[:9, :, :3]), exif=exif),
        saved(folder / "d.gif", Image.fromarray(RAMP.repeat(2, 0))),
        tiff(folder / "e.tif", RAMP.astype(int) * 16, 12),
    ]


@pytest.mark.parametrize("crop", [False, True])
def test_eager_and_lazy_folders_and_a_sets_transform_agree_to_the_pixel(tmp_path, crop):
    files = [
        file for name in ("train/x", "train/y", "test/x", "test/y") for file in odd_pictures(tmp_path / "pets" / name)
    ]
    settings = dict(
        root=tmp_path, path=tmp_path / "pets", size=14, crop=crop, strategy="flip", mean=[0.5] * 3, std=[0.2] * 3
    )
    eager, lazy = (data.load("pets", zca=False, val=0, download=False, lazy=way, **settings) for way in (False, True))
    assert torch.equal(eager.train.images, lazy.train.images[:]) and torch.equal(eager.test.images, lazy.test.images[:])
    made = SyntheticSet.of_images(eager.train, torch.arange(2)).with_(record={"config": {"data": {"crop": crop}}})
    for file, expected in zip(files[:10], eager.train.images, strict=True):
        with Image.open(file) as image:
            assert torch.equal(made.transform(image), expected)
    with Image.open(files[1]) as image:
        assert torch.equal(made.transform(np.asarray(image)), eager.train.images[1])


def test_data_size_resizes_every_kind_of_set_and_its_transform(tmp_path):
    grey = np.stack([RAMP, RAMP.T, 255 - RAMP, RAMP[::-1]])[..., None]
    np.savez(
        tmp_path / "a.npz", x_train=grey, y_train=[0, 1, 0, 1], x_test=grey, y_test=[0, 1, 0, 1], class_names=["a", "b"]
    )
    settings = dict(root=tmp_path, path=tmp_path / "a.npz", strategy="flip", mean=[0.0], std=[1.0], zca=False, val=0)
    real = data.load("mine", size=8, download=False, **settings)
    made = SyntheticSet.of_images(real.train, torch.arange(4))
    assert real.train.shape == (1, 8, 8)
    views = [made.transform(image) for image in (*grey, Image.fromarray(grey[0, ..., 0]).convert("RGB"))]
    assert torch.equal(torch.stack(views), real.train.images[[0, 1, 2, 3, 0]])
    with pytest.raises(ValueError, match="data.crop=true .* data.size, which is null"):
        data.load("mine", crop=True, download=False, **settings)


@pytest.mark.parametrize("size", [(333, 504), (505, 333), (300, 300)])
def test_the_middle_is_what_torchvisions_test_transform_shows(size):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
    published = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    assert np.array_equal(pixels(image, 3, (224, 224), crop=True), np.asarray(published(image)))


def test_test_images_are_the_middle_of_larger_ones_where_a_paper_tests_so(tmp_path):
    path, g = tmp_path / "tiny.npz", np.random.default_rng(0)
    x, y = g.integers(0, 256, (4, 64, 64, 3), dtype=np.uint8), np.arange(4) % 2
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y, class_names=["a", "b"])
    settings = dict(path=path, strategy="flip", mean=[0.5] * 3, std=[0.25] * 3, zca=False, val=0.0, download=False)
    real, plain = (data.load("tiny", root=tmp_path, **settings, **more) for more in ({"test_resize": 72}, {}))
    assert real.fingerprint == plain.fingerprint and real.hash != plain.hash  # training images are as they were
    shown = [transforms.Resize(72), transforms.CenterCrop(64), transforms.ToTensor()]
    rded = transforms.Compose([*shown, transforms.Normalize([0.5] * 3, [0.25] * 3)])
    expected = torch.stack([rded(Image.fromarray(image)) for image in x])
    assert torch.allclose(real.test.images, expected, atol=1e-6)
    assert not torch.allclose(real.test.images, real.train.images, atol=0.5)
    made = SyntheticSet.of_images(real.train, torch.arange(4))
    made.record["config"] = {"data": {"crop": False, "test_resize": 72}}
    assert torch.equal(torch.stack([made.transform(image) for image in x]), real.test.images)
    with pytest.raises(ValueError, match="data.test_resize is 56, expected at least 64"):
        data.load("tiny", root=tmp_path, **settings, test_resize=56)
    with pytest.raises(ValueError, match="data.test_resize needs images that are held in memory"):
        data.load("tiny", root=tmp_path, **{**settings, "path": tmp_path}, size=64, lazy=True, test_resize=72)


@pytest.mark.parametrize("size", [(24, 40), (40, 24)])
def test_the_middle_of_what_is_not_square_keeps_its_proportions(size):
    array = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    published = transforms.Compose([transforms.Resize(30), transforms.CenterCrop(size)])
    assert np.array_equal(zoomed(array, 30), np.asarray(published(Image.fromarray(array))))


@pytest.mark.parametrize("layout", ["folder", "npz"])
def test_squares_beyond_the_memory_are_refused_before_a_picture_is_decoded(tmp_path, npz, monkeypatch, layout):
    monkeypatch.setattr("os.sysconf", lambda name: 10**4)  # so many pages of so many bytes
    monkeypatch.setattr(Image.Image, "resize", lambda *_: pytest.fail("resized"))
    root, extra = npz, ""
    if layout == "folder":
        root, extra = tmp_path / "pets", " or data.lazy=true"
        for k in range(30):
            (root / f"train/c{k % 3}").mkdir(parents=True, exist_ok=True)
            (root / f"train/c{k % 3}/{k}.png").write_bytes(b"nothing that could be decoded")
    told = (
        rf"^data\.size=1000 makes \d+ images of [\d.]+ GB, this machine has 0\.1 GB: use a smaller data\.size{extra}$"
    )
    with pytest.raises(ValueError, match=told):
        readers.read("pets", tmp_path, False, root, 1000, False)
