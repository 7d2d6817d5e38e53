"""`distill result` keeps what a run measured as data; `distill reproduce CELL` runs a cell again and says how it stands."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.checks import check_ranges
from distill.cli.artefacts import values_of
from distill.comparison.results import RESULTS, results, summary, without
from distill.presets import unknown
from distill.runs.comparing import show
from distill.runs.composed import compose, literal
from distill.runs.explained import words_explained
from distill.runs.line import Line
from distill.runs.pipeline import at_work
from distill.runs.plan import plan
from distill.runs.results import Again, add, told
from distill.text import command

TEXTS = ("cell", "hardware", "mark")  # whatever is typed
RESULT = {
    **{"out": "path", "results": "absent or path", "ipc": "absent or anything", "deviations": "absent or list of text"},
    **dict.fromkeys(TEXTS, "absent or text"),
}


def result(arguments: Sequence[str]) -> list[str]:
    """Keep the rows of a finished run."""
    values = check_result(arguments)
    out, folder = Path(str(values.pop("out"))), Path(str(values.pop("results", RESULTS)))
    with words_explained([]):
        return [f"wrote {path}" for path in add(out, folder, **values)]


def check_result(arguments: Sequence[str]) -> dict[str, Any]:
    """The words of `distill result`; raises ValueError if one is none that it takes."""
    words = [word.partition("=") for word in arguments]
    values = values_of(
        [f"{name}={literal(value)}" if name in TEXTS else f"{name}{is_}{value}" for name, is_, value in words]
    )
    for name in values.keys() - RESULT.keys():
        raise ValueError(unknown("word of result", name, list(RESULT)))
    check_ranges("", values, RESULT)
    return values


def reproduce(arguments: Sequence[str]) -> list[str]:
    """Say what a cell costs, run it, and say how it stands; exits with 1 where it is below."""
    again, folder = again_of(arguments)
    if again is None:
        found = results(folder)
        show([summary(found)])
        return [f"{without(found)} published cells have no row yet: `{command()} list` shows all"]
    if again.former is not None:
        show([summary([again.former])])
    with words_explained(again.words):
        run = compose(*again.words)
        with at_work() as progress:
            line = Line(run, progress)
            show([plan(line, [1])])
        row = again.carry_out(line)
    verdicts = again.verdicts(row)
    said = told(again.cell, row, verdicts)
    if any(each.word == "below" for each in verdicts.values()):
        sys.exit(said)
    return [said]


def again_of(arguments: Sequence[str]) -> tuple[Again | None, Path]:
    """The cell that the words name, None where they ask for a list; and the folder of results."""
    cell, *words = arguments or [""]
    listed = "--list" in arguments
    if not listed and (not cell or "=" in cell):
        raise ValueError(f"no cell is named: {command()} reproduce CELL, or --list for all that have a row")
    values = values_of([word for word in (arguments if listed else words) if word != "--list"])
    folder = Path(str(values.pop("results", RESULTS)))
    own = [f"{name}={literal(value)}" for name, value in values.items()]
    return (None if listed else Again.of(cell, own, folder)), folder


TASKS = {"result": result, "reproduce": reproduce}
