"""Accuracy under attacks and corruptions: of the very students that were judged, row by row, and on where it stopped."""

import json
import signal

import pytest
import torch
from conftest import write_npz
from test_line import line, succeeds  # noqa: F401

from distill.cli.robustness import settings_of
from distill.evaluation.conditions import chosen
from distill.evaluation.kept import load_student
from distill.files import load_tensors, save_tensors
from distill.report.rows import Report
from distill.runs import robustness as runs
from distill.runs.signals import Interrupted

NPZ = ["data=npz", "data.path=toy.npz", "data.name=toy", "data.val=0.2"]
JUDGED = [
    *NPZ, "method=random", "ipc=3", "syntheses=2", "draws=2", "protocol=dcb-none", "protocol.recipe.epochs=30",
    "protocol.recipe.lr=0.05", "protocol.students=2", "student.convnet.width=6", "device=cpu", "workers=1", "compile=false",
]  # fmt: skip
FEW = [
    "robustness.attacks=[fgsm,pgd]", "robustness.radii=[8,64]", "robustness.steps=5", "robustness.corruptions=[noise]",
    "robustness.strengths=[5]", "robustness.images=null",
]  # fmt: skip
CONDITIONS = ["clean", "fgsm 8", "fgsm 64", "pgd 8", "pgd 64", "noise 5"]


@pytest.fixture
def toy(line, tmp_path):  # noqa: F811
    """``toy("robustness.steps=1")``: the task on toy images, two methods' rows of 2 x 2 students each."""
    write_npz(tmp_path / "toy.npz")
    return lambda *words: line("robustness", *JUDGED, *FEW, *words)


def rows(folder):
    return Report(folder / "outputs" / "robustness" / "attacked" / "report.json").rows


def named(folder):
    """Rows by method and condition."""
    found = {}
    for row in rows(folder):
        strength = f" {row['condition']['strength']:g}" * (row["condition"]["strength"] > 0)
        found[row["method"], row["condition"]["name"] + strength] = row
    return found


@pytest.mark.parametrize("zca", [False, True])
def test_the_students_that_were_judged_are_attacked(toy, tmp_path, zca):
    succeeds(toy(f"data.zca={str(zca).lower()}"))
    judged = {row["method"]: row for row in Report(tmp_path / "outputs" / "report.json").rows}
    found = named(tmp_path)
    assert set(found) == {(method, each) for method in judged for each in CONDITIONS}
    for (method, each), row in found.items():
        assert row["clean"] == judged[method]["accuracies"] and len(row["clean"]) == 4  # all test images, so the same
        assert row["test_images"] == 30 and row["share"] == pytest.approx(sum(row["accuracies"]) / sum(row["clean"]))
        assert (
            all(under <= before for under, before in zip(row["accuracies"], row["clean"], strict=True))
            or "noise" in each
        )
    for method in judged:
        weak, strong = (found[method, f"pgd {radius}"]["mean"] for radius in (8, 64))
        assert strong < weak <= judged[method]["mean"] and strong <= found[method, "fgsm 64"]["mean"] + 1 / 30
    summary = json.loads((tmp_path / "outputs" / "robustness" / "summary.json").read_text())
    assert len(summary) == len(found)
    page = (tmp_path / "outputs" / "robustness" / "tables.md").read_text()
    assert "random real" in page and "under pgd" in page and "steps 5, restarts 1" in page


def test_what_is_measured_is_not_measured_again_and_other_conditions_are_added(toy, tmp_path, monkeypatch):
    succeeds(toy())
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("outputs/**/*.safetensors")}
    written = [row["written"] for row in rows(tmp_path)]
    succeeds(toy())
    assert [row["written"] for row in rows(tmp_path)] == written
    succeeds(toy("robustness.radii=[8,64,16]"))
    assert [row["written"] for row in rows(tmp_path)][:12] == written
    assert [row["condition"]["strength"] for row in rows(tmp_path)[12:]] == [16, 16, 16, 16]
    succeeds(toy("robustness.steps=6"))
    assert [row["condition"]["name"] for row in rows(tmp_path)[16:]] == ["pgd"] * 4
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_row_is_of_its_students_and_of_so_many_images():
    clean = settings_of({}).conditions()[0]

    def name(images, *accuracies):
        return Report.name(runs.planned(runs.Subject(None, {"accuracies": list(accuracies)}, ()), clean, range(images)))

    assert name(9, 0.5) == name(9, 0.5) and len({name(9, 0.5), name(10, 0.5), name(9, 0.6)}) == 3


def test_it_goes_on_where_it_was_killed(toy, tmp_path, monkeypatch):
    whole, calls = runs.correct, []

    def dies(*arguments):
        if len(calls) == 6:
            raise Interrupted(signal.SIGINT)
        calls.append(whole(*arguments))
        return calls[-1]

    monkeypatch.setattr(runs, "correct", dies)
    code, _, message = toy()
    assert code == 130 and "conditions, 1 of 6: the same command goes on from the last student" in message
    assert len(rows(tmp_path)) == 1  # four students on clean images, and two of the next row

    def counted(*arguments):
        calls.append(whole(*arguments))
        return calls[-1]

    monkeypatch.setattr(runs, "correct", counted)
    succeeds(toy())
    assert len(calls) == 2 * 4 * len(CONDITIONS) and len(rows(tmp_path)) == 2 * len(CONDITIONS)
    assert not list(tmp_path.glob("outputs/robustness/attacked/rows/unfinished*"))


def test_a_missing_student_is_trained_again_and_a_damaged_or_foreign_one_is_told(toy, tmp_path):
    succeeds(toy())
    before, paths = (
        [row["accuracies"] for row in rows(tmp_path)],
        sorted(tmp_path.glob("outputs/students/*/0-1.safetensors")),
    )
    student = load_student(paths[0])
    paths[0].unlink()
    succeeds(toy())
    assert [row["accuracies"] for row in rows(tmp_path)] == before
    assert all(
        torch.equal(a, b) for a, b in zip(student.parameters(), load_student(paths[0]).parameters(), strict=True)
    )
    tensors, record = load_tensors(paths[0])
    save_tensors(paths[0], tensors, {**record, "class_names": ["a", "b", "c"]})
    code, _, message = toy("robustness.radii=[3]")
    assert code == 1 and "is of class_names ['a', 'b', 'c'], expected ['c0', 'c1', 'c2']: delete it" in message
    paths[0].write_bytes(paths[0].read_bytes()[:100])
    code, _, message = toy("robustness.radii=[3]")
    assert code == 1 and "0-1.safetensors is truncated" in message and message.count("\n") <= 1


def test_what_another_process_was_making_is_shown_once_it_is_there(toy, tmp_path, monkeypatch):
    whole, calls = runs.subjects, []

    def late(line):  # noqa: F811
        calls.append(line)
        return list(whole(line))[: len(calls)]

    monkeypatch.setattr(runs, "subjects", late)
    succeeds(toy())
    page = (tmp_path / "outputs" / "robustness" / "tables.md").read_text()
    assert page.count("| random | 3 |") == page.count("| random real | 3 |") == 3


@pytest.mark.parametrize(
    "word, said",
    [
        ("robustness.radii=[-1]", "robustness.radii is [-1], expected a list, each item a number in (0, 255]"),
        ("robustness.steps=0", "robustness.steps is 0, expected a whole number"),
        ("robustness.step=1", "unknown value of robustness 'step': did you mean steps"),
        ("robustness=other", "unknown robustness 'other'"),
        ("robustness.loss=dlr", "unknown robustness.loss 'dlr': one of cross_entropy, margin"),
        ("robustness.strengths=[0]", "robustness.strengths is [0]"),
        ("synset=nowhere", "no synthetic set at nowhere"),
        ("protocl=dsa", "unknown value protocl: did you mean protocol?"),
    ],
)
def test_bad_input_is_told_before_anything_is_trained(toy, tmp_path, word, said):
    code, _, message = toy(word)
    assert code == 1 and said in message and not (tmp_path / "outputs").exists()


def test_nothing_to_stand_is_told(toy, tmp_path):
    code, _, message = toy("robustness.attacks=[]", "robustness.corruptions=[]")
    assert code == 1 and "are both empty" in message and not (tmp_path / "outputs").exists()


def test_the_chosen_images_have_their_classes_shares_and_fewer_are_some_of_them():
    labels = torch.tensor([0] * 500 + [1] * 300 + [2] * 200)[torch.randperm(1000)]
    few, more = chosen(labels, 100), chosen(labels, 400)
    assert torch.bincount(labels[few]).tolist() == [50, 30, 20] and torch.bincount(labels[more]).tolist() == [
        200,
        120,
        80,
    ]
    assert set(few.tolist()) < set(more.tolist()) and few.tolist() == sorted(few.tolist())
    assert chosen(labels.sort().values, 100)[:50].max() > 100  # not the first of each class
    assert chosen(labels, 5000).tolist() == list(range(1000)) and torch.equal(chosen(labels, 100), few)


def test_the_usual_conditions():
    found = [each.text for each in settings_of({}).conditions()]
    assert found[:9] == ["clean", "fgsm 1", "fgsm 2", "fgsm 4", "fgsm 8", "pgd 1", "pgd 2", "pgd 4", "pgd 8"]
    assert len(found) == len(set(found)) == 1 + 4 + 4 + 3 + 20
