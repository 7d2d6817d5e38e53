"""How accuracy falls where images are attacked or corrupted: the students of an evaluation, kept, and a row for each condition.

Rows lie in ``robustness/attacked/`` below ``out``, a file each; what is measured is not measured again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from distill.comparison.forms import HOW, Cell, Form
from distill.comparison.written import write_tables
from distill.data.preprocessing import Preprocessing
from distill.data.real import load as load_data
from distill.data.split import Split
from distill.evaluation.conditions import Condition, Robustness, chosen, correct
from distill.evaluation.corruptions import KINDS
from distill.evaluation.kept import PixelStudent, load_student
from distill.evaluation.planned import Planned, make_rows
from distill.evaluation.statistics import by_class, statistics
from distill.files import digest
from distill.report.rows import Report, Row
from distill.report.unfinished import Unfinished
from distill.runs import judging
from distill.runs.checks import plain
from distill.runs.composed import Composed
from distill.runs.line import Line
from distill.runs.pipeline import carry_out
from distill.runs.progress import Shown, shown
from distill.runs.signals import goes_on

AGAIN = "delete it, and the same command trains it again"
COPIED = (
    *Report.KEY, "protocol", "ipc_range", "counts", "training_hash", "syntheses", "students", "synthesis_seeds", "synsets",
    "command", "protocol_changes", "cut",
)  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """A row of the evaluation, as it was planned and as it is; and the files of its students, synthesis by synthesis."""

    planned: Planned
    row: Row
    students: Sequence[Path]


def robustness(run: Composed, settings: Robustness, arrows: Sequence[str]) -> tuple[list[Form], list[Path]]:
    """Judge what a run names, keep the students, and measure them under every condition.

    Args:
        run: of an evaluation that keeps students.
        arrows: that lead to its rows.

    Returns:
        The tables, and the files that they were written to.
    """
    before = Line(run, Shown())
    split = pixels(before, settings.images)
    conditions = settings.conditions()
    line = carry_out(run, before.real, arrows)
    folder = line.out / "robustness"
    report = Report(folder / "attacked" / "report.json")
    with goes_on(lambda: "the last student"), shown() as progress:
        for _ in range(2):  # what another process was making may be there the second time
            found = [attacked(each, conditions, split, report, progress) for each in subjects(line)]
    tables = [table(name, conditions, found, split) for name in names(conditions)]
    return tables, write_tables(tables, [row for each in found for row in each.values()], folder, {})


def attacked(
    subject: Subject, conditions: Sequence[Condition], split: Split, report: Report, progress: Shown
) -> dict[str, Row]:
    """Add the rows of a subject that are not there yet; all that are there, by condition."""
    rows = [planned(subject, each, split) for each in conditions]
    bench = Measuring(subject, dict(zip(map(Report.name, rows), conditions, strict=True)), split, progress)
    make_rows(report, [bench.plan(row, rows[0]) for row in rows], bench.measure)
    progress(bench.text, len(rows), len(rows))
    there = [report.find(row) for row in rows]
    return {each.text: row for each, row in zip(conditions, there, strict=True) if row is not None}


def subjects(line: Line) -> Iterator[Subject]:
    """The line's rows whose students are kept."""
    report = Report(line.out / "report.json")
    for each in judging.planned_rows(line):
        row = report.find(each.row, each.former)
        if row is not None and each.selection != "maximum":
            folder = line.out / "students" / Report.name(each.row)
            every = [(i, j) for i in range(row["syntheses"]) for j in range(row["students"])]
            yield Subject(each, row, [folder / f"{i}-{j}.safetensors" for i, j in every])


def pixels(line: Line, count: int | None) -> Split:
    """Test images as pixels in [0, 1]: all, or a fixed choice that has as many of each class as its share."""
    values = plain(line.cfg.data)
    values["zca"] = False
    own = load_data(values.pop("name"), **values, prepare=Preprocessing("pixel01"), device=line.device).test
    index = chosen(own.labels, len(own) if count is None else count)
    return replace(own, images=own.images[index], labels=own.labels[index])


def planned(subject: Subject, condition: Condition, split: Split) -> Row:
    """The keys of a row, and what else it says whatever comes out."""
    about = {key: subject.row[key] for key in COPIED if key in subject.row}
    inputs = digest([Report.name(subject.row), subject.row["accuracies"], condition.told, len(split)])
    metric = "accuracy" if condition.name == "clean" else f"accuracy under {condition.text}"
    own = {"inputs_hash": inputs, "metric": metric, "condition": condition.told, "test_images": len(split)}
    return {**about, **own, "published": None}


@dataclass(frozen=True)
class Measuring:
    """The students of a subject under conditions, which are known by the names of their rows."""

    subject: Subject
    conditions: Mapping[str, Condition]
    split: Split
    progress: Shown

    @property
    def text(self) -> str:
        return f"{self.subject.planned.text}: conditions"

    def plan(self, row: Row, clean: Row) -> Planned:
        """A row that there will be, after that of clean images."""
        text = f"{self.subject.planned.text}: {self.conditions[Report.name(row)].text}"
        return replace(self.subject.planned, row=row, former={}, after=None if row is clean else clean, text=text)

    def measure(self, row: Planned, unfinished: Unfinished, clean: Row | None) -> Row:
        """The numbers of a row; ``clean`` is that of the same students on clean images."""
        name, began, paths = Report.name(row.row), time.monotonic() - unfinished.spent, self.subject.students
        condition = self.conditions[name]
        self.progress(self.text, list(self.conditions).index(name), len(self.conditions))
        for path in paths:
            if path.stem not in unfinished.hits:
                found = correct(self.student(path), self.split, condition.change)
                unfinished.keep({path.stem: found}, {}, time.monotonic() - began)
        hits = [unfinished.hits[path.stem] for path in paths]
        accuracies = [sum(each) / len(self.split) for each in hits]
        before = accuracies if clean is None else clean["accuracies"]
        return {
            "accuracies": accuracies,
            **statistics(np.array(accuracies).reshape(row.row["syntheses"], -1)),
            **by_class(hits, self.split),
            "clean": before,
            "share": None if sum(before) == 0 else sum(accuracies) / sum(before),
            "seconds": time.monotonic() - began,
            "torch": torch.__version__,
        }

    def student(self, path: Path) -> PixelStudent:
        """A kept student, on the images' device.

        Raises:
            ValueError: it is one of other classes or of other images.
        """
        student = load_student(path)
        asked = {"class_names": list(self.split.class_names), "shape": list(self.split.shape)}
        for name, value in asked.items():
            if student.record[name] != value:
                raise ValueError(f"{path} is of {name} {student.record[name]}, expected {value}: {AGAIN}")
        return student.to(self.split.labels.device)


def names(conditions: Sequence[Condition]) -> list[str]:
    """Of attacks and corruptions, in order."""
    return list(dict.fromkeys(each.name for each in conditions[1:]))


def table(name: str, conditions: Sequence[Condition], measured: Iterable[Mapping[str, Row]], split: Split) -> Form:
    """A line for each subject, a column for each strength of one attack or corruption."""
    own = [conditions[0], *(each for each in conditions if each.name == name)]
    body = []
    for rows in measured:
        row = next(iter(rows.values()), None)
        if row is not None:
            about = [row["method"], row.get("ipc_range") or row["ipc"] or "all", row["student"], row["labels"]]
            body.append([*(Cell(str(each)) for each in about), *(cell(rows.get(each.text)) for each in own)])
    unit = "strength 1 to 5, ours" if name in KINDS else "radius in 1/255 of the range of pixels"
    told = ", ".join(f"{key} {value}" for key, value in own[-1].more.items())
    notes = [HOW[0], "In brackets: the share of the clean accuracy that is left.", *([told] if told else [])]
    columns = ["method", "ipc", "student", "labels", "clean", *(f"{each.strength:g}" for each in own[1:])]
    title = f"Accuracy on {len(split)} test images of {split.name} under {name}, %: {unit}"
    return Form(f"robustness-{name}", title, columns, body, notes)


def cell(row: Row | None) -> Cell:
    """``46.1 ± 0.6 (0.71)``; of clean images the runs in place of what is left."""
    if row is None:
        return Cell()
    half = "" if row["ci95"] is None else f" ± {100 * row['ci95']:.1f}"
    if row["metric"] == "accuracy":
        return Cell(f"{100 * row['mean']:.1f}{half}", f"{row['syntheses']}x{row['students']}")
    share = "" if row["share"] is None else f" ({row['share']:.2f})"
    return Cell(f"{100 * row['mean']:.1f}{half}{share}")
