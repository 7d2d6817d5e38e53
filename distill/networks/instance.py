"""Instance norm, leaky ReLU and the mean over 2x2 windows as one operator, with its first and second derivatives.

On a CPU the three are bound by memory: one pass through it, in C++, takes a fraction of their time. The operator goes under
autograd, `torch.func` (`vmap` included) and torch.compile. Elsewhere, and without a C++ compiler, the plain layers do.
"""

import ctypes
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill import native
from distill.autotune import a_constant, in_one_piece
from distill.networks.functions import Function

SOURCE = Path(__file__).with_name("instance.cpp")

KINDS = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2}
FORWARD, BACKWARD, TWICE = range(3)


class InstanceNorm(nn.GroupNorm):
    """Every channel of every image gets mean 0 and variance 1, then a learned scale and shift; activation and pooling follow.

    Its parameters are those of a group norm with one channel a group: no statistics outlive the batch.

    Args:
        width: channels C.
        slope: of a leaky ReLU below zero; 0 is ReLU, 1 none.
        window: side of the windows that are averaged: 2, or 1 for no pooling.
    """

    def __init__(self, width: int, slope: float = 1.0, window: int = 1):
        super().__init__(width, width)
        self.slope, self.window = slope, window

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, C, H // window, W // window) of maps (B, C, H, W)."""
        if goes(maps):
            return instance_norm(maps, self.weight, self.bias, [self.slope, self.window, self.eps])
        return self.plain(maps)

    def plain(self, maps: Tensor) -> Tensor:
        """The same by layers of PyTorch, which the operator is held against."""
        maps = super().forward(maps)
        if self.slope != 1:
            maps = F.leaky_relu(maps, self.slope) if self.slope else maps.relu()
        return F.avg_pool2d(maps, self.window) if self.window > 1 else maps

    def extra_repr(self) -> str:
        return f"{self.num_channels}, slope={self.slope}, window={self.window}"


def goes(maps: Tensor) -> bool:
    """Whether the operator takes these maps here."""
    return maps.device.type == "cpu" and maps.dtype in KINDS and available()


@a_constant
def available() -> bool:
    """Whether the operator could be compiled on this machine."""
    return library() is not None


@cache
def library() -> Any:
    """The function in C++, or None."""
    found = native.compiled(SOURCE)
    if found is None:
        return None
    pointer, number = ctypes.c_void_p, ctypes.c_double
    found.instance.argtypes = [*[ctypes.c_int] * 3, pointer, pointer, pointer, number, number, ctypes.c_int]
    found.instance.restype = None
    return found.instance


class Layout(NamedTuple):
    """How tensors of one operation lie in memory.

    Attributes:
        last: the channels of a pixel lie side by side, not the pixels of a channel.
        whole: sizes and strides of the maps.
        pooled: those of what comes out.
        numbers: the same as C++ reads them.
    """

    last: bool
    whole: tuple[tuple[int, ...], tuple[int, ...]]
    pooled: tuple[tuple[int, ...], tuple[int, ...]]
    numbers: Any


@lru_cache(4096)
def layout(shape: tuple[int, ...], stride: tuple[int, ...], window: int) -> Layout:
    """For maps of this shape and stride; dimensions keep the order that they have in memory.

    Raises:
        ValueError: the maps have neither 4 dimensions nor 5, or the window is neither 1 nor 2.
    """
    if len(shape) not in (4, 5):
        raise ValueError(f"maps have {len(shape)} dimensions, expected 4 or 5: vmap over one dimension at a time")
    if window not in (1, 2):
        raise ValueError(f"windows have a side of {window}, expected 1 or 2")
    dims = range(len(shape))
    *_, channel, row, pixel = dims
    order = sorted(dims, key=lambda dim: -stride[dim])
    if order.index(pixel) != order.index(row) + 1 or order[-1] not in (pixel, channel):
        order = list(dims)
    sizes = shape, (*shape[:-2], shape[-2] // window, shape[-1] // window)
    strides = [strides_of(size, order) for size in sizes]
    read = [(*(each[:-4] or (0,)), each[-4], each[-3], each[-1]) for each in strides]
    values = [*(shape[:-4] or (1,)), *shape[-4:], window, *read[0], *read[1]]
    whole, pooled = zip(sizes, strides, strict=True)
    return Layout(order[-1] == channel, whole, pooled, (ctypes.c_int64 * len(values))(*values))


def strides_of(shape: tuple[int, ...], order: Sequence[int]) -> tuple[int, ...]:
    """Of a tensor without gaps whose dimensions lie in this order."""
    strides, step = [0] * len(shape), 1
    for dim in reversed(order):
        strides[dim] = step
        step *= max(1, shape[dim])
    return tuple(strides)


def laid(tensor: Tensor, stride: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """``tensor`` with this stride and type; a copy if need be."""
    if tensor.stride() == stride and tensor.dtype is dtype:
        return tensor
    return torch.empty_strided(tensor.shape, stride, dtype=dtype, device=tensor.device).copy_(tensor)


def run(which: int, how: Sequence[float], at: Layout, tensors: Sequence[Tensor], vectors: Sequence[Tensor]) -> None:
    """Call the function in C++, which says what it reads and writes."""
    slope, _, eps = how
    pointers = [(ctypes.c_void_p * len(each))(*(one.data_ptr() for one in each)) for each in (tensors, vectors)]
    library()(which, KINDS[tensors[0].dtype], at.last, at.numbers, *pointers, slope, eps, torch.get_num_threads())


def vector(tensor: Tensor, maps: Tensor) -> Tensor:
    """As an array of the type that maps are computed in; ValueError if it is not of the channels of these maps."""
    if tensor.shape != (*maps.shape[:-4], maps.shape[-3]):
        raise ValueError(f"{tuple(tensor.shape)} values for the channels of maps {tuple(maps.shape)}")
    dtype = torch.float64 if maps.dtype is torch.float64 else torch.float32
    return tensor if tensor.dtype is dtype and tensor.is_contiguous() else tensor.to(dtype).contiguous()


def forward(maps: Tensor, weight: Tensor, bias: Tensor, how: Sequence[float]) -> Tensor:
    at, dtype = layout(maps.shape, maps.stride(), int(how[1])), maps.dtype
    made = torch.empty_strided(*at.pooled, dtype=dtype)
    run(FORWARD, how, at, [laid(maps, at.whole[1], dtype), made], [vector(weight, maps), vector(bias, maps)])
    return made


def backward(
    gradient: Tensor, maps: Tensor, weight: Tensor, bias: Tensor, how: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients in maps, weight and bias of what has ``gradient`` in the result of `forward`."""
    at, dtype = layout(maps.shape, maps.stride(), int(how[1])), maps.dtype
    in_maps = torch.empty_strided(*at.whole, dtype=dtype)
    each = [vector(weight, maps), vector(bias, maps)]
    in_weight, in_bias = (torch.empty_like(one) for one in each)
    tensors = [laid(maps, at.whole[1], dtype), in_maps, laid(gradient, at.pooled[1], dtype)]
    run(BACKWARD, how, at, tensors, [*each, in_weight, in_bias])
    return in_maps, in_weight.to(weight.dtype), in_bias.to(bias.dtype)


def twice(
    of_maps: Tensor, of_weight: Tensor, of_bias: Tensor, gradient: Tensor, maps: Tensor, weight: Tensor, bias: Tensor,
    how: Sequence[float],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients in ``gradient``, maps and weight of what has ``of_...`` in the results of `backward`."""
    at, dtype = layout(maps.shape, maps.stride(), int(how[1])), maps.dtype
    in_maps, in_gradient = (torch.empty_strided(*each, dtype=dtype) for each in (at.whole, at.pooled))
    each = [vector(one, maps) for one in (weight, bias, of_weight, of_bias)]
    in_weight = torch.empty_like(each[0])
    whole = [laid(maps, at.whole[1], dtype), laid(of_maps, at.whole[1], dtype), in_maps]
    run(TWICE, how, at, [*whole, laid(gradient, at.pooled[1], dtype), in_gradient], [*each, in_weight])
    return in_gradient, in_maps, in_weight.to(weight.dtype)


def node(function: Callable[..., Any], schema: str, like: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, which torch.compile takes as one node of its graph: ``like`` makes tensors like those that come out.

    Elsewhere it is called itself: a node costs tens of microseconds.
    """
    made = torch.library.custom_op(
        f"distill::instance_norm_{function.__name__}", function, mutates_args=(), schema=schema
    )
    made.register_fake(like)
    NODES.append(made)
    return lambda *inputs: (function if type(inputs[0]) is Tensor else made)(*inputs)


NODES: list[Any] = []


def parts_like(maps: Tensor, how: Sequence[float]) -> list[Tensor]:
    """Empty tensors: one that lies as the maps do, one as what comes out."""
    at = layout(maps.shape, maps.stride(), int(how[1]))
    return [torch.empty_strided(*each, dtype=maps.dtype) for each in (at.whole, at.pooled)]


MAPS = "Tensor maps, Tensor weight, Tensor bias, float[] how"

FORWARD_NODE = node(forward, f"({MAPS}) -> Tensor", lambda maps, weight, bias, how: parts_like(maps, how)[1])

BACKWARD_NODE = node(
    backward,
    f"(Tensor gradient, {MAPS}) -> (Tensor, Tensor, Tensor)",
    lambda gradient, maps, weight, bias, how: (parts_like(maps, how)[0], weight.clone(), bias.clone()),
)

TWICE_NODE = node(
    twice,
    f"(Tensor of_maps, Tensor of_weight, Tensor of_bias, Tensor gradient, {MAPS}) -> (Tensor, Tensor, Tensor)",
    lambda *inputs: (*parts_like(inputs[4], inputs[-1])[::-1], inputs[5].clone()),
)


class Differentiable(Function):
    """What `torch.func` and autograd ask of an operator on tensors that ends in how it works."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        *tensors, ctx.how = inputs
        ctx.save_for_backward(*tensors)

    @classmethod
    def stacked(cls, info: Any, dims: tuple[int | None, ...], inputs: tuple[Any, ...]) -> list[Any]:
        """Inputs of the operator for what `torch.func.vmap` maps over: that becomes the networks."""
        *tensors, how = inputs
        fronts = [
            each.expand(info.batch_size, *each.shape) if dim is None else each.movedim(dim, 0)
            for each, dim in zip(tensors, dims, strict=False)
        ]
        return [*fronts, how]


class Forward(Differentiable):
    @staticmethod
    def forward(*inputs: Any) -> Tensor:
        return FORWARD_NODE(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return *Backward.of(gradient, *ctx.saved_tensors, ctx.how), None

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
        return Forward.of(*Forward.stacked(info, dims, inputs)), 0


class Backward(Differentiable):
    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        return BACKWARD_NODE(*inputs)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        in_gradient, in_maps, in_weight = Twice.of(*cotangents, *ctx.saved_tensors, ctx.how)
        return in_gradient, in_maps, in_weight, None, None  # z is linear in the bias

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], *inputs: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        return Backward.of(*Backward.stacked(info, dims, inputs)), (0, 0, 0)


class Twice(Differentiable):
    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        return TWICE_NODE(*inputs)

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], *inputs: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        return Twice.of(*Twice.stacked(info, dims, inputs)), (0, 0, 0)


@in_one_piece
def instance_norm(maps: Tensor, weight: Tensor, bias: Tensor, how: Sequence[float]) -> Tensor:
    """Maps normalised, activated and pooled; differentiable twice.

    Args:
        maps: (B, C, H, W) or, for G networks at once, (G, B, C, H, W); float32, float64 or bfloat16, on a CPU.
        weight, bias: (C,), or (G, C) for maps of G networks.
        how: slope of the activation below zero; side of the windows, 1 or 2 (a last odd row or column is left out, as by
            `torch.nn.AvgPool2d`); what is added to the variance.

    Raises:
        ValueError: shapes or the window are others.
    """
    return Forward.of(maps, weight, bias, list(how))
