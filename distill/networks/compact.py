"""Small networks that a set is judged with beside its own (DC, arXiv:2006.05929; DC-BENCH, arXiv:2207.09639)."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torchvision.models as tv
from torch import nn

from distill.checks import check_ranges
from distill.networks.base import NORM, NORMS, Shape, Student, default_initialisation, first_stride, to_32


class MLP(Student):
    """Two hidden layers."""

    RANGES: ClassVar[Mapping[str, Any]] = {"width": "whole [1, 8192]"}

    def __init__(self, shape: Shape, num_classes: int, *, width: int):
        check_ranges("student", locals(), MLP.RANGES)
        layers = [nn.Flatten(), nn.Linear(math.prod(shape), width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
        super().__init__(shape, num_classes, nn.Sequential(*layers))


class LeNet(Student):
    """LeNet-5 with ReLU and max pooling; sides of 28 px are padded to 32."""

    def __init__(self, shape: Shape, num_classes: int):
        maps = nn.Sequential(
            nn.Conv2d(shape[0], 6, 5, stride=first_stride(shape), padding=to_32(shape, 0)),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        hidden = Student(shape, 120, maps).classifier
        super().__init__(shape, num_classes, nn.Sequential(maps, hidden, nn.ReLU(), nn.Linear(120, 84), nn.ReLU()))


class AlexNet(Student):
    """The small AlexNet of DC: five convolutions, three max poolings, no norm."""

    def __init__(self, shape: Shape, num_classes: int):
        layers = [
            nn.Conv2d(shape[0], 128, 5, stride=first_stride(shape), padding=to_32(shape, 2)),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(128, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
        for before, after in [(192, 256), (256, 192), (192, 192)]:
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
        super().__init__(shape, num_classes, nn.Sequential(*layers, nn.MaxPool2d(2)))


class VGG11(Student):
    """VGG-A's convolutions with a norm after each, and one linear layer."""

    RANGES: ClassVar[Mapping[str, Any]] = {"norm": NORM}

    def __init__(self, shape: Shape, num_classes: int, *, norm: str):
        check_ranges("student", locals(), VGG11.RANGES)
        layers: list[nn.Module] = []
        channels = shape[0]
        for stage in [[64], [128], [256, 256], [512, 512], [512, 512]]:
            for width in stage:
                padding = 1 if layers else to_32(shape, 1)
                layers += [nn.Conv2d(channels, width, 3, padding=padding), NORMS[norm](width), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        layers[-1] = nn.MaxPool2d(2 * first_stride(shape))
        super().__init__(shape, num_classes, nn.Sequential(*layers))


class ShuffleNetV2(Student):
    """ShuffleNetV2 0.5x in CIFAR form: stem of stride 1, no max pooling (CV-DD's committee)."""

    def __init__(self, shape: Shape, num_classes: int):
        net = tv.ShuffleNetV2([4, 8, 4], [24, 48, 96, 192, 1024])
        net.conv1[0] = nn.Conv2d(shape[0], 24, 3, padding=1, bias=False)
        layers = [net.conv1, net.stage2, net.stage3, net.stage4, net.conv5, nn.AdaptiveAvgPool2d(1)]
        super().__init__(shape, num_classes, default_initialisation(nn.Sequential(*layers)))
