"""KRR-ST: the regression's loss and slopes, bodies that come and go, and what no gradient reaches."""

from collections import Counter
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from distill.methods.base import Inputs
from distill.methods.selfsupervised.krrst import KRRST
from distill.methods.selfsupervised.pool import Bodies, Pool
from distill.methods.selfsupervised.source import FullSource, SourceSettings
from distill.networks.base import Student
from distill.sets.walks import Short
from distill.teachers.committee import Committee
from distill.training.ridge import predicted
from distill.training.views import Augmented

BARE = Augmented("none")
BODIES = Bodies(count=2, steps=3, lr=0.05, momentum=0.9, weight_decay=1e-3, reset_count=True)


@pytest.fixture
def committee(real, teacher):
    """Two networks that know the real images' statistics; what they say is as good as anything to be imitated."""
    torch.manual_seed(0)
    nets = (teacher(), teacher())
    for net in nets:
        net(real.train.images)
    return Committee(("first", "second"), nets, (60.0, 50.0))


@pytest.fixture
def begun(asked_on, committee, teacher):
    """``begun(lr_img=0)``: the method at its first step, without Lightning around it."""

    def build(cls=KRRST, **changes):
        shared = dict(committee=committee.members([0]), student=teacher, pool=BODIES)
        method = asked_on(cls, **{**shared, **changes})
        method.begin()
        optimizer = method.configure_optimizers()
        method.optimizers, method.manual_backward = lambda: optimizer, lambda loss: loss.backward()
        return method

    return build


def test_the_set_starts_with_raw_images_and_the_targets_vectors_of_normalised_ones(begun, real, committee):
    method, alike = begun(), begun(raw_start=False)
    raw, start = method.synset, alike.synset
    assert raw.label_kind == "vectors" and torch.equal(raw.labels, start.labels) and len(raw) == 6
    torch.testing.assert_close(raw.labels, committee.nets[0].embedding(start.images))
    torch.testing.assert_close(raw.images, real.train.preprocessing.inverse(start.images))
    assert raw.images.min() >= 0 and raw.images.max() <= 1
    assert all(any(torch.equal(image, each) for each in real.train.images) for image in start.images)


def test_on_its_own_images_the_regression_says_its_vectors(begun):
    method = begun(augment=BARE, batch_real=10**6, ridge=1e-9, raw_start=False)
    own = method.synset.images.detach()
    gap = torch.randn(6, method.synset.labels.shape[1], generator=torch.Generator().manual_seed(0))
    method.synset.labels = (method.synset.labels + gap).detach().requires_grad_()
    method.real = replace(method.real, images=own, labels=method.synset.classes)
    assert method.update(0).item() == pytest.approx(gap.square().mean().item(), rel=1e-3)


def test_the_loss_is_that_of_the_primal_regression(begun):
    method = begun(augment=BARE, batch_real=10**6, ridge=0.01)
    body = method.pool.bodies[method.pool.pick(4)].net
    own, rows = (
        torch.cat([body.embedding(each.detach()), torch.ones(len(each), 1)], 1).double()
        for each in (method.synset.images, method.real.images)
    )
    held = 0.01 * own.square().sum() * torch.eye(own.shape[1])
    said = rows @ torch.linalg.solve(own.T @ own + held, own.T @ method.synset.labels.detach().double())
    expected = (said - method.target(method.real.images)).square().mean().item()
    assert method.update(4).item() == pytest.approx(expected, rel=1e-3)
    assert expected > 1e-4


def test_slopes_in_images_are_finite_differences(teacher):
    torch.manual_seed(0)
    net = teacher().double().eval().requires_grad_(False)
    images, rows = torch.rand(3, 3, 8, 8, dtype=torch.float64), torch.rand(4, 3, 8, 8, dtype=torch.float64)
    vectors, wanted = torch.randn(3, 2, dtype=torch.float64), torch.randn(4, 2, dtype=torch.float64)

    def exact(images, vectors, held):
        own, asked = (torch.cat([net.embedding(each), torch.ones(len(each), 1)], 1) for each in (images, rows))
        system = own @ own.T + held * torch.eye(len(own))
        return (asked @ own.T @ torch.linalg.inv(system) @ vectors - wanted).square().mean()

    one = torch.cat([net.embedding(images), torch.ones(3, 1)], 1)
    held = 1e-3 * one.square().sum()
    leaf, targets = images.clone().requires_grad_(), vectors.clone().requires_grad_()
    said = predicted(net.embedding(leaf), targets, net.embedding(rows), 1e-3)
    slopes = torch.autograd.grad((said - wanted).square().mean(), (leaf, targets))
    for slope, value, at in zip(
        slopes, (images, vectors), (lambda x: (x, vectors), lambda y: (images, y)), strict=True
    ):
        for place in range(0, value.numel(), max(1, value.numel() // 12)):
            step = torch.zeros(value.numel(), dtype=torch.float64)
            step[place] = 1e-6
            up, down = (exact(*at(value + sign * step.view_as(value)), held) for sign in (1, -1))
            assert slope.flatten()[place].item() == pytest.approx((up - down).item() / 2e-6, rel=1e-4, abs=1e-9)


def test_no_gradient_reaches_a_body_or_the_target_and_statistics_stay(begun):
    method = begun(batch_real=20)
    nets = [*(body.net for body in method.pool.bodies), method.target.net]
    before = [{name: each.clone() for name, each in net.state_dict().items()} for net in nets]
    method.update(0).backward()
    assert method.synset.images.grad.abs().sum() > 0 and method.synset.labels.grad.abs().sum() > 0
    for net, state in zip(nets, before, strict=True):
        assert all(parameter.grad is None and not parameter.requires_grad for parameter in net.parameters())
        assert all(torch.equal(each, state[name]) for name, each in net.state_dict().items()) and not net.training


def test_a_step_moves_the_picked_body_alone_and_trains_it_on_what_the_step_made(begun, teacher):
    method = begun()
    step, place = 0, method.pool.pick(0)
    before = [{name: each.clone() for name, each in body.net.state_dict().items()} for body in method.pool.bodies]
    twin = method.body()
    twin.load_state_dict(before[place])
    momentum = deepcopy(method.pool.bodies[place].optimizer.state_dict())
    start = method.pool.bodies[place].steps = 1
    method.learn(step)
    now = [body.net.state_dict() for body in method.pool.bodies]
    moved = [
        any(not torch.equal(here[name], there[name]) for name in here) for here, there in zip(now, before, strict=True)
    ]
    assert moved == [slot == place for slot in range(2)] and method.pool.bodies[place].steps == start + 1
    plain = torch.optim.SGD(twin.parameters(), 0.05, 0.9, weight_decay=1e-3)
    plain.load_state_dict(momentum)
    twin.train()
    F.mse_loss(twin(method.synset.images.detach()), method.synset.labels.detach()).backward()
    plain.step()
    assert all(torch.equal(each, now[place][name]) for name, each in twin.state_dict().items())


@pytest.mark.parametrize("reset", [True, False])
def test_a_body_that_is_through_makes_place_and_only_the_release_never_trains_the_next(teacher, reset):
    pool = Pool(teacher, replace(BODIES, count=1, reset_count=reset), seed=0)
    images, targets = torch.rand(4, 3, 8, 8), torch.randn(4, 3)
    counts, first = [], []
    for step in range(9):
        pool.train(step, images, targets)
        counts.append(pool.bodies[0].steps)
        first.append(pool.bodies[0].net.classifier.weight.flatten()[0].item())
    assert counts == ([1, 2, 3, 0, 1, 2, 3, 0, 1] if reset else [1, 2, 3, 3, 3, 3, 3, 3, 3])
    fresh = [pool.fresh(0, step).net.classifier.weight.flatten()[0].item() for step in range(9)]
    assert [step for step in range(9) if first[step] == fresh[step]] == ([3, 7] if reset else [3, 4, 5, 6, 7, 8])
    assert not pool.fresh(0, 3).optimizer.state


def test_first_bodies_are_at_different_stages(teacher):
    pool = Pool(teacher, replace(BODIES, count=8, steps=5), seed=0)
    start = [body.net.classifier.weight.clone() for body in pool.bodies]
    assert len({each.sum().item() for each in start}) == 8
    pool.begin(torch.rand(4, 3, 8, 8), torch.randn(4, 3))
    steps = [body.steps for body in pool.bodies]
    assert min(steps) >= 1 and max(steps) <= 4 and len(set(steps)) > 2
    assert all(not torch.equal(body.net.classifier.weight, each) for body, each in zip(pool.bodies, start, strict=True))
    picked = Counter(pool.pick(step) for step in range(4000))
    assert sorted(picked) == list(range(8)) and min(picked.values()) > 400


def test_the_loss_falls_averaged_over_the_pool(begun):
    method = begun(batch_real=48, lr_img=0.02, lr_targets=0.1, steps=150, augment=BARE, raw_start=False)

    def mean():
        with torch.no_grad():
            said = []
            for place in range(len(method.pool.bodies)):
                method.pool.pick = lambda step, place=place: place
                said.append(method.update(10**6).item())
            del method.pool.pick
        return sum(said) / len(said)

    before = mean()
    for step in range(150):
        method.learn(step)
    assert mean() < 0.7 * before


def test_rates_fall_along_a_line_and_zero_freezes_exactly(begun):
    method = begun(lr_img=0.0, lr_targets=0.5, steps=10, end_rate=0.1)
    images, vectors = (each.detach().clone() for each in method.pair)
    seen, optimizer = [], method.optimizers()
    for step in range(10):
        method.learn(step)
        seen.append(optimizer.param_groups[1]["lr"])
    assert seen == pytest.approx([0.5 * (1 - 0.09 * step) for step in range(10)])
    assert torch.equal(method.synset.images, images) and not torch.equal(method.synset.labels, vectors)
    frozen = begun(lr_img=0.5, lr_targets=0.0)
    images, vectors = (each.detach().clone() for each in frozen.pair)
    frozen.learn(0)
    assert torch.equal(frozen.synset.labels, vectors) and not torch.equal(frozen.synset.images, images)


def test_the_first_step_is_adams_and_a_clipped_gradient_has_the_norm_asked_for(begun):
    method = begun(lr_img=0.01, lr_targets=0.03, clip=1e-3)
    before = [each.clone() for each in method.pair]
    method.learn(0)
    moved = [(now - then).abs().max().item() for now, then in zip(method.pair, before, strict=True)]
    assert moved == pytest.approx([0.01, 0.03], rel=1e-2)  # whatever the gradient; nothing decays
    grads = [each.grad.norm() for each in (method.synset.images, method.synset.labels)]
    assert torch.stack(grads).norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_every_step_has_views_of_its_own_and_both_networks_see_the_same(begun, monkeypatch):
    method = begun(batch_real=7)
    assert method.update(0).item() == method.update(0).item() != method.update(1).item()
    assert torch.equal(method.views(3), method.views(3)) and not torch.equal(method.views(3), method.views(4))
    seen = []
    for net in (method.target.net, method.pool.bodies[method.pool.pick(0)].net):
        net.embedding = lambda images, own=net.embedding: seen.append(images) or own(images)
    method.update(0)
    assert sorted(map(len, seen)) == [6, 7, 7]
    first, second = (each for each in seen if len(each) == 7)
    assert torch.equal(first, second)


@pytest.mark.parametrize("count", [1, 7])
def test_what_a_step_holds_for_its_gradient_does_not_grow_with_the_pool(begun, count):
    method = begun(pool=replace(BODIES, count=count))
    held, most = 0, 0

    def pack(tensor):
        nonlocal held, most
        held += tensor.numel()
        most = max(most, held)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = method.update(0)
    activations = most
    loss.backward()
    alone = begun(pool=replace(BODIES, count=1))
    held, most = 0, 0
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        alone.update(0)
    assert activations == most > 0
    method.learn(1)
    gradients = [each for body in method.pool.bodies for each in body.net.parameters() if each.grad is not None]
    assert not gradients


def test_a_run_goes_on_with_the_same_bodies(begun):
    whole = begun(steps=8)
    for step in range(4):
        whole.learn(step)
    kept = {name: each.clone() for name, each in whole.extra_tensors().items()}
    state = whole.optimizers().state_dict()
    state = {**state, "state": {k: {n: v.clone() for n, v in each.items()} for k, each in state["state"].items()}}
    synset = whole.synset.copy()
    for step in range(4, 8):
        whole.learn(step)
    again = begun(steps=8)
    again.begin(synset)
    again.restore(kept)
    assert [body.steps for body in again.pool.bodies] == [int(kept[f"{i}.steps"]) for i in range(2)]
    optimizer = again.configure_optimizers()
    optimizer.load_state_dict(state)
    again.optimizers = lambda: optimizer
    for step in range(4, 8):
        again.learn(step)
    assert all(torch.equal(*both) for both in zip(whole.pair, again.pair, strict=True))
    here, there = whole.extra_tensors(), again.extra_tensors()
    assert here.keys() == there.keys() and all(torch.equal(here[name], there[name]) for name in here)
    assert any("momentum" in name for name in here)


def test_a_set_of_no_steps_is_the_pair_that_others_start_from(begun, monkeypatch):
    monkeypatch.setattr(Pool, "begin", lambda *_: pytest.fail("no body is needed"))
    still = begun(steps=0)
    monkeypatch.undo()
    started = begun()
    assert torch.equal(still.synset.images, started.synset.images)
    assert torch.equal(still.synset.labels, started.synset.labels) and not still.extra_tensors()


def test_the_full_source_is_walked_with_the_targets_vectors(teacher, real, committee):
    one, other = (
        FullSource(
            Inputs(real.train, 4, teacher, 0, committee=committee.members([place])), SourceSettings(walk=Short())
        ).walk()
        for place in (0, 1)
    )
    assert one.label_kind == "vectors" and one.has_vectors and len(one) == 12 and len(one.images) == len(real.train)
    torch.testing.assert_close(one.labels, committee.nets[0].embedding(real.train.images))
    assert torch.equal(one.hard, real.train.labels)
    assert one.hash != other.hash and one.images_hash == other.images_hash
    plain = Short().on(real.train, [4, 4, 4])
    assert plain.hash not in (one.hash, other.hash)
    assert torch.equal(one.epoch(3, 0)[0], plain.epoch(3, 0)[0])
    assert one.walk(2, 8, 8).hash == one.hash


def test_what_makes_no_sense_is_refused_in_one_line(asked_on, committee, teacher):
    one = committee.members([0])
    with pytest.raises(ValueError, match="method.committee has 2 networks.*count=1"):
        asked_on(KRRST, student=teacher)
    with pytest.raises(ValueError, match="inputs.committee is null"):
        asked_on(KRRST, student=teacher, committee=None)
    with pytest.raises(ValueError, match="nothing would be learned"):
        asked_on(KRRST, student=teacher, committee=one, lr_img=0.0, lr_targets=0.0)
    with pytest.raises(ValueError, match="ipc is"):
        asked_on(KRRST, student=teacher, committee=one, ipc=None)
    for wrong in ({"steps": 1}, {"count": 0}, {"lr": 0.0}, {"momentum": 1.0}, {"reset_count": 1}):
        with pytest.raises(ValueError, match=f"pool.{next(iter(wrong))} is"):
            replace(BODIES, **wrong)


def test_raw_pixels_beside_whitened_images_are_refused(npz, asked_on, committee, teacher, real):
    from conftest import load_npz

    white = load_npz(npz, zca=True).train
    with pytest.raises(ValueError, match="raw_start=false"):
        asked_on(KRRST, student=teacher, committee=committee.members([0]), real=white)
    asked_on(KRRST, student=teacher, committee=committee.members([0]), real=white, raw_start=False)


def test_bodies_have_a_head_as_wide_as_the_vectors(begun):
    wide = Student((3, 8, 8), 3, nn.Sequential(nn.Flatten(), nn.Linear(192, 5)))
    method = begun(committee=replace(begun().inputs.committee, nets=(wide,)))
    assert method.synset.labels.shape == (6, 5) and method.pool.bodies[0].net.classifier.out_features == 5
