"""The report page, as a file and in a real browser."""

import csv
import json
import re
import shutil
import time

import pytest
import torch
from conftest import preset
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.ticker import MaxNLocator

from distill.evaluation.entry import Entry, Network
from distill.evaluation.evaluate import evaluate
from distill.page.figures import Axis, round_ones, running_mean
from distill.page.made import metrics
from distill.page.written import write_page
from distill.report.rows import RANDOM, WHOLE, Published, Report, gap_to_published
from distill.report.table import lines, table
from distill.sets.coreset import Coreset
from distill.sets.synthetic import SyntheticSet
from distill.teachers.labels import Own


@pytest.fixture
def report(real, student, tmp_path) -> Report:
    """Rows of a method, of random real images and of the whole set; pictures and metrics beside them."""
    protocol = preset("dcb-none", epochs=2, lr=0.1, batch=16, labels=Own(False), students=2)
    home = tmp_path / "toy-mtt-ipc2-seed0"
    made = SyntheticSet.from_real(real.train, 2, torch.Generator().manual_seed(0))
    made = made.with_(images=made.images + 0.3 * torch.randn_like(made.images), lr=torch.tensor(0.02))
    made.save(
        home / "synset.safetensors", {"method": "mtt", "step": 40, "seed": 0, "config": {"ipc": 2, "name": "<b>"}}
    )
    for version, first, last in ((0, 0, 25), (1, 20, 40)):  # a run that was killed after 25 steps and went on from 20
        file = home / "metrics" / f"version_{version}" / "metrics.csv"
        file.parent.mkdir(parents=True)
        lines = [f"{step},{1 / (step + 1) + version},{0.01}" for step in range(first, last)]
        half = "" if version else "\n2,9"  # the kill cut the line of step 25
        file.write_text("step,matching_loss,student_rate\n" + "\n".join(lines) + (half or "\n"))
    report = Report(tmp_path / "report.json")
    near = "toy-mtt-ipc2-seed0/synset.safetensors"
    about = {"command": "python run.py method=mtt", "synsets": [near]}
    nets, number = {"convnet": Network(student)}, Published("46.2 ± 0.8", "", [])
    subset = Coreset(real.train, torch.cat([real.train.of_class(k)[1:3] for k in range(3)]))
    for entry in (
        Entry([made], "mtt", 2, about=about, published=number),
        Entry([subset], RANDOM, 2),
        Entry([Coreset.whole(real.train)], WHOLE, None),
    ):
        evaluate(entry, real, nets, protocol, report)
    return report


def test_the_page_stands_alone_and_shows_what_was_measured(report):
    table, page = write_page(report, [report], "python run.py task=report")
    html = page.read_text()
    assert (
        not re.search(r'(src|href)="(?!data:|#)', html)
        and "@import" not in html
        and "url(" not in html.replace("url(#", "")
    )
    for row in report.rows:
        assert f"{100 * row['mean']:.1f} ±" in html
    assert f"46.2 ± 0.8 ({gap_to_published(report.rows[0]):+.1f})" in html
    assert html.count("data:image/png") == 1 and html.count('class="strip') == 2
    assert "python run.py method=mtt" in html
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["mean"]) for row in rows] == [row["mean"] for row in report.rows]
    assert json.loads(rows[0]["accuracies"]) == report.rows[0]["accuracies"]


def test_curves_of_a_continued_run_hold_every_step_once(report, tmp_path):
    logged = metrics(tmp_path / "toy-mtt-ipc2-seed0")
    assert [row["step"] for row in logged] == list(range(40))
    assert [row["matching_loss"] > 1 for row in logged] == [False] * 20 + [True] * 20


def test_a_set_that_is_gone_leaves_its_row(report, tmp_path):
    shutil.rmtree(tmp_path / "toy-mtt-ipc2-seed0")
    _, page = write_page(report, [report], "")
    assert "data:image/png" not in page.read_text() and "mtt on toy" in page.read_text()


def test_many_runs_go_on_one_page(report, tmp_path):
    shutil.copytree(tmp_path, tmp_path.parent / "second", dirs_exist_ok=True)
    runs = [report, Report(tmp_path.parent / "second" / "report.json")]
    table, page = write_page(Report(tmp_path / "both" / "report.json"), runs, "")
    html = page.read_text()
    assert html.count("<tr data-") == 6 and html.count("data:image/png") == 2
    assert f'<td class="text">{tmp_path.name}</td>' in html and '<td class="text">second</td>' in html


def test_a_set_that_two_runs_judged_is_shown_once(report, tmp_path):
    again = Report(tmp_path / "again" / "report.json")
    row = report.rows[0]
    again.add({**row, "synsets": [f"../{row['synsets'][0]}"]})
    _, page = write_page(Report(tmp_path / "both" / "report.json"), [report, again], "")
    assert page.read_text().count("data:image/png") == 1


def row(**changes):
    values = dict(
        method="datm", data="toy", ipc=1, student="convnet", protocol="datm", labels="own", selection="last", accuracies=[0.5],
        mean=0.5, sd=None, ci95=0.01, syntheses=1, students=1, seconds=1.0, published=None, command="run", synsets=[], seed=0,
    )  # fmt: skip
    return {**values, **changes}


def test_two_protocols_of_one_name_with_different_changes_look_different():
    changes = [["epochs 1000 -> 2"], ["epochs 1000 -> 2", "students 5 -> 1"], ["epochs 1000 -> 2"], []]
    seen = lines([row(protocol="datm+" if each else "datm", protocol_changes=each) for each in changes])
    assert [cells["protocol"] for cells in seen.cells] == ["datm+1", "datm+2", "datm+1", "datm"]
    assert seen.notes == ["datm+1: epochs 1000 -> 2", "datm+2: epochs 1000 -> 2, students 5 -> 1"]


def test_data_of_one_name_that_are_not_the_same_look_different():
    data = [("toy", {"data_hash": "aa"}), ("toy", {"data_hash": "bb"}), ("toy", {}), ("other", {"data_hash": "cc"})]
    seen = lines([row(data=name, **more) for name, more in [*data, data[0]]])
    assert [cells["data"] for cells in seen.cells] == ["toy #1", "toy #2", "toy #3", "other", "toy #1"]
    assert ["hash aa" in seen.notes[0], "hash bb" in seen.notes[1], "before" in seen.notes[2]] == [True] * 3
    assert lines([row(), row()]).cells[0]["data"] == "toy" and not lines([row()]).notes
    assert lines([row(protocol="rd3", assumed=["area", "students"])] * 2).notes == ["rd3: assumed are area, students."]


def test_a_published_number_has_a_gap_beside_its_own_cell_alone(tmp_path):
    own, other = (Published("66.8 ± 0.2", "datm_cifar10_ipc10", each) for each in ([], ["ipc 10 -> 1"]))
    report = Report(tmp_path / "report.json")
    report.rows = [
        row(**own.fields([])),
        row(**other.fields([])),
        row(**own.fields(["step 3 of 9"])),
        row(published="66.8"),
    ]
    seen = lines(report.rows)
    assert [cells["published"] for cells in seen.cells] == [
        "66.8 ± 0.2 (-16.8)",
        "66.8 ± 0.2 [1]",
        "66.8 ± 0.2 [2]",
        "66.8",
    ]
    assert seen.notes[1] == "[1] of the unchanged datm_cifar10_ipc10, no gap: ipc 10 -> 1"
    shown = table(report)
    assert [str(cell.style) for cell in shown.columns[seen.columns.index("published")].cells] == ["", "dim", "dim", ""]
    assert "± of a published number: its standard deviation" in str(shown.caption)
    sheet, page = write_page(report, [report], "")
    html = page.read_text()
    assert html.count('class="published grey"') == 2 and "td.grey {" in html and html.count("<u ") == 1
    assert "± of a published number: its standard deviation" in html
    with sheet.open() as file:
        said = [(each["published_of"], each["cell_changed"]) for each in csv.DictReader(file)]
    assert said[:3] == [("datm_cifar10_ipc10", "False"), ("datm_cifar10_ipc10", "True"), ("datm_cifar10_ipc10", "True")]


def test_a_set_that_was_cut_is_marked_and_balanced_accuracy_is_shown_where_it_differs():
    even = row(balanced_accuracy=0.5, finished=False, cut=["step 150 of 2000"])
    assert lines([even]).cells[0]["method"] == "datm, step 150 of 2000" and "balanced" not in lines([even]).columns
    seen = lines([even, row(balanced_accuracy=0.25), row()])
    assert [cells["balanced"] for cells in seen.cells] == ["50.0", "25.0", ""] and "balanced" in seen.columns


def test_a_page_of_many_data_sets_and_rows_is_made_at_once(tmp_path):
    report = Report(tmp_path / "report.json")
    report.rows = [row(data=f"d{i // 4}") for i in range(2000)]
    before = time.perf_counter()
    _, page = write_page(report, [report], "")
    assert time.perf_counter() - before < 20 and page.stat().st_size < 5e6  # a second; subplots took seven minutes
    assert page.read_text().count('class="plot later"') == 500


def test_a_damaged_set_is_named_on_a_page_that_shows_the_rest(report, tmp_path):
    (tmp_path / "toy-mtt-ipc2-seed0" / "synset.safetensors").write_bytes(b"half")
    _, page = write_page(report, [report], "")
    assert "not readable" in page.read_text() and "truncated" in page.read_text()


def test_places_are_percents_of_an_axis_with_round_ticks():
    axis = Axis.over([20.0, 70.0])
    assert (axis(axis.low), axis(axis.high), axis(45.0)) == (0, 100, 50) and axis.low < 20 < 70 < axis.high
    assert [told for _, told in axis.ticks] == ["20", "40", "60"]
    assert Axis.over([0.0]).ticks and Axis.over([3.0, 3.0]).ticks  # one value has an axis, too
    assert Axis.over([-1e308, 1e308]).ticks == []


@given(st.floats(-1e3, 1e3), st.floats(1, 1e6))
def test_ticks_are_few_and_those_of_matplotlib_but_for_the_very_ends(low, length):
    def inside(ticks):
        return [each for each in ticks if low + 1e-6 * length < each < low + length - 1e-6 * length]

    ticks, theirs = round_ones(low, low + length), MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, low + length)
    assert len(ticks) <= 6 and inside(ticks) == pytest.approx(inside(theirs), abs=1e-9 * length)
    assert len(round_ones(low - 0.04 * length, low + 1.04 * length)) >= 2  # an axis leaves room


def test_a_running_mean_is_over_what_there_is():
    assert running_mean([1.0, 3.0, 5.0, 7.0], 2) == [1, 2, 4, 6]


@pytest.mark.parametrize(
    "published, gap", [("46.2 ± 0.8", -6.2), ("54.5 ± 0.5 recalled", -14.5), ("70.7 recalled", -30.7), (None, None)]
)
def test_the_gap_is_to_the_published_mean_however_sure_it_is(published, gap):
    assert gap_to_published({"mean": 0.4, "published": published, "cell_changed": False}) == (
        gap if gap is None else pytest.approx(gap)
    )
