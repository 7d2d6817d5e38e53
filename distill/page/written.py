"""The report as one self-contained page: boards, rows, intervals, sets, and what each shows when it is opened."""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib.resources import files
from pathlib import Path

import jinja2
from markupsafe import Markup

from distill.files import replacing
from distill.page.boards import Boards
from distill.page.details import Packed, artefacts, by_class, facts
from distill.page.figures import intervals
from distill.page.made import Made, sets
from distill.report.rows import BASELINES, Report, Row
from distill.report.table import LEGEND, TEXT, lines, write_csv
from distill.text import harmless, shown


def write_page(report: Report, runs: Sequence[Report], command: str) -> list[Path]:
    """Write ``report.csv`` and ``report.html`` of the rows that are known, beside ``report.json``.

    Args:
        report: whose folder gets the files.
        runs: whose rows they hold, usually ``report`` alone.
        command: the one that the reader can repeat.

    Returns:
        The two paths.
    """
    table, page = (report.path.with_suffix(suffix) for suffix in (".csv", ".html"))
    several = len(runs) > 1
    rows = [{"run": run.path.parent.name, **row} if several else row for run in runs for row in run.rows]
    write_csv(table, rows)
    with replacing(page) as part, part.open("w", encoding="utf-8") as file:
        file.writelines(harmless(part, lines=True) for part in _parts(page.parent, runs, rows, command))
    return [table, page]


def _parts(home: Path, runs: Sequence[Report], rows: Sequence[Row], command: str) -> Iterator[str]:
    """The page, bit by bit."""
    templates = jinja2.Environment(
        loader=jinja2.FunctionLoader(_source), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    seen, script, packed = lines(rows), _source("page.js"), Packed()
    boards = Boards(rows, [cells["gain"] for cells in seen.cells])
    folders = [run.path.parent for run in runs for _ in run.rows]
    owned = [made(folder, row) for folder, row in zip(folders, rows, strict=True)]
    paths = {path: number for number, path in enumerate(dict.fromkeys(path for own in owned for path in own))}
    template = templates.get_template("row.html")
    for folder, row, cells, own in zip(folders, rows, seen.cells, owned, strict=True):
        told = {"facts": facts(row, cells), "artefacts": artefacts(row, folder, home), "classes": by_class(row)}
        numbers = [len(rows) + paths[path] for path in own]
        packed.add(template.render(cells=cells, command=row["command"], sets=numbers, **told))
    return templates.get_template("page.html").generate(
        title=_title(rows),
        written=datetime.now().strftime("%Y-%m-%d %H:%M"),
        columns=(*(("run",) if len(runs) > 1 else ()), *seen.columns),
        text=("run", "metric", *TEXT),
        rows=[
            ({"run": shown(row.get("run", "")), **cells}, row, own)
            for cells, row, own in zip(seen.cells, rows, boards.facets, strict=True)
        ],
        boards=boards.boards(),
        choices=boards.choices,
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        baselines=BASELINES,
        legend=[*LEGEND, *seen.notes],
        intervals=intervals(rows),
        any_made=bool(paths),
        made=_packing(sets(list(paths)), templates, packed),
        packed=packed,
        command=command,
        commands=list(dict.fromkeys(row["command"] for row in rows if row["command"])),
    )


def _packing(found: Iterator[Made], templates: jinja2.Environment, packed: Packed) -> Iterator[Made]:
    """Sets, of which each is packed before it is handed out."""
    for each in found:
        packed.add(templates.get_template("set.html").render(made=each))
        yield each


def _title(rows: Sequence[Row]) -> str:
    about = list(dict.fromkeys(f"{row['method']} on {row['data']}" for row in rows if row["method"] not in BASELINES))
    return f"distill: {', '.join(about[:3])}{f' and {len(about) - 3} more' if about[3:] else ''}"


def _source(name: str) -> str:
    """A template, the style or the script."""
    return files("distill.page").joinpath(name).read_text(encoding="utf-8")


def made(folder: Path, row: Row) -> list[Path]:
    """The files of the sets that a row of the report in ``folder`` is about, as far as they are there; a path for each file."""
    return [path for name in row.get("synsets", []) if (path := (folder / name).resolve()).is_file()]
