"""Convolutions that are differentiated twice: equal to PyTorch's own, to the second derivative, under vmap and compiled."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import grad, vmap

from distill.autotune import fuse
from distill.networks import convolution
from distill.networks.convnet import ConvNet
from distill.networks.convolution import Convolution, convolve, differentiable_twice
from distill.networks.flat import FlatStudent, flatten


@pytest.fixture(autouse=True)
def any_size(monkeypatch):
    """Small convolutions, too, are ours."""
    monkeypatch.setattr(convolution, "WORTH", 0)
    monkeypatch.setattr(convolution, "WORTH_FEW", 0)


def derivatives(function, tensors):
    """Value, gradients, and the gradients' product with fixed cotangents differentiated again."""
    value = function(*tensors)
    torch.manual_seed(1)
    pull = torch.randn_like(value).requires_grad_()
    first = torch.autograd.grad(value, tensors, pull, create_graph=True)
    cotangents = [torch.randn_like(each) for each in first]
    second = torch.autograd.grad(first, [pull, *tensors], cotangents, allow_unused=True, materialize_grads=True)
    return [value, *first, *second]


@pytest.mark.parametrize("channels", [1, 3, 8])  # gradients in few and in many channels go two ways
@pytest.mark.parametrize(
    "kernel, padding", [((3, 3), (1, 1)), ((5, 5), (2, 2)), ((3, 3), (3, 1)), ((1, 1), (0, 0)), ((3, 2), (0, 1))]
)
@pytest.mark.parametrize("biased", [True, False])
def test_derivatives_are_those_of_pytorch(channels, kernel, padding, biased):
    torch.manual_seed(0)
    shapes = [(2, channels, 7, 6), (5, channels, *kernel), *([(5,)] if biased else [])]
    tensors = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    ours = derivatives(lambda x, w, b=None: convolve(x, w, b, padding), tensors)
    for found, expected in zip(
        ours, derivatives(lambda x, w, b=None: F.conv2d(x, w, b, padding=padding), tensors), strict=True
    ):
        assert torch.allclose(found, expected, rtol=1e-10, atol=1e-10)


def networks():
    net = ConvNet((3, 8, 8), 3, depth=2, width=6, norm="instance", pooling="avg", activation="relu").double()
    return net, differentiable_twice(copy.deepcopy(net))


def product(net):
    """The Hessian's product with a vector, and the mixed one with images."""
    flat, labels = FlatStudent(net), torch.arange(4) % 3
    torch.manual_seed(2)
    pull = torch.randn(len(flat), dtype=torch.float64)

    def loss(theta, images):
        return F.cross_entropy(flat(theta, images), labels)

    return lambda *inputs: grad(lambda theta, images: grad(loss)(theta, images) @ pull, argnums=(0, 1))(*inputs)


@pytest.mark.parametrize("dims", [(0, 0), (None, 0), (0, None)])
def test_stacks_of_networks_have_the_same_products(dims):
    plain, ours = networks()
    weights, images = flatten(plain), torch.randn(4, 3, 8, 8, dtype=torch.float64)
    inputs = [
        each if dim is None else torch.stack([each, 1.1 * each])
        for each, dim in zip((weights, images), dims, strict=True)
    ]
    for found, expected in zip(*(vmap(product(net), dims)(*inputs) for net in (ours, plain)), strict=True):
        assert torch.allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_compiled_products_are_the_eager_ones():
    plain, ours = networks()
    inputs = flatten(plain), torch.randn(4, 3, 8, 8, dtype=torch.float64)
    for found, expected in zip(fuse(product(ours))(*inputs), product(plain)(*inputs), strict=True):
        assert torch.allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_a_network_keeps_its_parameters_and_what_no_convolution_of_ours_does():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.Sequential(nn.Conv2d(4, 4, 3, stride=2), nn.Conv2d(4, 4, 3, groups=2)),
        nn.Conv2d(4, 2, 1),
    )
    before, images = dict(net.named_parameters()), torch.randn(2, 3, 9, 9)
    expected = net(images)
    made = differentiable_twice(net)
    assert [type(layer) is Convolution for layer in (made[0], *made[1], made[2])] == [True, False, False, True]
    assert list(before) == [name for name, _ in made.named_parameters()]
    assert all(before[name] is parameter for name, parameter in made.named_parameters())
    assert torch.allclose(made(images), expected)


@pytest.mark.parametrize("channels, images, ours", [(3, 1, False), (3, 4, True), (8, 4, False), (8, 200, True)])
def test_small_convolutions_keep_pytorchs_own_derivatives(channels, images, ours, monkeypatch):
    monkeypatch.undo()
    layer = Convolution.of(nn.Conv2d(channels, 64, 3, padding=1))
    maps = layer(torch.randn(images, channels, 24, 24))
    assert maps.grad_fn.name().startswith("Convolve" if ours else "Convolution")
