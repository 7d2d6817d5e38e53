"""Workers of this machine: what they make, how they fail and end, and whether they are worth it."""

import json
import os
import pathlib
import subprocess
import sys
import time

import crewed
import pytest
import torch
from test_crew import accuracies, contents
from test_faults import forked, in_a_process
from test_line import ROOT, toy

from distill import autotune
from distill.effort import peak_bytes
from distill.files import read_record, write_record
from distill.parallel import Crew, Made, Unit, Worker, within, working_in
from distill.runs import errands, workers
from distill.runs.composed import compose
from distill.runs.line import Line
from distill.runs.pipeline import carry_out
from distill.runs.progress import Lines, Shown

pytestmark = pytest.mark.skipif(os.name != "posix", reason="workers tell through sockets that have a path")


def test_workers_make_every_unit_once_are_told_what_is_agreed_and_tell_how_far_they_are(tmp_path):
    heard = []
    crewed.make(tmp_path, "abcde", 2, {}, lambda *told: heard.append(told))
    said = {name: (tmp_path / name).read_text().split() for name in "abcde"}
    assert {each[0] for each in said.values()} == {"agreed"} and {each[1] for each in said.values()} == {"0", "1"}
    assert len(list(tmp_path.glob("tried-*"))) == 5
    assert heard[0] == ("", "units", 0, 10)
    assert set(heard[1:]) == {(name, "units", done, 0) for name in "abcde" for done in (1, 2)}


def test_a_worker_that_dies_fails_its_own_unit_alone_which_another_makes(tmp_path):
    crewed.make(tmp_path, "abcd", 2, {"a": (1, "dies"), "c": (2, "dies"), "d": (1, "full disk")})
    tried = {name: len(list(tmp_path.glob(f"tried-{name}-*"))) for name in "abcd"}
    assert tried == {"a": 2, "b": 1, "c": 3, "d": 2}
    assert all((tmp_path / name).exists() for name in "abcd")


def test_units_that_fail_three_times_are_named_when_all_others_are_made(tmp_path):
    fate = {"a": (3, "refuses"), "d": (9, "dies"), "e": (9, "full disk")}
    with pytest.raises(RuntimeError) as failed:
        crewed.make(tmp_path, "abcde", 2, fate)
    told = str(failed.value)
    assert told.startswith(
        "3 of 5 units failed 3 times, a: seven is no size; d: its process has ended, perhaps for want"
    )
    assert "e: [Errno 28] No space left on device" in told
    assert sorted(path.name for path in tmp_path.glob("?")) == ["b", "c"]
    assert len(list(tmp_path.glob("tried-*"))) == 11


def test_a_full_disk_of_one_worker_leaves_the_set_and_the_numbers_of_one_process(tmp_path):
    words, before = toy("mtt", "draws=1", "baselines=[]"), crewed.fill_the_disk_of_a_worker
    assert in_a_process([*words, "out=one"], tmp_path) == 0
    words = [word for word in words if word != "workers=1"]
    assert in_a_process([*words, "workers=2", "threads=1", "out=two"], tmp_path, before=before) == 0
    one, two = tmp_path / "one", tmp_path / "two"
    assert (tmp_path / "full").exists() and contents(one, "**/*") == contents(two, "**/*")
    assert accuracies(one) == accuracies(two)


def test_a_unit_whose_file_is_there_is_not_asked_for(tmp_path):
    (tmp_path / "a").write_text("there")
    crewed.make(tmp_path, "ab", 1, {})
    assert (tmp_path / "a").read_text() == "there" and not list(tmp_path.glob("tried-a-*"))


def test_a_worker_goes_to_its_own_unit_and_no_further():
    made = []

    def units():
        return [Unit(name, lambda tell, name=name: made.append(name), lambda: False) for name in "ab"]

    def way(team):
        for row in ("first", "second"):
            with within(row) as own:
                if own.take(lambda: pytest.fail("the driver holds it")):
                    own.make(units())
        pytest.fail("it went on")

    with working_in(Worker(key="second/b", agreed={"second/size": 7})) as team, pytest.raises(Made):
        with within("second") as own:
            assert (own.agree(lambda: 1, "size"), own.agree(lambda: 1, "other"), own.first) == (7, 1, False)
        way(team)
    assert made == ["b"]


def test_a_process_on_its_own_makes_the_largest_first_and_tells_their_sum():
    told, made = [], []

    def unit(name, size, there=False):
        def make(tell):
            tell(0)
            made.append(name)

        return Unit(name, make, lambda: there, "all", size)

    Crew().make([unit("a", 1), unit("b", 3), unit("c", 2, there=True)], lambda *how_far: told.append(how_far))
    assert made == ["b", "a"]
    assert told == [("all", done, 6) for done in (2, 5, 6)]


SCRIPT = """
from functools import partial
from pathlib import Path
from distill.engines.local import Local

with Local().open(2, print) as submit:
    for future in submit([partial(Path(name).touch) for name in "ab"], lambda: None):
        future.result()
print("at its end")
"""


def test_a_script_that_works_as_it_is_imported_is_not_imported_by_workers(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "at its end\n", done.stderr
    assert (tmp_path / "a").exists() and (tmp_path / "b").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("end", ["killed", "leaves the block"])
def test_workers_are_gone_within_seconds_of_their_driver(end, tmp_path):
    process = forked(crewed.driver, tmp_path, end)
    files, deadline = [tmp_path / name for name in "ab"], time.monotonic() + 240
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

    others, deadline = [int(file.read_text()) for file in files], time.monotonic() + 10
    while any(map(alive, others)):
        assert time.monotonic() < deadline, "they live on"
        time.sleep(0.05)


def test_how_far_several_processes_are_is_one_stage(capsys):
    with Lines() as shown:
        shown("experts", 0, 6)
        shown.hear("other", "experts", 0, 0)
        for done in (1, 2, 3):
            shown("experts", done, 6)
        assert shown.at == " at experts, 3 of 6"
        for done in (1, 2, 3):
            shown.hear("other", "experts", done, 0)
    said = [line.split(" ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    assert said == ["experts, 0 of 6", "experts: done, 6 of 6, 0 s"]


def line_of(*words):
    return Line(compose(*(word for word in toy("mtt") if word != "workers=1"), "threads=null", *words), Shown())


ALL = ["experts", "distill", "evaluate"]
LONG = "method.experts.recipe.epochs=100000"


def wanted(line, arrows, cores):
    return workers.wanted(line, {arrow: workers.ahead(arrow, line) for arrow in arrows}, cores)


def test_as_many_processes_as_cores_where_there_is_enough_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "memory_of", lambda: 100 * peak_bytes())
    out = f"out={tmp_path}"
    assert wanted(line_of(out), ALL, cores=8) == 1  # a toy's work is done before others have begun
    assert wanted(line_of(out, LONG, "method.experts.count=20"), ALL, cores=8) == 8
    assert wanted(line_of(out, LONG, "method.experts.count=20", "threads=2"), ALL, cores=8) == 4
    assert wanted(line_of(out, LONG, "method.experts.count=3"), ["experts"], cores=8) == 3
    assert wanted(line_of(out, LONG, "workers=1"), ALL, cores=8) == 1


def test_there_is_room_for_a_process_on_each_gpu_else_for_what_cores_and_memory_allow(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert workers.room(torch.device("cuda", 0), 4, cores=8) == 3
    monkeypatch.setattr(workers, "memory_of", lambda: 12.0)
    monkeypatch.setattr(workers, "peak_bytes", lambda: 2)
    assert [workers.room(torch.device("cpu"), threads, cores=8) for threads in (None, 4)] == [3, 2]


def test_a_number_of_workers_is_obeyed_as_far_as_there_are_units(tmp_path):
    asked = [f"out={tmp_path}", "workers=5", "method.experts.count=4", "ipc=1"]
    assert wanted(line_of(*asked), ["experts"], cores=1) == 4
    assert wanted(line_of(*asked), ["distill"], cores=1) == 1
    assert wanted(line_of(*asked, "syntheses=9"), ["distill"], cores=1) == 5
    assert wanted(line_of(*asked, "ipc=[1,2,5]"), ["distill"], cores=1) == 3
    few = ["protocol=dsa", "protocol.students=2", "draws=2"]  # which tries no values first
    assert wanted(line_of(*asked, *few), ["evaluate"], cores=1) == 4


def test_nothing_is_ahead_of_a_run_that_is_there(tmp_path):
    run = compose(*toy("mtt"), f"out={tmp_path}")
    carry_out(run)
    done = line_of(f"out={tmp_path}")
    assert [sum(work.units for work in errands.AHEAD[arrow](done)) for arrow in ALL] == [0, 0, 0]
    more = line_of(f"out={tmp_path}", "draws=3", "seed=1")
    assert all(sum(work.units for work in errands.AHEAD[arrow](more)) > 0 for arrow in ALL)


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
