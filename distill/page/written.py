"""The report as one self-contained page: table, intervals, pictures, curves, configurations and commands."""

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files
from pathlib import Path

import jinja2
from markupsafe import Markup

from distill.files import replacing
from distill.page.boards import Boards
from distill.page.figures import intervals
from distill.page.made import sets
from distill.report.rows import RANDOM, WHOLE, Report, Row
from distill.report.table import LEGEND, TEXT, lines, write_csv
from distill.text import harmless, shown

MOST_CLASSES = 20  # whose accuracies are shown one by one; of more, the lowest and the highest

EXTREMES = 5


def write_page(report: Report, runs: Sequence[Report], command: str) -> list[Path]:
    """Write ``report.csv`` and ``report.html`` of the rows that are known, beside ``report.json``.

    Args:
        report: whose folder gets the files.
        runs: whose rows they hold, usually ``report`` alone.
        command: the one that the reader can repeat.

    Returns:
        The two paths.
    """
    several = len(runs) > 1
    rows = [{"run": run.path.parent.name, **row} if several else row for run in runs for row in run.rows]
    seen = lines(rows)
    paths = list(dict.fromkeys(path for run in runs for row in run.rows for path in made(run, row)))
    templates = jinja2.Environment(
        loader=jinja2.FunctionLoader(_source), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    script, boards = _source("page.js"), Boards(rows)
    about = list(
        dict.fromkeys(f"{row['method']} on {row['data']}" for row in rows if row["method"] not in (RANDOM, WHOLE))
    )
    parts = templates.get_template("page.html").generate(
        title=f"distill: {', '.join(about[:3])}{f' and {len(about) - 3} more' if about[3:] else ''}",
        written=datetime.now().strftime("%Y-%m-%d %H:%M"),
        columns=(*(("run",) if several else ()), *seen.columns),
        text=("run", *TEXT),
        rows=[
            ({"run": shown(row.get("run", "")), **cells}, row, own)
            for cells, row, own in zip(seen.cells, rows, boards.facets, strict=True)
        ],
        boards=boards.boards(),
        choices=boards.choices,
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        baselines=(RANDOM, WHOLE),
        legend=[*LEGEND, *seen.notes],
        intervals=intervals(rows),
        classes=[
            (cells, _classes(row)) for cells, row in zip(seen.cells, rows, strict=True) if row.get("accuracy_by_class")
        ],
        any_made=bool(paths),
        made=sets(paths),
        command=command,
        commands=list(dict.fromkeys(row["command"] for row in rows if row["command"])),
    )
    table, page = (report.path.with_suffix(suffix) for suffix in (".csv", ".html"))
    write_csv(table, rows)
    with replacing(page) as part, part.open("w", encoding="utf-8") as file:
        file.writelines(harmless(part, lines=True) for part in parts)
    return [table, page]


def _source(name: str) -> str:
    """A template, the style or the script."""
    return files("distill.page").joinpath(name).read_text(encoding="utf-8")


def made(run: Report, row: Row) -> list[Path]:
    """The files of the synthetic sets that a row is about, as far as they are still there; one path for each file."""
    return [path for name in row.get("synsets", []) if (path := (run.path.parent / name).resolve()).is_file()]


def _classes(row: Row) -> str:
    """``cat 50.0, dog 61.2``; of many classes the lowest and the highest."""
    known = {name: 100 * mean for name, mean in row["accuracy_by_class"].items() if mean is not None}
    names = list(known)
    if len(names) > MOST_CLASSES:
        ranked = sorted(names, key=known.__getitem__)
        names = [*ranked[:EXTREMES], "...", *ranked[-EXTREMES:]]
    return ", ".join(f"{shown(name)} {known[name]:.1f}" if name in known else name for name in names)
