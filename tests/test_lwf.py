"""Students of a stream that go on: heads grow without a word changed, the old student stays as it is, a chain is exact."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from broken import stop
from scipy.special import log_softmax
from torch import Generator
from torch.func import functional_call

from distill.cli.continual import carried_out, common_words, stream_of
from distill.evaluation.evaluate import evaluate
from distill.evaluation.kept import Kept, load_student
from distill.networks.convnet import ConvNet
from distill.report.rows import Report
from distill.runs import continual as runs
from distill.teachers.labels import Hard
from distill.teachers.lwf import LwFLoss, continued
from distill.training.schedules import StepsAt
from distill.training.views import SometimesCutMix

WORDS = [
    "data=digits", "threads=1", "device=cpu", "workers=1", "compile=false", "protocol=cl-lwf", "protocol.recipe.epochs=3",
    "protocol.students=2", "student.convnet.width=4", "steps=5", "orders=1", "ipc=2",
]  # fmt: skip


def net(classes, norm="instance"):
    return ConvNet((1, 8, 8), classes, depth=2, width=4, norm=norm, pooling="avg", activation="relu")


def stream(*words):
    given = dict(word.split("=") for word in [*WORDS, *words])
    numbers = {name: int(value) if value.isdecimal() else value for name, value in given.items()}
    values = {"method": "random", "out": "outputs", **numbers, "compile": False}
    return stream_of(values, common_words(values))


def first(found, **fields):
    """The first step's students, trained on random memories; and the memory of the second step."""
    for step in (0, 1):
        line = found.memory("random", 0, step)
        runs.carry_out(line.run, line.real, ("distill",))
    entry, real, protocol = found.judged("random", 0, 0)
    report = Report(found.out / "report.json")
    evaluate(entry, real, found.networks(real), protocol.with_(**fields), report, found.bench("random", 0, 0))
    return report.rows[0]


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_a_head_that_grew_says_the_same_of_old_classes(norm):
    old, new, images = net(4, norm), net(6, norm), torch.rand(16, 1, 8, 8)
    old.train()(images)  # statistics that no fresh network has
    fresh = new.classifier.weight.detach().clone(), new.classifier.bias.detach().clone()
    both = continued(new, old)
    both.eval()
    torch.testing.assert_close(new(images)[:, :4], old(images))
    assert torch.equal(new.classifier.weight[4:], fresh[0][4:]) and torch.equal(new.classifier.bias[4:], fresh[1][4:])
    torch.testing.assert_close(both(images), torch.cat([new(images), old(images)], 1))
    assert {id(each) for each in both.parameters()} == {id(each) for each in new.parameters()}


def test_the_loss_is_what_it_is_by_hand():
    own, old = np.random.default_rng(0).normal(size=(2, 5, 6)) * 3
    old, classes = old[:, :4], np.array([0, 5, 3, 4, 1])
    hard = -log_softmax(own, 1)[np.arange(5), classes]
    before, now = log_softmax(old / 2, 1), log_softmax(own[:, :4] / 2, 1)
    by_hand = hard + 0.5 * 4 * (np.exp(before) * (before - now)).mean(1)  # beta n times the mean over the n outputs
    loss, logits = LwFLoss(6, 2.0, 0.5), torch.tensor(np.concatenate([own, old], 1))
    told = (None, None, logits, torch.tensor(classes), torch.tensor(0.0))
    np.testing.assert_allclose(loss(*told), by_hand, rtol=1e-12)
    np.testing.assert_allclose(LwFLoss(6, 2.0, 0.0)(*told), hard, rtol=1e-12)
    np.testing.assert_allclose(loss(None, None, logits[:, :6], *told[3:]), hard, rtol=1e-12)  # no step before


def test_nothing_reaches_the_old_student():
    old, new, images = net(4, "batch"), net(6, "batch"), torch.rand(16, 1, 8, 8)
    both = continued(new, old)
    there = {name: value.clone() for name, value in old.state_dict().items()}
    both.train()
    weights = {name: each.detach().requires_grad_() for name, each in both.named_parameters()}
    logits = functional_call(both, weights, images)
    own, said = (
        torch.autograd.grad(part.sum(), [*weights.values()], retain_graph=True) for part in logits.split([6, 4], 1)
    )
    assert any(each.any() for each in own) and not any(each.any() for each in said)
    assert not any(each.requires_grad for each in [*old.parameters(), both.weights])
    with torch.no_grad():
        for parameter in both.parameters():
            parameter.add_(1.0)
        both(images)
    assert not old.training and new.training
    assert all(torch.equal(value, there[name]) for name, value in old.state_dict().items())
    torch.testing.assert_close(both(images)[:, 6:], old(images))


def test_the_first_step_is_an_ordinary_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [first(stream("out=own")), first(stream("out=hard"), labels=Hard())]
    assert rows[0]["accuracies"] == rows[1]["accuracies"] and rows[0]["training_hash"] != rows[1]["training_hash"]
    assert list(rows[0]["accuracy_by_class"]) == ["2", "8"]


def test_a_student_starts_from_that_of_the_step_before(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = stream()
    first(found)
    entry, real, protocol = found.judged("random", 0, 1)
    own, protocol, students = found.bench("random", 0, 1), protocol.trained(epochs=0), found.networks(real)
    report = Report(found.out / "report.json")
    evaluate(entry, real, students, protocol, report, own)
    (row,) = runs.plan(entry, real, students, protocol, own)[1]
    kept = runs.kept(row, own, students, real)
    for number in range(2):
        old, new = own.before.load(0, number), kept.load(0, number)
        assert all(torch.equal(new.state_dict()[name][: len(value)], value) for name, value in old.state_dict().items())
        assert len(new.classifier.bias) == 4
    fresh = replace(own, before=None)
    assert entry.inputs(protocol.labels, "last", own) != entry.inputs(protocol.labels, "last", fresh)


def test_a_killed_stream_goes_on_with_the_same_figures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    carried_out([*WORDS, "out=whole"])
    stop(monkeypatch, Kept, "keep", 4)
    with pytest.raises(RuntimeError, match="stopped"):  # between the two students of the second step
        carried_out([*WORDS, "out=killed"])
    carried_out([*WORDS, "out=killed"])
    told = [json.loads((tmp_path / out / "continual" / "summary.json").read_text()) for out in ("whole", "killed")]
    assert told[0] == told[1]
    files = [sorted((tmp_path / out / "students").rglob("*.safetensors")) for out in ("whole", "killed")]
    assert len(files[0]) == len(files[1]) == 5 * 2
    for pair in zip(*files, strict=True):
        first, second = (load_student(path).network.state_dict() for path in pair)
        assert all(torch.equal(second[name], value) for name, value in first.items())


def test_joint_students_take_as_many_steps_as_the_chain(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = stream()
    found.go()
    own, joint = ([row["optimizer_steps"] for row in found.rows(name, 0)] for name in ("random", "joint"))
    assert joint == np.cumsum(own).tolist()


def test_two_networks_cannot_go_on_together(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="student is convnet,mlp: students that go on are of one network"):
        carried_out([*(word for word in WORDS if not word.startswith("student.")), "student=[convnet,mlp]"])
    assert not (tmp_path / "outputs").exists()


def test_the_preset_is_idcs():
    protocol = stream().whole.protocol()
    assert protocol.recipe.schedule == StepsAt(0.2, [0.6, 0.8]) and protocol.recipe.mix == SometimesCutMix(1.0, 0.5)
    assert (protocol.recipe.batch, protocol.recipe.lr, protocol.labels.temperature, protocol.labels.beta) == (
        64,
        0.01,
        2.0,
        1.0,
    )


def test_every_other_batch_is_mixed():
    views, mix = torch.rand(4, 1, 8, 8), SometimesCutMix(1.0, 0.5)
    found = [mix(views, Generator().manual_seed(seed)) for seed in range(200)]
    plain = [
        each for each in found if each[1].tolist() == [0, 1, 2, 3] and each[2] == 1.0 and torch.equal(each[0], views)
    ]
    assert 75 < len(plain) < 130
    assert SometimesCutMix(1.0, 0.0)(views, Generator())[2] == 1.0
