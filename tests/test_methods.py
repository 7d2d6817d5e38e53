import math
from dataclasses import replace

import pytest
import torch
from conftest import identity

from distill.methods.base import Diverged
from distill.methods.matching import unroll as unroll_module
from distill.methods.matching.ast import AST, balance
from distill.methods.matching.datm import DATM, mean_correct_logits
from distill.methods.matching.trajectory import TrajectoryMatching, trajectory_error
from distill.networks.flat import flatten
from distill.teachers.store import ExpertStore


def step_once(method, optimizer, step=0):
    """One outer step as Lightning drives it."""
    method.optimizers = lambda: optimizer
    method.manual_backward = lambda loss: loss.backward()
    method.log = method.log_dict = lambda *a, **k: None
    method.training_step(step)


def state(method, optimizer):
    tensors = [p for group in optimizer.param_groups for p in group["params"]]
    return [t.detach().clone() for t in tensors] + [s["momentum_buffer"].clone() for s in optimizer.state.values()]


def test_trajectory_error_is_one_at_the_start_and_zero_at_the_target():
    start, target = torch.randn(2, 50)
    assert trajectory_error(start, start, target) == pytest.approx(1.0)
    assert trajectory_error(target, start, target) == 0.0
    assert math.isnan(trajectory_error(start, start, start))
    with pytest.raises(ValueError, match="another network"):
        trajectory_error(torch.zeros(3), start, target)


@pytest.mark.parametrize(
    "first, last, until, bounds",
    [
        (10, 20, 1000, [10, 10, 11, 15, 19, 20, 20, 20, 20, 20]),
        (20, 40, 2000, [20, 20, 21, 25, 29, 30, 35, 39, 40, 40]),
        (30, 50, 2000, [30, 30, 31, 35, 39, 40, 45, 49, 50, 50]),
        (15, 20, 2000, [15, 15, 15, 16, 17, 17, 18, 19, 20, 20]),
    ],
)
def test_the_start_range_opens_as_the_table_says(method_on, first, last, until, bounds):
    method = method_on(DATM)
    changes = dict(initial_max_start_epoch=first, max_start_epoch=last, expansion_steps=until)
    method.settings = replace(method.settings, **changes)
    assert [method.start_bound(t) for t in (0, 99, 100, 500, 999, 1000, 1500, 1999, 2000, 5000)] == bounds


def test_start_epochs_cover_the_range_and_no_more(method_on):
    method = method_on(TrajectoryMatching, min_start_epoch=1, max_start_epoch=3)
    picks = [method.pick(step) for step in range(200)]
    assert {epoch for _, epoch in picks} == {1, 2} and {expert for expert, _ in picks} == {0, 1}
    assert picks == [method.pick(step) for step in range(200)]


def test_a_range_beyond_the_experts_is_refused(method_on):
    with pytest.raises(ValueError, match="end at epoch 4, this range reads epoch 5"):
        method_on(TrajectoryMatching, max_start_epoch=4, expert_epochs=2)
    with pytest.raises(ValueError, match="the range is empty"):
        method_on(TrajectoryMatching, min_start_epoch=3)
    with pytest.raises(ValueError, match="initial_max_start_epoch is 9, expected 1 to 3"):
        method_on(DATM, initial_max_start_epoch=9)
    with pytest.raises(ValueError, match="give both, or null"):
        method_on(DATM, expansion_steps=None)
    with pytest.raises(ValueError, match="lr_student is -1"):
        method_on(TrajectoryMatching, lr_student=-1.0)


def test_a_start_from_real_images_needs_them(method_on):
    with pytest.raises(ValueError, match="ipc is 17, expected at most 16 here: class 'c0' has 16 training images"):
        method_on(TrajectoryMatching, ipc=17)
    with pytest.raises(ValueError, match="ipc is 0, expected a whole number in .1, 1000000.; upto50"):
        method_on(TrajectoryMatching, ipc=0)


def test_labels_are_averaged_over_the_experts_that_are_right():
    classes = torch.tensor([0, 1])
    logits = torch.tensor([[[3.0, 1.0], [0.0, 2.0]], [[1.0, 0.0], [5.0, 1.0]], [[0.0, 9.0], [1.0, 4.0]]])
    assert torch.equal(mean_correct_logits(logits, classes), torch.tensor([[2.0, 0.5], [0.5, 3.0]]))
    with pytest.raises(ValueError, match="no expert classifies image 1 as class 1"):
        mean_correct_logits(logits[1:2], classes)


def test_datm_starts_from_images_that_an_expert_classifies_correctly(method_on):
    method = method_on(DATM, ipc=4)
    assert method.synset.label_kind == "logits" and method.synset.labels.shape == (12, 3)
    assert torch.equal(method.synset.labels.argmax(1), method.synset.classes)
    assert torch.equal(method.synset.classes, torch.arange(3).repeat_interleave(4))
    assert len(method.synset.images.detach().flatten(1).unique(dim=0)) == 12


def blind_expert(folder, real, student, logits):
    """A store whose expert says ``logits`` (3,) of every image: all its weights are 0 but those last biases."""
    store = ExpertStore(folder, identity(real), 1)
    rows = torch.zeros(5, len(flatten(student())))
    rows[:, -3:] = torch.tensor(logits)
    store.write(0, rows, 1 / 3)
    return store


def test_datm_says_which_class_no_expert_understands(method_on, real, student, tmp_path):
    of_the_first_class = blind_expert(tmp_path / "blind", real, student, [1.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="classify 0 images of class 'c1' correctly, 2 are needed"):
        method_on(DATM, experts=of_the_first_class)


def test_datm_from_random_images_takes_one_experts_logits(method_on):
    method = method_on(DATM, init="real")
    assert torch.equal(method.synset.labels.detach(), method.logits(0, method.synset.images.detach()))
    with pytest.raises(ValueError, match="unknown method.init 'x': one of correct, real"):
        method_on(DATM, init="x")


def test_the_balance_of_the_inner_loss_follows_the_table():
    assert [balance(s, 20) for s in (0, 9, 10, 19)] == pytest.approx([0.557, 0.732, 1.292, 1.760], abs=1e-3)
    assert [balance(s, 40) for s in (0, 39)] == pytest.approx([0.483, 2.048], abs=1e-3)


def test_the_perturbation_moves_convolutions_by_one_over_the_root_of_their_size(method_on):
    method, still = method_on(AST), method_on(AST, perturbation=0.0)
    before, after = still.start(0, 1, 7), method.start(0, 1, 7)
    assert torch.equal(before, method.weights(0, 1))
    for old, new in zip(*(method.net.unflatten(w).values() for w in (before, after)), strict=True):
        if old.dim() == 4:
            assert float((new - old).norm() / old.norm()) == pytest.approx(old.numel() ** -0.5, rel=0.3)
        else:
            assert torch.equal(old, new)
    assert not torch.equal(after, method.start(0, 1, 8)) and torch.equal(after, method.start(0, 1, 7))


def test_intermediate_targets_sit_where_the_expert_was(method_on):
    method = method_on(AST, max_start_epoch=1, expert_epochs=3, student_steps=20, intermediate="adaptive")
    assert method.landings() == [(6, 1, pytest.approx(1 / 3)), (12, 2, pytest.approx(2 / 3)), (20, 3, 1.0)]
    method.settings = replace(method.settings, intermediate="aggregate")
    assert [weight for *_, weight in method.landings()] == [1.0, 1.0, 1.0]
    both = float(method.update(0).detach())
    method.settings = replace(method.settings, intermediate="none")
    assert method.landings() == [(20, 3, 1.0)] and float(method.update(0).detach()) < both


@pytest.mark.parametrize("ipc", [1, 3, 16])
def test_representatives_are_different_images_of_their_class_near_the_centroids(method_on, ipc):
    method = method_on(AST, ipc=ipc)
    assert torch.equal(method.synset.classes, torch.arange(3).repeat_interleave(ipc))
    assert len(method.synset.images.detach().flatten(1).unique(dim=0)) == 3 * ipc
    if ipc == 1:
        members = method.real.of_class(0)
        logits = method.logits(0, method.real.images[members])
        nearest = members[(logits - logits.mean(0)).norm(dim=1).argmin()]
        assert torch.equal(method.synset.images[0].detach(), method.real.images[nearest])


def test_equal_images_are_told_apart_by_their_number(method_on, real, student, tmp_path):
    method = method_on(AST, ipc=4, experts=blind_expert(tmp_path / "blind", real, student, [0.0, 0.0, 0.0]))
    assert len(method.synset.images.detach().flatten(1).unique(dim=0)) == 12


def test_what_ast_cannot_do_is_refused(method_on):
    for name, value in {
        "intermediate": "all",
        "init": "kmedoids",
        "perturbation": -1.0,
        "student_momentum": 1.0,
    }.items():
        with pytest.raises(ValueError, match=f"method.{name}"):
            method_on(AST, **{name: value})
    with pytest.raises(ValueError, match="at least as many method.student_steps"):
        method_on(AST, max_start_epoch=1, expert_epochs=4)
    with pytest.raises(ValueError, match="method.intermediate=aggregate needs method.memory=recompute"):
        method_on(AST, memory="tesla")
    with pytest.raises(ValueError, match="tesla knows no method.student_momentum"):
        method_on(AST, memory="tesla", intermediate="none")


def test_an_outer_step_lowers_the_matching_loss_of_its_own_segment(method_on):
    method = method_on(DATM, lr_img=0.5)
    optimizer = method.configure_optimizers()
    before = float(method.update(0).detach())
    for _ in range(5):
        step_once(method, optimizer, 0)
    assert float(method.update(0).detach()) < before
    assert method.skips == 0


@pytest.mark.parametrize("steps, modes", [(1, unroll_module.MODES), (3, ("full", "segments", "recompute", "auto"))])
def test_memory_modes_agree_where_they_should(method_on, steps, modes):
    grads = {}
    for memory in modes:
        method = method_on(TrajectoryMatching, memory=memory, student_steps=steps)
        method.update(0).backward()
        grads[memory] = method.synset.images.grad
    assert all(torch.allclose(grads["full"], each, atol=1e-6) for each in grads.values())


@pytest.mark.parametrize("poison", ["loss", "gradient"])
def test_nan_in_loss_or_gradient_changes_nothing_and_is_counted(method_on, poison):
    class Poisoned(DATM):
        def update(self, step):
            return super().update(step) * (float("nan") if (poison, step) == ("loss", 1) else 1.0)

    method = method_on(Poisoned)
    optimizer = method.configure_optimizers()
    step_once(method, optimizer, 0)  # so that there is momentum to poison
    before = state(method, optimizer)
    assert method.skips == 0
    if poison == "gradient":
        method.synset.images.register_hook(lambda grad: grad * float("nan"))
    step_once(method, optimizer, 1)
    assert method.skips == 1 and method.skips_in_a_row == 1
    assert len(before) == 6 and all(torch.equal(a, b) for a, b in zip(before, state(method, optimizer), strict=True))


def test_the_guard_skips_steps_that_landed_too_far(method_on):
    method = method_on(DATM, max_error=1e-9)
    optimizer = method.configure_optimizers()
    before = state(method, optimizer)
    step_once(method, optimizer)
    assert method.skips == 1 and all(torch.equal(a, b) for a, b in zip(before, state(method, optimizer), strict=True))


def test_a_rate_that_would_turn_negative_or_explode_is_not_taken(method_on):
    for sign in (1.0, -1.0):
        method = method_on(TrajectoryMatching, lr_lr=1000.0)
        method.learned_rate.register_hook(lambda grad, sign=sign: sign * 1e6 * grad.abs())
        optimizer = method.configure_optimizers()
        step_once(method, optimizer)
        assert method.skips == 1 and float(method.learned_rate.detach()) == pytest.approx(0.05)


def test_one_spike_of_the_rates_gradient_does_not_forbid_all_later_steps(method_on):
    method = method_on(TrajectoryMatching, lr_lr=1.0, momentum_lr=0.5)
    slopes = iter([0.03, 0.0, 0.0])  # 0.05 - 0.03, and the velocity alone would take another 0.015, 0.0075 ...
    method.learned_rate.register_hook(lambda grad: torch.full_like(grad, next(slopes)))
    optimizer = method.configure_optimizers()
    step_once(method, optimizer, 0)
    with torch.no_grad():
        method.learned_rate.fill_(0.01)
    step_once(method, optimizer, 1)
    assert method.skips == 1 and float(method.learned_rate.detach()) == pytest.approx(0.01)
    images = method.synset.images.detach().clone()
    step_once(method, optimizer, 2)
    assert method.skips == 1 and not torch.equal(images, method.synset.images)


def test_a_run_of_skips_stops_and_names_what_diverged(method_on):
    method = method_on(DATM, max_error=1e-9, max_skips=3)
    optimizer = method.configure_optimizers()
    step_once(method, optimizer, 0)
    step_once(method, optimizer, 1)
    with pytest.raises(
        Diverged,
        match="outer step 2: 3 steps in a row were skipped, at last because the matching loss is .*, above method.max_error",
    ):
        step_once(method, optimizer, 2)


def test_tesla_assigns_soft_labels_of_the_target_network(method_on):
    method = method_on(TrajectoryMatching, soft_label_assignment=True, memory="tesla")
    method.update(0)
    expert, epoch = method.pick(0)
    expected = method.net(method.weights(expert, epoch + 1), method.synset.images.detach()).softmax(1)
    assert method.synset.label_kind == "probabilities" and torch.allclose(method.synset.labels, expected)


def test_methods_see_training_images_only(method_on, real):
    method = method_on(DATM)
    assert method.real is real.train
    held = {id(real.test), id(real.val), id(real)}
    assert not any(id(value) in held for value in vars(method).values())
