"""Convolutions whose second derivatives are as fast as the first ones.

PyTorch differentiates a convolution's gradient in its weights by a convolution with kernels as large as the maps. The three
maps below are each other's derivatives, to any order, and each is one call of the library's own kernels.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.autotune import in_one_piece
from distill.networks.functions import Function

FEW = 4  # channels up to which a gradient in images is a matrix product, summed over the kernel's places
WORTH = 5e7  # multiplications from which these are as fast or faster, 1.1 times; with fewer down to 0.75 times as fast
WORTH_FEW = 1e6  # the same of few channels: 1.1 to 2.4 times from there, down to 0.63 below


class Convolution(nn.Conv2d):
    """A convolution of stride 1, without groups, to be differentiated twice; in one precision, not under autocast.

    Small ones stay with PyTorch's own derivatives, which take fewer calls.
    """

    @classmethod
    def of(cls, layer: nn.Conv2d) -> "Convolution":
        """With the parameters of ``layer``."""
        made = cls(layer.in_channels, layer.out_channels, layer.kernel_size, device="meta")  # type: ignore[arg-type]
        made.padding, made.weight, made.bias = layer.padding, layer.weight, layer.bias
        return made

    def forward(self, images: Tensor) -> Tensor:
        """Maps (B, O, H', W') of images (B, C, H, W)."""
        small = images.numel() * self.weight[:, 0].numel() < (WORTH_FEW if self.in_channels <= FEW else WORTH)
        return super().forward(images) if small else convolve(images, self.weight, self.bias, self.padding)


def differentiable_twice(net: nn.Module) -> nn.Module:
    """``net`` with a `Convolution` in the place of every convolution that one can stand for; it shares its parameters."""
    for parent in list(net.modules()):
        for name, layer in parent.named_children():
            if type(layer) is nn.Conv2d and is_plain(layer):
                setattr(parent, name, Convolution.of(layer))
    return net


def is_plain(layer: nn.Conv2d) -> bool:
    steps = (*layer.stride, *layer.dilation, layer.groups)
    return set(steps) == {1} and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


@in_one_piece
def convolve(images: Tensor, weight: Tensor, bias: Tensor | None, padding: Any) -> Tensor:
    """`torch.nn.functional.conv2d` of stride 1."""
    return Convolve.of(images, weight, bias, tuple(padding))


class Differentiable(Function):
    """Of two tensors, each of which what comes out is linear in."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.padding = inputs[-1]


class Convolve(Differentiable):
    """Images (B, C, H, W), weight (O, C, k, k) and bias (O,) to maps (B, O, H', W')."""

    @staticmethod
    def forward(images: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
        return F.conv2d(images, weight, bias, padding=padding)

    @staticmethod
    def backward(ctx: Any, maps: Tensor) -> tuple[Any, ...]:
        images, weight = ctx.saved_tensors
        of_images = Spread.of(maps, weight, ctx.padding) if ctx.needs_input_grad[0] else None
        of_weight, of_bias = Correlate.of(maps, images, weight.shape[-2:], ctx.padding)
        return of_images, of_weight, of_bias if ctx.needs_input_grad[2] else None, None


class Spread(Differentiable):
    """Maps and weight to images: the gradient in images of a convolution that has the gradient ``maps``."""

    @staticmethod
    def forward(maps: Tensor, weight: Tensor, padding: tuple[int, int]) -> Tensor:
        if weight.shape[1] > FEW:
            return F.conv_transpose2d(maps, weight, padding=padding)
        size = tuple(n + k - 1 - 2 * p for n, k, p in zip(maps.shape[-2:], weight.shape[-2:], padding, strict=True))
        places = weight.flatten(1).t().contiguous() @ maps.flatten(2)
        return F.fold(places, size, weight.shape[-2:], padding=padding)

    @staticmethod
    def backward(ctx: Any, images: Tensor) -> tuple[Any, ...]:
        maps, weight = ctx.saved_tensors
        of_maps = Convolve.of(images, weight, None, ctx.padding) if ctx.needs_input_grad[0] else None
        of_weight = Correlate.of(maps, images, weight.shape[-2:], ctx.padding)[0] if ctx.needs_input_grad[1] else None
        return of_maps, of_weight, None


class Correlate(Differentiable):
    """Maps and images to weight and bias: their gradients of a convolution that has the gradient ``maps``."""

    @staticmethod
    def forward(
        maps: Tensor, images: Tensor, kernel: tuple[int, int], padding: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        shape = (maps.shape[1], images.shape[1], *kernel)
        backward = torch.ops.aten.convolution_backward
        _, of_weight, of_bias = backward(
            maps,
            images,
            images.new_empty(shape),
            [shape[0]],
            [1, 1],
            padding,
            [1, 1],
            False,
            [0, 0],
            1,
            [False, True, True],
        )
        return of_weight, of_bias

    @staticmethod
    def backward(ctx: Any, weight: Tensor, bias: Tensor) -> tuple[Any, ...]:
        maps, images = ctx.saved_tensors
        of_maps = Convolve.of(images, weight, bias, ctx.padding) if ctx.needs_input_grad[0] else None
        of_images = Spread.of(maps, weight, ctx.padding) if ctx.needs_input_grad[1] else None
        return of_maps, of_images, None, None
