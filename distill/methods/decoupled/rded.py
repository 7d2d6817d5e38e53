"""RDED (Sun et al., CVPR 2024, arXiv:2312.03526): composites of the real crops that a teacher finds most real."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill import rng
from distill.augment.crops import boxes, resize_boxes
from distill.augment.tiles import stitched
from distill.checks import setting
from distill.data.split import Split
from distill.methods.base import Inputs, LoopSettings, given
from distill.methods.picked import RealPixels
from distill.sizes import Size
from distill.teachers.committee import Committee
from distill.training.recipe import TEACHERS


@dataclass(frozen=True, kw_only=True)
class RDEDSettings(LoopSettings):
    """Of `RDED`.

    Attributes:
        steps: classes; None is all of them.
        pool: real images of a class that are looked at.
        patches: crops of each, of the image's own shape (square, as in the paper, where images are).
        factor: an image is put together from factor x factor patches.
    """

    steps: int | None = setting("null or whole [0, 100000000]")
    pool: int = setting("whole [1, 1000000]")
    patches: int = setting("whole [1, 1000]")
    factor: int = setting("whole [1, 100]")


class RDED(RealPixels):
    """One step makes one class's images, by the committee's first member.

    Raises:
        ValueError: the image's side is no multiple of the factor, or the pool is too small.
    """

    RANGES: ClassVar[Mapping[str, Any]] = {"committee": TEACHERS}
    settings_type = RDEDSettings
    settings: RDEDSettings

    def __init__(self, inputs: Inputs, settings: RDEDSettings):
        real, steps = inputs.real, settings.steps
        check_pool(real, settings.pool, inputs.ipc, settings.factor)
        steps = real.num_classes if steps is None else steps
        if steps > real.num_classes:
            raise ValueError(f"method.steps is {steps}, a step is one of the {real.num_classes} classes: leave it null")
        super().__init__(inputs, replace(settings, steps=steps))
        self.committee = given(inputs.committee, "committee")

    @property
    def real_each(self) -> int:
        return self.settings.factor**2

    def images_a_step(self) -> float:
        return self.settings.pool * self.settings.patches / 3  # views of a class, forward alone

    @property
    def at_once(self) -> int:
        return self.settings.pool * self.settings.patches

    def lighter(self, images: int) -> dict[str, Any]:
        return {"pool": max(self.settings.factor**2, min(self.settings.pool, images // self.settings.patches))}

    def rehearsal(self, images: int) -> dict[str, Any]:
        return {"ipc": 1, **self.lighter(images)}  # a step is of one class

    def learn(self, step: int) -> None:
        """Put one class's images together."""
        pool, patches, factor = self.settings.pool, self.settings.patches, self.settings.factor
        own = {step: range(self.counts[step])}
        images, errors = composites(self.real, self.committee, self.counts, self.seed, pool, patches, factor, own)
        with torch.no_grad():
            self.synset.images[self.synset.classes == step] = images
        self.log("matching_loss", errors[0].mean())


def check_pool(real: Split, pool: int, ipc: Size, factor: int) -> None:
    """Raise ValueError if the composites do not divide into patches, or ``pool`` images of a class are too few for them."""
    check_factor(real, factor)
    most = max(real.asked(ipc)) * factor**2
    if pool < most:
        raise ValueError(f"method.pool is {pool}, expected at least ipc x factor^2 = {most}")


def check_factor(real: Split, factor: int) -> None:
    """Raise ValueError if images do not divide into ``factor`` along each side."""
    if real.shape[1] % factor or real.shape[2] % factor:
        raise ValueError(f"method.factor is {factor}: images of {real.shape[1]}x{real.shape[2]} do not divide by it")


def composites(
    real: Split,
    committee: Committee,
    counts: Sequence[int],
    seed: int,
    pool: int,
    patches: int,
    factor: int,
    wanted: Mapping[int, Sequence[int]] | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Images put together from real crops, (N, C, H, W) by class, and by class the patches' errors, (count x factor^2,).

    Of each of ``pool`` random images of a class the best of ``patches`` crops of its own shape is kept, of these the ones
    with the smallest cross-entropy under the committee's first member; tile k of image n holds the one ranked
    k x count + n. A class gets ``counts[cls]`` images, of which those ``wanted`` are put together, by class their numbers n.

    Source: RDED's code; a crop is judged on a whole image of the mean colour with the crop in its centre.
    """
    net, (_, height, width) = committee.nets[0], real.shape
    tall, wide = height // factor, width // factor
    images, errors = [], []
    if wanted is None:
        wanted = {cls: range(count) for cls, count in enumerate(counts)}
    for cls, numbers in wanted.items():
        own = real.sample(cls, pool, rng.generator(seed, "pool", cls))
        g = rng.generator(seed, "patches", cls)
        crops = torch.stack(
            [resize_boxes(own, boxes(len(own), own, 0.08, g, stretch=1.0), (tall, wide)) for _ in range(patches)], 1
        )
        error = framed_errors(net, crops.flatten(0, 1), (height, width), cls).view(len(own), patches)
        least, which = error.min(1)
        order = least.argsort(stable=True)[: counts[cls] * factor**2]
        best = crops[order, which[order]].unflatten(0, (factor**2, counts[cls]))
        images.append(stitched(best[:, list(numbers)], factor))
        errors.append(least[order])
    return torch.cat(images), errors


@torch.no_grad()
def framed_errors(net: nn.Module, crops: Tensor, size: tuple[int, int], cls: int) -> Tensor:
    """The cross-entropy of a class for crops (n, C, h, w), each in the centre of an image of the mean colour, (n,).

    Args:
        size: height and width of that image.
    """
    (tall, wide), (height, width) = crops.shape[2:], size
    above, beside = (height - tall) // 2, (width - wide) // 2
    frame = beside, width - wide - beside, above, height - tall - above
    logits = torch.cat([net(F.pad(part, frame)) for part in crops.split(250)])
    return F.cross_entropy(logits, torch.full((len(logits),), cls, device=logits.device), reduction="none")
