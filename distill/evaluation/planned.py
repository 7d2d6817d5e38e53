"""Rows that there will be, made side by side with whoever else makes rows for the same report."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distill.parallel import crew
from distill.report.rows import Report, Row
from distill.report.unfinished import Unfinished
from distill.teachers.labels import Labels
from distill.text import shown


@dataclass(frozen=True)
class Planned:
    """A row that there will be.

    Attributes:
        row: what it measures, and what else it says whatever comes out.
        former: keys of it as earlier versions wrote them.
        after: keys of the row that chose this one's snapshots; None where none did.
        student, labels, selection: how its students are made, what they are told, which set they are trained on.
        text: how it is called while it is made.
    """

    row: Row
    former: Mapping[str, Sequence[Any]]
    after: Row | None
    student: str
    labels: Labels
    selection: str
    text: str


Measure = Callable[[Planned, Unfinished, Row | None], Row]
"""Called with a row, its students so far and the row that it comes after; gives its numbers."""


def make_rows(
    report: Report, planned: Sequence[Planned], measure: Measure, is_whole: Callable[[Planned], bool] = lambda row: True
) -> None:
    """Add the rows that are not there yet. Those that other processes are making are asked for once more at the end.

    Args:
        is_whole: whether all that a row leaves beside itself is there; else it is measured again.
    """
    left = [each for each in planned if not _is_there(report, each, measure, is_whole)]
    report.refresh()
    left = [each for each in left if not _is_there(report, each, measure, is_whole)]
    if left and crew().first:
        rows = ", ".join(dict.fromkeys(shown(each.text) for each in left))
        print(f"left to another process that is making it, for the same report: {rows}", file=sys.stderr)
    if crew().first:
        report.write()


def _is_there(report: Report, planned: Planned, measure: Measure, is_whole: Callable[[Planned], bool]) -> bool:
    """Whether the row is there now; False where another process is making it, or the one that it comes after."""

    def find(row: Row) -> Row | None:
        return crew().agree(lambda: report.find(row, planned.former))

    def done() -> bool:
        return crew().agree(lambda: report.find(planned.row, planned.former) is not None and is_whole(planned))

    if done():
        return True
    with report.making(planned.row) as unfinished:
        if unfinished is None:
            return False
        report.refresh()
        if done():
            return True
        before = None if planned.after is None else find(planned.after)
        if planned.after is not None and before is None:
            return False
        row = {**planned.row, **measure(planned, unfinished, before)}
        if crew().first:
            report.add(row)
        return True
