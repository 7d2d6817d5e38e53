"""Rows of many runs in one report."""

import os
from collections.abc import Sequence
from pathlib import Path

from distill.files import read_record, write_record
from distill.report.rows import MOVE, Report


def collect(path: Path, runs: Sequence[Report]) -> Path:
    """Write the rows of all ``runs`` as one report; their sets are named as seen from its folder."""
    rows = []
    for run in runs:
        home = run.path.parent
        for row in run.rows:
            named = [os.path.relpath(home / name, path.parent) for name in row.get("synsets", [])]
            rows.append(row | ({"synsets": named} if named else {}))
    write_record(path, {"rows": rows, "runs": [os.path.relpath(run.path.parent, path.parent) for run in runs]})
    return path


def is_collected(path: Path) -> bool:
    """Whether a report was collected from runs, so that it may be written anew."""
    return path.is_file() and not (path.parent / "rows").is_dir() and "runs" in read_record(path, MOVE)
