"""The network of the dataset-condensation papers (DC, arXiv:2006.05929; MTT, arXiv:2203.11932)."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

from torch import nn

from distill.checks import check_ranges
from distill.networks.base import ACTIVATIONS, NORM, NORMS, POOLINGS, Shape, Student, to_32
from distill.networks.instance import InstanceNorm

SLOPES = {"relu": 0.0, "leaky_relu": 0.01}

WINDOWS = {"none": 1, "avg": 2}


class ConvNet(Student):
    """``depth`` blocks of 3x3 convolution, norm, activation and 2x2 pooling (Gidaris & Komodakis's net as DC uses it).

    Args:
        depth: number of blocks; None is as many as widths are given, and of one width follows the shorter side: 2 at 8 px,
            3 at 28 and 32, 4 at 64, 5 at 128.
        width: channels of every block, or of each.
        norm: ``instance``, ``batch``, ``layer``, ``group`` or ``none``.
        pooling: ``avg``, ``max`` or ``none``.
        activation: ``relu``, ``leaky_relu``, ``sigmoid`` or ``softplus``.
    """

    RANGES: ClassVar[Mapping[str, Any]] = {
        "depth": "null or whole [1, 16]",
        "width": "whole [1, 2048] or list of whole [1, 2048]",
        "norm": NORM,
        "pooling": f"one of {', '.join(POOLINGS)}",
        "activation": f"one of {', '.join(ACTIVATIONS)}",
    }

    def __init__(
        self,
        shape: Shape,
        num_classes: int,
        *,
        depth: int | None,
        width: int | Sequence[int],
        norm: str,
        pooling: str,
        activation: str,
    ):
        check_ranges("student", locals(), ConvNet.RANGES)
        channels, *sides = shape
        if isinstance(width, int):
            width = [width] * (depth or max(2, round(math.log2(min(sides))) - 2))
        if depth not in (None, len(width)):
            raise ValueError(f"student.depth is {depth}, and student.width names {len(width)} blocks: depth=null")
        if norm == "group" and any(each % 4 for each in width):
            raise ValueError(f"student.width is {width[0]}, expected a multiple of 4 with norm=group")
        blocks: list[nn.Module] = []
        for before, after in pairwise([channels, *width]):
            padding = 1 if blocks else to_32(shape, 1)
            blocks.append(nn.Conv2d(before, after, 3, padding=padding))
            if norm == "instance" and activation in SLOPES and pooling in WINDOWS:
                one = InstanceNorm(after, SLOPES[activation], WINDOWS[pooling])
                blocks += [one, nn.Identity(), nn.Identity()]  # parameters keep the numbers in their names
            else:
                blocks += [NORMS[norm](after), ACTIVATIONS[activation](), POOLINGS[pooling]()]
        super().__init__(shape, num_classes, nn.Sequential(*blocks))
