"""Pretexts: what two views of an image have in common, and networks that learn it and are stored as teachers."""

from dataclasses import replace

import pytest
import torch
from conftest import batches_of, composed, identity, make_recipe
from hydra.utils import instantiate

from distill.experts.train import TEACHERS, paired, teachers
from distill.identity import canonical, digits, flat_teachers, pathless
from distill.parallel import crew
from distill.runs.composed import compose
from distill.runs.line import Line
from distill.runs.progress import Shown
from distill.teachers.committee import Committee
from distill.teachers.store import ExpertStore
from distill.training.loop import train
from distill.training.pretext import BarlowTwins, Twins, probed, redundancy
from distill.training.ridge import fitted, predicted
from distill.training.views import Augmented, Coloured

PRETEXT = BarlowTwins(weight=5e-3, widths=[8, 8], ridge=1e-4)
RECIPE = make_recipe(epochs=3, lr=0.02, batch=16).with_(views=Augmented("crop_flip"))


def views():
    x = torch.arange(24, dtype=torch.float64).reshape(6, 4)
    return (0.7 * x).sin(), (0.7 * x).sin() + 0.3 * (1.3 * x).cos()


@pytest.mark.parametrize("weight, lightly", [(5e-3, 0.031241458496442005), (1.0, 3.9064819047081274)])
def test_the_loss_is_that_of_lightly(weight, lightly):
    """lightly 1.6.0's BarlowTwinsLoss gave these values on the same numbers; the gradients were equal in every digit."""
    assert redundancy(*views(), weight).item() == pytest.approx(lightly, rel=1e-12)


def test_the_loss_is_its_formula_and_so_is_its_gradient():
    one, other = views()
    rows = [
        [(column - column.mean()) / (column.var(unbiased=False) + 1e-5).sqrt() for column in z.T] for z in (one, other)
    ]
    by_hand = 0.0
    for i, first in enumerate(rows[0]):
        for j, second in enumerate(rows[1]):
            correlation = (first * second).mean()
            by_hand += (1 - correlation) ** 2 if i == j else 0.1 * correlation**2
    assert redundancy(one, other, 0.1).item() == pytest.approx(by_hand.item(), rel=1e-12)
    assert torch.autograd.gradcheck(lambda a, b: redundancy(a, b, 0.1), (one.requires_grad_(), other.requires_grad_()))


def test_features_that_agree_and_differ_from_each_other_have_nothing_left_to_learn():
    z = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64, requires_grad=True)
    loss = redundancy(z, 2 * z.detach() - 3, 1.0)
    (gradient,) = torch.autograd.grad(loss, z)
    assert loss.item() == pytest.approx(0, abs=1e-9) and gradient.abs().max() < 1e-4
    same = z.detach()[:, :1].expand(-1, 3)  # three features that tell one thing
    assert redundancy(same, same, 0.5).item() == pytest.approx(0.5 * 6, rel=1e-4)


def test_two_views_are_of_the_same_image_and_of_different_draws(real):
    plain = batches_of(real.train, RECIPE)
    (batch, *_), (alone, *_) = (list(each.epoch([0], 0)) for each in (paired(plain), plain))
    first, second = batch.views[0].chunk(2, 1)
    assert torch.equal(first, alone.views[0]) and torch.equal(batch.index, alone.index)
    assert not torch.equal(first, second)
    bare = paired(batches_of(real.train, RECIPE.with_(views=Augmented("none"))))
    first, second = next(iter(bare.epoch([0], 0))).views[0].chunk(2, 1)
    assert torch.equal(first, second)


def test_views_of_a_pretext_are_crops_in_other_colours(real):
    images = real.train.images[:6]
    strong, draw = Coloured(area=1.0, shuffle=1).on(replace(real.train, strategy="color")), 5
    seen = strong(images, draw)
    assert torch.equal(seen, strong(images, draw)) and not torch.equal(seen, strong(images, draw + 1))
    spread = (seen - images).flatten(1).std(1)
    assert len(spread.unique()) == 6 and spread.min() > 1e-3  # each image has colours of its own


def test_each_view_has_batch_statistics_of_its_own(teacher):
    torch.manual_seed(0)
    twins, alone = Twins(teacher(), [5]), None
    pair = torch.randn(7, 6, 8, 8) * torch.tensor([1.0] * 3 + [9.0] * 3).view(1, 6, 1, 1)
    together = twins(pair)
    alone = torch.cat([twins.projector(twins.net.embedding(view)) for view in pair.chunk(2, 1)], 1)
    assert together.shape == (7, 10) and torch.equal(together, alone)
    assert len(list(Twins(teacher(), [5, 4, 3]).projector)) == 7  # no norm behind the last layer


def trained(real, teacher, folder, recipe=RECIPE):
    store = ExpertStore(folder, identity(real), 1)
    crew().make(teachers(store, real, teacher, recipe, 0, TEACHERS, PRETEXT))
    return store


def test_a_target_is_a_teacher_whose_score_is_that_of_a_classifier_on_its_features(real, teacher, tmp_path):
    store = trained(real, teacher, tmp_path)
    net = Committee.load({"toy": store}, lambda name: teacher(), torch.device("cpu")).nets[0]
    rows, before = net.embedding(real.train.images), net.classifier.weight.clone()
    classes = torch.eye(3)[real.train.labels]
    weight, bias = fitted(rows, classes, 1e-4)
    torch.testing.assert_close((before, net.classifier.bias.data), (weight, bias), atol=1e-4, rtol=1e-3)
    said = net(real.val.images).argmax(1)
    assert store.accuracy(0) == pytest.approx((said == real.val.labels).float().mean().item())


def test_labels_have_no_part_in_what_is_learned(real, teacher, tmp_path):
    other = replace(real, train=replace(real.train, labels=real.train.labels.roll(1)))
    ours, theirs = (trained(each, teacher, tmp_path / name) for name, each in (("a", real), ("b", other)))
    here, there = ours.statistics(0), theirs.statistics(0)
    assert all(torch.equal(here[name], there[name]) for name in here)
    head = 3 * (teacher().classifier.in_features + 1)
    mine, his = ours.row(0, -1), theirs.row(0, -1)
    assert torch.equal(mine[:-head], his[:-head]) and not torch.equal(mine[-head:], his[-head:])


def test_training_lowers_the_loss(real, teacher):
    torch.manual_seed(0)
    twins, losses = Twins(teacher(), [8, 8]), []
    batches = paired(batches_of(real.train, RECIPE.with_(epochs=40), PRETEXT))
    train([twins], batches, seeds=[0], after_batch=lambda batch, said: losses.append(said.losses.mean().item()))
    assert len(losses) == 120 and sum(losses[-12:]) < 0.5 * sum(losses[:12])


def test_a_killed_training_goes_on_to_the_same_target(real, teacher, tmp_path, always_due):
    whole = trained(real, teacher, tmp_path / "whole")
    told = []

    def cut(text, done, total):
        told.append(done)
        if done == 2:
            raise KeyboardInterrupt

    store = ExpertStore(tmp_path / "cut", identity(real), 1)
    with pytest.raises(KeyboardInterrupt):
        crew().make(teachers(store, real, teacher, RECIPE, 0, TEACHERS, PRETEXT), cut)
    again = ExpertStore(tmp_path / "cut", identity(real), 1)
    crew().make(
        teachers(again, real, teacher, RECIPE, 0, TEACHERS, PRETEXT), lambda text, done, total: told.append(done)
    )
    assert told == [0, 1, 2, 2, 3]
    assert torch.equal(whole.row(0, -1), again.row(0, -1))
    here, there = whole.statistics(0), again.statistics(0)
    assert whole.accuracy(0) == again.accuracy(0) and all(torch.equal(here[name], there[name]) for name in here)


def test_batches_of_one_image_and_mixed_views_are_refused(real):
    for wrong in ({"batch": len(real.train) - 1}, {"batch": 4, "micro_batches": 4}):
        with pytest.raises(ValueError, match="leave a single one"):
            paired(batches_of(real.train, RECIPE.with_(**wrong)))
    mix = instantiate(composed("experts=ncfm").experts.recipe.mix)
    with pytest.raises(ValueError, match="views are mixed"):
        paired(batches_of(real.train, RECIPE.with_(mix=mix)))
    for wrong in ({"weight": -1.0}, {"widths": []}, {"ridge": 0.0}):
        with pytest.raises(ValueError, match=f"pretext.{next(iter(wrong))} is"):
            replace(PRETEXT, **wrong)


def test_a_store_is_known_by_its_pretext_and_others_as_ever():
    from distill.runs.checks import plain

    target, teacher = (pathless(plain(composed(f"experts={name}").experts)) for name in ("target", "teacher"))
    told = flat_teachers(target)
    bare = flat_teachers({name: value for name, value in target.items() if name != "pretext"})
    assert {name: value for name, value in told.items() if name != "pretext"} == bare
    assert digits(told) != digits(bare) and canonical(told)["pretext.weight"] == 5e-3
    assert "pretext" not in flat_teachers(teacher)
    assert digits(flat_teachers(teacher)) == TEACHER


TEACHER = "09698f93495b"  # as before there were pretexts


def test_the_dual_form_equals_the_primal_one():
    g = torch.Generator().manual_seed(0)
    own, targets, rows = (torch.randn(*size, generator=g, dtype=torch.float64) for size in ((5, 3), (5, 2), (4, 3)))
    one = torch.cat([own, torch.ones(5, 1)], 1)
    held = 0.1 * (one @ one.T).trace()
    primal = torch.linalg.solve(one.T @ one + held * torch.eye(4), one.T @ targets)
    expected = torch.cat([rows, torch.ones(4, 1)], 1) @ primal
    torch.testing.assert_close(predicted(own, targets, rows, 0.1), expected)
    assert torch.autograd.gradcheck(  # lambda is held: it moves with no feature
        lambda y, x: predicted(own, y, x, 0.1), (targets.requires_grad_(), rows.requires_grad_())
    )


def test_the_slope_in_the_features_holds_lambda():
    g = torch.Generator().manual_seed(1)
    own, targets, rows = (torch.randn(*size, generator=g, dtype=torch.float64) for size in ((5, 3), (5, 2), (4, 3)))
    one = torch.cat([own, torch.ones(5, 1)], 1)
    held = 0.3 * (one @ one.T).trace()

    def plain(features):
        one = torch.cat([features, torch.ones(5, 1)], 1)
        return (
            torch.cat([rows, torch.ones(4, 1)], 1)
            @ one.T
            @ torch.linalg.inv(one @ one.T + held * torch.eye(5))
            @ targets
        )

    leaf = own.clone().requires_grad_()
    (ours,) = torch.autograd.grad(predicted(leaf, targets, rows, 0.3).square().sum(), leaf)
    slopes = torch.zeros_like(own)
    for place in range(own.numel()):
        step = torch.zeros(own.numel(), dtype=torch.float64)
        step[place] = 1e-5
        up, down = (plain(own + sign * step.view_as(own)).square().sum() for sign in (1, -1))
        slopes.view(-1)[place] = (up - down) / 2e-5
    torch.testing.assert_close(ours, slopes, rtol=1e-6, atol=1e-7)


def test_a_fitted_classifier_is_that_of_centred_features():
    g = torch.Generator().manual_seed(2)
    rows, classes = torch.randn(30, 4, generator=g).double() + 7, torch.randint(3, (30,), generator=g)
    weight, bias = fitted(rows, torch.eye(3).double()[classes], 0.05)
    told = torch.cat([rows, torch.ones(30, 1)], 1)
    covariance = (rows - rows.mean(0)).T @ (rows - rows.mean(0))
    held = torch.diag(torch.tensor([1.0, 1, 1, 1, 0]).double() * 0.05 * covariance.trace())  # the bias is free
    expected = torch.linalg.solve(told.T @ told + held, told.T @ torch.eye(3).double()[classes])
    torch.testing.assert_close((weight, bias), (expected[:-1].T, expected[-1]))


def test_probing_leaves_the_features_alone(real, teacher):
    torch.manual_seed(0)
    net = teacher()
    net(real.train.images)
    before = {name: each.clone() for name, each in net.state_dict().items()}
    probed(net, real.train, 1e-6)
    now = net.state_dict()
    assert [name for name in now if not torch.equal(now[name], before[name])] == [
        "classifier.weight",
        "classifier.bias",
    ]
    assert (net(real.train.images).argmax(1) == real.train.labels).float().mean() > 0.9


def test_a_protocol_that_asks_the_methods_teachers_asks_the_very_target():
    """A network of the target's recipe that was told classes would be another, under the same name."""
    line = Line(compose("task=all", "method=krrst", "protocol=rded", "protocol.labels.twin=false", "ipc=1"), Shown())
    nodes = line.committees()
    assert len(nodes) == 2 and len({store.folder for _, _, _, store in line.asked_stores()}) == 1
    assert all(node.pretext is not None for node in nodes)
