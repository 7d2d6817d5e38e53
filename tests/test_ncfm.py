"""NCFM: the discrepancy of characteristic functions, its two sweeps, learned frequencies, and the rate's plateau."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.nn.utils import vector_to_parameters

from distill import augment, rng
from distill.methods.matching.characteristic import Sampler, discrepancy, length, mean_wave
from distill.methods.matching.ncfm import NCFM, SCALE
from distill.sets.formation import decoded
from distill.training.loop import optimizer_tensors, restore_optimizer


def features(count, seed):
    g = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, 6, generator=g, dtype=torch.float64), dim=1)


FREQUENCIES = torch.randn(50, 6, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def test_equal_sets_are_at_the_floor_whatever_their_order():
    own = features(12, 0)
    assert discrepancy(own, own.flip(0), FREQUENCIES, 0.5, 0.5).item() == pytest.approx(math.sqrt(0.5e-12), rel=1e-3)
    assert discrepancy(own, own.repeat(3, 1), FREQUENCIES, 0.5, 0.5) < 1e-6  # empirical distributions, not sums
    assert discrepancy(own, features(12, 1), FREQUENCIES, 0.5, 0.5) > 0.05


def test_with_equal_weights_it_is_the_mean_distance_of_complex_numbers():
    real, synthetic = features(30, 0), features(4, 1)
    waves = [torch.exp(1j * (each @ FREQUENCIES.T)).mean(0) for each in (real, synthetic)]
    expected = (waves[0] - waves[1]).abs().mean() / math.sqrt(2)
    assert discrepancy(real, synthetic, FREQUENCIES, 0.5, 0.5).item() == pytest.approx(float(expected), rel=1e-9)
    amplitudes = (waves[0].abs() - waves[1].abs()).abs().mean()
    assert discrepancy(real, synthetic, FREQUENCIES, 1.0, 0.0).item() == pytest.approx(float(amplitudes), rel=1e-9)


def test_a_translation_changes_phases_alone_and_amplitudes_are_at_most_one():
    real = features(20, 0)
    moved = real + 0.3
    assert (
        discrepancy(real, moved, FREQUENCIES, 1.0, 0.0) < 1e-9 < 0.1 < discrepancy(real, moved, FREQUENCIES, 0.0, 1.0)
    )
    assert (length(*mean_wave(real, FREQUENCIES)) <= 1).all()


def test_gaussian_features_have_a_gaussian_amplitude():
    own = torch.randn(200_000, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.5])
    frequencies = torch.tensor([[0.5, 0.0], [1.0, 1.0], [0.3, -2.0]])
    expected = torch.exp(-(frequencies.square() @ torch.tensor([1.0, 0.25])) / 2)
    assert torch.allclose(length(*mean_wave(own, frequencies)), expected, atol=5e-3)


@pytest.mark.parametrize(
    ("amplitude", "phase", "value", "first"),
    [(0.5, 0.5, 0.8780128830507, 0.1583929147), (0.2, 0.9, 0.9917974339265, 0.7555955879)],
)
def test_value_and_gradient_are_those_of_the_public_code(amplitude, phase, value, first):
    """Which gave these numbers for features and frequencies that are written here."""
    ramp = torch.arange(1.0, 16, dtype=torch.float64)
    real = F.normalize(ramp[:12].view(4, 3).sin(), dim=1)
    synthetic = F.normalize(ramp[:6].view(2, 3).cos(), dim=1).requires_grad_()
    found = discrepancy(real, synthetic, 2 * ((ramp - 1).view(5, 3) * 0.7).cos(), amplitude, phase)
    assert found.item() == pytest.approx(value, rel=1e-11)
    assert torch.autograd.grad(found, synthetic)[0][0, 0].item() == pytest.approx(first, rel=1e-8)


def test_its_gradient_is_right():
    real, synthetic = features(9, 0), features(4, 1).requires_grad_()
    frequencies = FREQUENCIES[:7].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, t: discrepancy(real, x, t, 0.3, 0.8), (synthetic, frequencies))


def test_every_frequency_is_sampled_from_noise_of_its_own_and_bounded():
    torch.manual_seed(0)
    found = Sampler(6)(torch.randn(64, 6))
    assert found.shape == (64, 6) and found.abs().max() <= 1 and len(found.unique(dim=0)) == 64


@pytest.fixture
def ncfm(method_on):
    def build(**changes):
        views = augment.make("siamese-compound", "color_crop_cutout")
        return method_on(NCFM, **{"augment": views, **changes})

    return build


def driven(method, steps, first=0):
    method.optimizers = method.configure_optimizers
    method.manual_backward = lambda loss: loss.backward()
    for step in range(first, steps):
        method.learn(step)
    return method


@pytest.mark.parametrize("sweep", [0, 1])
def test_loss_and_gradient_are_those_of_a_loop_over_classes(ncfm, sweep):
    method = ncfm(calibration=0.7)
    loss = method.update(sweep)
    loss.backward()
    first, last, share = method.network(0)
    assert 0 < share < 1 and torch.equal(last, method.experts.row(0, -1)) != torch.equal(
        last, method.experts.row(1, -1)
    )
    net = method.student()
    vector_to_parameters(last if sweep else share * first + (1 - share) * last, net.parameters())
    pixels = method.pixels.detach().clone().requires_grad_()
    images = method.real.preprocessing(decoded(pixels, [2])).view(4, 6, 3, 8, 8)
    noise = torch.randn(16, net.classifier.in_features, generator=rng.generator(0, "frequencies", sweep))
    total = torch.zeros(())
    for cls, real in enumerate(method.real_images(sweep, 8)):
        draw = rng.derive(0, "siamese", sweep, cls)
        own = method.settings.augment(images[:, 2 * cls : 2 * cls + 2].flatten(0, 1), draw)
        if sweep:
            total = total + 0.7 * F.cross_entropy(net(own), torch.full((8,), cls))
        else:
            both = [net.features(each).flatten(1) for each in (method.settings.augment(real, draw), own)]
            theirs, ours = (each / each.norm(dim=1, keepdim=True) for each in both)
            total = total + SCALE * discrepancy(theirs.detach(), ours, noise, 0.5, 0.5)
    assert loss.item() == pytest.approx(float(total), rel=1e-4)
    assert torch.allclose(method.pixels.grad, torch.autograd.grad(total, pixels)[0], rtol=1e-3, atol=1e-5)


def test_without_calibration_every_sweep_matches_and_networks_and_frequencies_are_new(ncfm):
    method = ncfm(calibration=0.0, steps=None, iterations=7)
    assert method.steps == 7 and ncfm(steps=None, iterations=7).steps == 14
    assert len({method.network(iteration)[2] for iteration in range(7)}) == 7
    losses = [method.update(step).item() for step in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


def test_the_sampler_climbs_where_the_images_descend(ncfm):
    method = ncfm(sampler=True, lr_sampler=0.1)
    before = [weight.detach().clone() for weight in method.sampler.parameters()]
    driven(method, 1)
    assert len(method.slopes) == len(before)
    for old, new, slope in zip(before, method.sampler.parameters(), method.slopes, strict=True):
        assert torch.allclose(new - old, 0.1 * slope, atol=1e-6)
    weights = [weight.detach().clone() for weight in method.sampler.parameters()]
    driven(method, 2, 1)  # calibration asks no frequencies
    assert all(torch.equal(a, b) for a, b in zip(weights, method.sampler.parameters(), strict=True))


def test_the_rate_is_halved_where_an_iteration_has_not_fallen_for_long_enough(ncfm):
    method = ncfm(patience=2)
    rates = []
    for lost in (5, 4, 5, 5, 5, 5):
        method.pixels.grad = torch.zeros_like(method.pixels)
        for _ in range(2):
            method.lost = float(lost)
            method.take()
        rates.append(method.optimizer.param_groups[0]["lr"] / method.settings.lr_img)
    assert rates == [1, 1, 1, 1, 0.5, 0.5]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_restart_goes_on_bit_for_bit_with_two_optimisers(ncfm, optimizer):
    changes = dict(sampler=True, turns=3, optimizer=optimizer, patience=1)
    whole, part = driven(ncfm(**changes), 6), driven(ncfm(**changes), 3)  # in the middle of an iteration
    state = {name: tensor.clone() for name, tensor in part.extra_tensors().items()}
    again = ncfm(**changes)
    again.begin(part.synset.copy())
    again.restore(state)
    restore_optimizer(again.optimizer, optimizer_tensors(part.optimizer))
    driven(again, 6, 3)
    assert torch.equal(whole.pixels, again.pixels) and torch.equal(whole.synset.images, again.synset.images)
    for name, tensor in whole.extra_tensors().items():
        assert torch.equal(tensor, again.extra_tensors()[name]), name


def test_what_ncfm_cannot_do_is_refused(ncfm):
    for changes, told in (
        ({"experts": None}, "inputs.experts is null"),
        ({"turns": 2}, "method.turns is 2, expected a divisor of the 3 classes"),
        ({"frequencies": 1}, "method.frequencies is 1, expected a whole number"),
        ({"optimizer": "adam"}, "unknown method.optimizer 'adam': one of adamw, sgd"),
    ):
        with pytest.raises(ValueError, match=told):
            ncfm(**changes)
