"""EDC's parts of recovery: statistics of classes, teachers in turn, averages that pass gradients on, flatness, restarts."""

import doctest
from dataclasses import replace

import pytest
import torch
from torch import nn

from distill.methods.base import Method
from distill.methods.decoupled import edc
from distill.methods.decoupled.edc import Averages, class_statistics, smoothed, straight_through
from distill.methods.decoupled.moments import gathered_statistics
from distill.methods.decoupled.recovery import Recovery
from distill.methods.synthesis import distill
from distill.sets.reading import load
from distill.teachers.committee import Committee, batch_norms
from distill.training.losses import divergence

PARTS = dict(
    pairs="in_turn",
    class_share=0.5,
    statistics_average=0.8,
    flatness=5.0,
    flatness_average=0.9,
    flatness_temperature=2.0,
)


def ready(method):
    method.begin()
    method.configure_optimizers()
    return method


def run(method, folder):
    return load(distill(method, folder, {"method": "recovery"}, [], "cpu", lambda *a: None))


def norm_inputs(net, images):
    """What goes into each batch norm, by plain hooks."""
    found = []
    hooks = [norm.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0])) for norm in batch_norms(net)]
    net(images)
    for hook in hooks:
        hook.remove()
    return found


def plain_moments(maps):
    return maps.mean((0, 2, 3)), maps.var((0, 2, 3), correction=0)


def in_double(real, committee):
    nets = tuple(net.double() for net in committee.nets)
    return replace(real.train, images=real.train.images.double()), Committee(committee.names, nets, committee.priors)


@torch.no_grad()
@pytest.mark.parametrize("together", [5, 250])
def test_a_classs_statistics_are_those_of_all_its_real_images_at_once(real, committee, monkeypatch, together):
    monkeypatch.setattr(edc, "TOGETHER", together)
    split, committee = in_double(real, committee)
    found = class_statistics(committee.nets[0], split)
    assert [*found] == batch_norms(committee.nets[0])
    for cls in range(3):
        plain = norm_inputs(committee.nets[0], split.images[split.labels == cls])
        for maps, (means, variances) in zip(plain, found.values(), strict=True):
            mean, variance = plain_moments(maps)
            assert torch.allclose(means[cls], mean, atol=1e-12) and torch.allclose(variances[cls], variance, atol=1e-12)
    means, variances = [*found.values()][-1]
    assert (means[0] - means[1]).abs().max() > 0.1 and (variances[0] - variances[1]).abs().max() > 0.1


@pytest.mark.parametrize("batch", [1, 3], ids=["a class a unit", "all classes a unit"])
def test_the_distance_and_its_gradient_are_the_plain_formulas(real, committee, asked_on, batch):
    """In float64: alpha to the running statistics, 1 - alpha to the mean of those that the batch's classes have."""
    split, committee = in_double(real, committee)
    share = 0.3
    method = ready(asked_on(Recovery, real=split, committee=committee, class_share=share, batch=batch, together=6))
    asked, units = method.asked[0], len(method.units)
    assert units == 6 // batch
    views = torch.randn(units, batch, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    with gathered_statistics(asked.net, units) as moments:
        method.logits(asked.net, views)
    ours = method.distance(moments, asked)

    norms = batch_norms(asked.net)
    with torch.no_grad():
        by_class = [
            [plain_moments(maps) for maps in norm_inputs(asked.net, split.images[split.labels == cls])]
            for cls in range(3)
        ]
    plain = []
    for unit, labels in zip(views, method.labels.tolist(), strict=True):
        parts = {"running": 0.0, "classes": 0.0}
        for place, maps in enumerate(norm_inputs(asked.net, unit)):
            mean, variance = plain_moments(maps)
            weight = method.settings.first_bn_weight if place == 0 else 1.0
            aims = {
                "running": (norms[place].running_mean, norms[place].running_var),
                "classes": tuple(torch.stack([by_class[c][place][k] for c in labels]).mean(0) for k in (0, 1)),
            }
            for name, aim in aims.items():
                apart = (mean - aim[0]).square().sum().sqrt() + (variance - aim[1]).square().sum().sqrt()
                parts[name] = parts[name] + weight * apart
        assert abs(float(parts["running"] - parts["classes"])) > 0.01  # else any share would do
        plain.append((1 - share) * parts["running"] + share * parts["classes"])
    plain = torch.stack(plain)
    assert torch.allclose(ours, plain, rtol=1e-10)
    gradients = [torch.autograd.grad(each.sum(), views)[0] for each in (ours, plain)]
    assert torch.allclose(*gradients, rtol=1e-8, atol=1e-12) and gradients[0].abs().max() > 1e-3


def test_no_share_is_recovery_as_it_was(asked_on):
    off, none = (float(ready(asked_on(Recovery, class_share=share)).update(0)) for share in (None, 0.0))
    all_of_it = float(ready(asked_on(Recovery, class_share=1.0)).update(0))
    assert none == pytest.approx(off, rel=1e-6) and all_of_it != pytest.approx(off, rel=1e-4)


def test_one_teacher_an_iteration_in_rotation_at_the_cost_of_one(asked_on, teacher):
    nets = tuple(teacher() for _ in range(3))
    committee = Committee(("a", "b", "c"), nets, (90.0, 50.0, 10.0))
    method, calls = ready(asked_on(Recovery, committee=committee, pairs="in_turn", iterations=7)), []
    for number, net in enumerate(nets):
        net.register_forward_hook(lambda *_, number=number: calls.append(number))
    losses = [float(method.update(step)) for step in range(7)]
    assert calls == [0, 1, 2, 0, 1, 2, 0]
    for step in (0, 1, 2):
        alone = ready(asked_on(Recovery, committee=committee.members([step]), iterations=7))
        assert float(alone.update(step)) == pytest.approx(losses[step], rel=1e-6)  # whatever its prior, it counts whole


def test_an_average_moves_by_its_share_and_only_with_steps_that_are_taken():
    averages, values = Averages({}), [torch.tensor([1.0, 10.0]), torch.tensor([2.0, 0.0]), torch.tensor([4.0, 5.0])]
    taken, skipped = torch.tensor(False), torch.tensor(True)
    averages.of("x", torch.tensor([torch.inf, torch.nan]), 0.8)
    averages.take(skipped)
    assert averages.of("x", values[0], 0.8).tolist() == [1.0, 10.0]  # a first step that is skipped leaves none
    averages.take(taken)
    assert averages.of("x", values[1], 0.8).tolist() == pytest.approx([1.2, 8.0])
    assert averages.of("x", values[1], 0.8).tolist() == pytest.approx([1.2, 8.0])  # asked twice in a step
    averages.take(skipped)
    assert averages.kept["x"].tolist() == [1.0, 10.0]
    averages.of("x", values[1], 0.8)
    averages.take(taken)
    assert Averages(averages.kept).of("x", values[2], 0.8).tolist() == pytest.approx([0.8 * 1.2 + 0.8, 0.8 * 8 + 1])


def test_smoothed_statistics_have_the_averages_value_and_the_batchs_gradient():
    norm, averages = nn.BatchNorm2d(2), Averages({"3.0.mean": torch.tensor([[5.0, 0.0]])})
    mean = torch.tensor([[1.0, 2.0]], requires_grad=True)
    variance = torch.tensor([[3.0, 4.0]], requires_grad=True)
    found = smoothed({norm: (mean, variance)}, averages, 0.8, 3)[norm]
    assert found[0].tolist()[0] == pytest.approx([4.2, 0.4]) and found[1].tolist() == [[3.0, 4.0]]
    weights = torch.tensor([[2.0, -7.0]])
    gradients = torch.autograd.grad((weights * found[0]).sum() + (weights * found[1]).sum(), (mean, variance))
    assert all(torch.equal(each, weights) for each in gradients)  # whole, not a fifth of it
    (slope,) = torch.autograd.grad(straight_through(mean, torch.full((1, 2), 3.0)).square().sum(), mean)
    assert torch.equal(slope, torch.full((1, 2), 6.0))  # at the average's value


def test_flatness_and_its_gradient_are_the_formulas():
    logits, still = torch.randn(2, 5, 4, dtype=torch.float64).unbind()
    logits.requires_grad_()
    p, q = (logits / 4).softmax(1), (still / 4).softmax(1)
    plain = (q * (q / p).log()).sum(1)
    ours = divergence(logits, still, 4.0)
    assert torch.allclose(ours, plain, atol=1e-14) and (ours > 1e-3).all()
    (of_ours,), (of_plain,) = (torch.autograd.grad(each.sum(), logits) for each in (ours, plain))
    assert torch.allclose(of_ours, of_plain, atol=1e-14)
    assert torch.allclose(of_ours, ((p - q) / 4).detach(), atol=1e-14)
    assert divergence(still, still, 4.0).abs().max() < 1e-14


def test_flatness_is_of_the_images_moving_average_under_the_same_views(asked_on):
    flat = dict(flatness=0.25, flatness_average=0.9, flatness_temperature=4.0, pairs="in_turn", batch=3, iterations=8)
    method, plain = ready(asked_on(Recovery, **flat)), ready(asked_on(Recovery, pairs="in_turn", batch=3, iterations=8))
    assert float(method.update(0)) == pytest.approx(float(plain.update(0)), rel=1e-6)  # it starts as the images
    before = torch.randn_like(method.pixels.detach())
    method.averages = Averages({"images": before})
    net, units = method.asked[1].net, len(method.units)
    still = 0.9 * before + 0.1 * method.pixels.detach()
    said = [net(method.views(each, 1).flatten(0, 1)) for each in (method.pixels, still)]
    p, q = (each.div(4).softmax(1) for each in (said[0], said[1].detach()))
    extra = 0.25 * (q * (q / p).log()).sum(1).view(units, 3).mean(1).sum()
    ours, without = method.update(1), plain.update(1)
    assert float(ours) == pytest.approx(float(without + extra), rel=1e-5) and float(extra) > 1e-4
    (mine,) = torch.autograd.grad(ours, method.pixels)
    (rest,), (flatter,) = torch.autograd.grad(without, plain.pixels), torch.autograd.grad(extra, method.pixels)
    assert torch.allclose(mine, rest + flatter, atol=1e-6) and flatter.abs().max() > 1e-4


def test_each_stack_has_averages_of_its_own_and_a_skipped_step_moves_none(asked_on, tmp_path):
    kept = []

    class Watched(Recovery):
        def update(self, step):
            return super().update(step) * (torch.nan if step == 2 else 1.0)

        def learn(self, step):
            start = self.synset.images.detach().clone()
            super().learn(step)
            kept.append((start[self.places], {name: each.clone() for name, each in self.averages.kept.items()}))

    run(asked_on(Watched, **{**PARTS, "pairs": "all"}, together=1, iterations=4), tmp_path)
    assert len(kept) == 8
    for first in (0, 4):
        assert torch.equal(kept[first][1]["images"], kept[first][0])
    assert all(torch.equal(kept[1][1][name], kept[2][1][name]) for name in kept[1][1])
    assert not torch.equal(kept[2][1]["images"], kept[3][1]["images"])
    assert {name.rpartition(".")[2] for name in kept[0][1]} == {"images", "mean", "variance"}


def test_units_stacked_or_alone_and_in_any_process_are_the_same_images(asked_on, tmp_path):
    alone, stacked = (
        run(asked_on(Recovery, **PARTS, together=n, iterations=6, batch=1), tmp_path / str(n)).images for n in (1, 6)
    )
    assert (alone - stacked).abs().max() < 0.02  # a level of eight bits
    share = run(asked_on(Recovery, **PARTS, together=1, iterations=6, batch=1, share=(1, 2)), tmp_path / "share").images
    method = asked_on(Recovery, **PARTS, together=1, batch=1, share=(1, 2))
    assert torch.equal(share, alone[method.made()])


@pytest.mark.parametrize("cut", [3, 5, 6])  # in a stack, in the next, and where one begins
def test_a_killed_run_ends_in_the_same_set_bit_by_bit(asked_on, tmp_path, monkeypatch, cut):
    values = dict(**PARTS, iterations=4, together=1, snapshot_every=1 if cut == 5 else 2, lr_img=0.5)
    whole = run(asked_on(Recovery, **values), tmp_path / "whole")
    step_of = Method.training_step

    def power_cut(method, step):
        if int(step) == cut:
            raise RuntimeError("power cut")
        step_of(method, step)

    with monkeypatch.context() as patch:
        patch.setattr(Method, "training_step", power_cut)
        with pytest.raises(RuntimeError, match="power cut"):
            run(asked_on(Recovery, **values), tmp_path / "cut")
    again = run(asked_on(Recovery, **values), tmp_path / "cut")
    assert again.hash == whole.hash and again.record["step"] == whole.record["step"] == 8


def test_values_that_are_none_are_refused(asked_on):
    for changes, message in [
        (dict(class_share=1.5), r"method.class_share is 1.5, expected null or a number in \[0, 1\]"),
        (dict(statistics_average=1.0), r"method.statistics_average is 1.0, expected null or a number in \[0, 1\)"),
        (dict(flatness=-1.0), r"method.flatness is -1.0, expected null or a number in \[0, 1000000\]"),
        (dict(flatness=0.25), "method.flatness needs flatness_average and flatness_temperature, too"),
        (dict(flatness_temperature=0.0), r"method.flatness_temperature is 0.0, expected null or a number in \(0, "),
        (dict(pairs="turns"), "unknown method.pairs 'turns': one of all, best, rotate, random, in_turn"),
    ]:
        with pytest.raises(ValueError, match=message):
            asked_on(Recovery, **changes)


def test_the_examples_are_true():
    found = doctest.testmod(edc)
    assert found.attempted and not found.failed
