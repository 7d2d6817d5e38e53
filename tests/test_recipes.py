"""Recipes that move step by step, count steps, or scale their steps layer by layer; and the presets of real subsets."""

import doctest
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from conftest import batches_of, identity, make_recipe, preset
from hypothesis import given
from hypothesis import strategies as st

from distill import rng
from distill.evaluation.protocol import Last, OnTest
from distill.networks.flat import FlatStudent, flatten
from distill.sets.coreset import Coreset
from distill.teachers.labels import Hard, SmoothedHard
from distill.teachers.store import ExpertStore
from distill.training import schedules
from distill.training.loop import train
from distill.training.losses import Smoothed
from distill.training.optimizers import Lars, Nesterov, Sgd
from distill.training.schedules import Constant, Cosine, CosineByStep, Drop, OneCycle
from distill.training.views import Augmented


class Watched(Sgd):
    """Keeps the rates that steps were taken at."""

    rates: list = []

    def decay(self, weights, lr, matrices):
        self.rates.append(lr)


class Half(Coreset):
    """A walk over half of the images in every epoch."""

    def epoch(self, number, seed):
        order, weights = super().epoch(number, seed)
        return order[: len(self) // 2], weights[: len(self) // 2]


def trained(student, data, seed=0, **recipe):
    """Weights, rates and the epochs that were told, of training on data of three batches of 16."""
    Watched.rates, told = [], []
    batches = replace(batches_of(data.split, make_recipe(optimizer=Watched(0.9, 0.0), **recipe)), data=data)
    torch.manual_seed(0)
    net = student()
    train([net], batches, seeds=[seed], after_epoch=lambda now: told.append(now.epochs))
    return flatten(net), Watched.rates, told


def whole(real, walk=Coreset):
    assert len(real.train) == 48
    return walk(real.train, torch.arange(48))


def cosine(steps, lr=0.1, floor=0.01):
    """As torch anneals."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr)
    schedule, rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, floor), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


# --- schedules and lengths ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("walk, steps", [(Coreset, 12), (Half, 8)])
def test_a_cosine_by_step_is_torchs_over_all_steps_that_the_walk_takes(student, real, walk, steps):
    _, rates, _ = trained(student, whole(real, walk), epochs=4, schedule=CosineByStep(0.01))
    assert rates == pytest.approx(cosine(steps), rel=1e-12) and rates[0] == 0.1


@pytest.mark.parametrize("schedule", [Constant(), Drop(0.1, 1, None), Cosine(1.0), Cosine(2.0)])
def test_a_schedule_by_epoch_keeps_its_rate_for_a_whole_epoch(student, real, schedule):
    _, rates, _ = trained(student, whole(real), epochs=4, schedule=schedule)
    assert rates == [schedule.rate(0.1, epoch, 4) for epoch in range(4) for _ in range(3)]


@pytest.mark.parametrize("walk, epochs", [(Coreset, 3), (Half, 4)])
def test_steps_are_exactly_as_many_as_asked_and_the_schedule_is_over_them(student, real, walk, epochs):
    _, rates, told = trained(student, whole(real, walk), epochs=None, steps=7, schedule=CosineByStep(0.01))
    assert rates == pytest.approx(cosine(7), rel=1e-12)
    assert told == list(range(1, epochs + 1))


def test_less_than_an_epoch_is_a_training_too(student, real):
    _, rates, told = trained(student, whole(real), epochs=None, steps=2, schedule=CosineByStep(0.01))
    assert rates == pytest.approx(cosine(2)) and told == [1]


@pytest.mark.parametrize("schedule", [CosineByStep(0.01), Drop(0.1, None, None)])
def test_as_many_steps_as_epochs_have_are_those_epochs(student, real, schedule):
    counted = [
        trained(student, whole(real), schedule=schedule, **each)
        for each in ({"epochs": 4}, {"epochs": None, "steps": 12})
    ]
    (weights, rates, told), (others, other_rates, other_told) = counted
    assert torch.allclose(weights, others, atol=1e-6) and told == other_told
    assert rates == pytest.approx(other_rates, rel=1e-12)


@given(st.integers(1, 400), st.integers(1, 300), st.integers(1, 1000))
def test_epochs_of_so_many_steps_are_as_few_as_hold_them(images, batch, steps):
    recipe = make_recipe(epochs=None, steps=steps, batch=batch)
    epochs, each = recipe.passes(images), recipe.batches(images)
    assert (epochs - 1) * each < steps <= epochs * each and recipe.updates(images) == steps
    assert recipe.span(images) * each == pytest.approx(steps)


@pytest.mark.parametrize("length", [{"steps": 5}, {"epochs": None}, {"epochs": None, "steps": 5, "extra_epochs": 1}])
def test_either_epochs_or_steps_are_counted(length):
    with pytest.raises(
        ValueError, match="expected epochs with steps=null, or steps with epochs=null and extra_epochs=0"
    ):
        make_recipe(**length)


def test_experts_are_kept_epoch_by_epoch(real, tmp_path):
    counted = identity(real)
    counted["recipe"] = {**counted["recipe"], "epochs": None, "steps": 5}
    with pytest.raises(ValueError, match="recipe.epochs is null, expected a whole number"):
        ExpertStore(tmp_path, counted, 1)


def test_one_cycle_is_torchs_but_for_a_step():
    steps, peak, ours = 5000, 5.2, OneCycle(0.3, 25.0, 1e4)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0, 0.9)
    theirs, rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=steps, cycle_momentum=False), []
    for step in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < steps - 1:
            theirs.step()
    assert [ours.rate(peak, at, steps) for at in range(steps)] == pytest.approx(
        rates, abs=peak * torch.pi / 2 / (0.3 * steps)
    )
    ends = [ours.rate(peak, at, 10) for at in (0, 3, 10)]
    assert ends == pytest.approx([rates[0], max(rates), rates[-1]])
    assert ends == pytest.approx([peak / 25, peak, peak / 25e4])


def test_examples_hold():
    assert doctest.testmod(schedules).failed == 0


# --- optimisers --------------------------------------------------------------------------------------------------------


def full_batches(student, real, optimizer, step, epochs=3):
    """Weights after training on all images at once, and after ``step(parameters, gradients)`` as often, by hand."""
    data, lr = whole(real), 0.1
    recipe = make_recipe(epochs=epochs, batch=48, lr=lr, optimizer=optimizer)
    torch.manual_seed(0)
    net, reference = student(), student()
    reference.load_state_dict(net.state_dict())
    train([net], replace(batches_of(real.train, recipe), data=data), seeds=[0])
    parameters = list(reference.parameters())
    for epoch in range(epochs):
        order = torch.randperm(48, generator=rng.generator(0, "batches", epoch))
        loss = F.cross_entropy(reference(real.train.images[order]), real.train.labels[order])
        step(parameters, torch.autograd.grad(loss, parameters), lr)
    return flatten(net), flatten(reference)


def test_nesterovs_steps_are_torchs(student, real):
    made = []

    def step(parameters, gradients, lr):
        made[:] = made or [torch.optim.SGD(parameters, lr, 0.9, weight_decay=0.01, nesterov=True)]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        made[0].step()

    ours, theirs = full_batches(student, real, Nesterov(0.9, 0.01), step)
    plain, _ = full_batches(student, real, Sgd(0.9, 0.01), step)
    assert torch.allclose(ours, theirs, atol=1e-5) and not torch.allclose(ours, plain, atol=1e-3)


def test_lars_moves_each_kernel_by_its_own_trust_and_vectors_by_their_gradient(student, real):
    trust, decay, velocities = 0.5, 0.01, {}

    def step(parameters, gradients, lr):
        for place, (w, g) in enumerate(zip(parameters, gradients, strict=True)):
            if w.ndim > 1:
                g = trust * w.norm() / (g.norm() + decay * w.norm()) * (g + decay * w)
            velocities[place] = 0.9 * velocities.get(place, 0) + g
            w.data -= lr * velocities[place]

    ours, theirs = full_batches(student, real, Lars(0.9, decay, trust), step)
    assert torch.allclose(ours, theirs.detach(), atol=1e-5)


def test_a_kernels_step_under_lars_knows_its_weights_length_and_not_its_gradients():
    net = FlatStudent(torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Linear(4, 3)))
    generator = torch.Generator().manual_seed(0)
    weights, gradient = torch.randn(2, 2, len(net), generator=generator).unbind(0)
    kernels = net.matrices().bool()

    def direction(scale=1.0, of=weights, trust=0.02):
        return Lars(0.9, 0.0, trust).direction(lambda w: scale * gradient, of, net)

    one = direction()
    assert torch.allclose(direction(scale=100.0)[:, kernels], one[:, kernels])
    assert torch.equal(direction(scale=100.0)[:, ~kernels], 100 * gradient[:, ~kernels])
    assert torch.allclose(direction(of=3 * weights)[:, kernels], 3 * one[:, kernels])
    first, own = one[0, :20], weights[0, :20]  # of the first network's first kernel
    assert float(first.norm() / own.norm()) == pytest.approx(0.02)
    assert float(F.cosine_similarity(first, gradient[0, :20], 0)) == pytest.approx(1.0)
    assert torch.equal(direction(of=0 * weights)[:, kernels], 0.02 * gradient[:, kernels])  # zeros do not stay zeros
    still = Lars(0.9, 0.0, 0.02).direction(torch.zeros_like, weights, net)
    assert torch.equal(still, torch.zeros_like(weights))


# --- labels ------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 1000), st.sampled_from([0.1, 0.5, 1.0]))
def test_smoothed_labels_share_their_probability_among_all_classes(seed, smoothing):
    logits = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    classes, images = torch.tensor([0, 2, 1, 1]), torch.zeros(4, 1)
    targets = (1 - smoothing) * F.one_hot(classes, 3) + smoothing / 3
    expected = -(targets * logits.log_softmax(1)).sum(1)
    for told in (classes, F.one_hot(classes, 3).double()):
        losses = Smoothed(smoothing)(lambda x: x, images, logits, told, torch.tensor(0.0))
        assert torch.allclose(losses, expected)


# --- presets -----------------------------------------------------------------------------------------------------------

SGD, COSINE = Nesterov(0.9, 5e-4), CosineByStep(1e-4)
# Section 1 and 5 of the specification of selection: epochs, steps, rate, batch, optimiser, schedule, views, labels,
# students, choice. All images of a round are a batch of rs2-ipc.
TABLE = {
    "deepcore": (200, None, 0.1, 128, SGD, COSINE, "crop_flip_reflect", Hard(), 5, OnTest(1)),
    "ccs": (None, 40000, 0.1, 256, SGD, COSINE, "crop_flip_reflect", Hard(), 3, OnTest(1)),
    "rs2": (200, None, 0.1, 128, SGD, COSINE, "crop_flip_black", Hard(), 3, OnTest(1)),
    "rs2-ipc": (1000, None, 0.01, 10**6, SGD, COSINE, "crop_flip_black", Hard(), 3, OnTest(1)),
    "infobatch": (
        *(200, None, 5.2, 128, Lars(0.9, 5e-4, 0.001), OneCycle(0.3, 25.0, 1e4), "crop_flip_black"),
        *(SmoothedHard(0.1), 3, Last()),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_presets_equal_the_table(name):
    protocol = preset(name)
    recipe, views = protocol.recipe, protocol.recipe.views
    found = (recipe.epochs, recipe.steps, recipe.lr, recipe.batch, recipe.optimizer, recipe.schedule, views.augment)
    assert (*found, protocol.labels, protocol.students, protocol.choice) == TABLE[name]
    plainly = (recipe.extra_epochs, recipe.micro_batches, recipe.ema, recipe.mix, protocol.artefact_lr)
    assert plainly == (0, 1, None, None, False) and not protocol.candidates and views == Augmented(views.augment)


def test_all_images_of_a_round_are_one_batch_of_rs2_ipc():
    assert preset("rs2-ipc").sized(500, 10, 50000).recipe.batches(500) == 1


@pytest.mark.parametrize("images, epochs", [(50000, 205), (5000, 2000), (100, 40000)])
def test_ccs_takes_as_many_steps_at_every_rate(images, epochs):
    recipe = preset("ccs").sized(images, 10, 50000).recipe
    assert recipe.updates(images) == 40000 and recipe.passes(images) == epochs
