"""Runs that are asked to end, and workers whose parent is gone; real processes and real signals."""

import os
import pathlib
import re
import signal
from functools import partial, wraps

import pytest
from test_faults import always_due, in_a_process
from test_line import line, toy  # noqa: F401  # a fixture

from distill.methods.base import Method
from distill.parallel import Ranks
from distill.report.unfinished import Unfinished
from distill.teachers.store import ExpertStore


def asked_to_end(number, owner, name, call):
    """Send this process a signal as it comes back from the ``call``-th call of a method."""
    original, calls = getattr(owner, name), [0]

    @wraps(original)  # Lightning looks at the signature
    def called(*arguments, **named):
        calls[0] += 1
        done = original(*arguments, **named)
        if calls[0] == call:
            os.kill(os.getpid(), number)
        return done

    setattr(owner, name, called)
    signal.signal(number, signal.SIG_DFL)  # tests that were started under nohup inherit that it is ignored


def in_experts():
    always_due()
    asked_to_end(signal.SIGHUP, ExpertStore, "keep", 3)


def between_snapshots():
    always_due()
    asked_to_end(signal.SIGTERM, Method, "training_step", 4)


CASES = {
    "experts": ("mtt", ["task=experts"], in_experts, 129, "SIGHUP at training experts .*, 2 of 8", "the last epoch kept"),
    "distillation": (
        "dm", [], partial(asked_to_end, signal.SIGTERM, Method, "training_step", 4), 143,
        "SIGTERM at distilling digits-dm-ipc1-seed0, 3 of 4", "the last state (step 2)",
    ),
    "distillation between snapshots": (
        "dm", ["method.snapshot_every=1000"], between_snapshots, 143,
        "SIGTERM at distilling digits-dm-ipc1-seed0, 3 of 4", "the last state (step 3)",
    ),
    "Ctrl-C": (
        "dm", [], partial(asked_to_end, signal.SIGINT, Method, "training_step", 2), 130,
        "SIGINT at distilling digits-dm-ipc1-seed0, 1 of 4", "its begin",
    ),
    "evaluation": (
        "dm", [], partial(asked_to_end, signal.SIGTERM, Unfinished, "keep", 2), 143,
        "SIGTERM at dm ipc 1 convnet: .*, 1 of ", "the last epoch kept",
    ),
}  # fmt: skip


@pytest.mark.parametrize("stage", CASES)
def test_a_signal_ends_a_run_with_its_code_and_a_line_that_says_how_to_go_on(stage, tmp_path):
    method, more, signalled, code, at, where = CASES[stage]
    assert in_a_process([*toy(method), *more], tmp_path, before=signalled) == code
    heard = (tmp_path / "heard").read_text()
    (last,) = re.findall("^interrupted.*$", heard, re.MULTILINE)
    assert re.fullmatch(f"interrupted by {at}.*: the same command goes on from {re.escape(where)}", last), last
    assert "Traceback" not in heard and "Error" not in heard
    assert not list(tmp_path.rglob("*.part"))
    assert stage == "evaluation" or not (tmp_path / "outputs" / "report.json").exists(), (
        "an unfinished set is not judged"
    )


STAGES = {
    "teachers": ("rded", "task=experts", [], "1", "expert_0000.safetensors", "the last epoch kept"),
    "a share of the images": ("sre2l", "task=distill", ["task=experts"], "2", "state.safetensors", "its begin"),
}


@pytest.mark.parametrize("stage", STAGES)
def test_every_other_stage_says_how_to_go_on(stage, line, monkeypatch):  # noqa: F811
    method, task, before, processes, file, where = STAGES[stage]
    assert all(line(*toy(method, earlier))[0] == 0 for earlier in before)
    original = pathlib.Path.replace

    def replace(self, target):
        done = original(self, target)
        if pathlib.Path(target).name == file:  # it is complete
            os.kill(os.getpid(), signal.SIGTERM)
        return done

    monkeypatch.setattr(pathlib.Path, "replace", replace)
    monkeypatch.setenv("WORLD_SIZE", processes)
    monkeypatch.setattr(Ranks, "agree", lambda self, decide, name="": decide())  # there is no other process
    code, _, said = line(*toy(method, task))
    assert code == 143 and said.splitlines()[-1].endswith(f"the same command goes on from {where}")
