"""Tables of a suite: its scores, and every cell."""

from collections.abc import Mapping
from dataclasses import dataclass

from distill.comparison.forms import HOW, MISSING, Form
from distill.comparison.forms import Cell as Place
from distill.report.rows import Row
from distill.suites.base import Rows, Suite

RANDOM = "random"


@dataclass(frozen=True)
class Subject:
    """What a suite judges: sets of one method and one size.

    Attributes:
        name, size: for tables.
        stated: what makes or names them, as on a command line.
    """

    name: str
    size: str
    stated: tuple[str, ...]

    @property
    def id(self) -> str:
        return f"{self.name}-ipc{self.size}"


Judged = Mapping[Subject, Rows]


def scores(suite: Suite, name: str, judged: Judged) -> Form:
    """A line for each subject, its scores in % and how much they are above those of random images of its size."""
    lines = []
    for subject, rows in judged.items():
        own = suite.score(rows)
        beside = next((suite.score(each) for other, each in judged.items() if is_random_of(other, subject)), {})
        texts = [percent(own[each]) + "†" * (each in suite.picked and own[each] is not None) for each in suite.scores]
        texts += [above(own[each], beside.get(each)) for each in suite.scores[:1]]
        lines.append([Place(text) for text in (subject.name, subject.size, *texts)])
    columns = ["method", "ipc", *suite.scores, f"{suite.scores[0]} less random's"]
    return Form(name, f"{name}, %", columns, lines, [*suite.notes, HOW[2]])


def cells(suite: Suite, name: str, judged: Judged, failed: Mapping[str, str]) -> Form:
    """A column for each cell, with the half-width of its interval; a cell that failed says so."""
    names = list(dict.fromkeys(cell.name for rows in judged.values() for cell in suite.cells(rows)))
    lines = []
    for subject, rows in judged.items():
        own = [accuracy(rows[each]) if each in rows else Place(MISSING) for each in names]
        lines.append([Place(subject.name), Place(subject.size), *own])
    notes = [
        HOW[0],
        *(f"{cell} failed, and is tried again by the same command: {reason}" for cell, reason in failed.items()),
    ]
    return Form(
        f"{name}-cells", f"{name}: every cell, accuracy on the test split, %", ["method", "ipc", *names], lines, notes
    )


def is_random_of(other: Subject, subject: Subject) -> bool:
    return other.name == RANDOM and other.size == subject.size and subject.name != RANDOM


def accuracy(row: Row) -> Place:
    half = "" if row["ci95"] is None else f" ± {100 * row['ci95']:.1f}"
    return Place(f"{100 * row['mean']:.1f}{half}", f"{row['syntheses']}x{row['students']}")


def percent(value: float | None) -> str:
    return MISSING if value is None else f"{100 * value:.2f}"


def above(value: float | None, other: float | None) -> str:
    return MISSING if value is None or other is None else f"{100 * (value - other):+.2f}"
