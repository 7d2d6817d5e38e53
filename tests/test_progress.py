"""How far a run is, where output is no terminal."""

import time

import pytest

from distill import progress
from distill.runs.progress import Lines, Stage, duration, shown


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
    stage = Stage("experts", first=600, total=1000, began=0.0, done=700)
    assert stage.left(now=50.0) == "300 left, about 2 min 30 s to go"  # 2 a second; 14 with the 600 found


def test_outside_a_listener_nothing_is_said(lines):
    with progress.stage("alone"):
        progress.tell("alone", 0, 1)
    assert lines() == []


def test_durations_as_people_say_them():
    assert [duration(s) for s in (0.2, 59.6, 3599, 7810)] == ["0 s", "1 min 0 s", "59 min 59 s", "2 h 10 min"]
