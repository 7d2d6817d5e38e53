"""Recovery: the statistics' distance and its gradient, crops and their curriculum, units that do not feel one another."""

import itertools
import sys

import pytest
import torch
import torch.nn.functional as F
from conftest import load_npz
from pytorch_lightning.loggers import CSVLogger
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from distill.augment.crops import boxes, resize_boxes
from distill.methods.base import Diverged
from distill.methods.decoupled.moments import MeasuredNorm, gathered_statistics, statistics_distance
from distill.methods.decoupled.recovery import Recovery
from distill.methods.decoupled.units import pair_of
from distill.methods.decoupled.views import displayable, smallest_crop
from distill.methods.shares import join
from distill.methods.synthesis import distill
from distill.networks.convnet import ConvNet
from distill.teachers.committee import Committee, batch_norms


def distance(net, images, groups=1, first=10.0):
    with gathered_statistics(net, groups) as moments:
        net(images)
    return statistics_distance(moments, first)


@torch.no_grad()
def test_the_distance_is_zero_for_the_batch_whose_statistics_the_teacher_keeps(teacher):
    net, images = teacher().eval(), torch.randn(6, 3, 8, 8)
    assert distance(net, images) > 0.1
    for norm in batch_norms(net):
        with gathered_statistics(net, 1) as moments:
            net(images)
        norm.running_mean, norm.running_var = (each[0] for each in moments[norm])
    assert distance(net, images).item() == pytest.approx(0.0, abs=1e-5)


def test_the_distances_gradient_is_the_closed_form():
    norm, maps = nn.BatchNorm2d(3).double().eval(), torch.randn(4, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    norm.running_mean, norm.running_var = torch.randn(3).double(), torch.rand(3).double()
    mean, variance = maps.mean((0, 2, 3)), maps.var((0, 2, 3), correction=0)
    loss = statistics_distance({norm: (mean[None], variance[None])}, 1.0)
    (gradient,) = torch.autograd.grad(loss.sum(), maps)
    dm, dv = (mean - norm.running_mean).detach(), (variance - norm.running_var).detach()
    centred = (maps - mean[:, None, None]).detach()
    closed = (dm / dm.norm())[:, None, None] + 2 * centred * (dv / dv.norm())[:, None, None]
    assert torch.allclose(gradient, closed / 100, atol=1e-12)
    assert closed.sub((dm / dm.norm())[:, None, None]).sum((0, 2, 3)).abs().max() < 1e-10


@torch.no_grad()
def test_only_the_first_batch_norm_counts_more():
    norms = [nn.BatchNorm2d(2), nn.BatchNorm2d(2)]
    moments = [(torch.tensor([[3.0, 4.0]]), torch.ones(1, 2)), (torch.zeros(1, 2), torch.tensor([[1.0, 3.0]]))]
    moments = dict(zip(norms, moments, strict=True))
    assert statistics_distance(moments, 1.0).item() == pytest.approx(5 + 2)
    assert statistics_distance(moments, 10.0).item() == pytest.approx(10 * 5 + 2)


def test_groups_have_the_statistics_they_have_alone(teacher):
    net, images = teacher().eval(), torch.randn(6, 3, 8, 8)
    alone = torch.cat([distance(net, part) for part in images.split(2)])
    assert torch.allclose(distance(net, images, groups=3), alone, rtol=1e-5)


def test_moments_are_the_mean_and_the_biased_variance_of_a_batch_norms_input():
    norm, maps = nn.BatchNorm2d(3).eval(), torch.randn(4, 3, 2, 2)
    with gathered_statistics(norm, 2) as moments:
        norm(maps)
    for group, (mean, variance) in zip(maps.split(2), zip(*moments[norm], strict=True), strict=True):
        by_channel = group.transpose(0, 1).flatten(1)
        assert torch.allclose(mean, by_channel.mean(1), atol=1e-6)
        assert torch.allclose(variance, by_channel.var(1, correction=0), atol=1e-6)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_a_measured_norm_is_what_autograd_makes_of_the_norm_and_the_moments(layout):
    torch.manual_seed(0)
    norm, weights = nn.BatchNorm2d(3).double().eval().requires_grad_(False), torch.randn(3, 2, 3, dtype=torch.float64)
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        tensor.uniform_(0.5, 2)
    maps = torch.randn(4, 3, 2, 5, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()

    def gradient(normed, mean, variance):
        total = (normed.sin()).sum() + (weights[0] * mean).sum() + (weights[1] * variance.square()).sum()
        return torch.autograd.grad(total, maps)[0]

    variance, mean = torch.var_mean(maps.unflatten(0, (2, 2)), (1, 3, 4), correction=0)
    ours = MeasuredNorm.apply(maps, norm, 2)
    assert torch.allclose(gradient(*ours), gradient(norm(maps), mean, variance), atol=1e-12)


def test_moments_of_half_precision_maps_are_in_full_precision():
    norm, maps = nn.BatchNorm2d(3).eval(), (torch.randn(64, 3, 8, 8) + 3).bfloat16()
    _, mean, variance = MeasuredNorm.apply(maps, norm, 1)
    assert mean.dtype == variance.dtype == torch.float32
    assert torch.allclose(mean[0], maps.float().mean((0, 2, 3)), rtol=1e-4)
    assert torch.allclose(variance[0], maps.float().var((0, 2, 3), correction=0), rtol=1e-4)


# Section 10, check E: the bound at a quarter, a half and three quarters of the run.
@pytest.mark.parametrize(
    "curriculum, bounds",
    [
        ("cosine", (1, 0.865, 0.54, 0.215)),
        ("linear", (1, 0.77, 0.54, 0.31)),
        ("step", (1, 1, 1, 1)),
        ("none", (0.08,) * 4),
    ],
)
def test_the_curriculum_is_the_papers(curriculum, bounds):
    found = [smallest_crop(curriculum, 0.08, 1.0, done) for done in (0, 0.25, 0.5, 0.75)]
    assert found == pytest.approx(bounds, abs=1e-3)
    assert smallest_crop(curriculum, 0.08, 0.5, 0.5) == 0.08
    assert smallest_crop(curriculum, 0.08, 0.0, 0.0) == 0.08  # SRe2L


@pytest.mark.parametrize("size", [(4, 4), (5, 9), (7, 3)], ids=str)
def test_a_box_that_shrinks_is_antialiased(size):
    images = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    found = torch.tensor([[0, 0, 16, 16], [2, 1, 10, 12], [5, 4, 6, 3]])
    for image, (top, left, tall, wide), ours in zip(
        images, found.tolist(), resize_boxes(images, found, size), strict=True
    ):
        part = image[None, :, top : top + tall, left : left + wide]
        assert torch.allclose(ours, F.interpolate(part, size, mode="bilinear", antialias=True)[0], atol=1e-6)


def test_crops_are_drawn_as_torchvision_draws_them():
    g = torch.Generator().manual_seed(0)
    found = boxes(3000, torch.zeros(1, 3, 224, 224), 0.08, g)
    share = (found[:, 2] * found[:, 3]).float() / 224**2
    assert share.mean().item() == pytest.approx(0.48, abs=0.02)
    assert (boxes(50, torch.zeros(1, 3, 224, 224), 1.0, g) == torch.tensor([0, 0, 224, 224])).all()


def test_a_resized_box_is_the_box_cut_out_and_interpolated():
    images = torch.randn(5, 3, 12, 12, dtype=torch.float64)
    found = boxes(5, images, 0.08, torch.Generator().manual_seed(3))
    views = resize_boxes(images, found)
    for image, view, (top, left, tall, wide) in zip(images, views, found.tolist(), strict=True):
        cut = image[None, :, top : top + tall, left : left + wide]
        assert torch.allclose(F.interpolate(cut, size=12, mode="bilinear")[0], view, atol=1e-12)


def ready(method):
    method.begin()
    method.configure_optimizers()
    return method


@torch.no_grad()
def cropped(method):
    """Which pixels the views of iteration 0 depend on, (H, W)."""
    images, before = method.pixels.clone(), method.views(method.pixels, 0)
    seen = torch.zeros(images.shape[-2:], dtype=torch.bool)
    for row, column in itertools.product(*map(range, seen.shape)):
        method.pixels[..., row, column] += 1
        seen[row, column] = not torch.equal(method.views(method.pixels, 0), before)
        method.pixels.copy_(images)
    return seen


def test_nothing_outside_the_crop_has_a_gradient_and_equal_images_have_equal_ones(asked_on):
    method = ready(asked_on(Recovery, roll=0, batch=3, together=1, curriculum="none", seed=3))
    inside = cropped(method)
    assert (
        torch.equal(inside, inside.any(1)[:, None] & inside.any(0))
        and not inside.all(0).any()
        and not inside.all(1).any()
    )
    (gradient,) = torch.autograd.grad(method.update(0), method.pixels)
    assert (gradient[..., ~inside] == 0).all() and (gradient[..., inside] != 0).any()
    with torch.no_grad():
        method.pixels[:] = method.pixels[:, :1]
    method.labels[:] = 0
    (gradient,) = torch.autograd.grad(method.update(0), method.pixels)
    assert torch.allclose(gradient[0, 0], gradient[0, 1], atol=1e-9)


def run(method, folder):
    record = {"method": "recovery"}
    return distill(method, folder, record, [], "cpu", lambda *a: None), method


def pixels(outcome):
    return outcome[1].synset.images.detach()


@pytest.mark.parametrize("changes", [{}, {"crop_each": True}, {"batch": 1, "roll_both": True}], ids=str)
def test_units_stacked_or_alone_give_the_same_images(asked_on, tmp_path, changes):
    alone = pixels(run(asked_on(Recovery, together=1, iterations=6, **changes), tmp_path / "alone"))
    stacked = pixels(run(asked_on(Recovery, together=4, iterations=6, **changes), tmp_path / "stacked"))
    assert torch.allclose(alone, stacked, atol=1e-5)
    assert not torch.allclose(alone[0], alone[1], atol=0.1)


@pytest.mark.parametrize("init", ["noise", "real", "composite"])
def test_a_share_starts_from_its_own_images_of_the_whole(asked_on, init):
    whole = asked_on(Recovery, together=1, init=init)
    share = asked_on(Recovery, together=1, init=init, share=(1, 2))
    own, start = share.made(), whole.initial_set()
    assert 0 < len(own) < len(start) == len(whole.made())
    assert torch.equal(share.initial_set().images, start.images[own])
    assert torch.equal(share.initial_set().classes, start.classes[own])


def test_processes_that_share_the_work_make_the_set_of_one(asked_on, tmp_path):
    whole, _ = run(asked_on(Recovery, together=1), tmp_path / "whole")
    methods = [asked_on(Recovery, together=1, share=(rank, 2)) for rank in range(2)]
    shares = [tmp_path / str(rank) for rank in range(2)]
    for method, share in zip(methods, shares, strict=True):
        run(method, share)
    (tmp_path / "joined").mkdir()
    joined = join([method.made() for method in methods], shares, tmp_path / "joined")
    from distill.sets.reading import load

    assert load(joined).hash == load(whole).hash and load(joined).record["step"] == load(whole).record["step"] == 8


def test_recovery_lowers_its_loss_and_the_teachers_know_the_images(asked_on, committee, tmp_path):
    method = asked_on(Recovery, iterations=60, together=2)
    ready(method)
    before = float(method.update(0).detach())
    run(asked_on(Recovery, iterations=60, together=2), tmp_path)
    from distill.sets.reading import load

    synset = load(tmp_path)
    method.begin(synset)
    method.open(0)
    assert float(method.update(0).detach()) < 0.5 * before
    guesses = [net(synset.images).argmax(1) for net in committee.nets]
    assert all((guess == synset.labels).all() for guess in guesses)


def is_called_by(function):
    """Whether whoever asks is at work for ``function``."""
    frame = sys._getframe()
    while frame and frame.f_code is not function.__code__:
        frame = frame.f_back
    return frame is not None


def test_the_device_is_waited_for_only_where_metrics_are_written(asked_on, tmp_path):
    at, waits = [0], set()

    class Waits(TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            asked = operation is torch.ops.aten._local_scalar_dense.default  # a number that Python wants of a tensor
            if asked and not is_called_by(boxes):  # whose numbers are a generator's, never on the device
                waits.update(at)
            return operation(*args, **(kwargs or {}))

    class Watched(Recovery):
        def learn(self, step):
            at[0] = step + 1
            super().learn(step)

    method = asked_on(Watched, iterations=20, together=4, log_every=5, snapshot_every=600)
    with Waits():
        distill(method, tmp_path, {"method": "recovery"}, [CSVLogger(tmp_path)], "cpu", lambda *a: None)
    assert waits == {0, 5, 10, 15, 20}  # 0: as the set is written for the first time


class Poisoned(Recovery):
    """Whose loss is not finite at some steps."""

    poisoned = range(2, 4)

    def update(self, step):
        return super().update(step) * (torch.nan if step in self.poisoned else 1.0)


def test_a_step_that_is_not_finite_changes_nothing_and_is_counted_later(asked_on, tmp_path):
    after = []

    class Watched(Poisoned):
        def learn(self, step):
            super().learn(step)
            after.append((self.synset.images.detach().clone(), self.skips))

    method = asked_on(Watched, iterations=6, log_every=6, snapshot_every=600)
    run(method, tmp_path)
    images, skips = zip(*after, strict=True)
    assert torch.equal(images[1], images[3]) and not torch.equal(images[3], images[4])
    assert skips[-1] == 0 and method.skips == 2 and method.skips_in_a_row == 0
    assert all(each.isfinite().all() for each in images)


def test_recovery_that_stays_not_finite_is_given_up(asked_on, tmp_path):
    method = asked_on(Poisoned, iterations=6, log_every=3, snapshot_every=1000, max_skips=4)
    method.poisoned = range(6)
    with pytest.raises(Diverged, match="4 steps in a row were skipped, at last because the loss or its gradient"):
        run(method, tmp_path)


def test_what_is_stored_are_eight_bits_within_the_displayable(asked_on, tmp_path):
    from distill.sets.reading import load

    path, method = run(asked_on(Recovery, lr_img=5.0), tmp_path)
    synset = load(path)
    assert synset.eight_bit and synset.hash == synset.copy().hash
    assert torch.equal(synset.images, method.synset.copy().quantised().images)
    shown = synset.preprocessing.inverse(method.synset.images.detach())
    assert shown.min() > -1e-4 and shown.max() < 1 + 1e-4
    low, high = displayable(synset)
    assert method.synset.images.min() == low.min() and method.synset.images.max() == high.max()
    black, white = (synset.preprocessing.inverse(bound[None]) for bound in (low, high))
    assert torch.allclose(black, torch.zeros(1), atol=1e-6) and torch.allclose(white, torch.ones(1), atol=1e-6)


def five(teacher):
    return Committee(tuple("abcde"), tuple(teacher() for _ in range(5)), (63.0, 65.3, 68.5, 67.6, 67.4))


def test_pairs_are_chosen_as_the_paper_does(teacher):
    committee = five(teacher)
    assert pair_of(committee, "best", 7, 0) == (2, 3)
    rotated = [pair_of(committee, "rotate", index, 0) for index in range(10)]
    assert sorted(rotated) == list(itertools.combinations(range(5), 2))
    assert len({pair_of(committee, "random", index, 0) for index in range(60)}) == 10
    assert pair_of(committee, "random", 3, 0) == pair_of(committee, "random", 3, 0)


def test_units_of_one_stack_ask_the_same_teachers(asked_on, teacher):
    method = asked_on(Recovery, committee=five(teacher), pairs="rotate", ipc=4, together=3)
    assert all(len({unit.members for unit in stack}) == 1 for stack in method.stacks)
    assert sorted(unit.ipc_index for stack in method.stacks for unit in stack) == [0, 1, 2, 3]


def test_what_cannot_be_recovered_is_refused(asked_on, student, teacher):
    with pytest.raises(
        ValueError, match="teacher plain has no batch norm, whose statistics recovery needs: use norm=batch"
    ):
        asked_on(Recovery, committee=Committee(("plain",), (student(),), (50.0,)))
    with pytest.raises(ValueError, match="3 classes do not divide into blocks of method.batch=2: take 1"):
        asked_on(Recovery, batch=2)
    for changes, message in [
        (dict(init="x"), "unknown method.init 'x': one of noise, real, composite"),
        (dict(curriculum="x"), "unknown method.curriculum 'x': one of none, step, linear, cosine"),
        (dict(pairs="x"), "unknown method.pairs 'x': one of all, best, rotate, random, in_turn"),
        (dict(milestone=2.0), r"method.milestone is 2.0, expected a number in \[0, 1\]"),
        (dict(precision="fp8"), "unknown method.precision 'fp8': one of fp32, bf16"),
        (dict(steps=9, together=4), "method.steps is 9, all iterations of all stacks are 4: leave it null"),
        (dict(init="composite", pool=7, factor=2), r"method.pool is 7, expected at least ipc x factor\^2 = 8"),
    ]:
        with pytest.raises(ValueError, match=message):
            asked_on(Recovery, **changes)


def test_whitened_images_cannot_be_recovered(asked_on, npz):
    with pytest.raises(ValueError, match="recovery keeps pixels displayable .*: set data.zca=false"):
        asked_on(Recovery, real=load_npz(npz, zca=True).train)


def test_every_start_is_the_same_for_a_seed_and_another_for_another(asked_on):
    for init in ("noise", "real", "composite"):
        first, again, other = (asked_on(Recovery, init=init, seed=seed).initial_set().images for seed in (0, 0, 1))
        assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_wide_network_takes_the_statistics_of_every_batch_norm():
    net = ConvNet((3, 8, 8), 3, depth=3, width=4, norm="batch", pooling="none", activation="relu").eval()
    with gathered_statistics(net, 2) as moments:
        net(torch.randn(4, 3, 8, 8))
    assert [tuple(mean.shape) for mean, _ in moments.values()] == [(2, 4)] * 3
