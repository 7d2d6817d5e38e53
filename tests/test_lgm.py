"""Linear gradient matching: the gradient in closed form, pyramids that grow, a backbone that nothing changes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import softmax
from torch import Generator, nn
from torch.func import grad

from distill.methods.base import Method
from distill.methods.matching import pyramid
from distill.methods.matching.lgm import LinearGradientMatching, head_gradient
from distill.methods.synthesis import distill
from distill.networks.base import Student
from distill.sets.reading import load
from distill.teachers.committee import Committee
from distill.training.views import Augmented, Cropped, Noised

BARE = Augmented("none")


def begun(asked_on, **changes):
    method = asked_on(LinearGradientMatching, **changes)
    method.begin()
    return method


def test_the_gradient_is_that_of_autograd_and_so_is_its_own_gradient():
    g = Generator().manual_seed(0)
    rows = torch.randn(9, 5, generator=g, dtype=torch.float64, requires_grad=True)
    head, labels = torch.randn(4, 5, generator=g, dtype=torch.float64), torch.randint(4, (9,), generator=g)
    told = lambda weight, bias: F.cross_entropy(F.linear(rows.detach(), weight, bias), labels)  # noqa: E731
    weights, biases = grad(told, argnums=(0, 1))(head, torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(head_gradient(rows, labels, head).detach(), torch.cat([weights, biases[:, None]], 1))
    assert torch.autograd.gradcheck(lambda x: head_gradient(x, labels, head), rows)


def test_with_a_linear_backbone_the_loss_is_a_closed_form(asked_on, real):
    torch.manual_seed(0)
    net = Student((3, 8, 8), 3, nn.Sequential(nn.Flatten(), nn.Linear(192, 7, bias=False)))
    only = Committee(("linear",), (net,), (50.0,))
    method = begun(asked_on, committee=only, augment=BARE, batch_real=10**6, views=3, ipc={"c0": 1, "c1": 2, "c2": 4})
    weight = net.features[1].weight.double().numpy()
    head = method.heads(5)[0].double().numpy()

    def by_hand(images, labels):
        rows = images.detach().flatten(1).double().numpy() @ weight.T
        wrong = softmax(rows @ head.T, 1) - np.eye(3)[labels.numpy()]
        return np.concatenate([(wrong.T @ rows).ravel(), wrong.sum(0)]) / len(rows)

    ours = by_hand(method.images(method.there(5)), method.synset.classes)
    theirs = by_hand(real.train.images, real.train.labels)  # a batch beyond the set is the set
    expected = 1 - ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs)
    assert method.update(5).item() == pytest.approx(expected, rel=1e-4)
    assert expected > 0.01


def test_two_backbones_weigh_alike(asked_on, committee):
    both = begun(asked_on, augment=BARE).update(3)
    heads = begun(asked_on, augment=BARE).heads(3)
    alone = []
    for place in (0, 1):
        method = begun(asked_on, augment=BARE, committee=committee.members([place]))
        method.heads = lambda step, place=place: [heads[place]]
        alone.append(method.update(3))
    assert both.item() == pytest.approx(sum(each.item() for each in alone) / 2, rel=1e-5)
    assert alone[0].item() != pytest.approx(alone[1].item(), rel=1e-3)


def test_levels_come_in_one_after_another_and_the_teachers_stay(asked_on, committee):
    before = [{name: each.clone() for name, each in net.state_dict().items()} for net in committee.nets]
    method = begun(asked_on, grow_every=2)
    sizes = [tuple(level.shape[2:]) for level in method.levels]
    assert sizes == [(1, 1), (2, 2), (4, 4), (8, 8)]
    for step, there in ((0, 1), (2, 1), (3, 2), (6, 3), (7, 4), (99, 4)):
        for level in method.levels:
            level.grad = None
        method.update(step).backward()
        moved = [level.grad is not None and bool(level.grad.any()) for level in method.levels]
        assert moved == [place < there for place in range(4)]
    for net, state in zip(committee.nets, before, strict=True):
        assert all(torch.equal(each, state[name]) for name, each in net.state_dict().items())
        assert not any(each.requires_grad for each in net.parameters())


def driven(method, steps):
    method.optimizers = method.configure_optimizers
    method.manual_backward = lambda loss: loss.backward()
    for step in range(steps):
        method.learn(step)
    return method


def test_the_set_is_what_the_levels_are(asked_on):
    method = begun(asked_on, grow_every=1, lr_img=0.5)
    flat = method.synset.images.detach().clone()
    assert torch.allclose(flat, flat[:, :, :1, :1].expand_as(flat)) and flat[:, :, 0, 0].std() > 0.1  # of colours
    for steps in (1, 2, 4):
        method = driven(begun(asked_on, grow_every=1, lr_img=0.5), steps)
        there = method.levels[: max(1, steps - 1)]
        torch.testing.assert_close(method.synset.images.detach(), method.images(there).detach())


def test_levels_weigh_alike_as_they_come_in_and_adam_starts_afresh(asked_on):
    """At a rate of next to nothing: whatever was there is scaled down, a level of variance 1 / n² comes in."""
    still = dict(grow_every=2, lr_img=1e-12)
    first = [level.detach().clone() for level in begun(asked_on, **still).levels]
    for steps, there in ((3, 1), (4, 2), (6, 3), (8, 4), (12, 4)):
        method = driven(begun(asked_on, **still), steps)
        for level, start in zip(method.levels[:there], first, strict=False):
            torch.testing.assert_close(level.detach(), start / there)
        taken = [int(method.optimizer.state[level]["step"]) for level in method.levels[:there]]
        assert taken == [steps - (2 * there - 1 if there > 1 else 0)] * there
        assert not any(level in method.optimizer.state for level in method.levels[there:])


def test_a_pyramid_is_the_sum_of_its_levels():
    shape, colours = (3, 8, 8), torch.eye(3)
    levels = [torch.zeros(2, 3, *size) for size in pyramid.sides(shape)]
    levels[0] += torch.tensor([1.0, 0.0, -2.0]).view(3, 1, 1)
    assert torch.allclose(pyramid.pixels(levels, shape, colours)[0, :, 3, 5], torch.tensor([2.0, 0.0, -4.0]).sigmoid())
    levels[3][:, :, 2, 6] += 2.5
    one = pyramid.pixels(levels, shape, colours).logit() - pyramid.pixels(levels[:1], shape, colours).logit()
    assert (
        one[0, 0, 2, 6] == pytest.approx(5, abs=1e-3) and one.abs().gt(1e-3).sum() == 6
    )  # one pixel of three channels
    blocks = [torch.zeros(1, 1, 1, 1), torch.randn(1, 1, 2, 2)]
    corners = pyramid.pixels(blocks, (1, 8, 8), torch.eye(1)).logit()[0, 0][[0, 0, -1, -1], [0, -1, 0, -1]]
    torch.testing.assert_close(corners / 2, blocks[1].flatten(), atol=1e-5, rtol=1e-4)
    slope = torch.tensor([0.0, 1.0]).expand(1, 1, 2, 2)  # centres of the small pixels lie at 1.5 and 5.5 of eight
    row = pyramid.pixels([slope], (1, 8, 8), torch.eye(1)).logit()[0, 0, 3]
    torch.testing.assert_close(row / 2, ((torch.arange(8) - 1.5) / 4).clamp(0, 1), atol=1e-5, rtol=1e-4)


def test_pixels_are_those_of_the_public_code():
    """What its decoder makes of three levels, and its colours."""
    colours = pyramid.scaled(torch.tensor(pyramid.IMAGENET))
    levels = [torch.arange(3.0 * side**2).view(1, 3, side, side).cos() / 3 for side in (1, 2, 4)]
    found = pyramid.pixels(levels, (3, 4, 4), colours)[0]
    assert found[:, 0, 0].tolist() == pytest.approx([0.7299599, 0.7593800, 0.7891581], abs=1e-6)
    assert found[:, 1, 3].tolist() == pytest.approx([0.6783842, 0.6910184, 0.6583108], abs=1e-6)


def test_colours_are_correlated_as_the_images_are():
    g = np.random.default_rng(0)
    mixing = np.array([[0.2, 0.1, 0.0], [0.15, 0.2, 0.05], [0.1, 0.1, 0.1]])
    found = torch.tensor(np.einsum("dc,nchw->ndhw", mixing, g.normal(size=(200, 3, 9, 9))))
    root = pyramid.colours_of(found)
    assert root.norm(dim=0).max() == pytest.approx(1)
    expected = mixing @ mixing.T
    ratio = (root @ root.T).numpy() / expected
    np.testing.assert_allclose(ratio / ratio[0, 0], 1, rtol=0.05)
    assert torch.equal(pyramid.colours_of(torch.full((4, 2, 3, 3), 0.5)), torch.eye(2))  # images of one colour
    assert pyramid.colours_of(found[:, :1]).shape == (1, 1)


def test_every_step_has_a_head_real_images_and_views_of_its_own(asked_on):
    method = begun(asked_on)
    assert method.update(0).item() == method.update(0).item() != method.update(1).item()
    assert not torch.equal(method.heads(0)[0], method.heads(1)[0])
    seen, method.of_real = (
        [],
        lambda net, images: seen.append(images) or torch.ones(len(images), net.classifier.in_features),
    )
    for step in (0, 0, 1):
        method.update(step)
    assert torch.equal(seen[0], seen[2]) and not torch.equal(seen[0], seen[4])  # two teachers a step see the same
    assert torch.equal(seen[0], seen[1])
    bare = begun(asked_on, augment=BARE)
    bare.of_real = method.of_real
    seen.clear()
    for step in (0, 1):
        bare.update(step)
    assert not torch.equal(seen[0], seen[2])  # other images, not other views alone
    assert torch.cat(method.heads(0)).std().item() == pytest.approx(0.01, rel=0.1)


def test_noise_is_on_the_pixels_of_some_views(real):
    split, images = real.train, real.train.images[:1].expand(400, 3, 8, 8)
    cropped = Cropped(0.5, 1).on(split)(images, 3)
    views = [Noised(0.5, 1, share, 0.5, 0.2).on(split)(images, 3) for share in (0.0, 0.5, 1.0)]
    added = [split.preprocessing.inverse(each) - split.preprocessing.inverse(cropped) for each in views]
    assert added[0].abs().max() < 1e-6
    assert (added[1].flatten(1).abs().amax(1) > 0.1).float().mean().item() == pytest.approx(0.5, abs=0.08)
    assert added[2].mean().item() == pytest.approx(0.5, abs=0.005) and added[2].std().item() == pytest.approx(
        0.2, abs=0.005
    )


def test_gradients_come_closer(asked_on):
    method = begun(asked_on, lr_img=0.05, batch_real=48, views=4, grow_every=10, augment=BARE)
    method.optimizers = lambda: optimizer
    method.manual_backward = lambda loss: loss.backward()
    optimizer = method.configure_optimizers()
    first = sum(method.update(step).item() for step in range(100, 110))
    for step in range(60):
        method.learn(step)
    assert sum(method.update(step).item() for step in range(100, 110)) < 0.6 * first


@pytest.mark.parametrize("cut", [2, 3, 4])  # before a level comes in with step 3, as it does, and after
def test_a_run_killed_as_a_level_comes_in_ends_in_the_same_set(asked_on, tmp_path, monkeypatch, cut):
    def run(folder):
        method = asked_on(LinearGradientMatching, steps=6, grow_every=2, snapshot_every=1)
        return load(distill(method, tmp_path / folder, {"method": "lgm"}, [], "cpu", lambda *a: None))

    step_of = Method.training_step

    def power_cut(method, step):
        if int(step) == cut:
            raise RuntimeError("power cut")
        step_of(method, step)

    whole = run("whole")
    with monkeypatch.context() as patch:
        patch.setattr(Method, "training_step", power_cut)
        with pytest.raises(RuntimeError, match="power cut"):
            run("cut")
    assert run("cut").hash == whole.hash
