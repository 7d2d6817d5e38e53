"""Suites of label regimes: gaps to random images, the same teachers and as many steps for all, and a run on digits."""

import json

import numpy as np
import pytest
from test_ddranking import row
from test_suites import read

from distill.cli.artefacts import values_of
from distill.cli.suites import carried_out
from distill.report.differences import difference
from distill.report.rows import Report
from distill.runs.composed import compose
from distill.runs.suite import Job
from distill.runs.suited import run_of, suite_of

LABELS = suite_of("labels", {})
TOY = [
    "suite=labels", "data=digits", "ipc=1", "method=[kmeans]", "draws=2", "protocol.students=2", "suite.students=[convnet]",
    "protocol.recipe.epochs=2", "student.convnet.width=4", "proxies.recipe.epochs=1", "workers=1", "threads=1", "device=cpu",
    "compile=false", "teachers.networks=[convnet_bn]", "teachers.recipe.epochs=1", "teachers.minimum=0",
]  # fmt: skip


def test_a_gap_is_welchs_difference_and_of_what_both_have():
    name = LABELS.scores[0]
    ours, theirs = [0.5, 0.52, 0.49], [0.4, 0.43, 0.41, 0.38]
    rows, random = {name: row(ours), "SL convnet": row(ours)}, {name: row(theirs)}
    found, apart = LABELS.score(rows, random), difference(np.array(ours), np.array(theirs))
    assert found.pop(name) == apart.mean and set(found.values()) == {None}
    assert LABELS.intervals(rows, random) == {name: (apart.low, apart.high)}
    assert set(LABELS.score(random, {}).values()) == {None}  # random images themselves


@pytest.mark.parametrize("suite", ["labels", "rth"])
def test_all_sets_meet_the_same_teachers_and_every_regime_composes(suite, tmp_path, monkeypatch):
    """RDED's own teachers label its sets elsewhere; here they would be told other things than random images."""
    monkeypatch.chdir(tmp_path)
    more = ["suite.students=[mlp]", "teachers.networks=[convnet_bn]", "draws=1", "device=cpu", "threads=1"]
    run = run_of(values_of([f"suite={suite}", "data=digits", "ipc=1", "method=rded", *more]))
    asked = 0
    for subject in run.subjects:
        for cell in run.suite.cells({}, subject.name):
            line = run.line(Job(subject, cell))
            assert line.judges is None or line.judges.networks == ["convnet_bn"]
            assert len(line.protocol().plan(False, False)) == 1  # no hard labels beside: they are a cell of their own
            asked += line.judges is not None
    assert asked == (4 if suite == "labels" else 2)


def test_one_label_an_image_is_a_teachers_at_temperature_four_squared():
    labels = compose("data=digits", *LABELS.regimes["SL"]).cfg.protocol.labels
    told = (labels._target_.rpartition(".")[2], labels.temperature, labels.squared, labels.twin)
    assert told == ("Once", 4.0, True, False)


def test_all_regimes_take_as_many_steps_whatever_the_size():
    from hydra.utils import instantiate

    words = LABELS.regimes.values()
    recipes = [instantiate(compose("data=digits", *each).cfg.protocol, _convert_="all").recipe for each in words]
    for images in (10, 600):
        assert len({recipe.with_(batch=min(recipe.batch, images)).updates(images) for recipe in recipes}) == 1


def test_the_suite_tells_gaps_and_what_labels_take(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = carried_out([*TOY, "plan=true"])
    carried_out(TOY)
    folder = tmp_path / "outputs" / "suite" / "labels"
    random, kmeans = json.loads((folder / "summary.json").read_text())["scores"]
    means = {
        (each["method"], each["labels"]): each["mean"] for each in Report(tmp_path / "outputs" / "report.json").rows
    }
    for name, labels in (("HL", "hard"), ("SL", "once"), ("SL+KD", "on_the_fly")):
        assert random[f"{name} convnet"] is None
        assert kmeans[f"{name} convnet"] == pytest.approx(means["kmeans", labels] - means["random", labels])
    assert len(means) == 6
    takes = {line.split()[0]: line.split(", ")[-1].split()[0] for line in plan if line.startswith("kmeans-ipc1-")}
    names = [f"kmeans-ipc1-{regime}" for regime in LABELS.regimes]
    planned = [takes[name] for name in names]  # int64; ten of fp32; none
    assert (
        ["kmeans", "1", *planned] == read(folder / "tables", "label-bytes.csv")[2] == ["kmeans", "1", "80", "400", "0"]
    )
    assert sum("before: 1 teachers convnet_bn of 1 epochs" in line for line in plan) == 1
    from distill.runs import suite as runs

    monkeypatch.setattr(runs, "carry_out", None)
    carried_out(TOY)  # goes on: nothing is left
