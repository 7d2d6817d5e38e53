"""How often the CPU waits for an accelerator, counted on a stand-in: never in a training step, once in an outer step."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from conftest import STRATEGY, batches_of, identity, made, make_recipe, preset, toy_settings
from pytorch_lightning import LightningModule
from standin import AVAILABLE, device, standin

from distill import augment
from distill.experts.train import experts
from distill.methods.decoupled.nrr import NRR
from distill.methods.decoupled.rded import RDED
from distill.methods.decoupled.recovery import Recovery
from distill.methods.matching.ast import AST
from distill.methods.matching.datm import DATM
from distill.methods.matching.dm import DistributionMatching
from distill.methods.matching.gradient import GradientMatching
from distill.methods.matching.lgm import LinearGradientMatching
from distill.methods.matching.trajectory import TrajectoryMatching
from distill.methods.selfsupervised.krrst import KRRST
from distill.parallel import crew
from distill.sets.synthetic import SyntheticSet
from distill.teachers.labels import OnTheFly, Teaching, told
from distill.teachers.once import Once
from distill.teachers.store import ExpertStore
from distill.training.accuracy import hits
from distill.training.batch import Batches
from distill.training.dynamics import Dynamics
from distill.training.loop import train
from distill.training.losses import Clipped, CrossEntropy
from distill.training.optimizers import Adam, AdamW, Gsam, Lars, Nesterov
from distill.training.schedules import Cosine, CosineByStep, Drop, OneCycle
from distill.training.views import AutoAugment, Cropped, CutMix, MixUp, RandAugment

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="this torch takes no device made of Python")


@pytest.fixture
def there():
    """The stand-in; a test has it last, so that what it is made of is made outside of it."""
    with standin() as mode:
        yield mode


def sent(split):
    return replace(split, images=split.images.to(device()), labels=split.labels.to(device()))


def lately(mode) -> Counter:
    found = Counter(mode.waits)
    mode.waits.clear()
    return found


WAITS = {
    "item": lambda x: x.sum().item(),
    "float": lambda x: float(x.sum()),
    "int": lambda x: int(x.sum()),
    "bool": lambda x: bool(x.sum() > 0),
    "list": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "print": lambda x: str(x),
    "mask": lambda x: x[x > 0],
    "assigned mask": lambda x: x.__setitem__(x > 0, 1.0),
    "index of the CPU": lambda x: x[torch.tensor([0, 1])],
    "nonzero": lambda x: x.nonzero(),
    "unique": lambda x: x.unique(),
    "bincount": lambda x: x.long().bincount(),
    "equal": lambda x: torch.equal(x, x),
    "repeat": lambda x: x.repeat_interleave(x.long()),
    "sent": lambda x: torch.ones(3).to(device()),
    "made there of numbers": lambda x: torch.tensor([1.0], device=device()),
    "written": lambda x: x.copy_(torch.ones(3)),
}

FREE = {
    "arithmetic": lambda x: (x + 1) * torch.tensor(2.0),
    "made there": lambda x: torch.zeros(3, device=device()) + torch.arange(3, device=device()),
    "index": lambda x: x[torch.zeros(2, dtype=torch.long, device=device())],
    "where": lambda x: torch.where(x > 0, x, 0.0),
    "sent on the way": lambda x: torch.ones(3).to(device(), non_blocking=True),
    "of the CPU": lambda x: torch.ones(3).nonzero().tolist(),
    "one-hot": lambda x: torch.nn.functional.one_hot(x.long(), 3),
}


@pytest.mark.parametrize("name", WAITS)
def test_the_stand_in_sees_a_wait(name, there):
    x = torch.arange(3.0).to(device())
    lately(there)
    WAITS[name](x)
    assert sum(lately(there).values()) >= 1


@pytest.mark.parametrize("name", FREE)
def test_the_stand_in_sees_no_wait(name, there):
    x = torch.arange(3.0).to(device())
    lately(there)
    FREE[name](x)
    assert not lately(there)


def test_the_stand_in_refuses_what_a_gpu_refuses(there):
    x = torch.arange(3.0).to(device())
    with pytest.raises(RuntimeError, match="lie on the CPU, others do not"):
        x + torch.ones(3)
    with pytest.raises(AssertionError, match="may not be there yet"):
        x.to("cpu", non_blocking=True)


RECIPES = {
    "sgd": {},
    **{f"views {name}": {"augment": name} for name in ("dsa", "siamese", "dsa-compound", "crop_scale_rotate")},
    **{f"views {name}": {"augment": name} for name in ("crop_flip", "crop_flip_black", "crop_flip_reflect")},
    "crops": {"views": Cropped(area=0.5, shuffle=2)},
    "gsam": {"optimizer": Gsam(momentum=0.9, weight_decay=1e-3, gsam_rho=0.01, gsam_alpha=0.3)},
    "adam": {"optimizer": Adam(weight_decay=1e-3)},
    "adamw, cosine": {
        "optimizer": AdamW(decoupled_decay=0.01, decay_biases=False), "schedule": Cosine(stretch=1.0),
    },
    "dropped rate": {"schedule": Drop(decay=0.1, decay_epoch=0, decay_momentum=None)},
    "nesterov, cosine by step": {"optimizer": Nesterov(0.9, 1e-3), "schedule": CosineByStep(floor=1e-4)},
    "lars, one cycle": {"optimizer": Lars(0.9, 1e-3, trust=0.01), "schedule": OneCycle(0.3, 25.0, 1e4)},
    "steps": {"epochs": None, "steps": 7},
    "mean of weights": {"ema": 0.9},
    "cutmix": {"mix": CutMix(mix_alpha=1.0)},
    "mixup, in parts": {"mix": MixUp(mix_alpha=1.0), "micro_batches": 2},
}  # fmt: skip


@pytest.mark.parametrize("stack", [1, 3])
@pytest.mark.parametrize("name", RECIPES)
def test_a_training_waits_for_nothing(real, student, name, stack, there):
    recipe = replace(make_recipe(epochs=2, batch=10), **{k: v for k, v in RECIPES[name].items() if k != "augment"})
    if "augment" in RECIPES[name]:
        recipe = replace(recipe, views=replace(recipe.views, augment=RECIPES[name]["augment"]))
    nets, batches = [student().to(device()) for _ in range(stack)], batches_of(sent(real.train), recipe)
    lately(there)
    train(nets, batches, seeds=range(stack))
    assert not lately(there)


@pytest.mark.parametrize(
    "views",
    [
        AutoAugment(policy="cifar10", whole_batch=False, eight_bits=False),
        RandAugment(operations=2, level=9, whole_batch=False, eight_bits=False),
    ],
    ids=str,
)
def test_views_of_a_policy_wait_for_nothing(real, views, there):
    of, images = views.on(real.train), real.train.images.to(device())
    lately(there)
    for draw in range(10):
        of(images, draw)
    assert not lately(there)


def test_experts_with_a_penalty_wait_for_nothing(real, student, there):
    loss = Clipped(ramp_start=0.5, ramp_epochs=10, gradient_penalty=2.0)
    net, batches = student().to(device()), batches_of(sent(real.train), make_recipe(epochs=2, batch=10), loss)
    lately(there)
    train([net], batches, seeds=[0])
    assert not lately(there)


def test_teachers_wait_for_nothing(real, teacher, there):
    net, batches = teacher().to(device()), batches_of(sent(real.train), make_recipe(epochs=2, batch=10))
    lately(there)
    train([net], batches, seeds=[0])
    assert not lately(there)


def test_a_listener_waits_as_it_begins_and_then_no_more(real, student, there):
    kept, seen = Dynamics(2, len(real.train)), []

    def listen(batch, outputs):
        kept(batch, outputs)
        seen.append(sum(lately(there).values()))

    net, batches = student().to(device()), batches_of(sent(real.train), make_recipe(epochs=2, batch=10))
    lately(there)
    train([net], batches, seeds=[0], after_batch=listen)
    assert seen == [2] + [0] * 9


def test_experts_wait_once_an_epoch_for_the_weights_that_are_kept(real, student, tmp_path, there):
    own, found = replace(real, train=sent(real.train), val=sent(real.val)), []
    for epochs in (2, 5):
        store = ExpertStore(tmp_path / str(epochs), identity(real), 2)
        lately(there)
        recipe = make_recipe(epochs=epochs)
        crew().make(experts(store, own, student, recipe, CrossEntropy(), 0))
        found.append(sum(lately(there).values()))
    assert found[1] - found[0] == 3 * 2  # epochs, and networks one after another


@pytest.mark.parametrize("labels, mode", [(OnTheFly, "eval"), (Once, "batch")])
def test_students_of_a_committee_wait_for_nothing(real, student, committee, labels, mode, there):
    for net in committee.nets:
        net.to(device())
    asked = labels(
        committee={**preset("rded").labels.committee, "mode": mode},
        temperature=4.0,
        squared=True,
        vote_temperature=10.0,
        twin=True,
    )
    split = sent(real.train)
    synset = SyntheticSet.from_real(split, 4, torch.Generator().manual_seed(0))
    recipe = replace(make_recipe(epochs=2, batch=5), mix=CutMix(mix_alpha=1.0))
    batches, _ = told(asked, Batches(synset, recipe, recipe.views.on(split)), 0, Teaching(committee))
    net = student().to(device())
    lately(there)
    train([net], batches, seeds=[0])
    assert not lately(there)


def test_a_student_is_evaluated_with_one_wait(real, student, there):
    net, split = student().to(device()), sent(real.test)
    lately(there)
    found = hits(net, split, make_recipe(), batch=7)
    assert sum(lately(there).values()) == 1
    assert found == hits(net.cpu(), real.test, make_recipe())


def step_once(method, optimizer, step):
    """One outer step as Lightning drives it, its metrics read."""
    method.optimizers = lambda: optimizer
    method.manual_backward = lambda loss: loss.backward()
    method.training_step(step)


METHODS = {  # memory=auto asks for the size of storages, which the stand-in has not
    **{f"mtt, {mode}": (TrajectoryMatching, {"memory": mode}) for mode in ("recompute", "segments", "full")},
    "tesla": (TrajectoryMatching, {"memory": "tesla", "soft_label_assignment": True}),
    "datm": (DATM, {"max_error": 1e5, "memory": "recompute"}),
    "ast": (AST, {"init": "real", "perturbation": 0.1, "memory": "recompute"}),
    "dc": (GradientMatching, {"augment": augment.none, "collective": False}),
    "dsa": (GradientMatching, {"collective": False}),
    "dsac": (GradientMatching, {"collective": True, "warmup_networks": 0}),
    "dcc, unequal classes": (GradientMatching, {"collective": True, "warmup_networks": 0, "ipc": {"c0": 1, "c1": 2, "c2": 2}}),
    "dm": (DistributionMatching, {}),
}  # fmt: skip


@pytest.fixture
def logged(monkeypatch):
    """What Lightning is told."""
    found = []
    monkeypatch.setattr(LightningModule, "log", lambda self, name, value: found.append((name, value)))
    return found


@pytest.mark.parametrize("name", METHODS)
def test_an_outer_step_waits_once(real, student, experts, name, logged, there):
    cls, changes = METHODS[name]
    views = augment.DSA(STRATEGY, siamese=cls in (GradientMatching, DistributionMatching))
    shared = dict(seed=0, real=sent(real.train), student=student, experts=experts, ipc=2, augment=views)
    method = made(cls, **{**toy_settings(cls), **shared, "steps": 9, **changes})
    method.begin()
    optimizer = method.configure_optimizers()
    for step in range(3):  # the first ones measure and make what is kept
        step_once(method, optimizer, step)
    for step in range(3, 9):
        lately(there)
        step_once(method, optimizer, step)
        assert sum(lately(there).values()) == 1
    assert method.skips == 0
    assert {"matching_loss", "skipped_steps", "step"} <= dict(logged).keys()
    assert all(value.device.type == "cpu" for _, value in logged)


@pytest.mark.parametrize("every", [1, 4])
def test_a_recovery_waits_where_a_row_of_metrics_is_written(real, student, committee, every, logged, there):
    """Once for what was skipped, once for the metrics."""
    for net in committee.nets:
        net.to(device())
    shared = dict(seed=0, real=sent(real.train), student=student, ipc=2, committee=committee)
    values = {**toy_settings(Recovery), "iterations": 8, "log_every": every, "snapshot_every": 4}
    method = made(Recovery, **{**values, **shared})
    method.begin()
    optimizer = Wrapped(method.configure_optimizers())
    found = []
    for step in range(8):
        lately(there)
        step_once(method, optimizer, step)
        found.append(sum(lately(there).values()))
    assert found[1:] == [2 * (after % every == 0) for after in range(2, 9)]
    assert all(value.device.type == "cpu" for _, value in logged)


@pytest.mark.parametrize("method", [Recovery, RDED, NRR, LinearGradientMatching, KRRST])
def test_untrained_teachers_that_are_asked_ahead_of_a_run_stay_in_memory(
    method, real, student, teacher, committee, there
):
    body = teacher if method is KRRST else student
    asked = committee.members([0]) if method is KRRST else committee
    shared = dict(seed=0, real=sent(real.train), student=body, ipc=2, committee=asked)
    made(method, **{**toy_settings(method), **shared})


class Wrapped:
    """An optimiser as Lightning hands it out."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    def __getattr__(self, name):
        return getattr(self.optimizer, name)
