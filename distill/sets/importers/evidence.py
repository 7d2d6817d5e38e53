"""What the numbers of a set say about it, beside what its user says: its space, its tiles, its classes.

Optimised images are wider than real ones and nothing of them is clamped, so deviations tell spaces apart, not ranges.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from distill.data.preprocessing import Preprocessing

LOOKED_AT = 2000  # images
WIDER, NARROWER = 2.6, 1.75  # times that the deviation of a set may differ from that of real images in its space
CLOSER = 1.75  # times by which one space fits better than another that it rules out
INSIDE = 0.99  # share of pixels in [0, 1] that makes pixels of them
APART = 1.6  # times that tiled real images have stronger seams than whole ones, where seams can tell
BETTER = 0.10  # more accuracy that another order of classes must bring


@dataclass(frozen=True)
class Look:
    """Of images: share of values in [0, 1], mean, and deviation within channels."""

    inside: float
    mean: float
    sd: float

    @classmethod
    def of(cls, images: Tensor) -> "Look":
        """Of images (N, C, H, W), the first `LOOKED_AT` of them.

        >>> Look.of(torch.tensor([0.0, 1.0]).view(1, 1, 1, 2))
        Look(inside=1.0, mean=0.5, sd=0.5)
        """
        some = images[:LOOKED_AT].float()
        sd = some.transpose(0, 1).flatten(1).std(1, correction=0).mean()
        return cls(float(((some >= -0.01) & (some <= 1.01)).float().mean()), float(some.mean()), float(sd))


def looks_like(own: Look, real: Mapping[str, Look]) -> list[str]:
    """The spaces that images may be in; none where nothing can be told.

    Args:
        own: of the images.
        real: of the user's real images, in each space.
    """
    if own.inside >= INSIDE and own.mean > real["pixel01"].mean / 4:
        return ["pixel01"]
    ratios = {space: own.sd / max(look.sd, 1e-9) for space, look in real.items() if space != "pixel01"}
    fits = {space: max(ratio, 1 / ratio) for space, ratio in ratios.items() if 1 / NARROWER < ratio < WIDER}
    return [space for space, far in fits.items() if far < CLOSER * min(fits.values())]


def check_space(images: Tensor, space: str, how: str, pixels: Tensor, spaces: Mapping[str, Preprocessing]) -> str:
    """What speaks for ``space``, in words.

    Args:
        images: as the file has them, (N, C, H, W).
        how: ``stated`` or ``read``.
        pixels: of real images, in [0, 1].
        spaces: that are told apart.

    Raises:
        ValueError: the numbers speak for another one.
    """
    own, real = Look.of(images), {name: Look.of(each(pixels[:LOOKED_AT])) for name, each in spaces.items()}
    found = looks_like(own, real)
    told = ", ".join(f"{look.sd:.2f} {name}" for name, look in real.items())
    if found and space not in found:
        raise ValueError(
            f"sd {own.sd:.2f}, mean {own.mean:.2f}, {own.inside:.0%} of the values in [0, 1]: looks like {' or '.join(found)} "
            f"(real images have sd {told}), but space is {space} ({how}): state space={found[0]}, or another file"
        )
    known = "fits" if found else "cannot tell"
    return f"sd {own.sd:.2f}: {known} (real: {told})"


def seam(images: Tensor, factor: int) -> float:
    """How much neighbours across the borders of factor x factor cells differ, in units of how much all others do.

    About 1 for whole images, 3 to 4 for tiles of photographs.

    Args:
        images: (N, C, H, W).
    """
    across, within = [], []
    for dim in (2, 3):
        differences = images.diff(dim=dim).abs().mean((0, 1, 5 - dim))
        side = images.shape[dim]
        borders = torch.zeros(side - 1, dtype=torch.bool)
        borders[[k * -(-side // factor) - 1 for k in range(1, factor)]] = True
        across.append(differences[borders])
        within.append(differences[~borders])
    return float(torch.cat(across).mean() / torch.cat(within).mean().clamp_min(1e-9))


def tiled(images: Tensor, factor: int) -> Tensor:
    """Images (n, C, H, W) each put together from factor x factor smaller ones, by bilinear interpolation."""
    count, side = len(images) // factor**2, images.shape[2:]
    small = F.interpolate(
        images[: count * factor**2], size=(side[0] // factor, side[1] // factor), mode="bilinear", antialias=True
    )
    rows = small.view(count, factor, factor, *small.shape[1:])
    return torch.cat([torch.cat([rows[:, i, j] for j in range(factor)], 3) for i in range(factor)], 2)


def check_seams(stored: Tensor, factor: int, pixels: Tensor) -> str:
    """What the borders of cells say of ``factor``; without tiles, 2x2 is looked for.

    Args:
        stored: images (N, C, H, W) before decoding.
        pixels: of real images.

    Raises:
        ValueError: they speak against it.
    """
    cells, real = max(factor, 2), pixels[:LOOKED_AT].float()
    own, whole, pieces = (seam(each, cells) for each in (stored.float(), real, tiled(real, cells)))
    told = f"seams {own:.2f} at {cells}x{cells} (real images {whole:.2f} whole, {pieces:.2f} tiled)"
    if pieces < APART * whole:
        return f"{told}: cannot tell"
    has_tiles = own > (whole * pieces) ** 0.5
    if has_tiles != (factor > 1):
        raise ValueError(f"{told}, but factor is {factor}: state factor={1 if factor > 1 else 2}, or another file")
    return f"{told}: fits"


def check_order(predicted: Tensor, classes: Tensor, order: Tensor, names: tuple[str, ...]) -> str:
    """What a classifier of real images says of the order of classes.

    Args:
        predicted: its classes of the imported images, (N,).
        classes: theirs by the order at hand, (N,).
        order: our class of each of the file's, by the order at hand, (K,).

    Raises:
        ValueError: another order fits better by `BETTER`; the message names it.

    Source: the best permutation of the confusion matrix (Kuhn, 1955).
    """
    count = len(names)
    confusion = torch.bincount(classes * count + predicted, minlength=count**2).view(count, count)
    _, best = linear_sum_assignment(confusion.numpy(), maximize=True)
    own, other = (float(confusion[range(count), each].sum() / len(classes)) for each in (range(count), best))
    told = f"a classifier finds {own:.0%} of the classes, {other:.0%} in the best other order"
    if other - own > BETTER:
        found = ",".join(names[best[k]] for k in order[:20].tolist()) + ("" if count <= 20 else ", ...")
        raise ValueError(f"{told}: state class_order=[{found}]")
    return f"{told}: {'fits' if own > 2 / count else 'cannot tell'}"
