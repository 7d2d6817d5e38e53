"""Results as data: what a cell measured, in one file that tables are made from and that a run made again stands beside."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from distill.checks import check_ranges, setting
from distill.comparison.forms import Cell, Form, accuracy, plain
from distill.comparison.pivots import by_size, size
from distill.comparison.verdicts import Verdict, verdict
from distill.files import read_record, write_record
from distill.presets import options
from distill.report.gains import beside, over
from distill.report.rows import RANDOM, Row, check_report
from distill.text import harmless, signed

RESULTS = Path(str(files("distill.results")))
GOLDEN = RESULTS / "golden"  # what each method has on handwritten digits; `make golden` holds it
HELP = "write it again with `distill result`"

SET = {
    **{"seed": "whole [0, 1e20]", "hash": "text", "file": "null or text", "torch": "null or text"},
    **{"seconds": "null or [-1e12, 1e12]", "steps": "null or whole [0, 1e12]"},
}

NOTES = (
    "Ours: mean over R syntheses x S students, ± half-width of its 95 % interval; where R = 1 over students alone. "
    "Published ± is a standard deviation.",
    "Met: with 1.645 standard errors of both numbers at most a point apart. Consistent: within 1.96 of them; a run that has "
    "something otherwise than its cell can be no more. With changes: so it has, and the details say what.",
)

GAIN = "Gain: over random real images under the same protocol, ± half-width of its 95 % interval (Welch's t)."
COST = "Seconds are those of the hardware that the cell's file names."

WITHIN = (
    "Compare methods under one protocol alone. `distill reproduce CELL` runs one again; a method's link shows its images and "
    "names its cell."
)


@dataclass(frozen=True)
class Result:
    """What a cell measured.

    Attributes:
        cell: of ``configs/experiment`` where there is one of the name.
        command: makes the rows; where files lie and how the same work is done are left out of it.
        date: of the last row, ``2026-11-29``.
        hardware: of sets and students.
        mark: why the number is not one of this version, as `measured before ...`; None where it is.
        deviations: what the run has otherwise than the published cell.
        rows: as the report has them; the first is the cell's own, baselines follow.
        sets: seed, hash, seconds, steps and torch's version of each synthesis, and its file where that is kept.
    """

    cell: str = setting("text")
    command: str = setting("text")
    date: str = setting("text")
    hardware: str = setting("text")
    mark: str | None = setting("null or text")
    deviations: Sequence[str] = setting("any number of text")
    rows: Sequence[Row] = setting("list of map of text to anything")
    sets: Sequence[Mapping[str, Any]] = setting("any number of map of text to anything")

    def __post_init__(self) -> None:
        """Raises ValueError: a value is none that it can have."""
        check_ranges("", vars(self), {each.name: each.metadata["range"] for each in fields(self)})
        check_report({"rows": self.rows})
        for number, each in enumerate(self.sets):
            check_ranges(f"set {number}", each, SET)

    @classmethod
    def read(cls, path: Path) -> "Result":
        """Raises ValueError: the file is damaged or no result."""
        record = read_record(path, HELP)
        try:
            return cls(**{each.name: record.get(each.name, ...) for each in fields(cls)})
        except ValueError as error:
            raise ValueError(f"{path} is no result ({error}): {HELP}") from None

    def write(self, folder: Path) -> Path:
        """The file ``folder/<cell>.json``; with the verdict, for programs."""
        path, found = folder / f"{self.cell}.json", self.verdict
        told = {"verdict": None if found is None else asdict(found)}
        write_record(path, {**vars(self), **told})
        return path

    @property
    def row(self) -> Row:
        """The cell's own, with what is otherwise than the published cell."""
        return {**self.rows[0], "cell_changes": list(self.deviations), "cell_changed": bool(self.deviations)}

    @property
    def words(self) -> list[str]:
        """Of the command."""
        return shlex.split(self.command)[1:]

    @property
    def verdict(self) -> Verdict | None:
        return verdict(self.row)

    @property
    def seconds(self) -> tuple[float | None, float]:
        """Of all sets, None where one does not tell; and of the students of all rows."""
        known = [each["seconds"] for each in self.sets]
        return None if None in known else sum(known), sum(row["seconds"] for row in self.rows)

    @property
    def random(self) -> list[Row]:
        """Of random real images, judged beside the cell."""
        return [row for row in self.rows[1:] if row["method"] == RANDOM]

    @property
    def kept(self) -> str | None:
        """File of the first synthesis whose set is kept."""
        return next((each["file"] for each in self.sets if each["file"]), None)


def results(folder: Path = RESULTS) -> list[Result]:
    """All that lie in a folder, by cell."""
    return [Result.read(path) for path in sorted(folder.glob("*.json"))]


def find(cell: str, folder: Path = RESULTS) -> Result | None:
    """That of a cell; None where there is none."""
    path = folder / f"{cell}.json"
    return Result.read(path) if path.is_file() else None


def summary(found: Sequence[Result]) -> Form:
    """A line a cell: published and ours, verdict, what random real images have, cost and date."""
    columns = ["cell", "published, ± sd", "ours", "verdict", "random real", "gain", "sets, s", "students, s", "date"]
    body = []
    for each in found:
        sets, students = each.seconds
        cost = plain(None if sets is None else f"{sets:.0f}", f"{students:.0f}", each.date)
        ours = [accuracy(each.row), *plain(_told(each), *_gained(each, found))]
        body.append([*plain(each.cell, each.row.get("published")), *ours, *cost])
    marks = [f"{each.cell}: {each.mark}." for each in found if each.mark]
    return Form("results", "Cells that were run here", columns, body, [*NOTES, GAIN, COST, *marks])


def _random(result: Result, found: Sequence[Result]) -> Row | None:
    """Random real images that were judged as the cell was: beside it, or else beside another or as a cell of their own."""
    rows = [each.row for each in [result, *found]]
    own, *cells = ({**row, "method": RANDOM} if row["method"] == "random" else row for row in rows)
    return beside([own, *(row for each in found for row in each.random), *cells, *result.random])[0]


def _gained(result: Result, found: Sequence[Result]) -> tuple[str | None, str | None]:
    """The accuracy of random real images, and what the cell has more."""
    random = _random(result, found)
    return (None, None) if random is None else (accuracy(random).text, _points(over(result.row, random)))


def details(found: Sequence[Result]) -> Form:
    """A line a cell: what it was."""
    columns = ["cell", "otherwise than the cell", "hardware", "sd of students", "seeds", "sets", "torch"]
    body = []
    for each in found:
        sd, sets = each.row.get("sd_student"), each.sets
        spread = None if sd is None else f"{100 * sd:.1f}"
        versions = dict.fromkeys(str(one) for one in [*(made["torch"] for made in sets), each.row.get("torch")] if one)
        seeds, hashes = (", ".join(str(made[name]) for made in sets) or None for name in ("seed", "hash"))
        told = "; ".join(each.deviations) or ("nothing" if each.verdict else None)
        body.append(plain(each.cell, told, each.hardware, spread, seeds, hashes, ", ".join(versions)))
    return Form("details", "What they were", columns, body)


def overview(found: Sequence[Result]) -> Form:
    """Methods, as their cells name them, by data and size: ours, with its distance from the published number."""
    told = {(_method(each), _where(each)): each for each in found if each.verdict}
    ordered = sorted(told.values(), key=lambda each: (each.row["data"], *by_size(each.row)[2:]))
    methods, columns = (list(dict.fromkeys(names)) for names in (map(_method, told.values()), map(_where, ordered)))
    body = []
    for method in methods:
        cells = [told.get((method, column)) for column in columns]
        body.append(plain(method, *(each and f"{accuracy(each.row).text}, {_told(each)}" for each in cells)))
    return Form("overview", "Published cells, run here", ["method", *columns], body)


def _method(result: Result) -> str:
    """As its cell names it: rded, rded_convnet."""
    return result.cell.partition(f"_{result.row['data']}")[0]


def _where(result: Result) -> str:
    return f"{result.row['data']}, ipc {size(result.row)}"


def leaderboard(found: Sequence[Result]) -> Form:
    """By data and size the methods, the most accurate first, each with its place in the gallery; and random real images."""
    told: dict[tuple[str, ...], tuple[Row, list[Cell]]] = {}
    for each in found:
        link = Cell(each.row["method"], link=f"gallery.md#{each.cell}" if each.kept else "results.md#cells-with-data")
        for number, row in enumerate([each.row, *each.random]):
            own = number == 0
            name, last = (link, [each.row.get("published"), _told(each)]) if own else (Cell(RANDOM), [None, None])
            how = f"{row['protocol']}, {row['student']}, {row['labels']}"
            told[each.cell if own else "", row["data"], size(row), how] = row, [name, accuracy(row), *plain(*last, how)]
    body, before = list[list[Cell]](), ""
    for row, cells in sorted(told.values(), key=lambda one: (one[0]["data"], *by_size(one[0])[2:], -one[0]["mean"])):
        where = f"{row['data']}, ipc {size(row)}"
        body.append([Cell("" if where == before else where), *cells])
        before = where
    columns = ["data", "method", "accuracy, %", "published, ± sd", "verdict", "protocol, student, labels"]
    return Form("leaderboard", "Cells that were run here", columns, body, [NOTES[0], WITHIN])


def gallery(found: Sequence[Result]) -> list[tuple[Result, str]]:
    """Results whose sets are kept, with what their number stands beside."""
    told = []
    for each in (one for one in found if one.kept):
        row, random = each.row, _random(each, found)
        random_told = "not measured" if random is None else f"{accuracy(random).text} ({accuracy(random).runs})"
        papers = f"published {row['published']} (± sd), {_told(each)}" if each.verdict else _told(each)
        text = f"{accuracy(row).text} % ({accuracy(row).runs}); {papers}; random real images: {random_told}"
        how = f"Protocol {row['protocol']}, student {row['student']}, {row['labels']} labels"
        told.append((each, f"{text}. {how}."))
    return told


def golden(found: Sequence[Result]) -> Form:
    """A line a method: its accuracy on handwritten digits, with what random real images have, and the time of both."""
    columns = ["method", "protocol", "ours", "random real", "gain", "sets, s", "students, s", "date"]
    body = []
    for each in found:
        sets, students = each.seconds
        cost = plain(None if sets is None else f"{sets:.0f}", f"{students:.0f}", each.date)
        ours = [accuracy(each.row), *plain(*_gained(each, found))]
        body.append([*plain(each.row["method"], each.row["protocol"]), *ours, *cost])
    hardware = dict.fromkeys(each.hardware for each in found)
    return Form("golden", "Golden accuracies", columns, body, [GAIN, f"Hardware: {'; '.join(hardware)}."])


def ablation(found: Sequence[Result]) -> Form:
    """A line a recipe, in the given order, with what it has more than the line above."""
    body = []
    for number, each in enumerate(found):
        gain = over(each.row, found[number - 1].row) if number else None
        body.append([*plain(each.cell), accuracy(each.row), *plain(_points(gain))])
    told = "Gain: ± half-width of its 95 % interval (Welch's t)."
    return Form("ablation", "What each ingredient gains", ["recipe", "ours", "gain over the line above"], body, [told])


def without(found: Sequence[Result]) -> int:
    """How many published cells have none."""
    return len({name for name in options("experiment") if "_ipc" in name} - {each.cell for each in found})


def _points(gain: tuple[float, float | None] | None) -> str | None:
    return None if gain is None else " ± ".join(f"{100 * part:.1f}" for part in gain if part is not None)


def _told(result: Result) -> str:
    found = result.verdict
    if found is None:
        return "no published number"
    changed = "with changes" if result.deviations else ""
    return harmless(f"{found.word} ({'; '.join(filter(None, [signed(found.difference), found.why, changed]))})")
