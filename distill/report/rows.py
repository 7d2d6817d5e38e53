"""The report: rows of measured accuracies, a JSON file each; `distill.report.table` and `distill.page` show them."""

import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import MappingProxyType
from typing import Any

from filelock import FileLock, Timeout

from distill.checks import check_ranges
from distill.files import clear_abandoned, digest, read_record, write_record
from distill.identity import digits
from distill.parallel import within
from distill.report.unfinished import Unfinished

Row = dict[str, Any]

RANDOM, WHOLE, SCRATCH = BASELINES = "random real", "whole real set", "from scratch"  # how their rows are called

PEAKED = ("maximum", "test")  # selections of snapshots that were chosen on the test split

MOVE = "move it away or choose another out=DIR"
MEASURE = "delete it to have its row measured again"

RECORD = {
    **{"rows": "any number of map of text to anything", "spent": "absent or [-1e12, 1e12]"},
    "unfinished": "absent or map of text to [0, 1] or any number of whole [0, inf)",
}

ROW = {
    **dict.fromkeys(("method", "data", "student", "protocol", "labels", "selection", "command"), "any text"),
    **dict.fromkeys(("syntheses", "students"), "whole [1, 1e9]"),
    **{"seconds": "[-1e12, 1e12]", "assumed": "absent or any number of any text"},  # seconds: a clock went back
    **dict.fromkeys(("sd_synthesis", "sd_student"), "absent or null or [0, 10]"),
    **dict.fromkeys(("student_hash", "protocol_hash", "training_hash", "synset_hash"), "absent or null or text"),
    **{"ipc": "null or [0, 1e9]", "ipc_range": "absent or null or text", "data_hash": "absent or text"},
    **dict.fromkeys(("counts", "synthesis_seeds"), "absent or null or any number of whole [0, 1e20]"),
    **{"mean": "[0, 1]", "balanced_accuracy": "absent or [0, 1]", "sd": "null or [0, 10]", "ci95": "null or [0, 10]"},
    **dict.fromkeys(("accuracies", "validation_accuracies"), "absent or any number of [0, 1]"),
    **{"accuracy_by_class": "absent or map of any text to null or [0, 1]", "source": "absent or text"},
    **dict.fromkeys(("synsets", "protocol_changes", "cell_changes", "cut"), "absent or any number of any text"),
    **dict.fromkeys(("images", "decoded", "image_bytes", "label_bytes"), "absent or whole [0, 1e18]"),
    **dict.fromkeys(("optimizer_steps", "seen", "synthesis_seconds"), "absent or [0, 1e18]"),
    **dict.fromkeys(("operations", "peak_bytes", "synthesis_peak_bytes"), "absent or [0, 1e30]"),
    **{"metric": "absent or text", "values": "absent or any number of [-inf, inf]", "written": "absent or text"},
}

FILE = {**ROW, "metric": "text", "values": "any number of [-inf, inf]", "written": "text"}  # of a row

ROW_FILE = re.compile(r"[0-9a-f]{12}\.json")


def check_report(record: Mapping[str, Any]) -> None:
    """Raise ValueError, without the name of the file, if ``record`` is no report; other fields may be anything."""
    check_ranges("", record, RECORD)
    for number, row in enumerate(record["rows"]):
        check_ranges(f"row {number}", row, ROW)


class Report:
    """Rows of results, each a file ``rows/<digits>.json`` beside ``report.json``, which is made from them.

    A row is one synthetic set (or R of them) x one student x one protocol, named by what it measures (`KEY`), so that
    processes and machines can add rows to one folder at once. A ``report.json`` without ``rows`` beside it, as earlier
    versions wrote it, counts for its rows; they become files before the first is added. Students of a row that such a report
    left unfinished are trained again: they are kept under digests of format 1 (`distill.identity`).

    Attributes:
        rows: by the time they were written; what others wrote since the last `refresh` is not among them.
        added: those that were added here.
    """

    KEY = (
        "method", "data", "data_hash", "ipc", "student", "student_hash", "labels", "protocol_hash", "synset_hash",
        "inputs_hash", "selection", "seed",
    )  # fmt: skip

    def __init__(self, path: Path):
        self.path, self.folder = path, path.parent / "rows"
        self.rows: list[Row] = []
        self.added: list[Row] = []
        self.files: dict[str, Row] = {}
        if not self.folder.is_dir() and path.exists():  # of an earlier version
            record = read_record(path, MOVE)
            try:
                check_report(record)
            except ValueError as error:
                raise ValueError(f"{path} is not a report ({error}): {MOVE}") from None
            self.rows = record["rows"]
        self.refresh()

    def __repr__(self) -> str:
        return f"Report of {len(self.rows)} rows in {self.path}"

    @staticmethod
    def there(path: Path) -> bool:
        """Whether there are rows, or a report of an earlier version."""
        return path.is_file() or (path.parent / "rows").is_dir()

    @classmethod
    def name(cls, row: Mapping[str, Any]) -> str:
        """Twelve hex digits that stand for what a row measures."""
        return digits({key: row.get(key) for key in cls.KEY})

    def find(self, row: Mapping[str, Any], former: Mapping[str, Sequence[Any]] = MappingProxyType({})) -> Row | None:
        """The row that measures the same, if there is one; ``former`` has the values of keys that earlier versions wrote."""
        ways = [(row.get(key), *former.get(key, ())) for key in self.KEY]
        alike = (old for old in self.rows if all(map(lambda key, way: old.get(key) in way, self.KEY, ways)))
        return next(alike, None)

    def refresh(self) -> bool:
        """Read the rows that others wrote since; whether there were some."""
        if not self.folder.is_dir():
            return False
        before, names = self.files, sorted(filter(ROW_FILE.fullmatch, os.listdir(self.folder)))
        self.files = {name: before[name] if name in before else _row(self.folder / name) for name in names}
        self.rows = sorted(self.files.values(), key=lambda row: row["written"])
        return self.files.keys() != before.keys()

    def add(self, row: Row) -> None:
        """Add a row, as a file of its own, in place of one that measured the same."""
        row, name = _typed(row, datetime.now(timezone.utc)), self.name(row)
        check_ranges("row", row, FILE)
        self.begin()
        write_record(self.folder / f"{name}.json", row)
        for path in self.folder.glob(f"unfinished_{name}*"):
            path.unlink(missing_ok=True)
        self.added.append(row)
        self.files.pop(f"{name}.json", None)  # a row that is measured again is another one
        self.refresh()

    @contextmanager
    def making(self, row: Mapping[str, Any]) -> Iterator[Unfinished | None]:
        """Hold one row against all but this crew, as long as the block or this process lasts; None if another one holds it."""
        self.begin()
        name = self.name(row)
        lock = FileLock(self.folder / f".{name}.lock", timeout=0)

        def take() -> bool:
            try:
                lock.acquire()
            except Timeout:
                return False
            for part in self.folder.glob(f".*{name}*.part"):  # of a process that was killed
                part.unlink(missing_ok=True)
            return True

        try:
            with within(name) as own:
                yield Unfinished(self.folder / f"unfinished_{name}.json") if own.take(take) else None
        finally:
            lock.release()

    def begin(self) -> None:
        """Make the folder of rows, with those of an earlier version in it from its first moment on."""
        if self.folder.is_dir():
            return
        part = self.path.parent / f".rows.{uuid.uuid4().hex[:8]}.part"
        part.mkdir(parents=True)
        try:
            # They did not tell when they were written: at the latest with their report, and in this order.
            last = datetime.fromtimestamp(self.path.stat().st_mtime if self.rows else 0, timezone.utc)
            for place, row in enumerate(self.rows, 1 - len(self.rows)):
                path = part / f"{self.name(row)}.json"
                path = part / f"{digest(row)}.json" if path.exists() else path  # a key of before told more apart
                write_record(path, _typed(row, last + place * timedelta(microseconds=1)))
            part.rename(self.folder)
        except OSError:
            if not self.folder.is_dir():  # else another process was first
                raise
        finally:
            shutil.rmtree(part, ignore_errors=True)
        self.refresh()

    def write(self) -> None:
        """Make ``report.json`` from what lies in the folder; of many processes the last one has every row."""
        self._clear()
        while self.folder.is_dir():
            write_record(self.path, {"rows": self.rows})
            if not self.refresh():
                return

    def _clear(self) -> None:
        """Clear what processes left that were killed as they wrote; beside a row that is there it is of no use."""
        for pattern in (f".{self.path.stem}.*.part", ".rows.*.part"):
            clear_abandoned(self.path.parent, pattern)
        for path in [*self.folder.glob("unfinished_*"), *self.folder.glob(".*.lock")]:
            if f"{path.stem.removeprefix('unfinished_').removeprefix('.')[:12]}.json" in self.files:
                path.unlink(missing_ok=True)


def _typed(row: Row, now: datetime) -> Row:
    values = {"metric": "accuracy", "values": row.get("accuracies", [row["mean"]])}
    return {**values, "written": now.isoformat(timespec="microseconds"), **row}


def _row(path: Path) -> Row:
    record = read_record(path, MEASURE)
    try:
        check_ranges("", record, FILE)
    except ValueError as error:
        raise ValueError(f"{path} is not a row ({error}): {MEASURE}") from None
    return record


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
