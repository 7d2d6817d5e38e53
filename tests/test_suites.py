"""A suite is cells and scores over their rows: its arithmetic, what it chooses on, and that it goes on where it stopped."""

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from broken import unlucky_cells
from test_line import line, succeeds  # noqa: F401

from distill.api import load_data
from distill.benchmark import run_suite
from distill.cli.artefacts import values_of
from distill.cli.suites import carried_out
from distill.report.rows import Report
from distill.runs import ahead, outside
from distill.runs.composed import compose
from distill.runs.line import Line
from distill.runs.progress import Shown
from distill.runs.suited import data_of, run_of, subjects, suite_of
from distill.sets.synthetic import SyntheticSet
from distill.suites.base import RANDOM, Subject, mean
from distill.suites.tables import cells, random_beside, scores

BENCH = suite_of("dc-bench", {"transfer": ["mlp", "alexnet"]})
PAPER = suite_of("dc-bench", {"transfer": ["mlp", "alexnet"], "mode": "paper"})
TEST = {"none": 0.5, "dsa": 0.7, "autoaug": 0.6, "randaug": 0.65, "imagenet_aug": 0.55, "mlp": 0.2, "alexnet": 0.4}
VAL = {"none": 0.5, "dsa": 0.6, "autoaug": 0.62, "randaug": 0.62, "imagenet_aug": 0.1}
TOY = [
    "suite=dc-bench", "data=digits", "ipc=1", "method=[random,kmeans]", "draws=2", "protocol.students=1",
    "protocol.recipe.epochs=2", "student.convnet.width=4", "proxies.recipe.epochs=1", "workers=1", "threads=1", "device=cpu",
    "compile=false", "suite.transfer=[mlp]", "suite.beside={}", "suite.augmentations={none:dcb-none,dsa:dcb-dsa}",
]  # fmt: skip


def rows(names):
    return {
        name: {
            "mean": TEST[name],
            "accuracies": [TEST[name]],
            "selection": "last",
            "validation_accuracies": [VAL.get(name, 0.0)],
        }
        for name in names
    }


def test_best_is_chosen_on_validation_and_of_equals_the_first_or_on_test_as_the_paper_does():
    scores = BENCH.score(rows(TEST), {})
    assert BENCH.best(rows(TEST)) == "autoaug" and scores["best"] == 0.6
    assert PAPER.best(rows(TEST)) == "dsa" and PAPER.score(rows(TEST), {})["best"] == 0.7
    assert scores["avg"] == pytest.approx((0.5 + 0.7 + 0.6 + 0.65 + 0.55) / 5)
    assert scores["avg but none"] == pytest.approx((0.7 + 0.6 + 0.65 + 0.55) / 4)
    assert scores["transfer"] == pytest.approx(0.3) and scores["spread"] == pytest.approx(0.2)


def test_random_images_that_stand_beside_a_set_are_as_many():
    few, many, ours = (Subject(name, size, ()) for name, size in ((RANDOM, "1"), (RANDOM, "10"), ("dm", "10")))
    judged = {few: {"of": "one"}, many: {"of": "ten"}, ours: {}}
    assert random_beside(ours, judged) == {"of": "ten"}
    assert random_beside(many, judged) == {} == random_beside(Subject("dm", "5", ()), judged)


def test_no_score_is_made_of_fewer_rows_than_it_has():
    without_one = rows(name for name in TEST if name not in ("randaug", "mlp"))
    assert BENCH.score(without_one, {}) == dict.fromkeys(BENCH.scores)
    assert mean([1.0, None]) is None
    only_first = BENCH.score(rows(VAL), {})
    assert only_first["transfer"] is None and only_first["best"] == 0.6


def test_other_networks_wait_for_the_augmentation_and_are_judged_under_it():
    cells = {cell.name: cell for cell in BENCH.cells({}, "kmeans")}
    assert list(cells) == [*BENCH.augmentations, "cifar_aug", "mlp", "alexnet"]
    assert [name for name, cell in cells.items() if not cell.sure] == ["mlp", "alexnet"]
    known = {cell.name: cell for cell in BENCH.cells(rows(VAL), "kmeans")}
    assert known["mlp"].sure and (known["mlp"].student, known["mlp"].stated) == ("mlp", ("protocol=dcb-autoaug",))


def test_random_images_of_each_size_are_not_optional():
    asked = subjects({"ipc": [1, 10], "method": ["kmeans", "random"], "draws": 3})
    assert [(each.name, each.size) for each in asked] == [
        ("random", "1"),
        ("random", "10"),
        ("kmeans", "1"),
        ("kmeans", "10"),
    ]
    assert "syntheses=3" in asked[0].stated and "syntheses=1" in asked[2].stated


def read(folder, name):
    with (folder / name).open() as file:
        return list(csv.reader(file))


def test_a_suite_goes_on_where_it_stopped_and_a_failed_cell_is_tried_again(line, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    plan = carried_out([*TOY, "plan=true"])
    assert len(plan) == 7 and "before: 1 proxies convnet of 1 epochs" in plan[0]
    assert plan[-2] == "and 2 cells that these rows decide" and plan[-1].startswith("4 cells are left: ")
    assert not (tmp_path / "outputs").exists()

    from distill.runs import suite as runs

    whole, broken = runs.carry_out, unlucky_cells(monkeypatch, "protocol=dcb-dsa")
    carried_out(TOY)
    folder = tmp_path / "outputs" / "suite" / "dc-bench"
    summary = json.loads((folder / "summary.json").read_text())
    assert set(summary["failed"].values()) == {"out of luck"} and len(summary["failed"]) == 2
    assert all(each["best"] is None and each["avg"] is None for each in summary["scores"])
    there = {path: path.stat().st_mtime_ns for path in (tmp_path / "outputs" / "rows").glob("*.json")}
    assert len(there) == 2
    broken.clear()
    carried_out(TOY)
    assert all(path.stat().st_mtime_ns == when for path, when in there.items())
    summary = json.loads((folder / "summary.json").read_text())
    assert not summary["failed"] and summary["scores"][0].pop("best less random's") is None
    assert all(None not in each.values() for each in summary["scores"])
    rows = [json.loads(path.read_text()) for path in (tmp_path / "outputs" / "rows").glob("*.json")]
    done = [each["operations"] * each["syntheses"] * each["students"] for each in rows if each["student"] == "convnet"]
    told = [float(re.search(r"(\S+) TFLOP", line)[1]) for line in plan if line.endswith(", 80 bytes of labels")]
    assert len(told) == 4 and sum(told) * 1e12 == pytest.approx(sum(done), rel=0.01)
    assert {each["label_bytes"] for each in rows} == {80}
    random, kmeans = summary["scores"]
    table = read(folder / "tables", "dc-bench.csv")
    assert table[0] == ["method", "ipc", *BENCH.scores]
    assert float(table[2][-1]) == pytest.approx(100 * (kmeans["best"] - random["best"]), abs=0.01)
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "outputs").rglob("*.safetensors")}
    monkeypatch.setattr(runs, "carry_out", None)  # nothing is left to be carried out
    carried_out(TOY)
    assert made == {path: path.stat().st_mtime_ns for path in made}
    paths = [str(tmp_path / "outputs" / f"digits-random-ipc1-seed{seed}") for seed in (0, 1)]
    monkeypatch.setattr(runs, "carry_out", whole)
    given = [word for word in TOY if not word.startswith(("ipc", "method"))]
    before = set((tmp_path / "outputs" / "rows").glob("*.json"))
    carried_out([*given, f"synset=[{','.join(paths)}]"])  # the same sets: the same rows
    assert set((tmp_path / "outputs" / "rows").glob("*.json")) == before


SHORT = [
    *(word for word in TOY if not word.startswith(("suite", "method"))), "method=random", "teachers.networks=[convnet_bn]",
    "teachers.recipe.epochs=1", "teachers.minimum=0",
]  # fmt: skip


@pytest.mark.parametrize(
    "own",
    [
        [word for word in TOY if word.startswith("suite")],
        ["suite=ddranking", "suite.rates=[0.01,0.05]", "suite.widen=null"],
        ["suite=labels", "suite.students=[convnet]"],
        ["suite=rth", "suite.student=convnet", "suite.students=[convnet]"],
    ],
    ids=lambda own: own[0],
)
def test_the_test_split_is_read_once_for_each_student_that_is_reported(own, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from distill.evaluation import trial

    whole, read = trial.hits, []

    def noted(net, split, *more):
        read.append((net, split))  # keeps the network: no other has its id
        return whole(net, split, *more)

    monkeypatch.setattr(trial, "hits", noted)
    carried_out([*own, *SHORT])
    test = len(load_data("digits").test)
    finals = [id(net) for net, split in read if len(split) == test]
    assert (
        len(finals)
        == len(set(finals))
        == sum(len(row["values"]) for row in Report(Path("outputs/report.json")).rows)
        > 0
    )


def test_random_images_are_of_the_sets_own_data_and_space(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for zca in (False, True):
        real = load_data("digits", zca=zca)
        own = {"method": "dm", "choices": {"data": "digits"}, "config": {"data": {"zca": zca}}}
        made = SyntheticSet.from_real(real.train, 1, torch.Generator().manual_seed(0))
        made.with_(record={**made.record, **own}).save(tmp_path / f"{zca}.safetensors")
    words = ["suite=labels", "suite.students=[mlp]", "device=cpu", "draws=1", "out=o"]
    assert "data=digits" in run_of(values_of([*words, "synset=False.safetensors"])).common
    run = run_of(values_of([*words, "synset=True.safetensors"]))
    with pytest.raises(
        ValueError, match="dm-ipc1 lives in space zca, random images in normalised: state data.zca=true"
    ):
        run.check()
    run_of(values_of([*words, "synset=True.safetensors", "data.zca=true"])).check()
    other = made.with_(record={**made.record, **own, "choices": {"data": "mnist"}})
    with pytest.raises(ValueError, match="the sets are of digits and mnist"):
        data_of([made.with_(record={**made.record, **own}), other])


def test_rates_that_are_tried_are_work_that_is_foreseen():
    words = ["data=digits", "method=random", "ipc=2", "baselines=[]", "protocol.students=3", "device=cpu"]

    def students(*more):
        (work,) = ahead.students(Line(compose(*words, *more), Shown()))
        return work

    fixed, chosen = students("protocol=dcb-dsa"), students("protocol=ddr")
    assert (fixed.units, fixed.images) == (3, 3 * 1001 * 20)
    assert (chosen.units, chosen.images) == (3 + 5, (3 + 5) * 1000 * 20)  # each of five rates once


def test_what_the_disk_has_no_room_for_is_told_and_nothing_starts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from distill.runs import foreseen as runs

    asked = []

    def nearly_full(path):
        asked.append(path)
        return SimpleNamespace(free=1)

    monkeypatch.setattr(runs, "disk_usage", nearly_full)
    plan = carried_out([*TOY, "plan=true", "out=a/b"])
    assert sum(each.startswith("cannot fit: labels take about 0.0 GB") for each in plan) == 1
    assert set(asked) == {tmp_path}  # the nearest folder that there is
    with pytest.raises(ValueError, match="nothing was started: labels take .* are free at a/b: choose another out=DIR"):
        carried_out([*TOY, "out=a/b"])
    assert not (tmp_path / "a").exists()
    monkeypatch.setattr(runs, "disk_usage", shutil.disk_usage)
    assert not any(each.startswith("cannot fit") for each in carried_out([*TOY, "plan=true"]))


def test_from_python_what_is_no_set_or_of_another_space_is_refused_and_nothing_written(tmp_path):
    real = load_data("digits")
    white = SyntheticSet.from_real(load_data("digits", zca=True).train, 1, torch.Generator().manual_seed(0))
    for given, said in (("outputs", "'outputs' is no set"), ([white], "lives in"), (white, "lives in")):
        with pytest.raises(ValueError, match=said):
            run_suite("labels", given, real, out=tmp_path / "o")
    with pytest.raises(ValueError, match="unknown suite 'lables': did you mean labels"):
        run_suite("lables", [], real, out=tmp_path / "o")
    with pytest.raises(ValueError, match=r"put together by hand"):
        run_suite("labels", [], replace(real, stated=()))
    assert not (tmp_path / "o").exists()


def test_a_plan_names_every_input_that_is_missing_and_without_it_nothing_starts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["suite=labels", "data=digits", "synset=[a,b]", "device=cpu"]
    plan = carried_out([*words, "plan=true"])
    assert [each.partition(":")[0] for each in plan[:2]] == ["missing", "missing"] and plan[-1].startswith("0 cells")
    with pytest.raises(
        FileNotFoundError, match="nothing was started, 2 inputs are missing: no synthetic set at a.*; no"
    ):
        carried_out(words)
    plan = carried_out(["suite=dc-bench", "data=npz", "data.path=nowhere.npz", "method=kmeans", "plan=true"])
    assert sum(each.startswith("missing: ") for each in plan) == 1  # of both
    assert not list(tmp_path.iterdir())


def test_a_set_that_cannot_be_made_stops_no_other_and_its_cells_are_not_tried(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from distill.runs import suite as runs

    whole, asked = runs.carry_out, []

    def breaks(run, real, arrows):
        asked.append((run.choices["method"], arrows))
        if run.choices["method"] == "kmeans":
            raise RuntimeError("no cluster")
        return whole(run, real, arrows)

    monkeypatch.setattr(runs, "carry_out", breaks)
    carried_out(TOY)
    summary = json.loads((tmp_path / "outputs" / "suite" / "dc-bench" / "summary.json").read_text())
    assert summary["failed"] == {"kmeans-ipc1": "no cluster"}
    random, kmeans = summary["scores"]
    assert None not in [random[name] for name in BENCH.scores[:-1]] and kmeans["best"] is None
    assert [arrows for method, arrows in asked if method == "kmeans"] == [("experts", "distill")]


def test_shards_share_the_cells_and_a_row_that_another_process_makes_is_left_to_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from distill.runs import suite as runs

    tried = {}
    for index in (0, 1):
        run = run_of(values_of(TOY))
        run.check()
        monkeypatch.setattr(run, "find_sets", lambda subject, make: None)
        own = tried.setdefault(index, [])
        monkeypatch.setattr(
            runs, "carry_out", lambda run, real, arrows, own=own: own.append(run.stated)
        )  # leaves no row
        run.go(index, 2)
    assert len(tried[0]) == len(tried[1]) == 2 and not {*map(str, tried[0])} & {*map(str, tried[1])}


def test_workers_elsewhere_judge_cells_side_by_side_and_what_fails_there_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from distill.engines.local import Local

    found = {}
    for name, here in (("one", True), ("many", False)):
        monkeypatch.setattr(Local, "here", here)
        run = run_of(
            values_of([*TOY, "method=[random]", "suite.transfer=[]", f"out={name}", f"workers={1 if here else 2}"])
        )
        run.check()
        run.go()
        assert not run.failed
        found[name] = {
            each["protocol"]: each["accuracies"] for rows in map(run.rows, run.subjects) for each in rows.values()
        }
    assert found["one"] == found["many"] and len(found["one"]) == 2

    monkeypatch.setattr(outside, "alone", lambda words, own=outside.alone: [*own(words), "protocol.recipe.epochs=-1"])
    run = run_of(values_of([*TOY, "method=[random]", "suite.transfer=[]", "out=third", "workers=2"]))
    run.check()
    run.go()
    assert len(run.failed) == 2 and all("epochs" in why for why in run.failed.values())


def test_what_the_test_split_picked_has_a_dagger_and_the_releases_spread():
    values = [0.5, 0.6, 0.7]
    subject, there = (
        subjects({"ipc": 1})[0],
        {name: {**row, "values": values, "ci95": 0.25} for name, row in rows(TEST).items()},
    )
    for suite, mark, spread in ((BENCH, "", "25.0"), (PAPER, "†", "8.2")):  # 8.2: of n; of n - 1 it were 10.0
        (told,) = scores(suite, "dc-bench", {subject: there}).rows
        assert [cell.mark for cell in told[2:]] == [mark] * 5 + [""]  # nothing stands beside random images
        every = cells(
            suite, "dc-bench", {subject: {n: {**r, "syntheses": 1, "students": 3} for n, r in there.items()}}, {}
        )
        assert {(cell.mark, cell.text.partition(" ± ")[2]) for cell in every.rows[0][2:] if cell.text != "–"} == {
            (mark, spread)
        }
        assert ("interval" in every.notes[0]) != bool(mark)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([*TOY, "shard=[2,2]"], "shard is [2, 2], expected [i, n] with 0 <= i < n"),
        (["suite=dcbench"], "unknown suite 'dcbench': did you mean dc-bench"),
        ([*TOY, "data.val=0"], "chooses an augmentation on the validation split, and data.val is 0"),
        ([*TOY, "suite.mod=paper"], "unknown value of the suite 'mod': did you mean mode"),
        ([*TOY, "mode=theirs"], "unknown suite.mode 'theirs': one of ours, paper"),
        ([*TOY, "ipc=1000"], "expected at most"),
        ([*TOY, "seed=first"], "seed is 'first', expected a whole number"),
        ([*TOY, "draws=many"], "draws is 'many', expected a whole number"),
        (["suite=ddranking", "suite.own={dm: []}"], "suite.own is {'dm': []}, expected a map"),
        (["suite=ddranking", 'suite.own={dm: ["protocol=dsa"]}'], "suite.own has no others"),
        (["suite=ddranking", "mode=paper"], "unknown value of the suite 'mode'"),
        (["suite=ddranking", "suite.weight=50"], "suite.weight is 50, expected a number in [0, 1]"),
    ],
)
def test_what_is_impossible_is_said_before_anything_is_trained(tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    names = [word.partition("=")[0] for word in words]
    with pytest.raises(ValueError) as error:
        carried_out([word for place, word in enumerate(words) if names[place] not in names[place + 1 :]])
    assert said in str(error.value) and not (tmp_path / "outputs").exists()
