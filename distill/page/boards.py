"""Boards: methods by data and size, one for each way to train, student, kind of labels and metric."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from distill.comparison.arms import Comparison, compared, named
from distill.comparison.pivots import Labels, Pivot, pivots
from distill.report.gains import metric_of
from distill.report.rows import BASELINES, Report, Row
from distill.report.table import MARKS, spelt_out
from distill.text import shown

FACETS = ("data", "protocol", "student", "labels", "metric")  # what a reader chooses rows by

UNKNOWN = "–"


@dataclass(frozen=True)
class View:
    """What a cell shows of its row: one thing, another below it, and a number to sort by; None where it is not known."""

    text: str
    below: str
    order: float | None


@dataclass(frozen=True)
class Cell:
    """A row in its place.

    Attributes:
        number: of the row on the page.
        views: ``accuracy`` with the gain over random, ``cost`` in seconds, ``bytes`` of labels and images.
    """

    number: int
    views: dict[str, View]


@dataclass(frozen=True)
class Line:
    """A method; its cells stand in the order of the columns, None where it has no row."""

    name: str
    family: str
    baseline: bool
    cells: list[Cell | None]


@dataclass(frozen=True)
class Board:
    """Rows that were judged alike.

    Attributes:
        facets: protocol, student, kind of labels and metric.
        changes: what the plus behind the protocol's name stands for, each way once.
        columns: (data, data and size).
    """

    facets: dict[str, str]
    changes: list[str]
    columns: list[tuple[str, str]]
    lines: list[Line]


class Boards:
    """All boards of a page.

    Args:
        rows: of any runs; one that is there twice has one place.
        gained: what each gained over random, as text.

    Attributes:
        facets: of each row, what it is chosen by.
    """

    def __init__(self, rows: Sequence[Row], gained: Sequence[str]):
        self.rows, self.gained, self.compared = rows, gained, compared(rows)
        self.labels = Labels(self.compared)
        self.numbers = {Report.name(row): number for number, row in enumerate(rows)}

    @cached_property
    def facets(self) -> list[dict[str, str]]:
        own = {Report.name(row): self._facets(row) for row in self.compared}
        return [own[Report.name(row)] for row in self.rows]

    @property
    def choices(self) -> dict[str, list[str]]:
        """The values of each facet that has several."""
        found = {name: list(dict.fromkeys(each[name] for each in self.facets)) for name in FACETS}
        return {name: values for name, values in found.items() if len(values) > 1}

    def boards(self) -> list[Board]:
        """In the order of their first rows."""
        metrics = dict.fromkeys(map(metric_of, self.compared))
        own = [[row for row in self.compared if metric_of(row) == metric] for metric in metrics]
        return [self._board(each) for part in own for each in pivots(Comparison(named(part), [], []))]

    def _facets(self, row: Row) -> dict[str, str]:
        names = {name: self.labels.of(row, name) for name in ("data", "protocol", "student")}
        return {
            name: shown(value) for name, value in (names | {"labels": row["labels"], "metric": metric_of(row)}).items()
        }

    def _board(self, pivot: Pivot) -> Board:
        own = [row for row in pivot.rows if row["labels"] == pivot.rows[0]["labels"]]
        changes = [spelt_out(row["protocol_changes"]) for row in own if row.get("protocol_changes")]
        columns = [
            (shown(self.labels.of(row, "data")), shown(self.labels.column(row))) for row in pivot.columns.values()
        ]
        lines, measured = [], [line for line in pivot.lines if line.rows]  # `compare` has what is printed, too
        for line in measured:
            cells = [self._cell(line.rows[key]) if key in line.rows else None for key in pivot.columns]
            first = next(iter(line.rows.values()))
            chosen = "" if first["selection"] == "last" else f", {first['selection']}"
            lines.append(Line(shown(line.name), line.family + shown(chosen), first["method"] in BASELINES, cells))
        return Board(self._facets(pivot.rows[0]), list(dict.fromkeys(changes)), columns, lines)

    def _cell(self, row: Row) -> Cell:
        number = self.numbers[Report.name(row)]
        half = "" if row["ci95"] is None else f" ± {100 * row['ci95']:.1f}"
        accuracy = f"{100 * row['mean']:.1f}{half}{MARKS.get(row['selection'], '')}"
        made, labels = row.get("synthesis_seconds"), row.get("label_bytes")
        views = {
            "accuracy": View(accuracy, self.gained[number], row["mean"]),
            "cost": View(seconds(made), f"students {seconds(row['seconds'])}", made),
            "bytes": View(size(labels), f"images {size(row.get('image_bytes'))}", labels),
        }
        return Cell(number, views)


def seconds(number: float | None) -> str:
    """Examples:
    >>> seconds(1234.5), seconds(0.04), seconds(None)
    ('1,234 s', '0.04 s', '–')
    """
    if number is None:
        return UNKNOWN
    return f"{number:,.0f} s" if number >= 100 else f"{number:.3g} s"


def size(count: float | None) -> str:
    """Examples:
    >>> size(0), size(10240), size(3_000_000_000), size(None)
    ('0 B', '10.2 kB', '3 GB', '–')
    """
    if count is None:
        return UNKNOWN
    power = min(3, (len(str(int(count))) - 1) // 3)
    return f"{count / 1000**power:.3g} {('B', 'kB', 'MB', 'GB')[power]}"
