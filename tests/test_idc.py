"""IDC: turns at one optimiser, kernels' gradients, decoded images, and networks that learn from real ones."""

from copy import deepcopy
from dataclasses import replace
from functools import partial
from itertools import islice

import pytest
import torch
import torch.nn.functional as F

from distill import rng
from distill.methods.matching.idc import IDC
from distill.methods.matching.matcher import KERNELS
from distill.methods.matching.turns import Turns
from distill.networks.compact import MLP
from distill.networks.convnet import ConvNet
from distill.networks.flat import flatten
from distill.sets.formation import decoded, tiled

CLASSES = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
OPTIMIZERS = {
    "sgd": lambda images: torch.optim.SGD([images], 0.1, momentum=0.5),
    "adamw": lambda images: torch.optim.AdamW([images], 0.1, weight_decay=0.1),
}


def pull(images, targets):
    """Gradients of a loss of each class's own images alone."""
    return torch.autograd.grad(((images - targets) ** 2 + 1).sqrt().sum(), images)[0]


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("count", [4, 2, 1])
def test_a_sweep_ends_where_the_loop_over_classes_does(make, count):
    """Of each process its own classes: an optimiser for two, or for all."""
    torch.manual_seed(0)
    start, targets = torch.randn(2, 8, 1, 2, 2, dtype=torch.float64)
    plain = start.clone()
    parts = [plain[2 * first : 2 * (first + count)].clone().requires_grad_() for first in range(0, 4, count)]
    optimizers = [make(part) for part in parts]
    images = start.clone().requires_grad_()
    turns, ours = Turns(CLASSES, count, make), make(images)
    for _ in range(5):
        for place, (part, optimizer) in enumerate(zip(parts, optimizers, strict=True)):
            own = targets[2 * count * place : 2 * count * (place + 1)]
            for cls in range(count):
                optimizer.zero_grad()
                only = torch.zeros_like(part)
                only[2 * cls : 2 * cls + 2] = 1
                ((((part - own) ** 2 + 1).sqrt()) * only).sum().backward()
                optimizer.step()
        images.grad = pull(turns.ahead(images, ours).requires_grad_(), targets)
        turns.step(images, ours)
        assert torch.allclose(images, torch.cat(parts), atol=1e-12)


def test_the_rate_grows_with_the_images_of_a_class(matching_on):
    for ipc, rate in ((1, 0.005), (2, 0.01), ({"c0": 1, "c1": 1, "c2": 4}, 0.02)):
        method = matching_on(IDC, ipc=ipc, lr_img=0.05, factors=[2])
        assert method.optimizer.param_groups[0]["lr"] == pytest.approx(rate)


def test_biases_norms_and_the_linear_layer_do_not_count():
    net = ConvNet((3, 8, 8), 3, depth=2, width=4, norm="instance", pooling="avg", activation="relu")
    a = {name: torch.randn_like(part) for name, part in net.named_parameters()}
    kernels = [name for name, part in a.items() if part.dim() == 4]
    b = {name: part + 2 if name in kernels else torch.randn_like(part) for name, part in a.items()}
    size = sum(a[name].numel() for name in kernels)
    assert KERNELS["squared"](a, b).item() == pytest.approx(4 * size, rel=1e-4)
    assert KERNELS["absolute"](a, b).item() == pytest.approx(2 * size, rel=1e-4)


@pytest.fixture
def doubled(matching_on, real, student):
    """IDC in float64, every class in turn."""

    def build(**changes):
        split = replace(real.train, images=real.train.images.double())
        return matching_on(IDC, real=split, student=lambda: student().double(), **changes)

    return build


@pytest.mark.parametrize("distance", KERNELS)
def test_loss_and_gradient_are_those_of_a_loop_over_classes(doubled, distance):
    method = doubled(distance=distance)
    loss = method.update(0)
    loss.backward()
    pixels = method.pixels.detach().clone().requires_grad_()
    images = method.real.preprocessing(decoded(pixels, [2]))
    method.leaf = method.pixels.detach()
    real, _ = method.batches(0)
    kernels = [weight for weight in method.net.requires_grad_(True).parameters() if weight.dim() == 4]
    total = 0.0
    for cls in range(3):
        own = images.view(4, 6, *images.shape[1:])[:, 2 * cls : 2 * cls + 2].flatten(0, 1)
        draw = rng.derive(method.seed, "siamese", 0, cls)
        both = []
        for x in (real[cls], method.settings.augment(own, draw)):
            labels = torch.full((len(x),), cls)
            both.append(torch.autograd.grad(F.cross_entropy(method.net(x), labels), kernels, create_graph=True))
        gap = torch.cat([(a.detach() - b).flatten() for a, b in zip(*both, strict=True)])
        total = total + (gap.square().sum() if distance == "squared" else gap.abs().sum())
    assert loss.item() == pytest.approx(float(total), rel=1e-9)
    assert torch.allclose(method.pixels.grad, torch.autograd.grad(total, pixels)[0], rtol=1e-6, atol=1e-12)


def test_a_step_moves_pixels_the_set_shows_them_and_a_network_begins_with_clamped_ones(matching_on):
    method = matching_on(IDC, lr_img=50.0)
    method.optimizers = method.configure_optimizers
    method.manual_backward = lambda loss: loss.backward()
    before, outside = method.pixels.detach().clone(), 0
    for step in range(2):
        method.learn(step)
        assert torch.equal(method.synset.images, method.real.preprocessing(method.pixels.detach()))
        outside += int((method.pixels.detach() > 1).sum() + (method.pixels.detach() < 0).sum())
    assert not torch.equal(before, method.pixels) and outside
    method.update(2)  # the next network
    assert method.pixels.min() >= 0 and method.pixels.max() <= 1


def test_a_network_learns_from_real_images_between_two_sweeps_and_no_longer(matching_on):
    method = matching_on(IDC, sweeps=3)
    weights = []
    for step in range(4):
        method.update(step)
        weights.append(flatten(method.net).detach().clone())
    assert len({tuple(each.tolist()) for each in weights}) == 4
    fresh = matching_on(IDC, sweeps=3)
    fresh.update(3)
    assert torch.equal(weights[3], flatten(fresh.net))  # of the second network nothing is left from the first
    assert all(parameter.grad is None for parameter in method.net.parameters())


def test_the_stretches_of_a_network_are_one_training(matching_on):
    """By hand: its optimiser, too, is the one of the stretch before; a fresh network has a fresh one."""
    method = matching_on(IDC, sweeps=3)
    for network in (0, 1):
        method.update(3 * network)
        plain = deepcopy(method.net).requires_grad_()
        optimizer = torch.optim.SGD(plain.parameters(), 0.01, momentum=0.9, weight_decay=5e-4)
        for sweep in (1, 2):
            seed = rng.derive(method.seed, "network training", network, sweep)
            for batch in islice(method.of_real.epoch([seed], 0), method.settings.network.steps):
                optimizer.zero_grad()
                F.cross_entropy(plain(batch.views[0]), batch.targets[0]).backward()
                optimizer.step()
            method.update(3 * network + sweep)
            assert torch.allclose(flatten(method.net), flatten(plain), atol=1e-6)


def test_a_restart_between_two_stretches_goes_on_bit_for_bit(matching_on):
    whole, part, again = (matching_on(IDC, sweeps=4) for _ in range(3))
    for step in range(4):
        whole.update(step)
    for step in range(2):
        part.update(step)
    again.restore({name: tensor.clone() for name, tensor in part.extra_tensors().items()})
    for step in (2, 3):
        again.update(step)
    assert torch.equal(flatten(whole.net), flatten(again.net))


def test_images_start_as_tiles_of_different_real_ones(matching_on):
    method = matching_on(IDC)
    assert method.synset.factors == (2,) and method.synset.counts == (2, 2, 2) and method.real_each == 4
    pixels = method.real.preprocessing.inverse(method.real.images)
    small = tiled(pixels.repeat_interleave(4, 0), 2)[:, :, :4, :4]  # each real image shrunk
    for cls in range(3):
        own = method.pixels.detach()[method.synset.classes == cls]
        cells = torch.cat([cell for row in own.chunk(2, 2) for cell in row.chunk(2, 3)])
        among = small[method.real.of_class(cls)]
        nearest = (cells[:, None] - among[None]).flatten(2).norm(dim=2).min(1)
        assert nearest.values.max() < 1e-5 and len(nearest.indices.unique()) == 8


def test_no_more_than_a_batch_of_decoded_images_is_matched(matching_on):
    method = matching_on(IDC, factors=[1, 2], batch_synthetic=7)
    method.turned()
    _, synthetic = method.batches(0)
    assert method.shown == [7, 7, 7] and synthetic.shape == (21, 3, 8, 8)
    assert matching_on(IDC, factors=[1, 2]).shown == [10, 10, 10]


def test_what_idc_cannot_do_is_refused(matching_on):
    mlp = partial(MLP, (3, 8, 8), 3, width=8)
    normed = partial(ConvNet, (3, 8, 8), 3, depth=2, width=4, norm="batch", pooling="avg", activation="relu")
    for changes, told in (
        ({"student": normed}, "idc matches gradients of convolutions"),
        ({"student": mlp}, "idc matches gradients of convolutions"),
        ({"factors": [9], "init": "noise"}, "the set's factors are .9., expected different whole numbers from 1 to 8"),
        ({"turns": 2}, "method.turns is 2, expected a divisor of the 3 classes"),
        ({"ipc": 5}, "16 training images"),
        ({"distance": "rows"}, "unknown method.distance 'rows': one of squared, absolute"),
    ):
        with pytest.raises(ValueError, match=told):
            matching_on(IDC, **changes)
