"""CV-DD's own networks for CIFAR (arXiv:2501.07575): two of its committee that differ from torchvision's by more than the stem.

Counts are those of its code; at 32 px the last maps are 4x4.
"""

import torchvision.models as tv
from torch import Tensor, nn

from distill.networks.base import Shape, Student, default_initialisation


class MobileNetV2(Student):
    """Stem and first two stages of stride 1, ReLU; every block expands, and every block of stride 1 has a shortcut.

    Torchvision's has ReLU6, no expansion in its first block, and shortcuts only where a block keeps its number of channels.
    2,296,922 parameters with 10 classes, 57 batch norms.
    """

    # expansion, channels, blocks, stride of the first one
    STAGES = [(1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]

    def __init__(self, shape: Shape, num_classes: int):
        layers, channels = [*_conv_norm(shape[0], 32, 3), nn.ReLU()], 32
        for expansion, width, blocks, stride in self.STAGES:
            for block in range(blocks):
                layers.append(InvertedResidual(channels, width, expansion, stride if block == 0 else 1))
                channels = width
        layers += [*_conv_norm(channels, 1280, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
        super().__init__(shape, num_classes, nn.Sequential(*layers))


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; at stride 1 plus the input, through a 1x1 convolution where widths differ."""

    def __init__(self, channels: int, width: int, expansion: int, stride: int):
        super().__init__()
        inner = expansion * channels
        self.body = nn.Sequential(
            *_conv_norm(channels, inner, 1),
            nn.ReLU(),
            *_conv_norm(inner, inner, 3, stride=stride, groups=inner),
            nn.ReLU(),
            *_conv_norm(inner, width, 1),
        )
        self.keeps_size = stride == 1
        self.shortcut = nn.Sequential(*_conv_norm(channels, width, 1) if self.keeps_size and channels != width else ())

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, width, H / stride, W / stride) of maps (B, channels, H, W)."""
        return self.body(maps) + self.shortcut(maps) if self.keeps_size else self.body(maps)


class DenseNet121(Student):
    """A 3x3 stem of stride 1, with neither norm nor ReLU nor pooling behind it; the rest is torchvision's.

    6,956,298 parameters with 10 classes, 120 batch norms.
    """

    def __init__(self, shape: Shape, num_classes: int):
        net = tv.DenseNet(32, (6, 12, 24, 16), 64)
        net.features.conv0 = nn.Conv2d(shape[0], 64, 3, padding=1, bias=False)
        del net.features.norm0, net.features.relu0, net.features.pool0
        layers = nn.Sequential(net.features, nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        super().__init__(shape, num_classes, default_initialisation(layers))


def _conv_norm(channels: int, width: int, kernel: int, stride: int = 1, groups: int = 1) -> tuple[nn.Module, nn.Module]:
    conv = nn.Conv2d(channels, width, kernel, stride, kernel // 2, groups=groups, bias=False)
    return conv, nn.BatchNorm2d(width)
