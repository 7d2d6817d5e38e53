"""Networks a synthetic set is judged with, and calls on one flat parameter vector.

Every network is `features` (images (B, C, H, W) -> maps) followed by a linear `classifier` on the flattened maps, and
starts from PyTorch's default initialisation unless it says otherwise. At 32 px the definitions are those of the
dataset-condensation papers (DC, arXiv:2006.05929; MTT, arXiv:2203.11932; DC-BENCH, arXiv:2207.09639). From 64 px on,
LeNet, AlexNet and ResNet double their first stride and VGG11 its last pooling, as DATM and PAD do on Tiny-ImageNet.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from distill.networks.instance import InstanceNorm

Shape = tuple[int, int, int]  # channels, height, width of one image

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "instance": InstanceNorm,
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

SMALL = 16 * 16  # pixels

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
        return self.classifier(self.embedding(images))

    def embedding(self, images: Tensor) -> Tensor:
        """What the classifier sees of images (B, C, H, W), (B, F)."""
        return self.features(laid_out(images)).flatten(1)

    def start(self) -> None:
        """Go from PyTorch's default start, which fresh layers have, to the network's own."""


def with_head(net: Student, outputs: int) -> Student:
    """``net`` itself with a fresh linear classifier of so many outputs, made under torch's global seed.

    >>> from distill.networks.convnet import ConvNet
    >>> net = ConvNet((1, 8, 8), 10, depth=2, width=4, norm="batch", pooling="avg", activation="relu")
    >>> with_head(net, 3)(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 3])
    """
    net.classifier = nn.Linear(net.classifier.in_features, outputs).to(net.classifier.weight.device)
    return net


def laid_out(images: Tensor) -> Tensor:
    """Small images (B, 1, H, W) as channels last, with the same memory; all others as they are.

    One channel lies either way, and torch takes it for the usual one. On a CPU a step on 256 images of 8x8 takes 5.9 ms
    that way, 4.7 ms channels last; from 28x28 on the usual one is faster.
    """
    _, channels, height, width = images.shape
    if channels > 1 or height * width > SMALL or images.device.type != "cpu":
        return images
    return images.squeeze(1).unsqueeze(-1).permute(0, 3, 1, 2)


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


def to_32(shape: Shape, padding: int) -> tuple[int, int]:
    """A first convolution's padding of height and width: sides of 28 px become 32, so that halvings fit."""
    return tuple(padding + 2 * (side == 28) for side in shape[1:])  # type: ignore[return-value]


def first_stride(shape: Shape) -> int:
    return 2 if min(shape[1:]) >= 64 else 1
