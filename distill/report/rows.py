"""The report: rows of measured accuracies, kept as JSON; `distill.report.table` and `distill.report.page` show them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from distill.checks import check_ranges
from distill.files import read_record, write_record

Row = dict[str, Any]

RANDOM, WHOLE = "random real", "whole real set"  # how the rows of the baselines are called

MOVE = "move it away or choose another out=DIR"

RECORD = {
    **{"rows": "any number of map of text to anything", "spent": "absent or [-1e12, 1e12]"},
    "unfinished": "absent or map of text to [0, 1] or any number of whole [0, inf)",
}

ROW = {
    **dict.fromkeys(("method", "data", "student", "protocol", "labels", "selection", "command"), "any text"),
    **dict.fromkeys(("syntheses", "students"), "whole [1, 1e9]"),
    **dict.fromkeys(("sd", "ci95"), "null or [0, 10]"),
    **{"ipc": "null or (0, 1e9]", "ipc_range": "absent or null or text", "data_hash": "absent or text"},
    **{"mean": "[0, 1]", "balanced_accuracy": "absent or [0, 1]", "accuracies": "absent or any number of [0, 1]"},
    **{
        "accuracy_by_class": "absent or map of any text to null or [0, 1]",
        "seconds": "[-1e12, 1e12]",
    },  # a clock went back
    **dict.fromkeys(("synsets", "protocol_changes", "cell_changes", "cut"), "absent or any number of any text"),
}


def check_report(record: Mapping[str, Any]) -> None:
    """Raise ValueError, without the name of the file, if ``record`` is no report; other fields may be anything."""
    check_ranges("", record, RECORD)
    for number, row in enumerate(record["rows"]):
        check_ranges(f"row {number}", row, ROW)


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
            self.rows = record["rows"]
            # Earlier versions kept accuracies, which do not tell the classes: those students are trained again.
            self.hits = {name: hits for name, hits in record.get("unfinished", {}).items() if isinstance(hits, list)}
            self.spent = record.get("spent", 0.0)

    def find(self, row: Mapping[str, Any], former: Mapping[str, Any] = MappingProxyType({})) -> Row | None:
        """The row that measures the same, if there is one; ``former`` has the values of keys that earlier versions wrote."""
        now = [row.get(key) for key in self.KEY]
        ways = [(own, former.get(key, own)) for key, own in zip(self.KEY, now, strict=True)]
        return next(
            (old for old in self.rows if all(old.get(key) in way for key, way in zip(self.KEY, ways, strict=True))),
            None,
        )

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


@dataclass(frozen=True)
class Published:
    """A paper's number, and the cell it belongs to.

    Attributes:
        number: in %, see `check_published`.
        cell: its name; empty for a number that the command line gives for just this run.
        changes: what the run has otherwise than the cell, a text for each value.
    """

    number: str
    cell: str
    changes: Sequence[str]

    def fields(self, more: Sequence[str]) -> Row:
        """What a row says of it; ``more`` are changes that the row itself shows."""
        changes = [*self.changes, *more]
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
