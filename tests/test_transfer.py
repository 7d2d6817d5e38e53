"""Transfer: students learn a set, keep all but their last layer, and are tuned on another real set."""

import json
import os
import re
from copy import deepcopy
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from conftest import batches_of, load_npz, make_recipe, preset, write_npz
from test_line import line, succeeds  # noqa: F401

from distill import rng
from distill.due import Due
from distill.evaluation.entry import Entry, Network
from distill.evaluation.evaluate import evaluate
from distill.evaluation.kept import load_student
from distill.evaluation.measure import Bench
from distill.evaluation.pretraining import Source
from distill.evaluation.underway import Underway
from distill.files import load_tensors
from distill.networks.convnet import ConvNet
from distill.report.rows import Report
from distill.runs.ahead import students
from distill.runs.composed import compose
from distill.runs.line import Line
from distill.runs.progress import Shown
from distill.sets.coreset import Coreset
from distill.sets.synthetic import SyntheticSet
from distill.teachers.committee import Committee
from distill.teachers.labels import Teaching
from distill.training.loop import train


@pytest.fixture
def onto(tmp_path):
    """Another real set, of four classes."""
    return load_npz(write_npz(tmp_path / "onto.npz", classes=4, per_class=10), val=0.0)


@pytest.fixture
def vectors(real):
    """A set of two images of a class, with vectors of seven numbers."""
    start = SyntheticSet.from_real(real.train, 2, torch.Generator().manual_seed(0))
    labels = torch.randn(6, 7, generator=torch.Generator().manual_seed(1))
    return start.with_(labels=labels, label_kind="vectors", record={"seed": 0})


HOW = {"depth": 2, "width": 6, "norm": "batch", "pooling": "avg", "activation": "relu"}
CONFIG = {"_target_": "distill.networks.convnet.ConvNet", **HOW}


def net_of(real):
    return partial(ConvNet, (3, 8, 8), real.train.num_classes, **HOW)


def transfer(name="transfer", epochs=6, **values):
    """A protocol of few epochs, or steps."""
    made = preset(name, **({"steps": 6} if name != "transfer-free" else {"epochs": 4}), batch=8, students=2, **values)
    own = {part: getattr(made.pretraining, part).with_(epochs=epochs, batch=4) for part in ("vectors", "classes")}
    return made.with_(pretraining=replace(made.pretraining, **own))


@pytest.fixture
def judged(real, onto, tmp_path):
    """The row of a set under a protocol, by name of the folder that it is written to."""

    def rows(data, protocol, folder="rows", target=onto, **more):
        report = Report(tmp_path / folder / "report.json")
        source = Source(real.train, tmp_path / "pretrained") if protocol.pretraining else None
        network = Network(net_of(target), CONFIG)
        evaluate(Entry([data], "m", None), target, {"net": network}, protocol, report, Bench(source=source, **more))
        return report.rows[-1]

    return rows


def plainly(net, vectors, lr=0.1, epochs=6, batch=4, seed=5):
    """Features after the mean square to vectors, by a loop of its own: SGD with momentum .9 and decay 1e-3, no views."""
    with rng.seeded(seed, "head"):
        head = torch.nn.Linear(net.classifier.in_features, 7)
    net.train()
    parameters = [*net.features.parameters(), *head.parameters()]
    sgd = torch.optim.SGD(parameters, lr, momentum=0.9, weight_decay=1e-3)
    for epoch in range(epochs):
        for index in vectors.epoch(epoch, seed)[0].split(batch):
            sgd.zero_grad()
            said = head(net.features(vectors.images[index]).flatten(1))
            F.mse_loss(said, vectors.labels[index]).backward()
            sgd.step()
    return net.features.state_dict()


def test_students_meet_the_vectors_in_the_mean_square_and_keep_all_but_the_last_layer(real, onto, vectors, tmp_path):
    torch.manual_seed(0)
    net = net_of(onto)()
    state = {name: each.clone() for name, each in net.state_dict().items()}
    transfer().pretraining.begin(net, vectors, Source(real.train, tmp_path), 5)
    other = net_of(onto)()
    other.load_state_dict(state)
    expected = plainly(other, vectors)
    for name, each in net.features.state_dict().items():
        assert torch.allclose(each.double(), expected[name].double(), atol=1e-5), name
    assert all(torch.equal(each, state[f"classifier.{name}"]) for name, each in net.classifier.state_dict().items())
    assert not torch.equal(net.features[0].weight, state["features.0.weight"])


def test_a_student_of_no_images_is_one_from_scratch(real, onto, judged):
    nothing = Coreset(real.train, torch.arange(0))
    tuned = judged(nothing, transfer())
    whole = Coreset.whole(onto.train)
    plain = judged(whole, transfer().with_(pretraining=None), "plain")
    assert tuned["accuracies"] == plain["accuracies"]
    assert (tuned["images"], tuned["image_bytes"], tuned["optimizer_steps"]) == (0, 0, 6)


def test_what_is_learned_before_moves_the_accuracy_and_what_it_takes_is_the_sets(real, vectors, judged, tmp_path):
    first = judged(vectors, transfer())
    second = judged(vectors.with_(labels=-vectors.labels), transfer())
    hard = judged(vectors.with_(labels=vectors.classes, label_kind="hard"), transfer())
    assert len({tuple(each["accuracies"]) for each in (first, second, hard)}) > 1
    assert first["image_bytes"] == vectors.image_bytes and first["label_bytes"] == 6 * 7 * 4
    assert len({each["synset_hash"] for each in (first, second, hard)}) == 3
    judged(vectors, transfer(epochs=7))
    assert (
        len(list((tmp_path / "pretrained").iterdir())) == 8
    )  # of each set, and each recipe, two students of their own


def test_a_linear_probe_leaves_the_features_as_they_are(vectors, judged, tmp_path):
    row = judged(vectors, transfer("transfer-probe"), keep=tmp_path / "students")
    before = [load_tensors(path)[0] for path in (tmp_path / "pretrained").iterdir()]
    students = sorted((tmp_path / "students").rglob("*.safetensors"))
    assert len(students) == len(before) == 2 and row["labels"] == "frozen"
    for path in students:
        features = load_student(path).network.features.state_dict()
        assert any(all(torch.equal(each, features[name]) for name, each in own.items()) for own in before)


def test_a_killed_student_goes_on_learning_the_set_from_its_last_epoch(real, onto, vectors, tmp_path, monkeypatch):
    monkeypatch.setattr(Due, "now", True)
    whole, cut = (Source(real.train, tmp_path / name) for name in ("whole", "cut"))
    with rng.seeded(0, "network"):
        net = net_of(onto)()
    keep, kept = Underway.keep, []
    once, twice = deepcopy(net), deepcopy(net)
    transfer().pretraining.begin(once, vectors, whole, 5)

    def killed(self, now):
        keep(self, now)
        kept.append(now.epochs)
        if len(kept) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Underway, "keep", killed)
    with pytest.raises(KeyboardInterrupt):
        transfer().pretraining.begin(twice, vectors, cut, 5)
    assert [path.name[:11] for path in cut.folder.iterdir()] == ["unfinished_"]
    transfer().pretraining.begin(twice, vectors, cut, 5)
    assert kept == list(range(1, len(kept) + 1))  # no epoch twice
    assert all(torch.equal(each, twice.state_dict()[name]) for name, each in once.state_dict().items())
    assert [path.name for path in cut.folder.iterdir()] == [path.name for path in whole.folder.iterdir()]


def test_features_are_kept_for_other_ways_and_a_damaged_file_is_told(vectors, judged, tmp_path, monkeypatch):
    first = judged(vectors, transfer())
    files = sorted((tmp_path / "pretrained").iterdir())
    assert len(files) == 2  # a student each
    monkeypatch.setattr("distill.evaluation.pretraining.train", None)
    judged(vectors, transfer("transfer-probe"), "probe")
    assert judged(vectors, transfer(), "again")["accuracies"] == first["accuracies"]
    parts = [tmp_path / "pretrained" / f".{name}.safetensors.0.part" for name in ("old", "new")]
    for part in parts:
        part.touch()
    os.utime(parts[0], (0, 0))
    monkeypatch.undo()
    judged(vectors.with_(labels=-vectors.labels), transfer(), "others")
    assert [part.exists() for part in parts] == [False, True]  # what a killed process left, and what another one writes
    files[0].write_bytes(files[0].read_bytes()[:-9])
    with pytest.raises(ValueError, match=files[0].name):
        judged(vectors, transfer(), "damaged")


def test_without_data_of_the_other_set_no_image_of_it_is_learned(real, onto, vectors, judged):
    teacher = net_of(onto)()
    train([teacher], batches_of(onto.train, make_recipe(epochs=10, lr=0.05)), seeds=[0])
    asked = {"teaching": Teaching(Committee(("t",), (teacher,), (90.0,)))}
    before = judged(vectors, transfer("transfer-free"), **asked)
    blind = replace(onto, train=replace(onto.train, images=torch.full_like(onto.train.images, float("nan"))))
    after = judged(vectors, transfer("transfer-free"), "blind", target=blind, **asked)
    assert before["accuracies"] == after["accuracies"] and before["labels"] == "on_the_fly"
    assert before["seen"] == 4 * len(vectors)


WORDS = [
    "data=digits", "data.classes=[0,1,2,3,4]", "ipc=1", "method=random", "student=[convnet_bn]", "student.convnet_bn.width=4",
    "draws=1", "device=cpu", "workers=1", "protocol.students=1", "protocol.recipe.steps=3", "protocol.recipe.batch=16",
    "protocol.pretraining.classes.epochs=2", "data@onto=digits", "onto.classes=[5,6,7]", "onto.val=0",
]  # fmt: skip


def test_a_run_tunes_on_another_real_set_beside_students_from_scratch(line, tmp_path):  # noqa: F811
    succeeds(line(*WORDS, "protocol=transfer", "baselines=[random,whole,scratch]"))
    rows = json.loads((tmp_path / "outputs" / "report.json").read_text())["rows"]
    assert [row["method"] for row in rows] == ["random", "random real", "whole real set", "from scratch"]
    assert {(row["data"], row["metric"]) for row in rows} == {("digits to digits", "transfer accuracy")}
    assert [len(row["accuracy_by_class"]) for row in rows] == [3] * 4
    assert [(row["ipc"], row["ipc_range"]) for row in rows] == [(1, "1"), (1, "1"), (None, None), (0, "0")]
    code, table, said = line(*WORDS, "protocol=transfer", "baselines=[random,whole,scratch]")
    assert code == 0 and "all rows were there" in said and "Transfer accuracy on the test split" in table


def test_teachers_of_the_other_set_are_trained_on_it(line, tmp_path):  # noqa: F811
    words = [each for each in WORDS if "recipe.steps" not in each]
    own = ["networks=[convnet_bn]", "minimum=0", "recipe.epochs=1"]
    succeeds(line(*words, "protocol=transfer-free", "protocol.recipe.epochs=1", *(f"teachers.{each}" for each in own)))
    (store,) = (tmp_path / "outputs" / "experts").iterdir()
    assert json.loads((store / "manifest.json").read_text())["data"]["classes"] == ["5", "6", "7"]
    rows = json.loads((tmp_path / "outputs" / "report.json").read_text())["rows"]
    assert [(row["method"], row["labels"]) for row in rows] == [("random", "on_the_fly"), ("random real", "on_the_fly")]


@pytest.mark.parametrize(
    "words, message",
    [
        (["protocol=dsa"], "data@onto is digits, and protocol dsa tunes students on no other real set"),
        (
            ["protocol=transfer", "data@onto=mnist", "onto.classes=null", "onto.root={toy}"],
            "are .1, 10, 10., those of the set",
        ),
        (["protocol=transfer", "baselines=[kd]"], "baseline kd has labels of its own"),
        (["protocol=transfer-free", "baselines=[scratch]"], "protocol transfer-free tunes none on all of one"),
    ],
)
def test_what_cannot_be_tuned_is_told_before_anything_is_trained(line, tmp_path, words, message):  # noqa: F811
    write_npz(tmp_path / "mnist.npz", side=10, channels=1)
    kept = [each for each in WORDS if words[0] != "protocol=dsa" or "pretraining" not in each and "steps" not in each]
    code, _, said = line(*kept, *(word.replace("{toy}", str(tmp_path)) for word in words))
    assert code == 1
    assert re.search(message, said), said
    assert not (tmp_path / "outputs" / "experts").exists()


@pytest.mark.parametrize(
    "words, message",
    [
        (["method=krrst", "protocol=tesla"], "own labels are vectors, expected classes"),
        (["method=krrst_full", "protocol=tesla"], "own labels are vectors, expected classes"),
        (["method=pca", "method.factor=2", "protocol=rded", "protocol/labels=once"], "students are shown one tile"),
    ],
)
def test_labels_that_a_methods_sets_cannot_have_are_told_before_there_is_a_set(words, message):
    with pytest.raises(ValueError, match=message):
        Line(compose("data=digits", "ipc=1", "device=cpu", *words), Shown())


def test_teachers_that_are_named_alone_are_those_of_the_sets_real_set():
    words = ["task=experts", "experts=target", "method=krrst", "data@onto=digits", "onto.classes=[5,6,7]"]
    run = Line(compose("data=digits", "data.classes=[0,1,2]", "device=cpu", *words), Shown())
    assert run.judge is run and len(list(run.asked_stores())) == 1


def test_what_students_learn_before_is_ahead_of_a_run():
    run = Line(compose(*WORDS, "protocol=transfer", "baselines=[random]", "draws=3"), Shown())
    before = [work for work in students(run) if "before" in work.text]
    assert [(work.units, work.images) for work in before] == [(1, 2 * 5), (3, 3 * 2 * 5)]
