"""Processes that a run begins on its own machine: what they tell each other, how they end, and whether they are worth it."""

import json
import os
import pathlib
import sys
import time
from functools import partial

import crewed
import pytest
import torch
from test_faults import forked, in_a_process
from test_line import toy

from distill import autotune
from distill.beside import beside
from distill.files import read_record, write_record
from distill.parallel import Crew, working_in
from distill.runs import workers
from distill.runs.composed import compose
from distill.runs.line import Line
from distill.runs.pipeline import carry_out
from distill.runs.progress import Lines, Shown

pytestmark = pytest.mark.skipif(os.name != "posix", reason="hands pipes to processes")


def test_each_of_three_processes_does_its_share_and_hears_what_the_first_decides(tmp_path):
    heard, units = [], list("abcdefg")
    job = partial(crewed.shares, tmp_path, units)
    with beside(job, 3, lambda *told: heard.append(told)) as team, working_in(team):
        assert team == Crew(0, 3, 0)
        job()
    assert [json.loads((tmp_path / str(rank)).read_text()) for rank in range(3)] == [
        [3, units[rank::3]] for rank in range(3)
    ]
    assert sorted(heard) == [(0, "units", 3, 0), (1, "units", 2, 0), (2, "units", 2, 0)]


def test_some_processes_work_as_a_crew_of_their_own(tmp_path):
    units = list("abcde")
    job = partial(crewed.two_of_all, tmp_path, units)
    with beside(job, 3, lambda *told: None) as team, working_in(team):
        job()
    found = {path.name: json.loads(path.read_text()) for path in tmp_path.iterdir()}
    assert found == {"0": [2, units[::2]], "1": [2, units[1::2]]}


@pytest.mark.parametrize(
    "which, kind, text",
    [
        ("its own", crewed.OwnError, "seven is no size"),
        ("of a file", EOFError, "it ends here"),
        ("awkward", RuntimeError, "7 is no size"),
    ],
)
def test_what_another_process_raises_is_raised_where_the_first_waits_for_it(which, kind, text):
    job = partial(crewed.refuses, which)
    with pytest.raises(kind, match=text) as found, beside(job, 3, print) as team:
        team.wait()
    assert "in refuses" in str(found.value.__cause__)


@pytest.mark.parametrize("meet", ["wait", "tell them"])
def test_a_process_that_is_gone_is_told(meet):
    with (
        pytest.raises(RuntimeError, match="process 1 of this run has ended.*workers=1"),
        beside(crewed.dies, 2, print) as team,
    ):
        if meet == "wait":
            team.wait()
        for _ in range(10**6):  # until the pipe is known to be closed
            team.agree(lambda: "x" * 1000)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("end", ["killed", "leaves the block"])
def test_the_others_are_gone_within_seconds_of_the_first(end, tmp_path):
    process = forked(crewed.parent, tmp_path, end)
    files, deadline = [tmp_path / str(rank) for rank in range(3)], time.monotonic() + 240
    while not all(file.exists() and file.read_text() for file in files):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if end == "killed":
        process.kill()
    process.join(60)

    def alive(pid):
        try:
            return "State:\tZ" not in pathlib.Path(f"/proc/{pid}/status").read_text()
        except FileNotFoundError:
            return False

    others, deadline = [int(file.read_text()) for file in files[1:]], time.monotonic() + 10
    while any(map(alive, others)):
        assert time.monotonic() < deadline, "they live on"
        time.sleep(0.05)


def test_how_far_several_processes_are_is_one_stage(capsys):
    with Lines() as shown:
        shown("experts", 0, 6)
        shown.hear(1, "experts", 0, 0)
        for done in (1, 2, 3):
            shown("experts", done, 6)
        assert shown.at == " at experts, 3 of 6"
        for done in (1, 2, 3):
            shown.hear(1, "experts", done, 0)
    said = [line.split(" ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    assert said == ["experts, 0 of 6", "experts: done, 6 of 6, 0 s"]


def line_of(*words):
    return Line(compose(*(word for word in toy("mtt") if word != "workers=1"), "threads=null", *words), Shown())


ALL = ["experts", "distill", "evaluate"]
LONG = "method.experts.recipe.epochs=100000"


def test_as_many_processes_as_cores_where_there_is_enough_to_do(tmp_path):
    out = f"out={tmp_path}"
    assert workers.wanted(line_of(out), ALL, cores=8) == 1  # a toy's work is done before others have begun
    assert workers.wanted(line_of(out, LONG, "method.experts.count=20"), ALL, cores=8) == 8
    assert workers.wanted(line_of(out, LONG, "method.experts.count=20", "threads=2"), ALL, cores=8) == 4
    assert workers.wanted(line_of(out, LONG, "method.experts.count=3", "baselines=[]"), ALL, cores=8) == 3
    assert workers.wanted(line_of(out, LONG, "workers=1"), ALL, cores=8) == 1


def test_there_is_room_for_a_process_on_each_gpu_else_for_what_cores_and_memory_allow(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert workers.room(torch.device("cuda", 0), 4, cores=8) == 3
    monkeypatch.setattr(workers, "memory_of", lambda: 12.0)
    monkeypatch.setattr(workers, "peak_bytes", lambda: 2)
    assert [workers.room(torch.device("cpu"), threads, cores=8) for threads in (None, 4)] == [3, 2]


def test_a_number_of_workers_is_obeyed_as_far_as_there_are_units(tmp_path):
    asked = [f"out={tmp_path}", "workers=5", "method.experts.count=4", "ipc=1"]
    assert workers.wanted(line_of(*asked), ["experts"], cores=1) == 4
    assert workers.wanted(line_of(*asked), ["distill"], cores=1) == 1
    assert workers.wanted(line_of(*asked, "syntheses=9"), ["distill"], cores=1) == 5
    assert workers.wanted(line_of(*asked, "ipc=[1,2,5]"), ["distill"], cores=1) == 3
    assert workers.wanted(line_of(*asked, "protocol.students=2", "draws=2"), ["evaluate"], cores=1) == 4


def test_nothing_is_ahead_of_a_run_that_is_there(tmp_path):
    run = compose(*toy("mtt"), f"out={tmp_path}")
    carry_out(run)
    done = line_of(f"out={tmp_path}")
    assert [sum(work.units for work in workers.AHEAD[arrow](done)) for arrow in ALL] == [0, 0, 0]
    more = line_of(f"out={tmp_path}", "draws=3", "seed=1")
    assert all(sum(work.units for work in workers.AHEAD[arrow](more)) > 0 for arrow in ALL)


def at_once():
    """Whatever is measured is measured for the smallest work, with two threads."""
    workers.WORTH_SECONDS = autotune.STACK_FROM = 0.0
    os.environ |= {"OMP_NUM_THREADS": "2", "XDG_CACHE_HOME": str(pathlib.Path("cache").absolute())}
    torch.set_num_threads(2)


def test_the_way_that_was_measured_to_do_more_is_gone(tmp_path):
    words = [*(word for word in toy("dm") if word != "workers=1"), "threads=null", "baselines=[]"]

    def devices(out):
        assert in_a_process([*words, f"out={out}"], tmp_path, before=at_once) == 0, (tmp_path / "heard").read_text()
        return {
            row["device"].split(", ")[1] for row in json.loads((tmp_path / out / "report.json").read_text())["rows"]
        }

    found = {True: "2 x 1 threads", False: "1 x 2 threads"}
    first = devices("first")
    (path,) = (tmp_path / "cache").rglob("fastest.json")
    times = read_record(path, "")
    (mine,) = [each for each in times.values() if "side by side" in each["about"]]
    together, alone = mine["seconds"]["side by side"], mine["seconds"]["alone"]
    better = autotune.MARGIN * together < alone
    assert first == {found[better]}
    mine["seconds"] = {"side by side": 1.0 if better else 1e-3, "alone": 1e-3 if better else 1.0}
    write_record(path, times)
    assert devices("second") == {found[not better]}


def test_workers_are_not_asked_for_within_a_torchrun(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(
        ValueError, match="workers is 3 within a torchrun, whose processes share the work: leave it out"
    ):
        Line(compose(*toy("mtt"), "workers=3", f"out={tmp_path}"), Shown())
