"""The report: rows of measured accuracies, kept as JSON and CSV and shown as a table; `distill.page` makes a page of them."""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from distill.files import read_record, replacing, write_record
from distill.ranges import inside
from distill.records import check_record
from distill.text import shown, spreadsheet

Row = dict[str, Any]

RANDOM, WHOLE = "random real", "whole real set"  # how the rows of the baselines are called
MARKS = {"maximum": "†", "test": "‡"}
LEGEND = (
    "± half-width of the 95 % interval of the mean; over syntheses where R > 1.  * single synthesis: over students alone.",
    "† the paper's figure: the largest mean of all snapshots on the test split (ast: of tests on the way, too); no interval.",
    "‡ that snapshot with fresh students. Both were chosen on the test split: not comparable with the other rows.",
    "+ preset with changes.",
    "± of a published number: its standard deviation, no interval. In brackets behind it: how far ours is from it.",
)


MOVE = "move it away or choose another out=DIR"
ANY = "(-inf, inf)"
ROW = {
    **dict.fromkeys(("method", "data", "student", "protocol", "labels", "selection"), "text"),
    **{
        "ipc": "null or (0, inf)",
        "ipc_range?": "null or text",
        "syntheses": "whole [1, inf)",
        "students": "whole [1, inf)",
        "seconds": ANY,
    },
    **{"mean": "[0, 1]", "sd": "null or [0, inf)", "ci95": "null or [0, inf)", "synsets?": "texts", "command": "text"},
}


def check_report(record: Any) -> None:
    """Raise ValueError, without the name of the file, if ``record`` is no report; other fields may be anything."""
    check_record(record, {"rows": "list", "unfinished?": "object", "spent?": ANY})
    for hits in record.get("unfinished", {}).values():
        if not isinstance(hits, list) or not all(inside(each, "whole [0, inf)") for each in hits):
            raise ValueError("unfinished holds what are no numbers of images")
    for number, row in enumerate(record["rows"]):
        check_record({f"row {number}": row}, {f"row {number}.{name}": kind for name, kind in ROW.items()})


class Report:
    """Rows of results, kept in ``report.json`` as ``{"rows": [...]}`` with a hash; one of the first format has none.

    A row is one synthetic set (or R of them) x one student x one protocol. Rows are found again by what they measure, and
    the students of an ``unfinished`` one too, so that a restart trains no student twice.
    """

    KEY = (
        "method", "data", "data_hash", "ipc", "student", "student_hash", "labels", "protocol_hash", "synset_hash",
        "inputs_hash", "selection", "seed",
    )  # fmt: skip

    def __init__(self, path: Path):
        self.path = path
        self.rows: list[Row] = []
        self.hits: dict[str, list[int]] = {}  # by student and class, of the row that is being made
        self.spent = 0.0  # seconds on the row that is being made, by runs before this one too
        if path.exists():
            record = read_record(path, MOVE)
            try:
                check_report(record)
            except ValueError as error:
                raise ValueError(f"{path} is not a report ({error}): {MOVE}") from None
            self.rows, self.hits = record["rows"], record.get("unfinished", {})
            self.spent = record.get("spent", 0.0)

    def find(self, row: Mapping[str, Any]) -> Row | None:
        """The row that measures the same, if there is one."""
        return next((old for old in self.rows if all(old.get(key) == row.get(key) for key in self.KEY)), None)

    def add(self, row: Row) -> None:
        """Add a row and write the file."""
        self.rows.append(row)
        self.hits.clear()
        self.spent = 0.0
        write_record(self.path, {"rows": self.rows})

    def keep(self, hits: Mapping[str, list[int]], spent: float) -> None:
        """Keep single students of the row that is being made, and the seconds it took, for a run that is killed."""
        self.hits.update(hits)
        self.spent = spent
        write_record(self.path, {"rows": self.rows, "unfinished": self.hits, "spent": spent})

    def table(self) -> Table:
        """The rows for people at a terminal."""
        title = Text(f"Accuracy on the test split, %  ({shown(self.path)})")
        table = Table(title=title, caption=Text("\n".join(LEGEND)), caption_justify="left")
        lines = [cells(row) for row in self.rows]
        for name in COLUMNS:
            table.add_column(name, justify="left" if name in TEXT else "right", no_wrap=True)
        for line in lines:
            table.add_row(*(Text(line[name]) for name in COLUMNS))  # no markup: a name may look like some
        return table


TEXT = ("method", "data", "ipc", "student", "protocol", "labels")
COLUMNS = (*TEXT, "accuracy", "sd", "published", "R x S", "seconds")


def cells(row: Row) -> dict[str, str]:
    """What a table shows of a row, in %."""
    half = "" if row["ci95"] is None else f" ± {100 * row['ci95']:.1f}"
    gap = gap_to_published(row)
    return {
        **{name: shown(row[name]) for name in TEXT},
        "ipc": shown(row.get("ipc_range") or row["ipc"] or "all"),
        "accuracy": f"{100 * row['mean']:.1f}{half}{MARKS.get(row['selection'], '')}",
        "sd": "" if row["sd"] is None else f"{100 * row['sd']:.1f}",
        "published": shown(row.get("published") or "") + ("" if gap is None else f" ({gap:+.1f})"),
        "R x S": f"{row['syntheses']} x {row['students']}{'*' if row['syntheses'] == 1 else ''}",
        "seconds": f"{row['seconds']:.0f}",
    }


@dataclass(frozen=True)
class Published:
    """A paper's number, and the cell it belongs to.

    Attributes:
        number: in %, see `check_published`.
        cell: its name; empty for a number that the command line gives for just this run.
        changes: what the run has otherwise than the cell, (was, is) by dotted name.
    """

    number: str
    cell: str
    changes: Mapping[str, tuple[Any, Any]]

    def fields(self, more: Mapping[str, tuple[Any, Any]]) -> Row:
        """What a row says of it; ``more`` are changes that the row itself shows."""
        changes = {name: list(pair) for name, pair in {**self.changes, **more}.items()}
        about = {"published_of": self.cell, "cell_changed": bool(changes), "cell_changes": changes}
        return {"published": self.number, **about}


def gap_to_published(row: Mapping[str, Any]) -> float | None:
    """Ours less the published accuracy, in percentage points; None where no number is published for just this row."""
    published = None if row.get("cell_changed", True) else published_mean(row.get("published"))
    return None if published is None else 100 * row["mean"] - published


def published_mean(published: Any) -> float | None:
    """The mean in ``46.2``, ``46.2 ± 0.8`` or ``46.2 ± 0.8 recalled``, in %; None of anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)( ± \d+(\.\d+)?)?( recalled)?", str(published))
    return float(found[1]) if found and float(found[1]) <= 100 else None


def check_published(published: Any) -> None:
    """Raise ValueError if a published number cannot be one."""
    if published is not None and published_mean(published) is None:
        raise ValueError(
            f"published is {published!r}, expected an accuracy in %, with its standard deviation where that is known: "
            "published=46.2 or published='46.2 ± 0.8'"
        )


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """One line a row, whole or not at all; a list or a record is JSON in its cell, and no text is a formula."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(path) as part, part.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            cells = {k: json.dumps(v) if isinstance(v, list | dict) else spreadsheet(v) for k, v in row.items()}
            writer.writerow(cells)
