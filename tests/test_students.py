import pytest
import torch
from conftest import composed
from hydra.utils import instantiate
from torch import nn
from torch.nn.utils import parameters_to_vector

from distill.networks.base import laid_out, restart
from distill.networks.compact import MLP, VGG11, AlexNet, LeNet
from distill.networks.convnet import ConvNet
from distill.networks.cvdd import DenseNet121, MobileNetV2
from distill.networks.flat import FlatStudent, flatten
from distill.networks.resnet import ImageNetResNet, ResNet
from distill.networks.vit import ViT
from distill.teachers.committee import batch_norms
from distill.wording import pick

CONVNET = dict(depth=None, width=128, norm="instance", pooling="avg", activation="relu")
VIT = dict(patch=4, dim=512, depth=6, heads=8, dropout=0.1)


def size(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    "shape, classes, make, count",
    [
        ((3, 32, 32), 10, lambda s, k: ConvNet(s, k, **CONVNET), 320_010),  # the three counts of the specification
        ((3, 32, 32), 100, lambda s, k: ConvNet(s, k, **CONVNET), 504_420),
        ((3, 64, 64), 200, lambda s, k: ConvNet(s, k, **CONVNET), 857_160),
        ((3, 32, 32), 10, lambda s, k: MLP(s, k, width=128), 411_146),  # the rest by hand from the layers
        ((3, 32, 32), 10, lambda s, k: LeNet(s, k), 62_006),
        ((3, 32, 32), 10, lambda s, k: AlexNet(s, k), 1_872_202),
        ((3, 32, 32), 10, lambda s, k: VGG11(s, k, norm="instance"), 9_231_114),
        ((3, 32, 32), 10, lambda s, k: ResNet(s, k, depth=18, norm="instance"), 11_173_962),
        ((3, 32, 32), 10, lambda s, k: ResNet(s, k, depth=34, norm="batch"), 21_282_122),
        ((3, 32, 32), 10, lambda s, k: ResNet(s, k, depth=50, norm="instance"), 23_520_842),
        ((3, 32, 32), 10, MobileNetV2, 2_296_922),  # CV-DD's code
        ((3, 32, 32), 10, DenseNet121, 6_956_298),
        ((3, 224, 224), 1000, lambda s, k: ImageNetResNet(s, k, depth=18, weights=None), 11_689_512),
    ],
)
def test_parameter_counts_are_those_of_the_definitions(shape, classes, make, count):
    assert size(make(shape, classes)) == count


@pytest.mark.parametrize("side, depth", [(8, 2), (28, 3), (32, 3), (64, 4), (128, 5)])
def test_convnet_depth_follows_the_resolution(side, depth):
    net = ConvNet((1, side, side), 10, **{**CONVNET, "width": 4})
    assert sum(isinstance(m, torch.nn.Conv2d) for m in net.modules()) == depth
    assert net(torch.randn(2, 1, side, side)).shape == (2, 10)


@pytest.mark.parametrize("channels, side", [(1, 28), (3, 32), (3, 64)])
@pytest.mark.parametrize(
    "make",
    [
        lambda s: MLP(s, 7, width=8), lambda s: LeNet(s, 7), lambda s: AlexNet(s, 7), lambda s: VGG11(s, 7, norm="batch"),
        lambda s: ResNet(s, 7, depth=18, norm="instance"), lambda s: ImageNetResNet(s, 7, depth=18, weights=None),
        lambda s: ViT(s, 7, **VIT),
    ],
)  # fmt: skip
def test_every_network_takes_every_resolution(make, channels, side):
    net = make((channels, side, side)).eval()
    with torch.no_grad():
        assert net(torch.randn(2, channels, side, side)).shape == (2, 7)


def test_grey_28_px_images_become_32_px_maps():
    net = ConvNet((1, 28, 28), 10, **CONVNET)
    assert net.features[0](torch.zeros(1, 1, 28, 28)).shape[2:] == (32, 32)
    assert net.classifier.in_features == 2048


@pytest.mark.parametrize(
    "shape, last", [((1, 8, 8), True), ((1, 16, 16), True), ((1, 28, 28), False), ((3, 8, 8), False)]
)
def test_small_grey_images_go_through_channels_last_and_change_nothing(shape, last):
    images = torch.rand(5, *shape, dtype=torch.float64, requires_grad=True)
    seen = laid_out(images)
    assert seen.data_ptr() == images.data_ptr() and torch.equal(seen, images)
    layouts = []
    net = ConvNet(shape, 10, **{**CONVNET, "width": 4}).double()
    net.features[0].register_forward_hook(
        lambda layer, inputs, maps: layouts.append(maps.is_contiguous(memory_format=torch.channels_last))
    )
    (gradient,) = torch.autograd.grad(net(images).sum(), images)
    assert layouts == [last]
    plain = net.classifier(net.features(images).flatten(1)).sum()
    torch.testing.assert_close(gradient, torch.autograd.grad(plain, images)[0])


def test_instance_norm_makes_an_image_independent_of_its_batch():
    net = ConvNet((3, 8, 8), 5, **{**CONVNET, "width": 8}).train()
    images = torch.randn(6, 3, 8, 8)
    assert torch.allclose(net(images)[:1], net(images[:1]), atol=1e-6)
    assert not list(net.buffers())


def test_resnets_start_like_pytorch_layers_do():
    torch.manual_seed(0)
    conv = ResNet((3, 32, 32), 10, depth=18, norm="instance").requires_grad_(False).features[4][0].conv1
    bound = (64 * 9) ** -0.5  # PyTorch's default: uniform within 1 / sqrt(fan in)
    assert conv.weight.abs().max() <= bound and conv.weight.std() == pytest.approx(bound / 3**0.5, rel=0.05)


# Channels of CV-DD's batch norms in the order its code has them, the first of which weighs ten times.
MOBILE = [32] + [
    channels
    for before, width, expansion, stride in [
        (32, 16, 1, 1), (16, 24, 6, 1), (24, 24, 6, 1), (24, 32, 6, 2), *[(32, 32, 6, 1)] * 2, (32, 64, 6, 2),
        *[(64, 64, 6, 1)] * 3, (64, 96, 6, 1), *[(96, 96, 6, 1)] * 2, (96, 160, 6, 2), *[(160, 160, 6, 1)] * 2,
        (160, 320, 6, 1),
    ]
    for channels in [before * expansion] * 2 + [width] * (2 if stride == 1 and width != before else 1)
] + [1280]  # fmt: skip
DENSE = []
for layers, channels in [(6, 64), (12, 128), (24, 256), (16, 512)]:
    DENSE += [each for layer in range(layers) for each in (channels + 32 * layer, 128)] + [channels + 32 * layers]


@pytest.mark.parametrize("make, count, widths", [(MobileNetV2, 57, MOBILE), (DenseNet121, 120, DENSE)])
def test_cvdds_networks_have_its_batch_norms_in_its_order(make, count, widths):
    net = make((3, 32, 32), 100)
    norms, seen = batch_norms(net), []
    for norm in norms:
        norm.register_forward_hook(lambda norm, maps, out: seen.append(norm.num_features))
    maps = net.features[:-1](torch.zeros(2, 3, 32, 32))
    assert maps.shape[2:] == (4, 4) and net.classifier(torch.zeros(2, maps.shape[1])).shape == (2, 100)
    assert [norm.num_features for norm in norms] == widths and len(widths) == count
    assert sorted(seen) == sorted(widths) and seen[0] == widths[0]  # all of them are asked, and the first one first
    assert not any(isinstance(module, nn.ReLU6) for module in net.modules())


def test_decoupled_resnets_start_as_torchvisions_do():
    torch.manual_seed(0)
    make = instantiate(composed("student=resnet18_bn_kaiming").student.resnet18_bn_kaiming)
    net = make((3, 32, 32), 10).requires_grad_(False)
    for made in ("built", "restarted"):
        stem, *convs = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
        assert stem.weight.abs().max() <= 27**-0.5, made  # the exchanged stem keeps PyTorch's uniform start
        for conv in convs:
            fan_out = conv.out_channels * conv.kernel_size[0] ** 2
            assert conv.weight.std() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05), made
            assert conv.weight.abs().max() > 3 * conv.weight.std(), made  # normal, not uniform
        restart(net)


def test_flat_calls_equal_module_calls_and_flatten_round_trips():
    net = ConvNet((3, 8, 8), 5, **{**CONVNET, "width": 8})
    theta, images = flatten(net), torch.randn(4, 3, 8, 8)
    expected = net(images)
    flat = FlatStudent(net)
    assert len(theta) == size(net)
    assert torch.equal(flat(theta, images), expected)
    assert torch.equal(torch.cat([p.reshape(-1) for p in flat.unflatten(theta).values()]), theta)


def test_flatten_copies():
    net = MLP((1, 2, 2), 2, width=3)
    theta = flatten(net)
    with torch.no_grad():
        next(net.parameters()).add_(1.0)
    assert not torch.equal(theta, parameters_to_vector(net.parameters()))


def test_networks_with_batch_statistics_have_no_trajectory():
    with pytest.raises(ValueError, match="keeps batch statistics.*norm=instance"):
        FlatStudent(ConvNet((3, 8, 8), 5, **{**CONVNET, "norm": "batch"}))


def test_bad_arguments_are_told_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown student.norm 'x': one of instance, batch"):
        ConvNet((3, 8, 8), 5, **{**CONVNET, "norm": "x"})
    with pytest.raises(ValueError, match="unknown student.depth 19: one of 18, 34, 50"):
        ResNet((3, 32, 32), 5, depth=19, norm="instance")
    with pytest.raises(ValueError, match="VGG11 cannot take 8x8 images"):
        VGG11((1, 8, 8), 10, norm="instance")
    with pytest.raises(ValueError, match="divisible by 4"):
        ViT((1, 10, 10), 10, **VIT)
    assert pick({"a": 1}, "a", "x") == 1
