"""Critical regions: where a network sees the class of an image, and composites of crops that hold much of it (NRR-DD)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill import rng
from distill.augment.crops import boxes, resize_boxes
from distill.augment.tiles import stitched
from distill.data.split import Split
from distill.methods.decoupled.rded import framed_errors
from distill.networks.base import Student, laid_out

TOGETHER = 250  # images that go through a network at once


@torch.no_grad()
def activation_maps(net: Student, images: Tensor, classes: Tensor) -> Tensor:
    """Class activation maps in [0, 1], (B, 1, H, W): what each place adds to the logit of the image's class.

    The last maps A weighed by the classifier, ReLU(sum_k W_yk A_k), brought to [0, 1] by the least and the largest value of
    each image, then enlarged to it (bilinear). Where the network pools its maps to one place, A is what is pooled; where the
    classifier has weights for each place, as the ConvNet's, these are taken. A map of one value is 0.

    Args:
        images: (B, C, H, W).
        classes: (B,).

    Raises:
        ValueError: the network has no maps of more than one place.

    Source: Zhou et al., CVPR 2016, arXiv:1512.04150; which map NRR-DD takes is not told.
    """
    return torch.cat([_maps(net, *part) for part in zip(images.split(TOGETHER), classes.split(TOGETHER), strict=True)])


def _maps(net: Student, images: Tensor, classes: Tensor) -> Tensor:
    maps = last_maps(net, images)
    weights = net.classifier.weight[classes]
    pooled = weights.shape[1] == maps.shape[1]
    weighed = maps * (weights[:, :, None, None] if pooled else weights.view_as(maps))
    raw = weighed.sum(1, keepdim=True).relu()
    low, high = raw.amin((2, 3), keepdim=True), raw.amax((2, 3), keepdim=True)
    unit = (raw - low) / (high - low).clamp_min(1e-12)
    return F.interpolate(unit, images.shape[2:], mode="bilinear", align_corners=False).clamp(0, 1)


def last_maps(net: Student, images: Tensor) -> Tensor:
    """What ``net`` pools to one place, or else what its classifier is given, (B, C, h, w).

    Raises:
        ValueError: that is no map of more than one place.
    """
    kept: list[Tensor] = []
    pools = [module for module in net.features.modules() if isinstance(module, nn.AdaptiveAvgPool2d)]
    hooks = [pools[-1].register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))] if pools else []
    try:
        said = net.features(laid_out(images))
    finally:
        for hook in hooks:
            hook.remove()
    maps = kept[-1] if kept else said
    if maps.ndim != 4 or maps.shape[2] * maps.shape[3] == 1:
        raise ValueError(
            f"{type(net).__name__} has last maps of {tuple(maps.shape[1:])}, expected some of more than one place, which tell "
            "where a class is seen: take a convolutional teacher, or larger images"
        )
    return maps.float()


def mass_in(maps: Tensor, found: Tensor) -> Tensor:
    """Share of each map (B, 1, H, W) that lies in the image's box, (B,) in [0, 1]; 0 where the map is 0.

    Args:
        found: top, left, height and width, (B, 4).

    >>> mass_in(torch.ones(1, 1, 4, 4), torch.tensor([[1, 1, 2, 2]]))
    tensor([0.2500])
    """
    height, width = maps.shape[2:]
    top, left, tall, wide = found.to(maps.device)[:, :, None].unbind(1)
    rows, columns = (torch.arange(size, device=maps.device) for size in (height, width))
    inside = ((rows >= top) & (rows < top + tall))[:, :, None] & ((columns >= left) & (columns < left + wide))[:, None]
    return (maps[:, 0] * inside).sum((1, 2)) / maps.sum((1, 2, 3)).clamp_min(1e-12)


def critical_composites(
    real: Split, net: Student, counts: Sequence[int], seed: int, pool: int, patches: int, factor: int, critical: int
) -> Tensor:
    """Images of crops that hold much of what tells their class, and that a teacher is least sure of, (N, C, H, W).

    Of each of ``pool`` random images of a class the crop with the largest share of its class activation map is kept, of
    ``patches`` of the image's own shape; then the ``critical`` images with the largest shares; of these the ones with the
    largest cross-entropy under the teacher, where RDED takes the smallest. They are put together as RDED's.

    Source: CIDD of NRR-DD (arXiv:2503.18267); that an image gives one crop, and how the teacher is shown it (as RDED's), is
    assumed.
    """
    _, height, width = real.shape
    tall, wide = height // factor, width // factor
    images = []
    for cls, count in ((cls, count) for cls, count in enumerate(counts) if count):
        own = real.sample(cls, pool, rng.generator(seed, "pool", cls))
        g = rng.generator(seed, "patches", cls)
        maps = activation_maps(net, own, torch.full((len(own),), cls, device=own.device))
        found = torch.stack([boxes(len(own), own, 0.08, g, stretch=1.0) for _ in range(patches)], 1)
        shares = torch.stack([mass_in(maps, found[:, i]) for i in range(patches)], 1)
        largest, which = shares.max(1)
        best = resize_boxes(own, found[torch.arange(len(own)), which.cpu()], (tall, wide))
        few = largest.argsort(descending=True, stable=True)[:critical]
        errors = framed_errors(net, best[few], (height, width), cls)
        order = few[errors.argsort(descending=True, stable=True)[: count * factor**2]]
        images.append(stitched(best[order].unflatten(0, (factor**2, count)), factor))
    return torch.cat(images)
