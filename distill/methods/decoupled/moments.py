"""Batch statistics of the images at hand, and how far they are from a teacher's running ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.teachers.committee import batch_norms

Moments = dict[nn.BatchNorm2d, tuple[Tensor, Tensor]]  # mean and variance, (groups, C), of what goes into each


@contextmanager
def gathered_statistics(net: nn.Module, groups: int) -> Iterator[Moments]:
    """What gets, as images go through ``net``, mean and biased variance, (groups, C), of every batch norm's input."""
    found: Moments = {}

    def measured(norm: nn.BatchNorm2d, maps: Tensor) -> Tensor:
        normed, mean, variance = MeasuredNorm.apply(maps, norm, groups)
        found[norm] = mean, variance
        return normed

    norms = batch_norms(net)
    for norm in norms:
        norm.forward = partial(measured, norm)  # type: ignore[method-assign]
    try:
        yield found
    finally:
        for norm in norms:
            del norm.forward


class MeasuredNorm(torch.autograd.Function):
    """A batch norm in evaluation mode that also gives mean and biased variance (groups, C) of its input (B, C, H, W).

    Autograd makes a dozen passes over the maps of the same mathematics; this one makes two each way.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor, norm: nn.BatchNorm2d, groups: int) -> tuple[Tensor, Tensor, Tensor]:
        assert norm.running_mean is not None and norm.running_var is not None
        unused = torch.zeros_like(norm.running_mean)  # its precision is the moments'
        each = [torch.batch_norm_update_stats(part, unused, unused.clone(), 0.0) for part in maps.chunk(groups)]
        mean, variance = (torch.stack(parts) for parts in zip(*each, strict=True))
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        ctx.save_for_backward(maps, mean, scale)
        normed = F.batch_norm(maps, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)
        return normed, mean, variance

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        maps, mean, scale = ctx.saved_tensors
        normed, of_mean, of_variance = slopes
        each = maps.unflatten(0, (len(mean), -1))
        count = each[0, :, 0].numel()
        factor = 2 / count * of_variance
        offset = of_mean / count - factor * mean
        by_group = torch.addcmul(offset[:, None, :, None, None], each, factor[:, None, :, None, None])
        return by_group.flatten(0, 1).addcmul_(normed, scale.view(-1, 1, 1)).to(maps.dtype), None, None


def statistics_distance(moments: Moments, first: float, targets: Moments | None = None) -> Tensor:
    """How far moments (groups, C), layer by layer, are from others, (groups,): sum of 2-norms, not squared.

    Args:
        first: weight of the first batch norm; the others have 1.
        targets: (groups, C) each; None are the running statistics.

    Source: SRe2L's code; the gradient of a norm that vanishes is 0.
    """
    parts = []
    for norm, (mean, variance) in moments.items():
        assert norm.running_mean is not None and norm.running_var is not None
        aim = (norm.running_mean, norm.running_var) if targets is None else targets[norm]
        parts.append((mean - aim[0]).norm(dim=1) + (variance - aim[1]).norm(dim=1))
    return first * parts[0] + sum(parts[1:])
