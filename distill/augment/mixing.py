"""Images mixed with partners: CutMix (arXiv:1905.04899) and MixUp (arXiv:1710.09412)."""

import math

import numpy as np
import torch
from torch import Generator, Tensor


def cutmix(images: Tensor, g: Generator, alpha: float) -> tuple[Tensor, Tensor, float]:
    """One box of all images replaced by their partners' (a permutation): the views, the partners, the share that stays."""
    share, partner = _share(g, alpha), torch.randperm(len(images), generator=g).to(images.device, non_blocking=True)
    height, width = images.shape[2:]
    spans = []
    for length in (height, width):
        half, centre = int(length * math.sqrt(1 - share)) // 2, int(torch.randint(length, (), generator=g))
        spans.append((max(0, centre - half), min(length, centre + half)))
    (top, bottom), (left, right) = spans
    views = images.clone()
    views[:, :, top:bottom, left:right] = images[partner, :, top:bottom, left:right]
    return views, partner, 1 - (bottom - top) * (right - left) / (height * width)


def mixup(images: Tensor, g: Generator, alpha: float) -> tuple[Tensor, Tensor, float]:
    """Every image blended with a partner (a permutation): the views, the partners, the share that stays."""
    share, partner = _share(g, alpha), torch.randperm(len(images), generator=g).to(images.device, non_blocking=True)
    return share * images + (1 - share) * images[partner], partner, share


def _share(g: Generator, alpha: float) -> float:
    """From Beta(alpha, alpha)."""
    state = np.random.default_rng(int(torch.randint(2**62, (), generator=g)))
    return float(state.beta(alpha, alpha))
