import copy
import itertools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from conftest import batches_of, make_recipe
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from distill.augment.makers import MAKERS
from distill.identity import flat_experts, parts_of
from distill.networks.convnet import ConvNet
from distill.networks.flat import flatten
from distill.sets.walks import InfoBatch
from distill.training.accuracy import accuracy, hits
from distill.training.batch import Batch
from distill.training.dynamics import Dynamics
from distill.training.gradients import Gradients, way_to_train
from distill.training.loop import Progress, train
from distill.training.losses import Clipped, CrossEntropy, gradient_penalty, gsam_gradient
from distill.training.optimizers import Gsam, Lars, Sgd
from distill.training.schedules import Drop
from distill.training.views import Augmented, AutoAugment, CompoundOf, Cropped, Holed, Jitter, RandAugment


def trained(student, real, recipe, seed=0, **kw):
    torch.manual_seed(0)
    net = student()
    train([net], batches_of(real.train, recipe), seeds=[seed], **kw)
    return flatten(net)


def test_training_learns_and_is_a_function_of_its_seed_alone(student, real):
    recipe = make_recipe(epochs=15, augment="dsa", momentum=0.9)
    torch.manual_seed(0)
    net = student()
    train([net], batches_of(real.train, recipe), seeds=[3])
    assert accuracy(net, real.test, recipe) > 0.8
    first = trained(student, real, recipe, seed=3)
    torch.rand(17)
    assert torch.equal(first, trained(student, real, recipe, seed=3))
    assert not torch.equal(first, trained(student, real, recipe, seed=4))


@pytest.mark.parametrize("epoch", [1, 5, 6])  # 5 is the first epoch after the decay
@pytest.mark.parametrize("more", [{}, {"ema": 0.9}, {"epochs": None, "steps": 33}], ids=["last", "mean", "steps"])
@pytest.mark.parametrize("walk", [None, InfoBatch(0.5, 0.875)], ids=["all", "pruned"])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_training_goes_on_bit_by_bit_from_where_it_stood(student, real, epoch, more, walk, norm):
    recipe = make_recipe(**{"epochs": 7, "augment": "dsa", "momentum": 0.9, "schedule": Drop(0.1, None, 0.8), **more})
    batches, kept = batches_of(real.train, recipe), []
    batches = batches if walk is None else replace(batches, data=walk.on(real.train, real.train.counts))

    def ended(**how):
        torch.manual_seed(0)
        net = student(norm=norm)
        train([net], batches, seeds=[0], **how)
        return net.state_dict()

    def stop(now):
        if now.epochs == epoch:
            kept.append(now.copy())

    whole = ended(after_epoch=stop)
    (now,) = kept
    before = now.copy()
    again = ended(progress=Progress.of(epoch, now.weights, now.tensors))
    assert whole.keys() == again.keys() and all(torch.equal(whole[name], again[name]) for name in whole)
    assert torch.equal(now.weights, before.weights)  # neither these nor the rest were trained on
    assert all(torch.equal(each, before.tensors[name]) for name, each in now.tensors.items())


@pytest.mark.parametrize(
    "optimizer, loss",
    [
        (Sgd(0.9, 0.0), CrossEntropy()),
        (Gsam(0.9, 0.0, 0.05, 0.3), CrossEntropy()),
        (Lars(0.9, 0.01, 0.5), CrossEntropy()),
        (Sgd(0.9, 0.0), Clipped(0.5, 3, 0.5)),
    ],
)
def test_a_stack_of_networks_trains_each_as_if_it_were_alone(student, real, optimizer, loss):
    batches = batches_of(real.train, make_recipe(augment="dsa", optimizer=optimizer), loss)
    torch.manual_seed(0)
    nets = [student() for _ in range(3)]
    alone = [copy.deepcopy(net) for net in nets]
    train(nets, batches, seeds=[5, 6, 7])
    for net, seed in zip(alone, [5, 6, 7], strict=True):
        train([net], batches, seeds=[seed])
    for one, other in zip(nets, alone, strict=True):
        assert torch.allclose(flatten(one), flatten(other), atol=1e-4)
    assert not torch.allclose(flatten(nets[0]), flatten(nets[1]), atol=1e-1)


@pytest.mark.parametrize("stack", [1, 2])
def test_compiled_gradients_equal_eager_ones(real, stack):
    """The whole objective of AST's experts: ramp, penalty (a gradient inside) and cross-entropy."""
    recipe, loss = make_recipe(), Clipped(0.5, 3, 0.5)
    torch.manual_seed(0)
    nets = [
        ConvNet((3, 8, 8), 3, depth=1, width=6, norm="instance", pooling="avg", activation="softplus")
        for _ in range(stack)
    ]  # shallow: each kernel takes a second to compile
    weights = torch.stack([flatten(net) for net in nets])
    x = real.train.images[: 16 * stack].view(stack, 16, 3, 8, 8)
    index = torch.arange(16 * stack).view(stack, 16)
    batch = Batch(x, x.flip(-1), real.train.labels[index], torch.rand(stack, 16), index, 0)
    eager, compiled = (Gradients(nets, recipe, loss, compiled) for compiled in (None, 16))
    for epoch in (0, 5):
        one, other = (gradients.on(replace(batch, epoch=epoch)) for gradients in (eager, compiled))
        a, b = one(weights), other(weights)
        assert torch.allclose(a, b, atol=1e-5 * float(a.abs().max()))
        assert torch.allclose(one.outputs.losses, other.outputs.losses, atol=1e-5)
    assert compiled.full_batch is not compiled.losses


def test_a_gradient_is_that_of_the_weighted_mean_of_what_is_told_of_each_image(real, student):
    torch.manual_seed(0)
    net, index, weight = student(), torch.arange(6)[None], torch.rand(1, 6)
    batch = Batch(real.train.images[index], real.train.images[index], real.train.labels[index], weight, index, 0)
    step = Gradients([net], make_recipe(), CrossEntropy(), None).on(batch)
    gradient = step(flatten(net)[None])[0]
    logits = net.requires_grad_()(real.train.images[:6])
    losses = F.cross_entropy(logits, real.train.labels[:6], reduction="none")
    (weight[0] * losses).sum().div(6).backward()
    assert torch.allclose(gradient, torch.cat([p.grad.flatten() for p in net.parameters()]), atol=1e-6)
    assert torch.allclose(step.outputs.losses[0], losses) and torch.allclose(step.outputs.logits[0], logits)


def test_a_listener_is_told_every_image_once_an_epoch(real, student):
    heard = []
    batches = batches_of(real.train, make_recipe(epochs=2, batch=10, momentum=0.9))
    train([student()], batches, seeds=[0], after_batch=lambda batch, said: heard.append((batch, said)))
    assert [batch.epoch for batch, _ in heard] == [0] * 5 + [1] * 5
    for epoch in (heard[:5], heard[5:]):
        assert torch.equal(torch.cat([batch.index[0] for batch, _ in epoch]).sort().values, torch.arange(48))
    first, last = (torch.cat([said.losses[0] for _, said in epoch]).mean() for epoch in (heard[:5], heard[5:]))
    assert last < first  # the networks learn from one epoch to the next


def test_compiled_hits_are_the_eager_ones(real, student):
    torch.manual_seed(0)
    net, recipe = student(), make_recipe()
    assert hits(net, real.train, recipe, compiled=True, batch=20) == hits(net, real.train, recipe)


def test_bf16_is_close_to_fp32_and_leaves_the_weights_in_fp32(real, student):
    torch.manual_seed(0)
    net = student()
    x = real.train.images[None, :16]
    batch = Batch(x, x, real.train.labels[None, :16], torch.ones(1, 16), torch.arange(16)[None], 0)
    exact, rough = (
        Gradients([net], make_recipe(precision=p), CrossEntropy(), None).on(batch)(flatten(net)[None])[0]
        for p in ("fp32", "bf16")
    )
    assert rough.dtype == torch.float32
    assert 0.98 < float(F.cosine_similarity(exact, rough, 0)) < 1 - 1e-6


@pytest.mark.parametrize("norm, dropout", [("batch", False), ("instance", True)])
def test_networks_with_state_train_one_at_a_time(real, norm, dropout):
    net = ConvNet((3, 8, 8), 3, depth=2, width=6, norm=norm, pooling="avg", activation="relu")
    if dropout:
        net.features.append(torch.nn.Dropout(0.5))
    before = [buffer.clone() for buffer in net.buffers()]
    recipe = make_recipe(epochs=10)
    batches = batches_of(real.train, recipe)
    assert way_to_train(lambda: net, batches, 3, 3, "auto") == (False, 1)
    with pytest.raises(ValueError, match="train one at a time"):
        train([net, net], batches, seeds=[0, 1])
    train([net], batches, seeds=[0])
    assert accuracy(net, real.test, recipe) > 0.5
    assert all(not torch.equal(a, b) for a, b in zip(before, net.buffers(), strict=True))


def test_asts_ramp_grows_linearly_to_one():
    loss = Clipped(0.5, 10, 0.0)
    weights = [float(loss.ramp(torch.tensor(float(epoch)))) for epoch in range(12)]
    assert weights == pytest.approx([0.5 + 0.05 * epoch for epoch in range(10)] + [1.0, 1.0])


def test_the_gradient_penalty_squares_before_it_averages():
    images, mix = torch.randn(4, 3, 5, 6), torch.tensor([0.6, 0.0, 0.8]).view(3, 1, 1)  # norm 1 over the channels
    slope = torch.where(torch.arange(6) < 3, 0.5, 1.5)  # norms of one half of the pixels and of the other: 1 on average
    net = lambda x: (x * mix * slope).flatten(1).sum(1, keepdim=True)  # noqa: E731
    assert gradient_penalty(net, images).tolist() == pytest.approx([0.25] * 4)


def test_the_gradient_penalty_of_a_curved_network_equals_finite_differences():
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, padding=1)
    net = nn.Sequential(conv, nn.Softplus(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)).double()
    images, step, terms = torch.randn(2, 3, 4, 4, dtype=torch.float64), 1e-5, []
    with torch.no_grad():
        for image in images:
            moves = step * torch.eye(48, dtype=torch.float64).view(48, 3, 4, 4)  # one channel of one pixel each
            slope = (net(image + moves).sum(1) - net(image - moves).sum(1)) / (2 * step)
            terms.append((slope.view(3, 16).norm(dim=0) - 1) ** 2)
    penalty = gradient_penalty(net, images).mean()
    assert float(penalty.detach()) == pytest.approx(float(torch.stack(terms).mean()), rel=1e-7)
    weights = list(net.parameters())[:3]  # it shapes the weights: its gradient in them is a second derivative
    assert all(part.abs().max() > 0 for part in torch.autograd.grad(penalty, weights))


def test_experts_made_under_the_former_penalty_are_not_taken_for_others():
    recipe = parts_of(make_recipe())
    plain, clipped = (
        flat_experts({"name": "toy", "recipe": recipe, "loss": parts_of(loss)})
        for loss in (CrossEntropy(), Clipped(1.0, 0, 2.0))
    )
    assert "penalty" not in plain and clipped["penalty"] == "mean of squares"


def test_a_thousand_epochs_are_502_at_the_base_rate_and_499_after_it():
    recipe = make_recipe(epochs=1000, extra_epochs=1, lr=0.2, schedule=Drop(0.1, None, None))
    rates = [recipe.rate(epoch, recipe.span(1)) for epoch in range(recipe.passes(1))]
    assert [rates.count(0.2), rates.count(0.2 * 0.1), len(rates)] == [502, 499, 1001]


def test_the_optimiser_starts_afresh_at_the_decay(student, real):
    made, told = [], []

    class Watched(Sgd):
        def make(self, weights, lr, momentum):
            optimizer = super().make(weights, lr, momentum)
            made.append((len(told), lr, optimizer.param_groups[0]["momentum"]))
            return optimizer

    recipe = make_recipe(epochs=6, extra_epochs=1, schedule=Drop(0.1, None, 0.8), lr=0.2, optimizer=Watched(0.9, 0.0))
    trained(student, real, recipe, after_epoch=lambda now: told.append((now.epochs, bool(now.optimizer))))
    # Made before epoch 0 and after epoch index 6 // 2 + 1 = 4, without a state.
    assert made == [(0, 0.2, 0.9), (4, pytest.approx(0.02), 0.8)]
    assert told == [(epochs, epochs != 5) for epochs in range(1, 8)]


def test_every_image_is_seen_once_an_epoch(real, student):
    seen = []

    def watch(images, draw):
        seen.append(images.flatten(1).sum(1))
        return images

    torch.manual_seed(0)
    train([student()], replace(batches_of(real.train, make_recipe(epochs=2, batch=10)), augment=watch), seeds=[0])
    assert [len(batch) for batch in seen] == [10, 10, 10, 10, 8] * 2
    assert torch.equal(torch.cat(seen[:5]).sort().values, torch.cat(seen[5:]).sort().values)


def quartic():
    """A loss with known curvature for two networks: (gradient at weights (2, P), weights)."""
    torch.manual_seed(0)
    scale = torch.rand(2, 10, dtype=torch.float64) + 0.5
    return lambda w: 4 * scale * w**3, torch.randn(2, 10, dtype=torch.float64)


def test_gsam_with_radius_zero_is_sgd():
    gradient, w = quartic()
    assert torch.allclose(gsam_gradient(gradient, w, rho=0.0, alpha=0.3), gradient(w), atol=1e-14)


def test_gsam_without_its_orthogonal_part_is_adaptive_sam_network_by_network():
    gradient, w = quartic()
    g = gradient(w)
    e = 0.05 * w * w * g / (w.abs() * g).norm(dim=1, keepdim=True)
    assert torch.allclose((e / w).norm(dim=1), torch.tensor(0.05).double())  # the radius is in units of the weights
    assert torch.allclose(gsam_gradient(gradient, w, rho=0.05, alpha=0.0), gradient(w + e), atol=1e-12)


def test_what_gsam_subtracts_is_orthogonal_to_the_perturbed_gradient():
    gradient, w = quartic()
    perturbed = gsam_gradient(gradient, w, rho=0.5, alpha=0.0)
    orthogonal = perturbed - gsam_gradient(gradient, w, rho=0.5, alpha=1.0)
    assert orthogonal.norm() > 0.01
    assert (orthogonal * perturbed).sum(1).abs().max() < 1e-9


@given(st.integers(0, 10**6), st.floats(-5, 5, allow_subnormal=False))
def test_soft_cross_entropy_is_hard_for_sure_labels_and_blind_to_a_shift_of_the_logits(seed, shift):
    g = torch.Generator().manual_seed(seed)
    z, classes = torch.randn(4, 5, generator=g, dtype=torch.float64), torch.randint(5, (4,), generator=g)
    sure = 50.0 * F.one_hot(classes, 5).double()
    assert float(F.cross_entropy(z, sure.softmax(1))) == pytest.approx(float(F.cross_entropy(z, classes)), abs=1e-12)
    y = torch.randn(4, 5, generator=g, dtype=torch.float64)
    assert float(F.cross_entropy(z, (y + shift).softmax(1))) == pytest.approx(
        float(F.cross_entropy(z, y.softmax(1))), abs=1e-12
    )


@pytest.mark.parametrize("lr", [-0.01, 0.0, float("nan"), 1e6])
def test_rates_that_diverged_are_refused(lr):
    with pytest.raises(ValueError, match=r"recipe.lr is .*, expected a number in \(0, 10\]"):
        make_recipe(lr=lr)


def test_unknown_parts_of_a_recipe_are_told_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown recipe.views.augment 'x': one of none, dsa"):
        make_recipe(augment="x")
    with pytest.raises(ValueError, match="unknown recipe.precision 'fp8': one of fp32, bf16"):
        make_recipe(precision="fp8")
    with pytest.raises(ValueError, match=r"recipe.optimizer.gsam_rho is -1.0, expected a number in \[0, 1000\]"):
        Gsam(0.0, 0.0, -1.0, 0.3)


def test_a_recipe_says_what_its_crops_are_filled_with(real):
    views = {
        name: Augmented(name).on(real.train)(real.train.images[:20], 3)
        for name in ("none", "crop_flip", "crop_flip_black")
    }
    assert torch.equal(views["none"], real.train.images[:20])
    black = real.train.preprocessing(torch.zeros(1, *real.train.shape)).expand_as(views["crop_flip"])
    filled = views["crop_flip"] == 0  # no preprocessed pixel is exactly the mean
    assert filled.any() and torch.equal(views["crop_flip_black"][filled], black[filled])
    assert torch.allclose(views["crop_flip_black"][~filled], views["crop_flip"][~filled], atol=1e-5)


ALL_VIEWS = [
    *map(Augmented, sorted({*MAKERS, "crop_flip_black"})),
    Cropped(0.5, 1),
    CompoundOf("color_crop"),
    AutoAugment(policy="svhn", whole_batch=False, eight_bits=False),
    RandAugment(operations=2, level=9, whole_batch=False, eight_bits=False),
    Jitter(whole_batch=False, eight_bits=False),
    Holed(whole_batch=False, eight_bits=False),
]


@pytest.mark.parametrize("of_recipe", ALL_VIEWS)
def test_families_tell_apart_what_views_tell_apart(real, of_recipe):
    images = torch.rand(4, 3, 8, 8)
    strategies = ["color_crop_flip", "color_crop", "flip", "color"]
    splits = {strategy: replace(real.train, strategy=strategy) for strategy in strategies}

    def views(strategy):
        return torch.stack([of_recipe.on(splits[strategy])(images, draw) for draw in range(20)])

    for one, other in itertools.combinations(strategies, 2):
        alike = of_recipe.families(one) == of_recipe.families(other)
        assert torch.equal(views(one), views(other)) == alike, (one, other)


def test_dynamics_are_what_a_network_said_of_each_image_before_its_step(real, student):
    """Checked against a network of the weights of that moment, at a rate that leaves it where it is."""
    recipe = make_recipe(epochs=2, batch=10, lr=1e-9)
    kept, torch_net = Dynamics(2, len(real.train)), student()
    train([torch_net], batches_of(real.train, recipe), seeds=[0], after_batch=kept)
    with torch.no_grad():
        logits = torch_net.eval()(real.train.images)
    labels = real.train.labels
    said = logits.softmax(1)
    for epoch in (0, 1):
        margins = [said[i, k] - max(said[i, j] for j in range(3) if j != k) for i, k in enumerate(labels.tolist())]
        assert torch.allclose(kept.margins[epoch], torch.stack(margins), atol=1e-4)
        assert torch.equal(kept.correct[epoch], kept.margins[epoch] > 0) and kept.correct[epoch].any()
        el2n = (said - F.one_hot(labels, 3)).square().sum(1).sqrt()
        assert torch.allclose(kept.errors[epoch], el2n, atol=1e-4)
