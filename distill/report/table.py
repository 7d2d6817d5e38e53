"""How rows are shown: the cells of a table with notes below it, for a terminal and for the page; and a sheet for programs."""

import csv
import json
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from distill.files import replacing
from distill.report.gains import gains, metric_of
from distill.report.rows import BASELINES, Report, Row, gap_to_published
from distill.text import shown, signed, spreadsheet

MARKS = {"maximum": "†", "test": "‡"}

LEGEND = (
    "± half-width of the 95 % interval of the mean; over syntheses where R > 1.  * single synthesis: over students alone.",
)

PEAKS = (
    "† the paper's figure: the largest mean of all snapshots on the test split (or of tests on the way); no interval.",
    "‡ that snapshot with fresh students. Both were chosen on the test split: not comparable with the other rows.",
)

PUBLISHED = (
    "± of a published number: its standard deviation, no interval. In brackets behind it: how far ours is from it."
)

GAIN = (
    "gain: over as many random real images of each class, same student and protocol; ± half-width of its 95 % interval "
    "(Welch), over students where R = 1."
)

TEXT = ("method", "data", "ipc", "student", "protocol", "labels")

BUDGET = ("images", "MB", "steps")  # what rows are matched on: what is stored, and how long a student trains on it

TAKEN = {*TEXT, *BUDGET, "metric", "accuracy", "gain", "balanced", "sd", "published", "R x S", "seconds", "run"}

UNTOLD = {  # settings that have a column of their own, or that move no number
    *TEXT, "task", "out", "experts_path", "labels_path", "synset", "union", "runs", "published", "experiment", "syntheses",
    "device", "threads", "compile", "workers", "engine", "logger", "protocol.students", "baselines", "draws", "keep_students",
    "data.root", "data.download", "data.workers", "engine.address", "engine.retries", "engine.folder", "engine.most",
    "engine.minutes", "engine.gigabytes", "engine.partition", "engine.poll",
}  # fmt: skip

MOST_CHANGES = 8  # that a note spells out, or that have a column; the report has all


@dataclass(frozen=True)
class Lines:
    """Rows as a table shows them.

    Attributes:
        columns: their names, in order.
        cells: of each row, by column; accuracies in %.
        notes: what the marks of single rows mean.
    """

    columns: tuple[str, ...]
    cells: list[dict[str, str]]
    notes: list[str]


def lines(rows: Sequence[Row]) -> Lines:
    """The rows as cells; data, and protocols, of one name that are not the same have numbers of their own."""
    several, presets, unlike = _Numbers(), _Numbers(), _Numbers()
    kinds = {(row["data"], row.get("data_hash")) for row in rows}
    named = Counter(name for name, _ in kinds)
    uneven = any(abs(row.get("balanced_accuracy", row["mean"]) - row["mean"]) > 1e-9 for row in rows)
    balanced = ("balanced",) if uneven else ()
    varied, budgets = differing(rows), [_budget(row) for row in rows]
    unequal = [name for name in BUDGET if len({each.get(name) for each in budgets}) > 1]
    over = gains(rows)
    gained = ("gain",) if any(over) else ()
    metric = ("metric",) if len(set(map(metric_of, rows))) > 1 else ()
    columns = (*TEXT, *metric, *varied, *unequal, "accuracy", *gained, *balanced, "sd", "published", "R x S", "seconds")
    cells = []
    for number, row in enumerate(rows):
        protocol, published = shown(row["protocol"]), shown(row.get("published") or "")
        if row.get("protocol_changes"):
            told = f"{protocol.replace('+', '+{}', 1)}: {spelt_out(row['protocol_changes'])}"
            protocol = protocol.replace("+", f"+{presets.number(told)}", 1)
        if published and row.get("cell_changed"):
            of, changes = shown(row.get("published_of") or "run"), spelt_out(row.get("cell_changes", []))
            published += f" [{unlike.number(f'[{{}}] of the unchanged {of}, no gap: {changes}')}]"
        data = shown(row["data"])
        if named[row["data"]] > 1:
            data += f" #{several.number(f'#{{}} {data}: {_kind(row)}')}"
        own = {name: shown(values[number]) for name, values in varied.items()}
        own |= {name: budgets[number].get(name, "") for name in unequal} | {"gain": _gained(over[number])}
        cells.append(own | _cells(row) | {"data": data, "protocol": protocol, "published": published + _gap(row)})
    alike = [f"{budgets[0][name]} {name}" for name in BUDGET if name not in unequal and name in next(iter(budgets), {})]
    chosen = PEAKS if any(row["selection"] in MARKS for row in rows) else ()
    papers = (PUBLISHED,) if any(row.get("published") for row in rows) else ()
    matched = [f"Every row: {', '.join(alike)}."] if alike else []
    compared = [GAIN] if gained else []
    filled = {
        f"{shown(row['protocol'])}: assumed are {', '.join(map(shown, row['assumed']))}."
        for row in rows
        if row.get("assumed")
    }
    return Lines(
        columns,
        cells,
        [*chosen, *papers, *compared, *matched, *sorted(filled), *several.notes, *presets.notes, *unlike.notes],
    )


def _budget(row: Row) -> dict[str, str]:
    """What a row is matched on, as far as it tells: rows of earlier versions lack some of it."""
    numbers = {"images": row.get("images"), "steps": row.get("optimizer_steps")}
    told = {name: f"{number:.0f}" for name, number in numbers.items() if number is not None}
    if "images" in told and row.get("decoded") is not None:
        told["images"] += f" (as {row['decoded']})"
    if "image_bytes" in row and "label_bytes" in row:
        size = (row["image_bytes"] + row["label_bytes"]) / 1e6
        told["MB"] = f"{size:.0f}" if size >= 100 else f"{size:.3g}"
    return told


def differing(rows: Sequence[Row]) -> dict[str, list[str]]:
    """What rows of a method, or their commands, have otherwise, as a column each; empty where one is silent."""
    stated = [_stated(row) for row in rows]
    names = []
    for name in dict.fromkeys(name for values in stated for name in values):
        seen: dict[Any, set[str]] = {}
        for row, values in zip(rows, stated, strict=True):
            seen.setdefault(row["method"], set()).add(values.get(name, ""))
        if any(len(values) > 1 for values in seen.values()):
            names.append(name)
    last = Counter(name.rpartition(".")[2] for name in names)
    columns = {}
    for name in names[:MOST_CHANGES]:
        short = name.rpartition(".")[2]
        title = name if last[short] > 1 or short in TAKEN else short
        columns[title] = [values.get(name, "") for values in stated]
    return columns


def _stated(row: Row) -> dict[str, str]:
    """Settings in the command of a row, and its seed; a baseline has none of the method."""
    try:
        items = [item.partition("=") for item in shlex.split(row["command"])]
    except ValueError:  # a quotation that does not end
        items = []
    values = {name.lstrip("+"): value for name, equals, value in items if equals}
    if row["method"] in BASELINES:
        values = {name: value for name, value in values.items() if not name.startswith("method.")}
    values |= {name: str(row[name]) for name in ("seed", "source") if name in row}
    return {name: value for name, value in values.items() if name not in UNTOLD}


class _Numbers:
    """Numbers for notes: the same note has the same number."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def number(self, note: str) -> int:
        return self.known.setdefault(note, len(self.known) + 1)

    @property
    def notes(self) -> list[str]:
        return [note.replace("{}", str(number), 1) for note, number in self.known.items()]


def _kind(row: Row) -> str:
    if "data_hash" not in row:
        return "measured before rows told their images, split, geometry and DSA families"
    return f"images, labels, split, geometry and DSA families of hash {shown(row['data_hash'])}"


def spelt_out(changes: Sequence[str]) -> str:
    """``epochs 1000 -> 2, ...``."""
    more = len(changes) - MOST_CHANGES
    return ", ".join(map(shown, changes[:MOST_CHANGES])) + (f", and {more} more" if more > 0 else "")


def _gained(gain: tuple[float, float | None] | None) -> str:
    if gain is None:
        return ""
    difference, half = gain
    return signed(100 * difference) + ("" if half is None else f" ± {100 * half:.1f}")


def _gap(row: Row) -> str:
    gap = gap_to_published(row)
    return "" if gap is None else f" ({signed(gap)})"


def _cells(row: Row) -> dict[str, str]:
    half = "" if row["ci95"] is None else f" ± {100 * row['ci95']:.1f}"
    return {
        **{name: shown(row[name]) for name in TEXT},
        "method": shown(", ".join([row["method"], *sorted(set(row.get("cut", [])))])),
        "ipc": shown(row.get("ipc_range") or row["ipc"] or "all"),
        "metric": shown(metric_of(row)),
        "accuracy": f"{100 * row['mean']:.1f}{half}{MARKS.get(row['selection'], '')}",
        "balanced": f"{100 * row['balanced_accuracy']:.1f}" if "balanced_accuracy" in row else "",
        "sd": "" if row["sd"] is None else f"{100 * row['sd']:.1f}",
        "R x S": f"{row['syntheses']} x {row['students']}{'*' if row['syntheses'] == 1 else ''}",
        "seconds": f"{row['seconds']:.0f}",
    }


def table(report: Report) -> Table:
    """The rows for people at a terminal."""
    seen = lines(report.rows)
    metrics = set(map(metric_of, report.rows))
    metric = shown(metrics.pop()) if len(metrics) == 1 else "accuracy"
    title = Text(f"{metric.capitalize()} on the test split, %  ({shown(report.path)})")
    whole = Table(title=title, caption=Text("\n".join([*LEGEND, *seen.notes])), caption_justify="left")
    for name in seen.columns:
        whole.add_column(name, justify="left" if name in TEXT else "right", overflow="fold")
    for row, cells in zip(report.rows, seen.cells, strict=True):
        grey = {"published": "dim"} if row.get("cell_changed") else {}
        whole.add_row(
            *(Text(cells[name], grey.get(name, "")) for name in seen.columns)
        )  # no markup: a name may look like some
    return whole


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """One line a row, whole or not at all; a list or a record is JSON in its cell, and no text is a formula."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(path) as part, part.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            cells = {k: json.dumps(v) if isinstance(v, list | dict) else spreadsheet(v) for k, v in row.items()}
            writer.writerow(cells)
