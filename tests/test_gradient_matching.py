"""Gradient matching (DC, DSA, DCC, DSAC): distances, class-wise and collective losses, loops, and the image gradient."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from distill.methods.matching.gradient import GradientMatching, loops_for, with_gradient
from distill.methods.matching.matcher import DISTANCES, Matcher, labels_like, row_distance
from distill.networks.convnet import ConvNet
from distill.networks.flat import FlatStudent, flatten

CIFAR = partial(ConvNet, (3, 32, 32), 10, depth=None, width=128, norm="instance", pooling="avg", activation="relu")
WAYS = [3, 7, 15, 100]  # real images of one call, of 3 x 7
EVEN = (2, 2, 2)


def gradients(net, scale=1.0):
    """Random ones, every row with a norm of at least 1."""
    found = {name: torch.randn(p.shape) for name, p in net.named_parameters()}
    return {name: scale * g / g.flatten(1).norm(dim=1).min() if g.dim() > 1 else g for name, g in found.items()}


def test_rows_of_convnet_3():
    net = CIFAR()
    g = gradients(net)
    assert sum(p.numel() for p in net.parameters()) == 320_010
    assert row_distance(g, g) < 1e-3 and row_distance(g, gradients_times(g, 3.0)) < 1e-3
    assert row_distance(g, gradients_times(g, -1.0)) == pytest.approx(2 * 394, abs=1e-2)
    assert row_distance(gradients_times(g, 0.0), g) == 394


def gradients_times(g, factor):
    return {name: factor * part for name, part in g.items()}


def test_biases_and_norms_do_not_count():
    g = gradients(CIFAR())
    other = {name: part if part.dim() > 1 else torch.randn_like(part) for name, part in g.items()}
    assert row_distance(g, other) == row_distance(g, g)
    assert DISTANCES["squared"](g, other) > 1 and DISTANCES["cosine"](g, other) > DISTANCES["cosine"](g, g)


def test_a_row_too_small_for_its_epsilon_is_far_from_itself():
    row = {"w": torch.tensor([[1e-3, 0.0]])}
    assert row_distance(row, row) == pytest.approx(0.5)


@pytest.fixture
def batches():
    return batches_of(depth=2)


def batches_of(depth):
    torch.manual_seed(0)
    net = ConvNet((3, 8, 8), 3, depth=depth, width=6, norm="instance", pooling="avg", activation="softplus").double()
    real, synthetic = torch.randn(3, 7, 3, 8, 8).double(), torch.randn(6, 3, 8, 8).double()
    return net, flatten(net), real, synthetic


def match(net, kind, together=7, distance="rows", compiled=False):
    return getattr(Matcher(FlatStudent(net), DISTANCES[distance], compiled, together), kind)


def by_autograd(net, theta, real, synthetic, counts, kind):
    """Loss and image gradient written plainly, class by class, with all graphs kept."""
    flat, synthetic = FlatStudent(net), synthetic.clone().requires_grad_()
    theta = theta.clone().requires_grad_()

    def of(images, graph):
        found = [
            torch.autograd.grad(F.cross_entropy(flat(theta, x), y), theta, create_graph=graph)[0]
            for x, y in ((x, torch.full((len(x),), cls)) for cls, x in enumerate(images))
        ]
        return found if kind == "class_wise" else [torch.stack(found).mean(0)]

    pairs = zip(of(synthetic.split(counts), True), of(real, False), strict=True)
    loss = sum(row_distance(flat.unflatten(a), flat.unflatten(b)) for a, b in pairs)
    return loss.detach(), torch.autograd.grad(loss, synthetic)[0]


@pytest.mark.parametrize("kind", ["class_wise", "collective"])
@pytest.mark.parametrize("together", WAYS)
def test_every_way_gives_the_plain_loops_loss_and_gradient(batches, kind, together):
    check_way(match(batches[0], kind, together=together), batches, kind)


@pytest.mark.parametrize("kind, together", [("collective", 7), ("class_wise", 21)])  # one by one; in a stack
def test_every_compiled_function_gives_the_plain_loops_loss_and_gradient(kind, together):
    shallow = batches_of(depth=1)  # some ten kernels a function, and each takes a second to compile
    check_way(match(shallow[0], kind, together=together, compiled=True), shallow, kind)


def check_way(way, batches, kind):
    net, theta, real, synthetic = batches
    loss, gradient = way(theta, real, synthetic, EVEN)
    expected, expected_gradient = by_autograd(net, theta, real, synthetic, EVEN, kind)
    assert torch.allclose(loss, expected, rtol=1e-5)
    assert (gradient - expected_gradient).norm() < 1e-5 * expected_gradient.norm()


@pytest.mark.parametrize("kind", ["class_wise", "collective"])
@pytest.mark.parametrize("counts", [(3, 1, 2), (1, 1, 4), (4, 1, 1)])  # one by one; two in a stack, before or after one
@pytest.mark.parametrize("together", [3, 7, 15, 100])
def test_unequal_classes_have_the_plain_loops_loss_and_gradient(batches, kind, counts, together):
    net, theta, real, synthetic = batches
    loss, gradient = match(net, kind, together=together)(theta, real, synthetic, counts)
    expected, expected_gradient = by_autograd(net, theta, real, synthetic, counts, kind)
    assert torch.allclose(loss, expected, rtol=1e-12)
    assert (gradient - expected_gradient).norm() < 1e-10 * expected_gradient.norm()
    assert abs(loss - match(net, kind)(theta, real, synthetic, EVEN)[0]) > 1e-3 * loss


@pytest.mark.parametrize("kind", ["class_wise", "collective"])
def test_the_image_gradient_is_the_slope_of_the_loss(batches, kind):
    net, theta, real, synthetic = batches
    call = partial(match(net, kind), counts=EVEN)
    gradient = call(theta, real, synthetic)[1]
    for _ in range(3):
        direction = torch.randn_like(synthetic)
        ahead, behind = (call(theta, real, synthetic + sign * 1e-5 * direction)[0] for sign in (1, -1))
        assert (ahead - behind) / 2e-5 == pytest.approx(float((gradient * direction).sum()), rel=1e-5)


def test_of_one_class_both_losses_are_the_same(batches):
    net, theta, real, synthetic = batches
    one = match(net, "class_wise")(theta, real[:1], synthetic[:2], (2,))
    other = match(net, "collective")(theta, real[:1], synthetic[:2], (2,))
    assert torch.allclose(one[0], other[0], rtol=1e-6) and torch.allclose(one[1], other[1], rtol=1e-6)


def test_equal_batches_are_at_no_distance(batches):
    net, theta, real, _ = batches
    for kind in ("class_wise", "collective"):
        loss, _ = match(net, kind, distance="squared")(theta, real, real.flatten(0, 1), (7, 7, 7))
        assert loss < 1e-20


def test_what_classes_share_cancels_in_the_collective_gradient():
    # Linear softmax at p = 1/K on features u + v_c: a class's rows copy u, the mean over classes holds (mean v - v_k) / K.
    classes, width = 10, 200
    torch.manual_seed(0)
    u, v = 30 * torch.randn(width).double(), torch.randn(classes, width).double()
    net = nn.Linear(width, classes).double()
    nn.init.zeros_(net.weight), nn.init.zeros_(net.bias)
    flat = FlatStudent(net)
    matcher = Matcher(flat, row_distance, False, 1)
    images, theta = (u + v)[:, None], flatten(net)
    rows = [
        flat.unflatten(matcher.first(theta, x, y))["weight"] for x, y in zip(images, labels_like(images), strict=True)
    ]
    towards_u = torch.stack([F.cosine_similarity(row, u[None]).abs().mean() for row in rows])
    assert towards_u.min() > 0.99
    mean = torch.stack(rows).mean(0)
    assert torch.allclose(mean, (v.mean(0) - v) / classes, atol=1e-9)
    assert F.cosine_similarity(mean, u[None]).abs().max() < 0.3


def test_with_gradient_is_the_value_and_the_gradient():
    x, g = torch.randn(3, requires_grad=True), torch.randn(3)
    loss = with_gradient(2 * x, torch.tensor(7.0), g)
    loss.backward()
    assert loss == 7 and torch.allclose(x.grad, 2 * g)


def test_the_warm_up_is_class_wise_as_often_as_the_paper_says(matching_on):
    for updates in (10, 50):
        method = matching_on(
            GradientMatching, loops={2: (updates, 1)}, collective=True, warmup_networks=250, warmup_updates=10
        )
        steps = [divmod(step, method.updates) for step in range(1000 * updates)]
        assert sum(not method.is_collective(k, t) for k, t in steps) == 2500
    method = matching_on(GradientMatching, collective=False)
    assert not any(method.is_collective(k, t) for k, t in [(0, 0), (999, 9)])


def test_sizes_without_a_published_entry_take_a_neighbours_and_say_so(matching_on):
    table = {1: (1, 1), 10: (10, 50), 50: (50, 10)}
    assert loops_for(10, table) == (10, 50, "")
    *loops, note = loops_for(5, table)
    assert loops == [10, 50]
    assert note.startswith("no published method.loops for ipc 5; its neighbours are 1: [1, 1] and 10: [10, 50]")
    *loops, note = loops_for(100, table)
    assert loops == [50, 10] and "untuned" in note
    assert "untuned" in matching_on(GradientMatching, loops=table).notes[0]
    unequal = matching_on(GradientMatching, loops=table, ipc={"c0": 1, "c1": 10, "c2": 2})
    assert (unequal.updates, unequal.network.epochs, unequal.notes) == (10, 50, [])  # the largest class's


def test_every_network_gets_its_updates_unless_steps_end_earlier(matching_on):
    for updates in (1, 10, 50):
        assert matching_on(GradientMatching, loops={2: (updates, 1)}, steps=None).steps == 1000 * updates
    assert matching_on(GradientMatching, steps=7).steps == 7


def test_an_image_update_reaches_images_alone_and_lowers_its_own_loss(matching_on):
    method = matching_on(GradientMatching, loops={2: (1, 1)}, lr_img=0.02)
    optimizer = method.configure_optimizers()
    first = None
    for _ in range(40):
        optimizer.zero_grad()
        loss = method.update(0)
        loss.backward()
        optimizer.step()
        first = loss.detach() if first is None else first
    assert float(method.update(0).detach()) < 0.9 * float(first)
    assert all(parameter.grad is None for parameter in method.net.parameters())


def test_a_class_smaller_than_the_real_batch_sets_the_number_for_all(matching_on):
    method = matching_on(GradientMatching, batch_real=256)
    assert method.batch_real == 16 and method.real_images(0, 16).shape == (3, 16, 3, 8, 8)
    assert (
        method.notes[0].startswith("class 'c0' has 16 training images")
        and "method.batch_real is 256" in method.notes[0]
    )


def test_classes_of_unequal_size_below_a_batch_norms_16_images_still_match(matching_on, real):
    student = partial(ConvNet, (3, 8, 8), 3, depth=2, width=6, norm="batch", pooling="avg", activation="relu")
    kept = torch.cat([real.train.of_class(cls)[: 5 + cls] for cls in range(3)])
    few = replace(real.train, images=real.train.images[kept], labels=real.train.labels[kept])
    method = matching_on(GradientMatching, real=few, student=student)
    assert method.update(0).isfinite() and method.real_images(0, 16).shape[:2] == (3, 5)


def test_real_batches_are_different_images_of_their_class(matching_on):
    method = matching_on(GradientMatching, batch_real=8)
    batch = method.real_images(3, 8)
    for cls, images in enumerate(batch):
        own = method.real.images[method.real.of_class(cls)]
        places = (images[:, None] == own[None]).flatten(2).all(2).nonzero()[:, 1]
        assert len(places) == 8 == len(places.unique())
    assert not torch.equal(batch, method.real_images(4, 8)) and torch.equal(batch, method.real_images(3, 8))


def test_each_class_has_a_draw_of_its_own_that_its_two_batches_share(matching_on, real):
    one = replace(real.train, images=torch.randn(3, 8, 8).expand_as(real.train.images))  # image, again and again
    method = matching_on(GradientMatching, real=one, batch_real=2)
    views = [method.batches(step) for step in range(8)]
    assert all(torch.equal(real.flatten(0, 1), synthetic) for real, synthetic in views)
    assert sum(len(real[:, 0].flatten(1).unique(dim=0)) == 3 for real, _ in views) >= 6  # flips may coincide


def test_noise_starts_are_standard_normal(matching_on):
    images = matching_on(GradientMatching, init="noise", ipc=10).synset.images.detach()
    assert abs(float(images.mean())) < 4 / math.sqrt(images.numel()) and abs(float(images.std()) - 1) < 0.05


def test_batch_norm_is_told_and_stands_still_while_matching(matching_on):
    student = partial(ConvNet, (3, 8, 8), 3, depth=2, width=6, norm="batch", pooling="avg", activation="relu")
    method = matching_on(GradientMatching, student=student)
    assert "norm=instance" in method.notes[0]
    method.update(0)
    moved = [norm.running_mean.clone() for norm in method.norms]
    assert all(norm.num_batches_tracked == 1 for norm in method.norms) and any(mean.abs().max() > 0 for mean in moved)
