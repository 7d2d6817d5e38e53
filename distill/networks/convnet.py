"""The network of the dataset-condensation papers (DC, arXiv:2006.05929; MTT, arXiv:2203.11932)."""

import math
from collections.abc import Mapping
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
        depth: number of blocks; None follows the shorter side: 2 at 8 px, 3 at 28 and 32, 4 at 64, 5 at 128.
        width: channels of every block.
        norm: ``instance``, ``batch``, ``layer``, ``group`` or ``none``.
        pooling: ``avg``, ``max`` or ``none``.
        activation: ``relu``, ``leaky_relu``, ``sigmoid`` or ``softplus``.
    """

    RANGES: ClassVar[Mapping[str, Any]] = {
        "depth": "null or whole [1, 16]",
        "width": "whole [1, 2048]",
        "norm": NORM,
        "pooling": f"one of {', '.join(POOLINGS)}",
        "activation": f"one of {', '.join(ACTIVATIONS)}",
    }

    def __init__(
        self, shape: Shape, num_classes: int, *, depth: int | None, width: int, norm: str, pooling: str, activation: str
    ):
        check_ranges("student", locals(), ConvNet.RANGES)
        if norm == "group" and width % 4:
            raise ValueError(f"student.width is {width}, expected a multiple of 4 with norm=group")
        channels, *sides = shape
        depth = depth or max(2, round(math.log2(min(sides))) - 2)
        blocks: list[nn.Module] = []
        for block in range(depth):
            padding = to_32(shape, 1) if block == 0 else 1
            blocks.append(nn.Conv2d(channels if block == 0 else width, width, 3, padding=padding))
            if norm == "instance" and activation in SLOPES and pooling in WINDOWS:
                one = InstanceNorm(width, SLOPES[activation], WINDOWS[pooling])
                blocks += [one, nn.Identity(), nn.Identity()]  # parameters keep the numbers in their names
            else:
                blocks += [NORMS[norm](width), ACTIVATIONS[activation](), POOLINGS[pooling]()]
        super().__init__(shape, num_classes, nn.Sequential(*blocks))
