"""Rows of students for the sets of one configuration, beside its baselines; and pages of reports."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Sequence
from glob import glob
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig
from rich.console import Console

from distill.evaluation.entry import Entry, Network
from distill.evaluation.evaluate import evaluate as train_students
from distill.evaluation.evaluate import plan
from distill.evaluation.measure import Bench
from distill.evaluation.planned import Planned
from distill.evaluation.pretraining import Source
from distill.page.written import write_page
from distill.report.rows import RANDOM, Report, Row
from distill.report.runs import collect, is_collected
from distill.report.table import table
from distill.runs.checks import baselines
from distill.runs.entries import are_made, entries
from distill.runs.line import Line
from distill.runs.loggers import services
from distill.runs.rivals import distilled, rivals
from distill.runs.rivals import make as make_rivals
from distill.runs.signals import goes_on
from distill.teachers.labels import Teaching
from distill.text import command

# Of a row, and what loggers call it: the same for every set.
MEASURED = {"mean": "accuracy", "sd": "sd", "ci95": "ci95", "balanced_accuracy": "balanced_accuracy"}


def evaluate(line: Line) -> None:
    """Train students on the sets and on the baselines, and write report and page."""
    with goes_on(lambda: "the last epoch kept"):
        report = judge(line)
        if line.crew.first:
            if not report.added:
                line.progress.say("all rows were there: no student was trained")
            written(line, report)


def judge(line: Line) -> Report:
    """Train students on the sets and on the baselines; nothing is shown."""
    make_rivals(line)
    report = Report(line.out / "report.json")
    with goes_on(lambda: "the last epoch kept"):
        for own, entry in entries(line):
            train_students(entry, own.real, networks(own), own.protocol(), report, bench(own, entry))
    return report


def left(line: Line) -> bool:
    """Whether there are rows to be measured; sets and teachers that are not there yet have some."""
    return waits(line) or None in found(line, Report(line.out / "report.json"))


def waits(line: Line) -> bool:
    """Whether teachers or sets that the rows need are not there yet."""
    judges = [line, distilled(line)] if "kd" in baselines(line.cfg) else [line]
    teachers = [store for each in judges if each.judges for store in each.judge.teacher_stores(each.judges).values()]
    return any(store.missing for store in teachers) or not all(are_made(each) for each in [line, *rivals(line)])


def found(line: Line, report: Report) -> list[Row | None]:
    """The rows of the line's sets and baselines, which are made, in order; None where one is not measured yet."""
    return [report.find(each.row, each.former) for each in planned_rows(line)]


def planned_rows(line: Line) -> list[Planned]:
    """The rows that there will be of the line's sets and baselines, which are made, in order."""
    students = networks(line)
    return [
        each
        for own, entry in entries(line, quiet=True)
        for each in plan(entry, own.real, students, own.protocol(), bench(own, entry))[1]
    ]


def networks(line: Line, classes: int | None = None) -> dict[str, Network]:
    """The students; they answer with the real set's classes, or with fewer."""
    return {name: Network(line.student(name, classes), config) for name, config in line.students.items()}


def bench(line: Line, entry: Entry) -> Bench:
    """What the students of an entry are trained with."""
    committee = None if line.judges is None else line.committee(line.judges)
    teaching = Teaching(committee, labels_path(line, entry.method))
    keep = line.out / "students" if line.cfg.keep_students else None
    source = None if line.source is None else Source(line.source.train, line.out / "pretrained")
    return Bench(line.cfg.seed, teaching, line.cfg.compile, line.progress, keep, source=source)


def written(line: Line, report: Report) -> None:
    """Show the rows that there are, and write report and page."""
    line.progress.stop()
    Console(width=None if sys.stdout.isatty() else 1000).print(table(report))
    again = [*command().split(), "task=report", f"out={line.out}"]
    line.written += [report.path, *write_page(report, [report], shlex.join(again))]
    while report.refresh():  # another process added rows meanwhile
        report.write()
        write_page(report, [report], shlex.join(again))
    log_report(line, report)


def log_report(line: Line, report: Report) -> None:
    """The rows that this run added, with a run each; and all of them as a table."""
    for row in report.added:
        judged = ("student", "protocol", "labels", "selection")
        about = {key: value for key, value in row.items() if isinstance(value, str | int | float)}
        with services(line, group_of(row, line.out), "evaluate", "-".join(row[key] for key in judged), about) as found:
            measured = {name: row[key] for key, name in MEASURED.items() if row.get(key) is not None}
            for service in found:
                service.log_row(measured)
    columns = sorted({key for row in report.rows for key in row})
    with services(line, "report", "report", "report", {}) as found:
        for service in found:
            service.log_table("report", columns, [[cell(row.get(key)) for key in columns] for row in report.rows])


def group_of(row: Row, out: Path) -> str:
    """The name of the set that a row judged, or what its sets of several seeds have in common; of a baseline, what it is."""
    files = [(out / path).resolve() for path in row.get("synsets", ())]
    sets = [file.parent.name if file.stem == "synset" else file.stem for file in files]
    common = sets[0] if len(sets) == 1 else re.sub(r"-seed\d*$", "", os.path.commonprefix(sets))
    size = f"-ipc{row['ipc_range']}" if row.get("ipc_range") else ""
    return common or f"{row['data']}-{row['method']}{size}".replace(" ", "-")


def cell(value: Any) -> Any:
    """Numbers and text as they are, what holds several of them as JSON."""
    return value if value is None or isinstance(value, str | int | float) else json.dumps(value)


def labels_path(line: Line, method: str) -> Path:
    """Where labels are kept; one store that somebody gave is of the synthetic set alone."""
    given = Path(line.cfg.labels_path)
    return line.out / "labels" if method == RANDOM and (given / "labels.json").exists() else given


def report(cfg: DictConfig) -> list[Path]:
    """task=report: one page for the rows of ``runs``, with a report of all of them, or for those of ``out`` alone."""
    own, paths = Path(cfg.out) / "report.json", reports_of(cfg)
    if Report.there(own) and own not in paths and not is_collected(own):
        raise ValueError(
            f"{cfg.out} holds the report of another run: choose another folder with out=DIR, or add it to runs"
        )
    runs = [Report(path) for path in paths]
    if cfg.runs is None:
        runs[0].write()
    wrote = [] if own in paths else [collect(own, runs)]
    whole = Report(own)
    whole.rows = [row for run in runs for row in run.rows]
    Console(width=None if sys.stdout.isatty() else 1000).print(table(whole))
    return [*wrote, *write_page(whole, runs, shlex.join([*command().split(), *sys.argv[1:]]))]


def reports_of(cfg: DictConfig) -> list[Path]:
    """The reports in the folders that ``runs`` names, or the one in ``out``."""
    if cfg.runs is not None and (not isinstance(cfg.runs, ListConfig) or not cfg.runs):
        raise ValueError(f"runs is {cfg.runs}, expected a list of folders: runs=[DIR,DIR] or runs='[DIR/*]'")
    return reports_below([str(run) for run in cfg.runs or (cfg.out,)])


def reports_below(folders: Sequence[str]) -> list[Path]:
    """The reports in folders, each once; see `reports_in`."""
    found = {folder: reports_in(folder) for folder in folders}
    missing = [folder for folder, reports in found.items() if not reports]
    if missing:
        raise ValueError(f"no rows in {', '.join(missing)}: name folders that a run wrote as its out")
    return list(dict.fromkeys(path for reports in found.values() for path in reports))


def reports_in(pattern: str) -> list[Path]:
    """The report in a folder, or those in folders that a pattern with ``*`` names, collected ones left out."""
    here = Path(pattern) / "report.json"
    if Report.there(here):
        return [here]
    found = [Path(folder) / "report.json" for folder in sorted(glob(pattern))]
    return [path for path in found if Report.there(path) and not is_collected(path)]
