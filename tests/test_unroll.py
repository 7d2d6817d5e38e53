"""The inner loop's gradients, against finite differences, autograd and closed forms; float64 throughout."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.augment.families import DSA
from distill.methods.matching.unroll import CompiledDerivatives, Derivatives, InnerLoop, InnerStep, chunks, unroll
from distill.networks.convnet import ConvNet
from distill.networks.flat import FlatStudent, flatten

N, K = 7, 3
ALL = "color_crop_cutout_flip_scale_rotate"


@pytest.fixture
def toy():
    return toy_of(depth=2)


def toy_of(depth):
    """A small smooth network with soft labels: (loss, start, images, label logits, lr)."""
    torch.manual_seed(0)
    net = ConvNet((3, 8, 8), K, depth=depth, width=6, norm="instance", pooling="avg", activation="softplus").double()
    flat, start = FlatStudent(net), flatten(net)
    images = torch.randn(N, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    logits = torch.randn(N, K, dtype=torch.float64, requires_grad=True)
    lr = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)

    def loss(theta, x, y):
        return F.cross_entropy(flat(theta, x), y.softmax(1))

    return loss, start, images, logits, lr


def unrolled(derivatives, start, images, labels, lr, plan, mode="recompute", **loop):
    return unroll(InnerLoop(derivatives, plan, **loop), start, images, labels, lr, mode)


def plan_of(steps, batch=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [InnerStep(index, draw) for draw, index in enumerate(chunks(N, batch, steps, g))]


def gradients(loss, start, images, labels, lr, plan, stops=None, make=Derivatives, **settings):
    torch.manual_seed(1)
    landed = unrolled(make(loss), start, images, labels, lr, plan, stops=stops, augment=DSA(ALL), **settings)
    targets = start + 0.1 * torch.randn(len(landed), len(start), dtype=start.dtype)
    value = ((landed - targets).square().sum(1) / (start - targets).square().sum(1)).sum()
    return value.detach(), torch.autograd.grad(value, (images, labels, lr))


def relative(a, b):
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("mode", ["full", "segments", "recompute"])
def test_gradients_of_a_two_step_unroll_equal_finite_differences(toy, mode):
    loss, start, images, labels, lr = toy
    plan, step = plan_of(2), 1e-5
    _, analytic = gradients(loss, start, images, labels, lr, plan, mode=mode)
    for place, leaf in enumerate((images, labels, lr)):
        direction = torch.randn_like(leaf)
        ends = []
        for sign in (1, -1):
            moved = [
                part.detach() + sign * step * direction if i == place else part
                for i, part in enumerate((images, labels, lr))
            ]
            moved = [part.detach().requires_grad_() for part in moved]
            ends.append(gradients(loss, start, *moved, plan, mode=mode)[0])
        numeric = (ends[0] - ends[1]) / (2 * step)
        assert float((analytic[place] * direction).sum()) == pytest.approx(float(numeric), rel=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("stops", [[1], [5], [2, 5], [1, 3, 6, 7], [10]], ids=str)
@pytest.mark.parametrize("mode", ["segments", "recompute"])
def test_reverse_recomputation_equals_autograd_through_the_unroll(toy, momentum, stops, mode):
    plan = plan_of(stops[-1])  # 7 images in batches of 4 and 3: indices repeat across steps
    value, exact = gradients(*toy, plan, stops, mode="full", momentum=momentum)
    again, ours = gradients(*toy, plan, stops, mode=mode, momentum=momentum)
    assert float(again) == pytest.approx(float(value), rel=1e-12)
    assert max(relative(a, b) for a, b in zip(ours, exact, strict=True)) < 1e-12


@pytest.fixture(scope="module")
def compiled():
    """A shallow toy, as each kernel takes a second to compile, and its compiled derivatives."""
    toy = toy_of(depth=1)
    return toy, CompiledDerivatives(toy[0], batch=4)


@pytest.mark.parametrize("mode", ["full", "segments", "recompute", "tesla"])
def test_compiled_derivatives_equal_eager_ones(compiled, mode):
    toy, derivatives = compiled
    plan = plan_of(2)  # one batch of 3, which goes the eager way, and one of 4
    value, eager = gradients(*toy, plan, mode=mode)
    again, ours = gradients(*toy, plan, mode=mode, make=lambda loss: derivatives)
    assert float(again) == pytest.approx(float(value), rel=1e-12)
    assert max(relative(a, b) for a, b in zip(ours, eager, strict=True)) < 1e-10


@pytest.mark.parametrize("mode", ["full", "segments", "recompute", "tesla"])
def test_a_scaled_loss_is_a_scaled_student_rate(toy, mode):
    *rest, lr = toy
    _, scaled = gradients(*toy, plan_of(3), mode=mode, scale=1.7)
    faster = (1.7 * lr.detach()).requires_grad_()
    _, expected = gradients(*rest, faster, plan_of(3), mode=mode)
    assert relative(scaled[0], expected[0]) < 1e-12 and relative(scaled[1], expected[1]) < 1e-12
    assert float(scaled[2]) == pytest.approx(1.7 * float(expected[2]), rel=1e-12)


def test_hard_labels_get_no_gradient_and_images_the_exact_one(toy):
    loss, start, images, _, lr = toy
    classes = torch.arange(N) % K

    def hard(theta, x, y):
        return loss(theta, x, 50.0 * F.one_hot(y, K).double())

    grads = {}
    for mode in ("full", "segments", "recompute"):
        landed = unrolled(Derivatives(hard), start, images, classes, lr, plan_of(3), mode=mode)
        grads[mode] = torch.autograd.grad(landed.square().sum(), (images, lr))
    for mode in ("segments", "recompute"):
        assert max(relative(a, b) for a, b in zip(grads[mode], grads["full"], strict=True)) < 1e-12


def test_tesla_is_exact_for_one_step_and_nearly_so_for_two_small_ones(toy):
    loss, start, images, labels, _ = toy
    lr = torch.tensor(0.01, dtype=torch.float64, requires_grad=True)
    _, exact = gradients(loss, start, images, labels, lr, plan_of(1), mode="full")
    _, tesla = gradients(loss, start, images, labels, lr, plan_of(1), mode="tesla")
    assert max(relative(a, b) for a, b in zip(tesla, exact, strict=True)) < 1e-12
    _, exact = gradients(loss, start, images, labels, lr, plan_of(2), mode="full")
    _, tesla = gradients(loss, start, images, labels, lr, plan_of(2), mode="tesla")
    assert relative(tesla[0], exact[0]) > 1e-6
    assert float(F.cosine_similarity(tesla[0].flatten(), exact[0].flatten(), dim=0)) > 0.999


H, ALPHA, STEPS = 0.7, 0.1, 20


def quadratic(theta, x, y):
    return H / 2 * (theta - x.flatten()).square().sum()


@pytest.mark.parametrize("mode, factor", [("full", 1.0), ("segments", 1.0), ("recompute", 1.0), ("tesla", 1.8282)])
def test_closed_form_of_a_quadratic_loss(mode, factor):
    start, target = torch.randn(2, 6, dtype=torch.float64)
    x = torch.randn(1, 1, 2, 3, dtype=torch.float64, requires_grad=True)
    lr = torch.tensor(ALPHA, dtype=torch.float64, requires_grad=True)
    plan = [InnerStep(torch.tensor([0]), i) for i in range(STEPS)]
    (landed,) = unrolled(Derivatives(quadratic), start, x, torch.tensor([0]), lr, plan, mode=mode)
    moved = (start - target).square().sum()
    grad_x, grad_lr = torch.autograd.grad((landed - target).square().sum() / moved, (x, lr))
    q = (1 - ALPHA * H) ** STEPS
    end = q * start + (1 - q) * x.detach().flatten()
    assert torch.allclose(landed, end, atol=1e-12)
    assert torch.allclose(
        grad_x.flatten(), factor * 2 * (1 - q) / moved * (end - target), rtol=1e-4 if factor > 1 else 1e-10
    )
    if mode != "tesla":
        by_hand = (
            2 / moved * (end - target) @ (STEPS * H * (1 - ALPHA * H) ** (STEPS - 1) * (x.detach().flatten() - start))
        )
        assert float(grad_lr) == pytest.approx(float(by_hand), rel=1e-10)


@pytest.mark.parametrize("mode", ["full", "segments", "recompute", "tesla"])
def test_closed_form_of_one_step_towards_a_target_it_can_reach(toy, mode):
    loss, start, images, labels, lr = toy
    best, (step,) = 0.07, plan_of(1)
    theta = start.clone().requires_grad_()
    (g,) = torch.autograd.grad(loss(theta, images[step.index].detach(), labels[step.index].detach()), theta)
    target = start - best * g
    for alpha in (0.1, best):
        rate = torch.tensor(alpha, dtype=torch.float64, requires_grad=True)
        (landed,) = unrolled(Derivatives(loss), start, images, labels, rate, [step], mode=mode)
        value = (landed - target).square().sum() / (start - target).square().sum()
        grad_x, grad_lr = torch.autograd.grad(value, (images, rate))
        assert float(value) == pytest.approx((alpha / best - 1) ** 2, abs=1e-12)
        assert float(grad_lr) == pytest.approx(2 * (alpha - best) / best**2, abs=1e-8)
    assert grad_x.abs().max() < 1e-12


@pytest.mark.parametrize("mode", ["full", "segments", "recompute", "tesla"])
def test_a_student_with_rate_zero_stays_and_only_its_rate_learns(toy, mode):
    loss, start, images, labels, _ = toy
    lr = torch.zeros((), dtype=torch.float64, requires_grad=True)
    plan = plan_of(3)
    target = start + 0.1
    (landed,) = unrolled(Derivatives(loss), start, images, labels, lr, plan, mode=mode)
    value = (landed - target).square().sum() / (start - target).square().sum()
    grad_x, grad_lr = torch.autograd.grad(value, (images, lr))
    total = torch.zeros_like(start)
    for step in plan:
        theta = start.clone().requires_grad_()
        total += torch.autograd.grad(loss(theta, images[step.index].detach(), labels[step.index].detach()), theta)[0]
    assert float(value) == pytest.approx(1.0)
    assert grad_x.abs().max() == 0
    assert float(grad_lr) == pytest.approx(
        float(2 * (target - start) @ total / (start - target).square().sum()), rel=1e-10
    )


def test_the_second_pass_replays_every_loss_bit_for_bit(toy):
    loss, start, images, labels, lr = toy
    seen: list[float] = []

    def watched(theta, x, y):
        value = loss(theta, x, y)
        seen.append(float(value.detach()))
        return value

    landed = unrolled(Derivatives(watched), start, images, labels, lr, plan_of(4), augment=DSA(ALL), mode="recompute")
    landed.sum().backward()
    assert len(set(seen)) == 4 and seen[4:] == seen[3::-1]


def test_gradients_of_soft_labels_sum_to_zero_in_every_row(toy):
    _, (_, labels_grad, _) = gradients(*toy, plan_of(3), mode="recompute")
    assert labels_grad.abs().max() > 0
    assert labels_grad.sum(1).abs().max() < 1e-12


def test_memory_of_activations_is_that_of_all_steps_of_a_square_root_of_them_or_of_one(toy):
    """Bytes that autograd's graphs keep at once, while an unroll runs forward and backward, in those of one step's graph."""
    loss, start, images, labels, lr = toy
    most = {}
    for mode in ("full", "segments", "recompute"):
        for steps in (1, 4, 16):
            alive = Alive()
            with torch.autograd.graph.saved_tensors_hooks(alive.keep, lambda kept: kept.tensor):
                landed = unrolled(Derivatives(loss), start, images, labels, lr, plan_of(steps), mode=mode)
                landed.sum().backward()
            most[mode, steps] = alive.most / most.get((mode, 1), alive.most) if steps > 1 else alive.most
    assert most["full", 4] > 3 and most["full", 16] > 12
    assert 1.5 < most["segments", 4] < 3 and 3 < most["segments", 16] < 6
    assert most["recompute", 4] < 1.5 and most["recompute", 16] < 1.5


class Alive:
    """Counts what autograd holds: hooks get a tensor to keep, and let go of what `keep` gave them when a graph dies."""

    def __init__(self):
        self.now = self.most = 0

    def keep(self, tensor):
        return Kept(tensor, self)


class Kept:
    def __init__(self, tensor, count):
        self.tensor, self.count, self.bytes = tensor, count, tensor.numel() * tensor.element_size()
        count.now += self.bytes
        count.most = max(count.most, count.now)

    def __del__(self):
        self.count.now -= self.bytes


@pytest.mark.parametrize("momentum, kept", [(0.0, 1), (0.5, 5)])
def test_velocities_of_all_steps_are_kept_where_there_is_momentum_alone(toy, momentum, kept):
    loss, start, *rest = toy
    images, labels, lr = (each.detach() for each in rest)
    loop = InnerLoop(Derivatives(loss), plan_of(5), momentum=momentum)
    _, thetas, velocities = loop.run(start, images, labels, lr, graph=False)
    assert (len(thetas), len(velocities)) == (6, kept)
    torch.testing.assert_close(thetas[-2] - lr * velocities[-1], thetas[-1])


def test_chunks_of_mtt():
    g = torch.Generator().manual_seed(0)
    batches = chunks(10_000, 300, 34, g)
    assert [len(b) for b in batches] == [100] + [300] * 33
    assert torch.equal(torch.cat(batches).sort().values, torch.arange(10_000))
    twice = torch.cat(chunks(5_000, 125, 80, g))
    assert torch.equal(twice.bincount(), torch.full((5_000,), 2))
    for batch in (None, 50, 60):
        assert all(torch.equal(b.sort().values, torch.arange(50)) for b in chunks(50, batch, 5, g))


@given(st.integers(1, 40), st.one_of(st.none(), st.integers(1, 50)), st.integers(1, 30))
@settings(max_examples=50)
def test_no_image_is_used_again_before_all_are_used(n, batch, steps):
    used = torch.cat(chunks(n, batch, steps, torch.Generator().manual_seed(n)))
    counts = used.bincount(minlength=n)
    assert counts.max() - counts.min() <= 1


def test_impossible_settings_are_refused(toy):
    with pytest.raises(ValueError, match="unknown memory mode 'x': one of full, segments, recompute, tesla"):
        gradients(*toy, plan_of(2), mode="x")
    with pytest.raises(ValueError, match="tesla knows neither momentum"):
        gradients(*toy, plan_of(2), mode="tesla", momentum=0.9)
