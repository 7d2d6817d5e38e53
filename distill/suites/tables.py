"""Tables of a suite: its scores, every cell, and what else it tells."""

from collections.abc import Mapping

from distill.comparison.forms import HOW, MISSING, Form
from distill.comparison.forms import Cell as Place
from distill.report.rows import PEAKED, Row
from distill.suites.base import RANDOM, Judged, Rows, Subject, Suite

DAGGER = "†"
PEEKED = "† chosen on the test split, or beside such a choice: to be compared with the paper's alone."
PICKED = "† beside a method: its set was picked on the test split."


def scores(suite: Suite, name: str, judged: Judged) -> Form:
    """A line for each subject: its scores in %, with their intervals where they have some."""
    lines, leaked = [], False
    for subject, rows in judged.items():
        beside = random_beside(subject, judged)
        own, ends = suite.score(rows, beside), suite.intervals(rows, beside)
        texts = [percent(own[each], ends.get(each)) for each in suite.scores]
        marks = [DAGGER * (suite.peeks and own[each] is not None) for each in suite.scores]
        peaked = any(row["selection"] in PEAKED for row in rows.values())
        numbers = [Place(text, mark=mark) for text, mark in zip(texts, marks, strict=True)]
        lines.append([Place(subject.name + DAGGER * peaked), Place(subject.size), *numbers])
        leaked = leaked or peaked
    notes = [*suite.notes, *([PEEKED] if suite.peeks else []), *([PICKED] if leaked else []), HOW[2]]
    return Form(name, f"{name}, %", ["method", "ipc", *suite.scores], lines, notes)


def cells(suite: Suite, name: str, judged: Judged, failed: Mapping[str, str]) -> Form:
    """A column for each cell, with the half-width of its interval; a cell that failed says so."""
    names = list(dict.fromkeys(cell.name for each, rows in judged.items() for cell in suite.cells(rows, each.name)))
    lines = []
    for subject, rows in judged.items():
        own = [accuracy(suite, rows[each]) if each in rows else Place(MISSING) for each in names]
        lines.append([Place(subject.name), Place(subject.size), *own])
    notes = [
        suite.spread_told,
        *([PEEKED] if suite.peeks else []),
        *(f"{cell} failed, and is tried again by the same command: {reason}" for cell, reason in failed.items()),
    ]
    return Form(
        f"{name}-cells", f"{name}: every cell, accuracy on the test split, %", ["method", "ipc", *names], lines, notes
    )


def random_beside(subject: Subject, judged: Judged) -> Rows:
    """The rows of random images of the subject's size; none for these themselves."""
    return next((rows for other, rows in judged.items() if is_random_of(other, subject)), {})


def is_random_of(other: Subject, subject: Subject) -> bool:
    return other.name == RANDOM and other.size == subject.size and subject.name != RANDOM


def accuracy(suite: Suite, row: Row) -> Place:
    spread = suite.spread(row)
    text = f"{100 * row['mean']:.1f}" + ("" if spread is None else f" ± {100 * spread:.1f}")
    return Place(text, f"{row['syntheses']}x{row['students']}", DAGGER * suite.peeks)


def percent(value: float | None, ends: tuple[float, float] | None) -> str:
    """``46.12 [45.80, 46.44]``.

    >>> percent(0.4612, (0.458, 0.4644)), percent(0.5, None), percent(None, None)
    ('46.12 [45.80, 46.44]', '50.00', '–')
    """
    between = "" if ends is None else f" [{100 * ends[0]:.2f}, {100 * ends[1]:.2f}]"
    return MISSING if value is None else f"{100 * value:.2f}{between}"
