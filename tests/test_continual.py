"""Classes come in the papers' orders, a memory knows its own step alone and stays as it is, and measures are what they say."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from broken import stop
from scipy import stats

from distill import load
from distill.cli.continual import carried_out, common_words, stream_of
from distill.continual.courses import Course, course, over_orders
from distill.continual.orders import blocks, order, seen
from distill.data.preprocessing import Preprocessing
from distill.data.real import load as load_data
from distill.evaluation.entry import Entry
from distill.evaluation.evaluate import evaluate
from distill.report.rows import Report
from distill.runs import continual as runs
from distill.runs.judging import bench, networks
from distill.sets.synthetic import SyntheticSet
from distill.sets.union import joined

QUICK = [
    "data=digits", "threads=1", "device=cpu", "workers=1", "compile=false", "protocol.recipe.epochs=3", "protocol.students=2",
    "student.convnet.width=4",
]  # fmt: skip
VALUES = {"steps": 5, "orders": 2, "method": "random", "ipc": 2, "out": "outputs"}
WORDS = [*QUICK, "steps=5", "orders=2", "ipc=2"]


@pytest.fixture
def digits():
    settings = {
        "root": "data",
        "strategy": "crop",
        "mean": [0.3],
        "std": [0.4],
        "zca": False,
        "val": 0.1,
        "download": False,
    }
    return load_data("digits", **settings)


def stream(**changes):
    values = {**VALUES, **dict(word.split("=") for word in QUICK), **changes}
    values = {name: int(value) if str(value).isdecimal() else value for name, value in values.items()}
    return stream_of(values, common_words({**values, "compile": False}))


def test_orders_are_those_of_numpys_legacy_generator():
    first = {
        0: [26, 86, 2, 55, 75, 93],
        1: [80, 84, 33, 81, 93, 17],
        2: [83, 30, 56, 24, 16, 23],
        3: [93, 67, 6, 64, 96, 83],
        4: [20, 10, 96, 16, 63, 24],
    }
    assert {number: order(number, 100)[:6] for number in range(5)} == first
    whole = blocks(3, 100, 5)
    assert [len(each) for each in whole] == [20] * 5 and sum(whole, []) == order(3, 100)


@pytest.mark.parametrize("steps", [3, 10])
def test_steps_share_the_classes_evenly_and_have_two_each(steps):
    with pytest.raises(ValueError, match=rf"10 classes in {steps} steps: .* steps of 1, 2, 5"):
        blocks(0, 10, steps)


def test_what_has_been_seen_has_the_images_of_its_classes_and_answers_of_all(digits):
    view = seen(digits, [7, 2], "digits so far")
    for split, whole in zip((view.train, view.val, view.test), (digits.train, digits.val, digits.test), strict=True):
        own = torch.isin(whole.labels, torch.tensor([2, 7]))
        assert torch.equal(split.labels, whole.labels[own]) and torch.equal(split.images, whole.images[own])
        assert split.num_classes == 10 and split.name == "digits so far"
    assert len({digits.hash, view.hash, seen(digits, [7, 3], "x").hash}) == 3
    assert seen(digits, [2, 7], "other").hash == view.hash  # classes as such, not their order


def test_a_union_so_far_refuses_other_spaces_and_classes_twice(digits):
    g = torch.Generator().manual_seed(0)
    part = SyntheticSet.from_real(digits.train, 1, g)
    raw = part.with_(images=torch.rand_like(part.images), preprocessing=Preprocessing("pixel01"))
    with pytest.raises(ValueError, match="more than one part of the union has class"):
        joined([part, part], digits.train.class_names)
    with pytest.raises(ValueError, match="a union is in space normalised:.*, pixel01:.*: expected one"):
        joined([part, raw], digits.train.class_names)
    with pytest.raises(ValueError, match="images of 9, which the data leave out"):
        joined([part], digits.train.class_names[:9])


def test_measures_are_those_of_their_definitions():
    nan = np.nan
    found = Course(np.array([0.9, 0.7, 0.5]), np.array([[0.9, nan, nan], [0.6, 0.8, nan], [0.7, 0.2, 0.6]]))
    assert (found.final, found.average) == pytest.approx((0.5, 0.7))
    assert found.forgetting == pytest.approx(
        ((0.9 - 0.7) + (0.8 - 0.2)) / 2
    )  # the last step's own classes are not in it
    better = Course(found.overall, np.array([[0.5, nan, nan], [0.6, 0.8, nan], [0.7, 0.9, 0.6]]))
    assert better.forgetting == pytest.approx(-0.1)
    assert Course(np.array([0.9]), np.array([[0.9]])).forgetting is None


def test_accuracy_of_a_step_weighs_its_classes_by_their_test_images(digits):
    names, counts = digits.test.class_names, digits.test.counts
    rows = [
        {"mean": 0.5, "accuracy_by_class": dict.fromkeys(names) | {"3": 1.0, "8": 0.0}},
        {"mean": 0.25, "accuracy_by_class": dict.fromkeys(names, 0.25)},
    ]
    found = course(rows, [[3, 8], [0, 1]], digits.test)
    assert found.blocks[0, 0] == pytest.approx(counts[3] / (counts[3] + counts[8])) and np.isnan(found.blocks[0, 1])
    assert found.blocks[1] == pytest.approx([0.25, 0.25]) and found.overall.tolist() == [0.5, 0.25]


def test_the_interval_is_over_orders():
    finals = [0.5, 0.6, 0.8]
    courses = [Course(np.array([0.9, each]), np.array([[0.9, np.nan], [0.9, each]])) for each in finals]
    mean, half = over_orders(courses, "final")
    low, high = stats.t.interval(0.95, 2, np.mean(finals), stats.sem(finals))
    assert (mean - half, mean + half) == pytest.approx((low, high))
    assert over_orders(courses[:1], "final") == (0.5, None)
    assert over_orders([Course(np.array([0.9]), np.array([[0.9]]))], "forgetting") is None


def test_a_memory_is_made_of_its_own_steps_classes_and_stays_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = stream()
    assert [found.memory("random", order, 0).cfg.seed for order in (0, 1)] == [0, 1]  # each order draws its own
    for step in range(5):
        train = found.memory("random", 1, step).real.train
        assert train.class_names == tuple(str(cls) for cls in found.blocks[1][step])

    stop(monkeypatch, runs, "evaluate", 4)
    with pytest.raises(RuntimeError, match="stopped"):
        carried_out(WORDS)
    files = [*tmp_path.rglob("synset.safetensors"), *(tmp_path / "outputs" / "rows").glob("*.json")]
    there = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}
    assert sum(path.suffix == ".json" for path in there) == 3 and len(there) == 5
    carried_out(WORDS)
    assert there == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in there}
    assert (
        len(list(tmp_path.rglob("synset.safetensors"))) == 10
        and len(list((tmp_path / "outputs/rows").glob("*.json"))) == 20
    )

    monkeypatch.setattr("distill.evaluation.measure.Measurement.measure", None)  # nothing is left to be trained
    carried_out(WORDS)
    told = json.loads((tmp_path / "outputs" / "continual" / "summary.json").read_text())
    assert list(told["memories"]) == ["random", "joint"] and [len(each) for each in told["orders"]] == [5, 5]
    first = told["memories"]["random"]["by_order"][0]
    assert [len(line) for line in first["blocks"]] == [1, 2, 3, 4, 5] and first["blocks"][0][0] == first["seen"][0]
    assert first["bytes"][-1] == 5 * first["bytes"][0]


def test_the_last_step_is_the_ordinary_cell_of_the_same_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = stream(orders=1)
    found.go()
    names = found.real.train.class_names
    union = found.memories("random", 0, 4, names)
    assert union.counts == (2,) * 10 and found.memories("random", 0, 0, names).counts == (0, 0, 2, 0, 0, 0, 0, 0, 2, 0)
    for image, cls in zip(union.images, union.classes, strict=True):  # its label is still that of the real image
        own = found.real.train.images[found.real.train.labels == cls]
        assert (own == image).flatten(1).all(1).any()
    line = found.whole
    entry, report = Entry([union], "ordinary", None), Report(tmp_path / "ordinary" / "report.json")
    evaluate(entry, line.real, networks(line), line.protocol(), report, bench(line, entry))
    rows = found.rows("random", 0)
    assert report.rows[0]["accuracies"] == rows[-1]["accuracies"] and rows[0]["accuracies"] != rows[-1]["accuracies"]
    joint = found.rows("joint", 0)
    assert [row["optimizer_steps"] for row in joint] == [row["optimizer_steps"] for row in rows]
    assert [row["images"] for row in joint] == [
        sum(found.real.train.counts[cls] for block in found.blocks[0][: step + 1] for cls in block) for step in range(5)
    ]


def test_test_images_of_classes_that_have_not_come_change_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = stream(orders=1)
    carried = [found.memory("random", 0, step) for step in range(5)]
    runs.carry_out(carried[0].run, carried[0].real, ("distill",))
    rows = []
    for place in ("before", "after"):
        entry, real, protocol = found.judged("random", 0, 0)
        report = Report(tmp_path / place / "report.json")
        evaluate(entry, real, networks(found.whole), protocol, report, bench(found.whole, entry))
        rows.append(report.rows[0])
        unseen = ~torch.isin(found.real.test.labels, torch.tensor(found.blocks[0][0]))
        images = torch.where(unseen[:, None, None, None], torch.zeros(()), found.real.test.images)
        found.real = replace(found.real, test=replace(found.real.test, images=images))
    assert rows[0]["accuracies"] == rows[1]["accuracies"]
    known = {name for name, value in rows[0]["accuracy_by_class"].items() if value is not None}
    assert known == {str(cls) for cls in found.blocks[0][0]}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([*WORDS, "steps=3"], "10 classes in 3 steps"),
        ([*WORDS, "steps=0"], "steps is 0, expected a whole number"),
        ([*WORDS, "orders=0"], "orders is 0, expected a whole number"),
        ([*WORDS, "ipc=1000"], "ipc is 1000, expected at most"),
        ([*WORDS, "ipc=[1,2]"], "ipc is"),
        ([*WORDS, "method=rendom"], "unknown method 'rendom': did you mean random"),
        ([*WORDS, "method=[random,rs2]"], "rs2 makes no set"),
        ([*WORDS, "synset=a"], "leave synset out"),
        ([*WORDS, "protocol=rded"], "asks teachers, who would know classes that have not come"),
        ([*WORDS, "protocol=ours"], "makes choices on the validation split, which is empty"),
        ([*WORDS, "protocol.recipe.lr=-1"], "lr is -1"),
        ([*WORDS, "memory=total"], "memory"),
    ],
)
def test_what_is_impossible_is_said_before_anything_is_made(tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    names = [word.partition("=")[0] for word in words]
    with pytest.raises(ValueError, match=said):
        carried_out([word for place, word in enumerate(words) if names[place] not in names[place + 1 :]])
    assert not (tmp_path / "outputs").exists()


def test_a_memory_file_is_a_set_that_any_command_takes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = stream(orders=1, seed=3)
    line = found.memory("random", 0, 2)
    runs.carry_out(line.run, line.real, ("distill",))
    memory = load(found.paths["random", 0, 2])
    assert memory.class_names == ("1", "6") and memory.record["seed"] == 3 and memory.counts == (2, 2)
