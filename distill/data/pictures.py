"""Pictures: an image file as a viewer shows it, in pixels uint8 (H, W, C).

The first frame counts, turned as its EXIF orientation says. What is transparent is laid over white. Greys of more than
eight bits are scaled from the range that the file states (65535, or 4095 where it says 12 bits, to 255) and rounded; 16-bit
colours keep their upper eight bits, as Pillow reads them. Colour profiles and gamma are not applied: neither does
torchvision's ``ImageFolder``, which published weights were trained with. Floats, signed and 32-bit values have no range
that says what is white, and are refused.
"""

import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.functional import center_crop, resize

from distill.data.preprocessing import Preprocessing, to_pixels

BACKGROUND = "white"  # of what is transparent

ORIENTATION, BITS, PHOTOMETRIC, SAMPLE_FORMAT = 0x0112, 258, 262, 339  # tags of EXIF and TIFF

DEEP = ("I;16", "I;16L", "I;16B", "I;16N")

SHOWN = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", *DEEP)

# How a whole file of these formats ends; where another end is found, only decoding tells whether something is missing.
ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82", "GIF": b";"}


def picture(file: Path, size: tuple[int, int] | None = None, crop: bool = False) -> np.ndarray:
    """The pixels of a file, uint8 (H, W, 3), framed as `pixels` says.

    Raises:
        ValueError: the file is no picture that can be shown; the message names it.
    """
    with opened(file) as image:
        return pixels(image, 3, size, crop)


def pixels(image: Image.Image, channels: int, size: tuple[int, int] | None = None, crop: bool = False) -> np.ndarray:
    """What a viewer shows of an image, uint8 (H, W, channels).

    Args:
        channels: 3, or 1 for its luminance.
        size: height and width that it is squeezed into; None leaves it as it is.
        crop: instead bring the shorter edge to 8/7 of ``size`` and take the middle, as is usual at 224 px.

    Raises:
        ValueError: the image is of a kind that has no stated range.
    """
    shown = _shown(image)
    shown = shown if channels == 3 else shown.convert("L")
    if size is not None:
        shown = _middle(shown, *size) if crop else shown.resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(shown).reshape(shown.height, shown.width, channels)


def zoomed(array: np.ndarray, edge: int) -> np.ndarray:
    """The middle of pixels uint8 (H, W, C) whose shorter edge was brought to ``edge``, as large as they were.

    Raises:
        ValueError: the shorter edge is longer than that.
    """
    if edge < min(array.shape[:2]):
        raise ValueError(
            f"data.test_resize is {edge}, expected at least {min(array.shape[:2])}, the side of the images"
        )
    shown = center_crop(resize(from_array(array), edge), list(array.shape[:2]))
    return np.asarray(shown).reshape(array.shape)


def from_array(array: np.ndarray) -> Image.Image:
    """The image of uint8 (H, W), (H, W, 1), (H, W, 3) or, with transparency, (H, W, 4).

    Raises:
        ValueError: the array is of another kind.
    """
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (1,), (3,), (4,)):
        raise ValueError(f"an image is {array.dtype} {array.shape}, expected uint8 (H, W, C) with C of 1, 3 or 4")
    return Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array)


@dataclass(frozen=True)
class Reader:
    """From a PIL image, or an array (H, W, C) of one, to what networks see, (C, H, W).

    Attributes:
        prepare: from pixels to the space of the networks.
        shape: C, H, W.
        crop: see `pixels`.
        edge: see `zoomed`; None leaves the picture as it is.
    """

    prepare: Preprocessing
    shape: tuple[int, int, int]
    crop: bool
    edge: int | None

    def __call__(self, image: Any) -> Tensor:
        channels, height, width = self.shape
        image = image if hasattr(image, "convert") else from_array(image)
        shown = pixels(image, channels, (height, width), self.crop)
        shown = shown if self.edge is None else zoomed(shown, self.edge)
        return self.prepare(to_pixels(shown[None]))[0]


def check(file: Path) -> None:
    """Raise the ValueError of `picture` without decoding, unless the file's end leaves open whether all of it is there."""
    with opened(file) as image:
        _refuse(image)
        end = ENDS.get(image.format or "")
        if end is None or _last(file, len(end)) != end:
            image.load()


def _last(file: Path, count: int) -> bytes:
    with file.open("rb") as raw:
        raw.seek(-count, 2)
        return raw.read()


@contextmanager
def opened(file: Path) -> Iterator[Image.Image]:
    """The image of a regular file; whatever goes wrong with it becomes a ValueError that names the file."""
    try:
        about = file.stat()
        if not stat.S_ISREG(about.st_mode):
            raise ValueError("it is no regular file")  # opening a named pipe would wait for ever
        if about.st_size == 0:
            raise ValueError("it is empty")
        # From an open file: given a name, Pillow maps uncompressed greys by their turned size and mixes up the pixels.
        with file.open("rb") as raw, Image.open(raw) as image:
            yield image
    except Exception as error:  # Pillow raises OSError, SyntaxError, struct.error and more for damaged files
        raise ValueError(f"{str(file)!r} is not an image that can be read ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"more than Pillow's limit of {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels: shrink it first"
    if isinstance(error, Image.UnidentifiedImageError):
        return "cut short, or of a format that Pillow does not know"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _refuse(image: Image.Image) -> None:
    signed = _tag(image, SAMPLE_FORMAT, 1) != 1
    deep = image.mode == "I" and image.format in ("PNG", "PPM")  # both come scaled to 65535
    if signed or not (deep or image.mode in SHOWN):
        kind = "signed or float samples" if signed else "32-bit or float samples"
        raise ValueError(f"mode {image.mode}, {kind}: nothing says which value is white, save it with 8 or 16 bits")


def _tag(image: Image.Image, number: int, default: int) -> int:
    """The first value of a TIFF's tag; of other formats ``default``."""
    return int(np.ravel(getattr(image, "tag_v2", {}).get(number, default))[0])


def _shown(image: Image.Image) -> Image.Image:
    """RGB, upright, without transparency."""
    _refuse(image)
    upright = ImageOps.exif_transpose(image) if _turned(image) else image
    if image.mode in (*DEEP, "I"):
        return _scaled(upright, 2 ** _tag(image, BITS, 16) - 1, _tag(image, PHOTOMETRIC, 1) == 0)
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    upright = upright.convert("LA") if upright.mode == "La" else upright
    return Image.alpha_composite(Image.new("RGBA", upright.size, BACKGROUND), upright.convert("RGBA")).convert("RGB")


def _turned(image: Image.Image) -> bool:
    try:
        return image.getexif().get(ORIENTATION, 1) != 1
    except (SyntaxError, ValueError, OSError, struct.error):  # damaged EXIF data say nothing, the pixels may be whole
        return False


def _scaled(image: Image.Image, top: int, white_is_zero: bool) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    grey = (values * 255 + top // 2) // top
    grey = 255 - grey if white_is_zero else grey  # Pillow inverts greys of up to eight bits, and leaves these
    grey[values == image.info.get("transparency", -1)] = 255  # BACKGROUND
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")


def _middle(image: Image.Image, height: int, width: int) -> Image.Image:
    return center_crop(resize(image, height * 8 // 7), [height, width])
