"""DC's augmentation of MNIST's students: each image gets one of a crop, a scale and a rotation.

Source: Zhao, Mopuri & Bilen, ICLR 2021, arXiv:2006.05929, as its code has it for networks without batch norm.
"""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

MOST_SHIFT, MOST_SCALE, MOST_DEGREES = 4, 0.2, 45  # pixels; share of a side; degrees


def crop_scale_rotate(images: Tensor, draw: int) -> Tensor:
    """Views of ``images`` (B, C, H, W), same shape; one of three changes for each image, all equally likely.

    Crop: a shift by -3 to 4 pixels, filled with the mean of its channel over the batch. Scale: sides of 0.8 to 1.2 times
    theirs, nearest neighbours, zero filled. Rotation: by -45 to 44 whole degrees, filled with the mean over the batch.
    """
    g, count, (height, width) = Generator().manual_seed(draw), len(images), images.shape[2:]
    which = torch.randint(3, (count,), generator=g)
    shifts = torch.randint(2 * MOST_SHIFT, (count, 2, 1), generator=g) - MOST_SHIFT
    factors = 1 + MOST_SCALE * (2 * torch.rand(count, 2, generator=g) - 1)
    degrees = torch.randint(-MOST_DEGREES, MOST_DEGREES, (count,), generator=g)
    means, views = images.mean((0, 2, 3)), images.clone()
    for change in range(3):
        own = (which == change).nonzero()[:, 0]  # places rather than a mask, whose size a GPU would have to tell
        here = own.to(images.device, non_blocking=True)
        if change == 0:
            rows, columns = torch.arange(height) + shifts[own, 0], torch.arange(width) + shifts[own, 1]
            views[here] = picked(images[here], rows, columns, means.view(-1, 1, 1))
        elif change == 1:
            heights, widths = (factors[own] * torch.tensor([height, width])).long().unbind(1)
            views[here] = scaled(images[here], heights, widths)
        else:
            views[here] = rotated(images[here], degrees[own], means.mean())
    return views


def picked(images: Tensor, rows: Tensor, columns: Tensor, fill: Tensor) -> Tensor:
    """The pixels (B, C, H, W) at rows (B, H) and columns (B, W) of each image, ``fill`` where there are none."""
    height, width = images.shape[2:]
    inside = ((rows >= 0) & (rows < height))[:, None, :, None] & ((columns >= 0) & (columns < width))[:, None, None, :]
    place = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]
    place, inside = (part.to(images.device, non_blocking=True) for part in (place.flatten(1)[:, None], inside))
    found = images.flatten(2).gather(2, place.expand(-1, images.shape[1], -1))
    return torch.where(inside, found.view_as(images), fill)


def scaled(images: Tensor, heights: Tensor, widths: Tensor) -> Tensor:
    """Each image at another height and width (B,), nearest neighbours, in the middle of its old frame."""
    sides, largest = images.shape[2:], heights.maximum(widths).clamp_min(max(images.shape[2:]))

    def source(side: int, lengths: Tensor) -> Tensor:
        # Of every pixel of the frame: both frame and image lie in the middle of a square, rounded down.
        at = torch.arange(side) + ((largest - side) // 2 - (largest - lengths) // 2)[:, None]
        nearest = (at * (side / lengths.float())[:, None]).floor().long()
        return torch.where((at >= 0) & (at < lengths[:, None]), nearest.clamp_max(side - 1), -1)

    return picked(images, source(sides[0], heights), source(sides[1], widths), images.new_zeros(()))


def rotated(images: Tensor, degrees: Tensor, fill: Tensor) -> Tensor:
    """Each image turned by ``degrees`` (B,) and the middle of it kept, as ``scipy.ndimage.rotate`` does: cubic splines.

    Source: what lies outside an image is ``fill``, and nothing is interpolated across its border.
    """
    (height, width), angle = images.shape[2:], degrees.double().deg2rad()[:, None, None]
    c, s = angle.cos(), angle.sin()
    # scipy makes a larger picture, of whole pixels, whose middle is then taken, rounded down.
    tall, wide = ((c * a + s.abs() * b + 0.5).floor() for a, b in ((height, width), (width, height)))
    down = torch.arange(height)[:, None] + ((tall - height) / 2).floor() - (tall - 1) / 2
    right = torch.arange(width) + ((wide - width) / 2).floor() - (wide - 1) / 2
    y, x = c * down + s * right + (height - 1) / 2, c * right - s * down + (width - 1) / 2
    inside = (y >= 0) & (y <= height - 1) & (x >= 0) & (x <= width - 1)
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    down, right = (_inverse(side).to(images, non_blocking=True) for side in (height, width))
    splines = F.pad(down @ images @ right.T, (1, 2, 1, 2), "reflect")
    (first_row, by_row), (first_column, by_column) = _taps(y), _taps(x)
    near = (
        (torch.arange(4)[:, None] * (width + 3) + torch.arange(4)).flatten().view(-1, 1, 1)
    )  # the 16 splines of a point
    place = ((first_row * (width + 3) + first_column)[:, None] + near).flatten(1)
    place, inside = (part.to(images.device, non_blocking=True) for part in (place, inside[:, None]))
    found = splines.flatten(2).gather(2, place[:, None].expand(-1, images.shape[1], -1))
    values = (by_row[:, :, None] * by_column[:, None]).flatten(1, 2).to(images, non_blocking=True)
    turned = (found.view(*images.shape[:2], 16, height, width) * values[:, None]).sum(2)
    return torch.where(inside, turned, fill)


def _taps(at: Tensor) -> tuple[Tensor, Tensor]:
    """``at`` (B, H, W) rounded down, and there the splines of the pixels -1, 0, 1 and 2 from it, (B, 4, H, W)."""
    first = at.floor()
    t = (at - first).float()
    inner = [(4 - 6 * u**2 + 3 * u**3) / 6 for u in (t, 1 - t)]
    return first.long(), torch.stack([(1 - t) ** 3 / 6, *inner, t**3 / 6], 1)


def _inverse(side: int) -> Tensor:
    """From pixels to the weights of their splines, (side, side); mirrored at the outer pixels."""
    pixels = torch.arange(side)
    values = torch.zeros(side, side, dtype=torch.float64)
    for step, value in ((-1, 1 / 6), (0, 4 / 6), (1, 1 / 6)):
        neighbour = (side - 1) - ((side - 1) - (pixels + step).abs()).abs()
        values[pixels, neighbour] += value
    return torch.linalg.inv(values)
