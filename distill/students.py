"""Networks a synthetic set is judged with, and calls on one flat parameter vector.

Every network is `features` (images (B, C, H, W) -> maps) followed by a linear `classifier` on the flattened maps, and
starts from PyTorch's default initialisation unless it says otherwise. At 32 px the definitions are those of the
dataset-condensation papers (DC, arXiv:2006.05929; MTT, arXiv:2203.11932; DC-BENCH, arXiv:2207.09639). From 64 px on,
LeNet, AlexNet and ResNet double their first stride and VGG11 its last pooling, as DATM and PAD do on Tiny-ImageNet.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import torch
import torchvision.models as tv
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parameters_to_vector

from distill.ranges import check_ranges

Shape = tuple[int, int, int]  # channels, height, width of one image

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "instance": lambda width: nn.GroupNorm(width, width),  # one channel a group: no statistics outlive the batch
    "batch": nn.BatchNorm2d,
    "layer": lambda width: nn.GroupNorm(1, width),
    "group": lambda width: nn.GroupNorm(4, width),
    "none": lambda width: nn.Identity(),
}
POOLINGS: dict[str, Callable[[], nn.Module]] = {
    "avg": partial(nn.AvgPool2d, 2), "max": partial(nn.MaxPool2d, 2), "none": nn.Identity,
}  # fmt: skip
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU, "leaky_relu": partial(nn.LeakyReLU, 0.01), "sigmoid": nn.Sigmoid, "softplus": nn.Softplus,
}  # fmt: skip
NORM = f"one of {', '.join(NORMS)}"


class Student(nn.Module):
    """`features`, then a linear `classifier` as wide as what `features` makes of one image.

    Args:
        shape: (C, H, W) of one image.
        num_classes: K.
        features: maps images (B, C, H, W) to anything (B, ...).

    Raises:
        ValueError: an image of this shape is too small for the network.
    """

    def __init__(self, shape: Shape, num_classes: int, features: nn.Module):
        super().__init__()
        self.features = features
        try:
            with torch.no_grad():
                width = features.eval()(torch.zeros(1, *shape)).flatten(1).shape[1]
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{type(self).__name__} cannot take {shape[1]}x{shape[2]} images: {error}") from None
        features.train()
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W)."""
        return self.classifier(self.features(images).flatten(1))

    def start(self) -> None:
        """Go from PyTorch's default start, which fresh layers have, to the network's own."""


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
            blocks += [
                nn.Conv2d(channels if block == 0 else width, width, 3, padding=padding),
                NORMS[norm](width),
                ACTIVATIONS[activation](),
                POOLINGS[pooling](),
            ]
        super().__init__(shape, num_classes, nn.Sequential(*blocks))


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


class ShuffleNetV2(Student):
    """ShuffleNetV2 0.5x in CIFAR form: stem of stride 1, no max pooling (CV-DD's committee)."""

    def __init__(self, shape: Shape, num_classes: int):
        net = tv.ShuffleNetV2([4, 8, 4], [24, 48, 96, 192, 1024])
        net.conv1[0] = nn.Conv2d(shape[0], 24, 3, padding=1, bias=False)
        layers = [net.conv1, net.stage2, net.stage3, net.stage4, net.conv5, nn.AdaptiveAvgPool2d(1)]
        super().__init__(shape, num_classes, default_initialisation(nn.Sequential(*layers)))


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


class FlatStudent:
    """A network called with its parameters as one vector (P,), the form in which trajectories are stored.

    Args:
        net: its own parameters stay as they are.
        with_state: take networks with batch statistics too; a call updates them.

    Raises:
        ValueError: the network carries statistics beside its parameters (batch norm), which no vector holds.
    """

    def __init__(self, net: nn.Module, with_state: bool = False):
        if list(net.buffers()) and not with_state:
            raise ValueError(
                f"{type(net).__name__} keeps batch statistics, trajectories hold parameters only: norm=instance"
            )
        self.net = net.requires_grad_(False)
        self.names = [name for name, _ in net.named_parameters()]
        self.shapes = [parameter.shape for parameter in net.parameters()]
        self.sizes = [shape.numel() for shape in self.shapes]

    def __call__(self, theta: Tensor, images: Tensor) -> Tensor:
        """Logits (B, K) under weights ``theta`` (P,), differentiable in both to any order."""
        return functional_call(self.net, self.unflatten(theta), (images,))

    def __len__(self) -> int:
        return sum(self.sizes)

    def matrices(self) -> Tensor:
        """(P,): 1 where an entry belongs to a tensor of two dimensions or more, 0 on biases and norms."""
        return torch.cat(
            [torch.full((size,), float(len(shape) > 1)) for size, shape in zip(self.sizes, self.shapes, strict=True)]
        )

    def unflatten(self, theta: Tensor) -> dict[str, Tensor]:
        """Views into ``theta`` under the parameters' names."""
        parts = theta.split(self.sizes)
        return {name: part.view(shape) for name, part, shape in zip(self.names, parts, self.shapes, strict=True)}


def flatten(net: nn.Module) -> Tensor:
    """A copy of all parameters as one vector (P,), in module order; later training of ``net`` leaves it alone."""
    return parameters_to_vector(net.parameters()).detach().clone()


def restart(net: Student) -> None:
    """Fill ``net`` with fresh weights and statistics, under torch's global seed, by the law that building it anew follows.

    Raises:
        ValueError: the network holds parameters that no layer knows how to restart.
    """
    filled: set[int] = set()
    for module in net.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
            filled |= {id(parameter) for parameter in module.parameters()}
    if any(id(parameter) not in filled for parameter in net.parameters()):
        raise ValueError(f"{type(net).__name__} cannot be restarted in place: choose a convolutional network")
    net.start()


def default_initialisation(net: nn.Module) -> nn.Module:
    """``net`` with PyTorch's default start in its convolutions, which the field's networks keep; torchvision changes it."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.reset_parameters()
    return net


def kaiming_initialisation(net: nn.Module, exchanged: int) -> None:
    """Torchvision's start: Kaiming-normal convolutions, but for the first ``exchanged``, which took the place of its own."""
    for conv in [module for module in net.modules() if isinstance(module, nn.Conv2d)][exchanged:]:
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")


def stateless(net: nn.Module) -> bool:
    """Whether what the network says is a function of parameters and images alone: no batch statistics, no dropout."""
    random = any(isinstance(module, nn.Dropout | nn.MultiheadAttention) for module in net.modules())
    return not random and not list(net.buffers())


def pick(known: Mapping[Any, Any], name: Any, what: str) -> Any:
    """``known[name]``, or a ValueError that lists what is known."""
    if name not in known:
        raise ValueError(f"unknown {what} {name!r}: one of {', '.join(map(str, known))}")
    return known[name]


def to_32(shape: Shape, padding: int) -> tuple[int, int]:
    """A first convolution's padding of height and width: sides of 28 px become 32, so that halvings fit."""
    return tuple(padding + 2 * (side == 28) for side in shape[1:])  # type: ignore[return-value]


def first_stride(shape: Shape) -> int:
    return 2 if min(shape[1:]) >= 64 else 1


def _resnet_features(net: tv.ResNet) -> nn.Sequential:
    stages = [net.layer1, net.layer2, net.layer3, net.layer4]
    return nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, *stages, net.avgpool)
