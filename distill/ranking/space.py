"""N54: ConvNets so small that a machine of two cores finds out their true order."""

from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import torch
from torch import nn

from distill.effort import BACK, operations
from distill.networks.base import Shape
from distill.networks.convnet import ConvNet

DEPTHS, WIDTHS, NORMS, POOLINGS = (1, 2, 3), (16, 32, 64), ("none", "instance", "batch"), ("max", "avg")


@dataclass(frozen=True)
class Architecture:
    """A ConvNet of 3x3 convolutions with ReLU and a linear head.

    >>> Architecture(2, 32, "instance", "max").name
    'c3-d2-w32-nI-pM'
    """

    depth: int
    width: int
    norm: str
    pooling: str

    @property
    def name(self) -> str:
        return f"c3-d{self.depth}-w{self.width}-n{self.norm[0].upper()}-p{self.pooling[0].upper()}"

    @property
    def config(self) -> dict[str, Any]:
        """Settings of `distill.networks.convnet.ConvNet`."""
        return asdict(self) | {"activation": "relu"}

    def make(self, shape: Shape, num_classes: int) -> ConvNet:
        """A fresh one, under torch's global seed."""
        return ConvNet(shape, num_classes, **self.config)


N54 = tuple(Architecture(*axes) for axes in product(DEPTHS, WIDTHS, NORMS, POOLINGS))

REPEATED = N54[::9] + N54[4::9]  # twelve, four of each depth, whose truth has several seeds


def macs(net: nn.Module, shape: Shape) -> int:
    """Multiply-accumulates of convolutions and linear layers on one image (C, H, W), forward.

    >>> macs(Architecture(1, 16, "none", "avg").make((3, 32, 32), 10), (3, 32, 32))
    483328
    """
    return round(operations(lambda: net, torch.zeros(2, *shape)) / BACK / 2)
