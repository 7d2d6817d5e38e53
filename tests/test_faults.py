"""Runs that are killed, share a folder, find a full disk or a damaged file; real processes and real kills."""

import errno
import json
import multiprocessing
import os
import pathlib
import re
import runpy
import shutil
import signal
import sys
import time

import pytest
import torch
from conftest import composed
from hydra.utils import get_class
from test_line import LEARN, ROOT, toy

import distill
import distill.due
import distill.evaluation.evaluate  # imported here so that no forked process has to
import distill.methods.synthesis
import distill.page.made
from distill.due import Due
from distill.files import alone_in, load_tensors, replacing, save_tensors
from distill.methods.base import Method
from distill.teachers.store import ExpertStore

# Forked from a server that has imported everything and started no thread; a fork of the tests' own process could hang.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["test_faults"])


def forked(target, *args):
    """A process of the server that has begun ``target(*args)``."""
    process = PROCESSES.Process(target=target, args=args)
    with (
        pytest.MonkeyPatch.context() as patch
    ):  # on Python 3.11 the server takes no path from here: it would import nothing
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "tests"), str(ROOT)]))
        process.start()
    return process


def in_a_process(arguments, folder, die_at=None, before=None) -> int:
    """run.py in a process of its own, killed as it completes its ``die_at``-th file; the exit code, -9 for killed."""
    process = forked(run_line, arguments, folder, die_at, before)
    process.join(300)
    assert process.exitcode is not None, "the run hangs"
    return process.exitcode


def run_line(arguments, folder, die_at, before):
    """What the process does; ``before`` prepares the fault. It says its end in the file ``said``, the rest in ``heard``.

    What a script would read, its standard output, is in ``printed``.
    """
    os.chdir(folder)
    end = pathlib.Path("said").absolute()
    for number, name in ((1, "printed"), (2, "heard")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    completed, original = [0], pathlib.Path.replace

    def replace(self, target):
        completed[0] += 1
        if completed[0] == die_at and completed[0] % 2:
            os.kill(os.getpid(), signal.SIGKILL)  # the new content is whole, its name still the temporary one
        done = original(self, target)
        if completed[0] == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    pathlib.Path.replace = replace
    if before:
        before()
    sys.argv = ["run.py", *arguments]
    try:
        runpy.run_path(str(ROOT / "run.py"), run_name="__main__")
    except SystemExit as stop:
        end.write_text(str(stop.code))
        raise


def always_due():
    """Whoever keeps where it stands does so whenever it can: after each outer step, after each epoch."""
    distill.due.SECONDS, distill.due.SHARE = -1.0, float("inf")


def fill_the_disk():
    """No file can be completed after the twelfth."""
    original, files = os.fsync, []

    def fsync(handle):
        files.append(handle)
        if len(files) > 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(handle)

    os.fsync = fsync


def hold(folder):
    with alone_in(folder / "outputs" / "digits-mtt-ipc1-seed0"):
        (folder / "held").touch()
        signal.pause()


def result(folder, method):
    """What a finished run is judged by: the set's tensors and every student's accuracy."""
    rows = json.loads((folder / "outputs" / "report.json").read_text())
    assert list(rows) == ["format", "rows", "sha256"]
    accuracies = {(row["method"], row["labels"]): row["accuracies"] for row in rows["rows"]}
    return distill.load(folder / "outputs" / f"digits-{method}-ipc1-seed0").hash, accuracies


def families():
    """Of each class below `Method` the method that adds most to it: what a restart needs is the class's."""
    lines = {method: get_class(composed(f"method={method}").method._target_).__mro__ for method in LEARN}
    found = {
        line[line.index(Method) - 1]: method for method, line in sorted(lines.items(), key=lambda each: len(each[1]))
    }
    return sorted(found.values())


@pytest.mark.parametrize("method", families())
def test_a_line_killed_again_and_again_ends_where_an_unbroken_one_does(method, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir(), broken.mkdir()
    arguments = toy(method)
    assert in_a_process(arguments, whole) == 0
    kills = 0
    for die_at in (2, 3, 5, 8, 9, 11, 4, 7, None):
        status = in_a_process(arguments, broken, die_at, always_due)
        if status == 0:
            break
        assert status == -signal.SIGKILL
        kills += 1
        for file in broken.rglob("*.safetensors"):  # whatever has its name is whole
            if "expert_" not in file.name and ".part" not in file.name:
                load_tensors(file)
    assert status == 0 and kills >= 5
    assert result(broken, method) == result(whole, method)
    logged = distill.page.made.metrics(broken / "outputs" / f"digits-{method}-ipc1-seed0")
    assert [row["step"] for row in logged] == [0, 1, 2, 3]
    left = (broken / "outputs").glob("*/.*.part")
    assert not [
        path for path in left if path.parent.name != "pretrained"
    ]  # several runs write there: they go an hour later
    assert not list((broken / "outputs" / "rows").glob("unfinished_*"))


@pytest.mark.parametrize("took, wait", [(0.0, 60.0), (1.0, 60.0), (60.0, 3000.0)])
def test_states_take_two_percent_of_the_time_at_most(took, wait, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("distill.due.time.monotonic", lambda: now[0])
    due = Due()
    now[0] = 1060.0
    assert not due.now
    now[0] = 1060.5
    assert due.now
    with due.written():
        now[0] += took
    now[0] += wait
    assert not due.now
    now[0] += 0.5
    assert due.now


def test_experts_killed_within_an_epoch_go_on_from_the_last_one_kept(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir(), broken.mkdir()
    arguments = toy("ast", "task=experts", "method.experts.recipe.schedule.decay_epoch=1")

    assert in_a_process(arguments, whole) == 0
    for die_at in (3, 6):  # manifest and epochs; the second run begins where the first stood
        assert in_a_process(arguments, broken, die_at, always_due) == -signal.SIGKILL
        assert list((broken / "outputs" / "experts").glob("*/unfinished_*"))
    assert in_a_process(arguments, broken) == 0
    assert not list((broken / "outputs" / "experts").glob("*/unfinished_*"))
    for number in (0, 1):
        one, other = (next(f.rglob(f"expert_{number:04d}.safetensors")) for f in (whole, broken))
        rows = [_store(file).row(number, epoch) for file in (one, other) for epoch in range(5)]
        assert all(torch.equal(a, b) for a, b in zip(rows[:5], rows[5:], strict=True))


@pytest.mark.parametrize("method", ["mtt", "rded", "krrst"])  # own labels; teachers' words, batch statistics; transfer
def test_students_killed_within_their_training_go_on_from_the_last_epoch_kept(method, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    arguments = toy(method, "protocol.recipe.epochs=5", "student_epochs=[5]", "compile=false")
    assert in_a_process(arguments, whole) == 0
    shutil.copytree(whole, broken)
    shutil.rmtree(broken / "outputs" / "rows"), (broken / "outputs" / "report.json").unlink()

    def kept():
        return sorted(load_tensors(path)[1]["epochs"] for path in broken.rglob("rows/unfinished_*.safetensors"))

    stood = []
    for die_at in (2, 3):  # the third as it is written
        assert in_a_process(arguments, broken, die_at, always_due) == -signal.SIGKILL
        stood.append(kept())
    assert stood == [[2], [4]]
    assert in_a_process(arguments, broken) == 0
    assert result(broken, method) == result(whole, method) and not list(broken.rglob("rows/unfinished_*"))


def _store(file) -> ExpertStore:
    identity = json.loads((file.parent / "manifest.json").read_text())
    return ExpertStore(file.parent, identity, 2)


def test_two_runs_in_one_folder_are_told_and_a_killed_one_frees_it(tmp_path):
    holder = forked(hold, tmp_path)
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    try:
        arguments = [*toy("mtt"), "out=outputs"]
        assert in_a_process(arguments, tmp_path) == 1
        assert (tmp_path / "said").read_text() == (
            "error: another run is writing to outputs/digits-mtt-ipc1-seed0: "
            "wait until it ends, or choose another folder with out=DIR"
        )
        assert not (tmp_path / "outputs" / "report.json").exists()
    finally:
        holder.kill()
        holder.join()
    assert in_a_process(arguments, tmp_path) == 0


def test_a_full_disk_is_named_and_nothing_is_lost(tmp_path):
    arguments = toy("mtt")

    assert in_a_process(arguments, tmp_path, before=fill_the_disk) == 1
    said = (tmp_path / "said").read_text()
    assert said.startswith("error: the disk is full (") and "free some space, then the same command goes on" in said
    assert not list(tmp_path.rglob("*.part"))
    for file in tmp_path.rglob("synset.safetensors"):
        distill.load(file)
    assert in_a_process(arguments, tmp_path) == 0


def test_a_full_disk_leaves_nothing_of_a_file_of_tensors(tmp_path, monkeypatch):
    def full(*a, **k):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("distill.files.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(2)})
    assert not list(tmp_path.iterdir())


def test_what_a_killed_write_left_is_cleared_by_the_next_run(tmp_path):
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "a.json"):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    (tmp_path / ".a.json.x1.part").write_text("half")
    with alone_in(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize(
    "name, damage, message",
    [
        (
            "state.safetensors",
            "cut",
            "state.safetensors is truncated .* delete it to start anew .last snapshot: .*step_000002",
        ),
        ("state.safetensors", "alter", "state.safetensors was altered .* delete it to start anew"),
        ("config.json", "cut", "config.json is not readable .*: restore it, or delete .* to start anew"),
    ],
)
def test_a_damaged_file_of_an_unfinished_run_is_named(tmp_path, name, damage, message):
    arguments = toy("mtt", "task=distill", "experts_path=outputs/experts")
    assert in_a_process(toy("mtt", "task=experts"), tmp_path) == 0
    assert in_a_process(arguments, tmp_path, die_at=11) == -signal.SIGKILL
    home = tmp_path / "outputs" / "digits-mtt-ipc1-seed0"
    content = (home / name).read_bytes()
    (home / name).write_bytes(
        content[: len(content) // 2] if damage == "cut" else content[:-1] + bytes([content[-1] ^ 1])
    )
    kept = {path: path.read_bytes() for path in home.rglob("*.safetensors")}
    assert in_a_process(arguments, tmp_path) == 1
    assert re.search(message, (tmp_path / "said").read_text())
    assert kept == {path: path.read_bytes() for path in home.rglob("*.safetensors")}
    last = max(home.glob("snapshots/*.safetensors"))
    assert load_tensors(last)[1]["step"] == 2
