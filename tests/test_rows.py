"""Rows as files: processes add them to one folder at once; those of earlier versions are among them."""

import json
import os
import shutil
import sys
import time
from pathlib import Path

import pytest
from conftest import load_npz, write_npz
from test_evaluate import judged, protocol, subset
from test_faults import forked
from test_integrity import ROW

from distill.evaluation import trial
from distill.files import digest, read_record, write_record
from distill.networks.convnet import ConvNet
from distill.report.rows import Report
from distill.report.unfinished import Unfinished

FORMER = Path(__file__).parent / "former" / "run"


def net():
    return ConvNet((3, 8, 8), 3, depth=2, width=6, norm="instance", pooling="avg", activation="relu")


def judge(folder, number, of):
    """A process: the same rows as ``of - 1`` others, begun at another one; it says how many students it trained."""
    trained, original = [], trial.train
    trial.train = lambda *a, **k: trained.append(1) or original(*a, **k)
    sys.stderr = open(folder / f"said_{number}", "w", buffering=1)  # noqa: SIM115  # as long as the process
    real, report = load_npz(folder / "toy.npz"), Report(folder / "out" / "report.json")
    (folder / f"ready_{number}").touch()
    while len(list(folder.glob("ready_*"))) < of:
        time.sleep(0.01)
    for i in range(of):
        which = (number + i) % of
        judged(subset(real, which), real, {"a": net, "b": net}, protocol(epochs=2), report, method=f"m{which}")
    seen = [row["method"] for row in report.rows]
    (folder / f"did_{number}").write_text(json.dumps([len(trained), seen]))


def test_four_processes_add_rows_at_once_and_none_is_lost_or_made_twice(tmp_path):
    write_npz(tmp_path / "toy.npz")
    processes = [forked(judge, tmp_path, number, 4) for number in range(4)]
    for process in processes:
        process.join(300)
        assert process.exitcode == 0, (tmp_path / f"said_{processes.index(process)}").read_text()
    report = Report(tmp_path / "out" / "report.json")
    assert sorted((row["method"], row["student"]) for row in report.rows) == [
        (f"m{i}", name) for i in range(4) for name in "ab"
    ]
    assert read_record(report.path, "") == {"rows": report.rows}  # the last to write had them all
    did = [json.loads((tmp_path / f"did_{number}").read_text()) for number in range(4)]
    assert sum(trained for trained, _ in did) == 8 * protocol().students
    assert all(len(set(seen)) > 1 for _, seen in did)  # the others' rows, too
    left = "".join((tmp_path / f"said_{number}").read_text() for number in range(4)).splitlines()
    assert all(line.startswith("left to another process that is making it") for line in left)
    files = os.listdir(report.folder)
    assert sorted(files) == sorted(f"{report.name(row)}.json" for row in report.rows)  # no lock, no unfinished students


def test_a_row_that_another_process_makes_is_left_to_it_with_one_line(real, tmp_path, capsys):
    def rows_of(*names):
        report = Report(tmp_path / "report.json")
        judged(subset(real), real, dict.fromkeys(names, net), protocol(epochs=1), report)
        return [row["student"] for row in report.rows]

    report = Report(tmp_path / "report.json")
    rows_of("a")
    (row,) = Report(tmp_path / "report.json").rows
    key = {**row, "student": "b"}
    with report.making(key) as held:
        assert held is not None
        assert rows_of("a", "b", "c") == ["a", "c"]
        said = capsys.readouterr().err
        assert said == "left to another process that is making it, for the same report: m ipc 3 b\n"
    assert rows_of("a", "b", "c") == ["a", "c", "b"] and not capsys.readouterr().err


def test_students_that_any_process_of_a_crew_trained_are_known_to_whoever_goes_on(tmp_path):
    report = Report(tmp_path / "report.json")
    before = Unfinished(report.folder / f"unfinished_{report.name(ROW)}.json")
    for rank, student in enumerate("ab"):  # each has a file that no other writes
        Unfinished(before.path).keep({student: [rank]}, {}, 1.0 + rank, device=f"card {rank}", peak_bytes=7 - rank)
    assert before.has(["a"]) and not before.has(["a", "c"]) and before.hits == {"a": [0]}
    with report.making(ROW) as unfinished:
        assert unfinished.hits == {"a": [0], "b": [1]} and unfinished.spent == 2.0
        assert unfinished.devices == {"card 0", "card 1"} and unfinished.peak_bytes == 7
        report.add(ROW)
    assert not list(report.folder.glob("unfinished*"))


def test_the_rows_of_an_earlier_version_become_files_with_the_first_that_is_added(tmp_path):
    shutil.copy(FORMER / "report.json", tmp_path / "report.json")
    before = (tmp_path / "report.json").read_bytes()
    old, late = Report(tmp_path / "report.json"), Report(tmp_path / "report.json")
    former = list(old.rows)
    old.write()
    assert (tmp_path / "report.json").read_bytes() == before and not old.folder.exists()
    old.add(ROW)
    late.add({**ROW, "seed": 1})  # opened before there were files
    late.write()
    for report in (late, Report(tmp_path / "report.json")):
        assert len(report.rows) == len(former) + 2
        assert all(new.items() >= known.items() for known, new in zip(former, report.rows, strict=False))
        assert all(row["metric"] == "accuracy" and row["values"] for row in report.rows)
    assert read_record(tmp_path / "report.json", "") == {"rows": late.rows}


def test_rows_that_share_a_key_of_today_are_all_kept(tmp_path):
    rows = [ROW, {**ROW, "a key of before": 1}, {**ROW, "a key of before": 2}]
    write_record(tmp_path / "report.json", {"rows": rows})
    report = Report(tmp_path / "report.json")
    report.begin()
    assert [row.get("a key of before") for row in report.rows] == [None, 1, 2]


def test_a_report_without_its_rows_counts_for_them(tmp_path):
    report = Report(tmp_path / "a" / "report.json")
    report.add(ROW)
    report.write()
    (tmp_path / "b").mkdir()
    shutil.copy(report.path, tmp_path / "b")
    carried = Report(tmp_path / "b" / "report.json")
    assert carried.rows == report.rows
    carried.add({**ROW, "seed": 1})
    assert carried.rows[0] == report.rows[0] and len(carried.rows) == 2


def test_a_deleted_row_is_measured_again_though_the_report_had_it(tmp_path):
    report = Report(tmp_path / "report.json")
    report.add(ROW)
    report.write()
    (report.folder / f"{report.name(ROW)}.json").unlink()
    assert Report(tmp_path / "report.json").find(ROW) is None


def test_what_killed_processes_left_is_cleared_once_it_is_of_no_use(tmp_path):
    report = Report(tmp_path / "report.json")
    report.add(ROW)
    for name, age in ((".report.json.0.part", 7200), (".report.csv.1.part", 0), (".rows.2.part", 7200)):
        (tmp_path / name).mkdir() if "rows" in name else (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    beside = [
        report.folder / f"{start}{report.name(ROW)}.{end}" for start, end in (("unfinished_", "json"), (".", "lock"))
    ]
    for path in [*beside, report.folder / ".0123456789ab.lock"]:
        path.touch()
    report.write()
    assert sorted(path.name for path in tmp_path.glob(".*")) == [".report.csv.1.part"]
    assert sorted(os.listdir(report.folder)) == [".0123456789ab.lock", f"{report.name(ROW)}.json"]


def test_two_thousand_rows_are_read_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda handle: None)
    report = Report(tmp_path / "report.json")
    report.folder.mkdir()
    row = {"metric": "accuracy", "values": [0.5] * 20, "written": "2026", **ROW}
    for seed in range(2000):
        write_record(report.folder / f"{digest(seed)}.json", {**row, "seed": seed})
    before = time.perf_counter()
    assert len(Report(tmp_path / "report.json").rows) == 2000
    assert time.perf_counter() - before < 10  # half a second


@pytest.mark.parametrize("name", ["notes.json", "0123456789ab (copy).json", "0123456789ab.json.bak"])
def test_other_files_among_the_rows_are_let_be(name, tmp_path):
    report = Report(tmp_path / "report.json")
    report.add(ROW)
    (report.folder / name).write_text("not ours")
    assert len(Report(tmp_path / "report.json").rows) == 1
