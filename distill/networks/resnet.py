"""ResNets: in CIFAR form, and torchvision's own for larger images."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torchvision.models as tv
from torch import nn

from distill.checks import check_ranges
from distill.networks.base import (
    NORM,
    NORMS,
    Shape,
    Student,
    default_initialisation,
    first_stride,
    kaiming_initialisation,
)


class ResNet(Student):
    """ResNet in CIFAR form: 3x3 stem of stride 1, no max pooling, then torchvision's four stages.

    Args:
        depth: 18, 34 or 50.
        norm: ``instance`` (the field's default) or ``batch``.
        init: ``default`` (PyTorch's, which configurations without it mean) or ``kaiming`` (torchvision's, which SRe2L, CDA and
            RDED keep in all convolutions but the exchanged stem).
    """

    STAGES: Mapping[int, tuple[Any, list[int]]] = {
        18: (tv.resnet.BasicBlock, [2, 2, 2, 2]),
        34: (tv.resnet.BasicBlock, [3, 4, 6, 3]),
        50: (tv.resnet.Bottleneck, [3, 4, 6, 3]),
    }

    RANGES: ClassVar[Mapping[str, Any]] = {
        "depth": f"one of {', '.join(map(str, STAGES))}",
        "norm": NORM,
        "init": "absent or one of default, kaiming",
    }

    def __init__(self, shape: Shape, num_classes: int, *, depth: int, norm: str, init: str = "default"):
        check_ranges("student", locals(), ResNet.RANGES)
        block, layers = self.STAGES[depth]
        net = tv.ResNet(block, layers, norm_layer=NORMS[norm])
        net.conv1 = nn.Conv2d(shape[0], 64, 3, stride=first_stride(shape), padding=1, bias=False)
        net.maxpool = nn.Identity()
        super().__init__(shape, num_classes, default_initialisation(_resnet_features(net)))
        self.init = init
        self.start()

    def start(self) -> None:
        """Torchvision's Kaiming-normal convolutions behind the stem, where ``init`` says so."""
        if self.init == "kaiming":
            kaiming_initialisation(self, exchanged=1)


class ImageNetResNet(Student):
    """torchvision's ResNet for larger images, with torchvision's own initialisation.

    Args:
        depth: 18, 34, 50, 101 or 152.
        weights: None, or the name of torchvision's published weights (``IMAGENET1K_V1``), fetched where there is a network;
            the classifier's too where the classes are ImageNet's thousand.
    """

    MAKERS = {18: tv.resnet18, 34: tv.resnet34, 50: tv.resnet50, 101: tv.resnet101, 152: tv.resnet152}
    RANGES: ClassVar[Mapping[str, Any]] = {
        "depth": f"one of {', '.join(map(str, MAKERS))}",
        "weights": "null or one of IMAGENET1K_V1, IMAGENET1K_V2",
    }

    def __init__(self, shape: Shape, num_classes: int, *, depth: int, weights: str | None):
        check_ranges("student", locals(), ImageNetResNet.RANGES)
        make = self.MAKERS[depth]
        net = make(num_classes=num_classes) if weights is None else make(weights=weights)
        if shape[0] != 3:
            net.conv1 = nn.Conv2d(shape[0], 64, 7, stride=2, padding=3, bias=False)
        super().__init__(shape, num_classes, _resnet_features(net))
        if weights is not None and num_classes == net.fc.out_features:
            self.classifier.load_state_dict(net.fc.state_dict())
        self.exchanged, self.published = int(shape[0] != 3), weights

    def start(self) -> None:
        """Torchvision's Kaiming-normal convolutions.

        Raises:
            ValueError: the network is one of published weights, which are not drawn.
        """
        if self.published is not None:
            raise ValueError(f"weights={self.published} are not drawn anew, as this method asks: use weights=null")
        kaiming_initialisation(self, self.exchanged)


def _resnet_features(net: tv.ResNet) -> nn.Sequential:
    stages = [net.layer1, net.layer2, net.layer3, net.layer4]
    return nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, *stages, net.avgpool)
