"""DC-BENCH's vision transformer."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torchvision.models as tv
from torch import nn

from distill.checks import check_ranges
from distill.networks.base import Shape, Student


class ViT(Student):
    """DC-BENCH's vision transformer from torchvision's encoder: patch 4, dim 512, 6 layers, 8 heads, dropout 0.1."""

    RANGES: ClassVar[Mapping[str, Any]] = {
        "patch": "whole [1, 1024]",
        "dim": "whole [1, 4096]",
        "depth": "whole [1, 64]",
        "heads": "whole [1, 64]",
        "dropout": "[0, 1)",
    }

    def __init__(self, shape: Shape, num_classes: int, *, patch: int, dim: int, depth: int, heads: int, dropout: float):
        check_ranges("student", locals(), ViT.RANGES)
        if dim % heads:
            raise ValueError(f"student.dim is {dim}, expected a multiple of student.heads, {heads}")
        if shape[1] != shape[2] or shape[1] % patch:
            raise ValueError(f"ViT cannot take {shape[1]}x{shape[2]} images: square, with a side divisible by {patch}")
        net = tv.VisionTransformer(
            shape[1], patch, depth, heads, hidden_dim=dim, mlp_dim=dim, dropout=dropout, num_classes=num_classes
        )
        if shape[0] != 3:
            net.conv_proj = nn.Conv2d(shape[0], dim, patch, stride=patch)
        net.heads = nn.Identity()  # type: ignore[assignment]  # leaves the class token
        super().__init__(shape, num_classes, net)
