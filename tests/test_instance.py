"""Instance norm, activation and pooling as one operator: equal to the plain layers, twice differentiable, on any layout."""

import subprocess
import sys
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from conftest import make_recipe
from torch.func import grad, vmap

from distill import native
from distill.autotune import fuse
from distill.networks import instance
from distill.networks.convnet import ConvNet
from distill.networks.flat import FlatStudent, flatten
from distill.networks.instance import InstanceNorm, instance_norm
from distill.training.batch import Batch
from distill.training.gradients import Gradients
from distill.training.losses import CrossEntropy

LAYOUTS = {"pixels": torch.contiguous_format, "channels last": torch.channels_last}
KINDS = [(1.0, 1), (0.0, 2), (0.01, 2), (0.0, 1)]  # slope, window


def plain(maps, weight, bias, slope, window):
    maps = F.leaky_relu(F.group_norm(maps, len(weight), weight, bias), slope)
    return F.avg_pool2d(maps, window) if window > 1 else maps


def ours(maps, weight, bias, slope, window):
    return instance_norm(maps, weight, bias, [slope, window, 1e-5])


def inputs(shape=(3, 5, 6, 8), dtype=torch.float64, layout="pixels"):
    torch.manual_seed(0)
    maps = (1 + 2 * torch.randn(shape)).to(dtype).contiguous(memory_format=LAYOUTS[layout])
    return [
        each.requires_grad_() for each in (maps, torch.randn(shape[1], dtype=dtype), torch.randn(shape[1], dtype=dtype))
    ]


def derivatives(function, tensors, slope, window):
    """Value, gradients, and the gradients' product with fixed cotangents differentiated again."""
    value = function(*tensors, slope, window)
    torch.manual_seed(1)
    pull = torch.randn_like(value, memory_format=torch.contiguous_format).requires_grad_()
    first = torch.autograd.grad(value, tensors, pull, create_graph=True)
    cotangents = [torch.randn_like(each, memory_format=torch.contiguous_format) for each in first]
    wanted = [pull, *tensors]
    second = torch.autograd.grad(first, wanted, cotangents, allow_unused=True, materialize_grads=True)
    return [value, *first, *second]


# One and many channels, more than fit side by side, odd sides, one pixel.
@pytest.mark.parametrize("shape", [(3, 5, 6, 8), (2, 33, 7, 9), (2, 16, 2, 2), (1, 1, 4, 4), (0, 3, 4, 4)], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_gradients_and_second_derivatives_are_those_of_the_plain_layers(shape, layout):
    for slope, window in KINDS:
        tensors = inputs(shape, layout=layout)
        for found, expected in zip(
            derivatives(ours, tensors, slope, window), derivatives(plain, tensors, slope, window), strict=True
        ):
            assert torch.allclose(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype, error", [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_lower_precision_is_as_near_as_its_digits_allow(dtype, error, layout):
    tensors = inputs((4, 20, 8, 8), dtype, layout)
    exact = [each.detach().double().requires_grad_() for each in tensors]
    for found, expected in zip(ours(*tensors, 0.0, 2), plain(*exact, 0.0, 2), strict=True):
        assert found.dtype == dtype
        assert (found.double() - expected).norm() <= error * expected.norm()
    gradients = (torch.autograd.grad(each.double().square().sum(), of) for each, of in (
        (ours(*tensors, 0.0, 2), tensors), (plain(*exact, 0.0, 2), exact)))  # fmt: skip
    for found, expected in zip(*gradients, strict=True):
        assert (found.double() - expected).norm() <= error * expected.norm()


def test_the_result_lies_in_memory_as_the_maps_do():
    for layout, window in product(LAYOUTS, (1, 2)):
        maps, weight, bias = inputs(layout=layout)
        assert ours(maps, weight, bias, 0.0, window).is_contiguous(memory_format=LAYOUTS[layout])


def test_maps_may_be_a_part_of_others_and_gradients_may_repeat():
    maps, weight, bias = inputs((3, 5, 9, 8))
    part = maps.detach()[:, :4, 1:7, ::2]
    assert torch.allclose(ours(part, weight[:4], bias[:4], 0.0, 2), plain(part, weight[:4], bias[:4], 0.0, 2))
    found, expected = (torch.autograd.grad(f(maps, weight, bias, 0.0, 2).sum(), maps)[0] for f in (ours, plain))
    assert torch.allclose(found, expected)


def test_what_is_no_number_stays_none():
    maps, weight, bias = inputs()
    with torch.no_grad():
        maps[1, 2, 3, 4] = torch.nan
    value = ours(maps, weight, bias, 0.0, 2)
    assert value[1, 2].isnan().all() and not value[0].isnan().any() and not value[1, 3].isnan().any()
    assert torch.autograd.grad(value.sum(), maps)[0][1, 2].isnan().all()


def test_any_number_of_threads_makes_the_same_bits():
    tensors, threads, found = inputs((5, 20, 8, 8), torch.float32), torch.get_num_threads(), []
    for number in (1, 2, 3):
        torch.set_num_threads(number)
        found.append(derivatives(ours, tensors, 0.0, 2))
    torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for others in found[1:] for a, b in zip(found[0], others, strict=True))


@pytest.mark.parametrize("window, pooling", [(2, "avg"), (1, "none")])
def test_networks_go_as_one_stack(window, pooling):
    net = ConvNet((2, 6, 6), 3, depth=2, width=20, norm="instance", pooling=pooling, activation="leaky_relu").double()
    flat, labels = FlatStudent(net), torch.tensor([0, 2])
    torch.manual_seed(0)
    weights = flatten(net) + 0.1 * torch.randn(3, len(flat), dtype=torch.float64)
    images = torch.randn(3, 2, 2, 6, 6, dtype=torch.float64)

    def loss(theta, images):
        return F.cross_entropy(flat(theta, images), labels)

    def product(theta, images):
        return grad(lambda theta: grad(loss)(theta, images) @ weights[0])(theta)

    for function in (loss, grad(loss), grad(loss, argnums=1), product):
        each = torch.stack([function(theta, part) for theta, part in zip(weights, images, strict=True)])
        assert torch.allclose(vmap(function)(weights, images), each, rtol=1e-9, atol=1e-9)
        alike = torch.stack([function(theta, images[0]) for theta in weights])
        assert torch.allclose(vmap(function, (0, None))(weights, images[0]), alike, rtol=1e-9, atol=1e-9)
        of_one = torch.stack([function(weights[0], part) for part in images])
        assert torch.allclose(vmap(function, (None, 0))(weights[0], images), of_one, rtol=1e-9, atol=1e-9)


def test_stacks_of_stacks_are_refused():
    maps, weight, bias = inputs((2, 3, 4, 4))
    with pytest.raises(ValueError, match="6 dimensions, expected 4 or 5"):
        ours(maps.expand(2, 2, 2, 3, 4, 4), weight, bias, 0.0, 2)


def test_memory_beyond_the_tensors_is_never_read_or_written():
    maps, weight, bias = inputs((2, 3, 6, 6))
    for given, window in (
        ((maps, weight[:2], bias), 1),
        ((maps, weight, bias[:2]), 1),
        ((maps[None], weight, bias), 1),
    ):
        with pytest.raises(ValueError, match="values for the channels of maps"):
            ours(*given, 0.0, window)
    with pytest.raises(ValueError, match="side of 3, expected 1 or 2"):
        ours(maps, weight, bias, 0.0, 3)


@pytest.mark.parametrize(("channels", "precision"), [(1, "bf16"), (1, "fp32"), (3, "bf16")])
def test_compiled_gradients_are_the_eager_ones_for_grey_images_too(channels, precision):
    torch.manual_seed(0)
    net = ConvNet((channels, 28, 28), 3, depth=2, width=128, norm="instance", pooling="avg", activation="relu")
    images, targets, recipe = torch.randn(1, 4, channels, 28, 28), torch.tensor([[0, 1, 2, 0]]), make_recipe(batch=4)
    batch = Batch(images, images, targets, torch.ones(1, 4), torch.arange(4)[None], 0)
    ways = (Gradients([net], recipe.with_(precision=precision), CrossEntropy(), size) for size in (None, 4))
    eager, compiled = (gradients.on(batch)(flatten(net)[None]) for gradients in ways)
    assert compiled.isfinite().all()
    assert (compiled - eager).norm() < (2e-2 if precision == "bf16" else 1e-5) * eager.norm()


def test_compiled_second_derivatives_are_the_eager_ones():
    net = ConvNet((2, 8, 8), 3, depth=1, width=4, norm="instance", pooling="avg", activation="relu").double()
    flat, images = FlatStudent(net), torch.randn(2, 2, 8, 8, dtype=torch.float64)
    theta, pull = flatten(net), torch.randn(len(flat), dtype=torch.float64)

    def product(theta, images):
        return grad(lambda theta: grad(lambda theta: flat(theta, images).exp().sum())(theta) @ pull)(theta)

    assert torch.allclose(fuse(product)(theta, images), product(theta, images))


def test_without_a_compiler_the_plain_layers_go_and_a_line_says_why(monkeypatch, capsys):
    net = ConvNet((3, 8, 8), 5, depth=2, width=4, norm="instance", pooling="avg", activation="relu")
    images = torch.randn(2, 3, 8, 8)
    fast = net(images)
    for known in (instance.library, native.compiled):
        known.cache_clear()
    with monkeypatch.context() as patch:
        patch.setenv("CXX", "no-such-compiler")
        called = []
        patch.setattr(instance, "instance_norm", lambda *inputs: called.append(inputs))
        assert torch.allclose(net(images), fast, atol=1e-5) and not called
        net(images)
    for known in (instance.library, native.compiled):
        known.cache_clear()
    assert capsys.readouterr().err.count("no C++ compiler was found") == 1


def test_a_compiler_that_fails_is_quoted_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = tmp_path / "broken.cpp"
    source.write_text("no C++")
    assert native.compiled(source) is None
    assert "broken.cpp is left out, networks go a slower way" in capsys.readouterr().err
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path != source]


def test_a_library_is_compiled_once_for_its_source(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = tmp_path / "one.cpp"
    source.write_text('extern "C" int one() { return 1; }')
    assert native.compiled(source).one() == 1
    (made,) = tmp_path.rglob("*.so")
    at = made.stat().st_mtime_ns
    native.compiled.cache_clear()
    assert native.compiled(source).one() == 1 and made.stat().st_mtime_ns == at
    source.write_text('extern "C" int one() { return 2; }')
    native.compiled.cache_clear()
    assert native.compiled(source).one() == 2


def test_operators_keep_the_rules_of_the_library_that_holds_them():
    maps, weight, bias = (each.detach() for each in inputs())
    how, small = [0.0, 2.0, 1e-5], torch.randn(3, 5, 3, 4, dtype=torch.float64)
    given = [
        (maps, weight, bias, how),
        (small, maps, weight, bias, how),
        (torch.randn_like(maps), weight, bias, small, maps, weight, bias, how),
    ]
    for node, tensors in zip(instance.NODES, given, strict=True):
        torch.library.opcheck(node, tensors, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize("slope, window", [(1.0, 1), *KINDS])
def test_the_module_is_a_group_norm_of_one_channel_a_group_with_what_follows(slope, window):
    norm, (maps, *_) = InstanceNorm(5, slope, window).double(), inputs()
    assert torch.allclose(norm(maps), plain(maps, norm.weight, norm.bias, slope, window))
    assert torch.allclose(norm.plain(maps), norm(maps))


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "softplus"])
@pytest.mark.parametrize("pooling", ["avg", "none", "max"])
def test_a_convnet_is_its_convolutions_norms_activations_and_poolings_in_turn(activation, pooling):
    net = ConvNet((2, 9, 8), 3, depth=2, width=4, norm="instance", pooling=pooling, activation=activation).double()
    activate = {"relu": F.relu, "leaky_relu": lambda maps: F.leaky_relu(maps, 0.01), "softplus": F.softplus}[activation]
    pool = {"avg": F.avg_pool2d, "max": F.max_pool2d, "none": lambda maps, side: maps}[pooling]
    images = torch.randn(2, 2, 9, 8, dtype=torch.float64)
    maps = images
    for block in (0, 4):
        maps = net.features[block](maps)
        maps = pool(activate(F.group_norm(maps, 4, net.features[block + 1].weight, net.features[block + 1].bias)), 2)
    assert torch.allclose(net(images), net.classifier(maps.flatten(1)))


def test_the_compiler_is_imported_when_it_is_wanted_not_before():
    code = "import sys, distill.networks.convnet as _; print([name for name in sys.modules if name == 'torch._dynamo'])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
