"""How far a run is, where output is no terminal."""

import time

import pytest

from distill import progress
from distill.runs.progress import Lines, Shown, Stage, duration, shown


@pytest.fixture
def lines(capsys):
    """``lines()``: what was said since, without the time of day."""
    return lambda: [line.split(" ", 1)[1] for line in capsys.readouterr().err.splitlines()]


def test_a_stage_has_a_line_at_its_begin_and_its_end_and_none_between(lines):
    with Lines() as shown, progress.heard_by(shown):
        with progress.stage("fitting ZCA"):
            pass
        for done in range(0, 2001):
            shown("distilling a", done, 2000)
        shown("found again", 5, 5)  # nothing is left to do
    assert lines() == [
        "fitting ZCA",
        "fitting ZCA: done, 0 s",
        "distilling a, 0 of 2000",
        "distilling a: done, 2000 of 2000, 0 s",
    ]


def test_between_it_tells_what_is_left_though_nothing_moves(lines):
    with Lines(quiet=0.05) as shown:
        shown("students", 3, 5)
        shown("asking", 0, 1)
        shown("asking", 1, 1)
        deadline = time.monotonic() + 5
        said = lines()
        while not any("left" in line for line in said) and time.monotonic() < deadline:
            time.sleep(0.01)
            said += lines()
        assert "students, 3 of 5, 2 left, no rate yet" in said
        shown.stop()
        assert shown.at == " at students, 3 of 5"


def test_at_most_one_line_a_minute_is_said_between(lines):
    with Lines() as plain:
        assert plain.quiet == 60
    began, quiet = time.monotonic(), 0.2
    with Lines(quiet) as plain:
        plain("students", 0, 5)
        time.sleep(4 * quiet)
    assert sum("left" in line for line in lines()) <= (time.monotonic() - began) / quiet


def test_a_file_or_a_pipe_gets_lines(lines):
    with shown() as face:
        face.say("whatever")
        assert isinstance(face, Lines)
    assert lines() == ["whatever"]


def test_the_rate_is_that_of_this_run_and_leaves_out_what_was_there():
    stage = Stage("experts", first=600, total=1000, began=0.0, done=700, moved=50.0)
    assert stage.left(now=50.0) == "300 left, about 2 min 30 s to go"  # 2 a second; 14 with the 600 found


def test_the_time_left_falls_while_one_long_unit_is_under_way():
    stage = Stage("students", first=0, total=3, began=0.0, done=1, moved=100.0)
    told = [stage.left(now) for now in (100.0, 160.0, 190.0, 1000.0)]
    assert told == [f"2 left, about {left} to go" for left in ("3 min 20 s", "2 min 20 s", "1 min 50 s", "1 min 40 s")]
    last = Stage("students", first=0, total=3, began=0.0, done=2, moved=200.0)
    assert [last.left(now) for now in (290.0, 300.0, 400.0)] == [
        "1 left, about 10 s to go",
        *["1 left, due by now"] * 2,
    ]


def test_a_stage_knows_when_it_moved_last(monkeypatch):
    face, clock = Shown(), iter(range(0, 100, 10))
    monkeypatch.setattr("distill.runs.progress.time.monotonic", lambda: next(clock))
    for done in (0, 1, 1):
        face("students", done, 3)
    stage = face.stages["students"]
    assert (stage.began, stage.done, stage.moved) == (0, 1, 10)


def test_outside_a_listener_nothing_is_said(lines):
    with progress.stage("alone"):
        progress.tell("alone", 0, 1)
    assert lines() == []


def test_durations_as_people_say_them():
    assert [duration(s) for s in (0.2, 59.6, 3599, 7810)] == ["0 s", "1 min 0 s", "59 min 59 s", "2 h 10 min"]
