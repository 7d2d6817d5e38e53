"""A suite on sets: cells, cheap ones first; a row is a restart point, what fails is told and tried again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hydra.utils import instantiate

from distill.comparison.forms import Form
from distill.comparison.written import write_tables
from distill.data.real import RealData
from distill.engines.base import Engine
from distill.files import flat
from distill.presets import options
from distill.report.rows import Report, Row
from distill.runs import ahead, judging
from distill.runs.checks import plain
from distill.runs.composed import compose, literal, overrides
from distill.runs.entries import are_made, folders
from distill.runs.line import Line
from distill.runs.outside import is_here, sent
from distill.runs.pipeline import carry_out
from distill.runs.progress import Shown
from distill.runs.recorded import complete_overrides
from distill.suites.base import RANDOM, WHOLE, Cell, Judged, Subject, Suite
from distill.suites.tables import cells, is_random_of, random_beside, scores


@dataclass(frozen=True)
class Job:
    """A subject in a cell."""

    subject: Subject
    cell: Cell

    @property
    def id(self) -> str:
        return f"{self.subject.id}-{self.cell.name}"

    @property
    def work(self) -> tuple[Any, ...]:
        """What jobs have in common that one of them does for all."""
        judged = {"": self.subject, RANDOM: self.subject.size, WHOLE: ""}[self.cell.of]
        return (self.cell.of, judged, self.cell.student, self.cell.stated)


@dataclass
class SuiteRun:
    """A suite, what it judges, and what is known of it.

    Attributes:
        common: what all cells are told beside.
        out: where rows, sets and the suite's tables lie.
        rivals: random images of draws of their own, by size.
        missing: inputs that are not here, a text each; there is no subject that needs one.
        failed: reasons of cells that failed, by their ids.
        reals, lines: what was read and composed before, for each subject and each cell.
        sets: what names the sets that a method made.
    """

    suite: Suite
    name: str
    subjects: Sequence[Subject]
    common: Sequence[str]
    out: Path
    rivals: Mapping[str, Subject] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    reals: dict[Subject, RealData] = field(default_factory=dict)
    lines: dict[Job, Line] = field(default_factory=dict)
    sets: dict[Subject, tuple[str, str]] = field(default_factory=dict)

    @property
    def made(self) -> list[Subject]:
        """All whose sets there are to be, those of rivals too where a cell judges them."""
        asked = any(cell.of == RANDOM for each in self.subjects for cell in self.suite.cells({}, each.name))
        return [*self.subjects, *(self.rivals.values() if asked else ())]

    def check(self) -> None:
        """Let fail what the suite, or the first cell of a subject, would find impossible."""
        there = []
        for subject in self.subjects:
            try:
                self.find_sets(subject, make=False)
                line = self.line(Job(subject, self.suite.cells({}, subject.name)[0]))
            except FileNotFoundError as error:
                self.missing += [str(error)] * (str(error) not in self.missing)
                continue
            self.suite.check(len(line.real.val) > 0)
            there.append(subject)
        self.subjects = there
        self.check_spaces()
        for subject in self.made:
            self.find_sets(subject, make=False)

    def check_spaces(self) -> None:
        """Let fail sets that random images could not stand beside: those live in the space that the words name."""
        spaces = {subject: self.reals[subject].train.preprocessing.space for subject in self.subjects}
        for subject, space in spaces.items():
            beside = next((spaces[other] for other in spaces if is_random_of(other, subject)), space)
            if space != beside:
                zca = str(space == "zca").lower()
                raise ValueError(
                    f"{subject.id} lives in space {space}, random images in {beside}: state data.zca={zca}, and judge sets of "
                    "different spaces in runs of their own (out=DIR)"
                )

    def words(self, job: Job) -> list[str]:
        """The whole command line of a cell; it judges a method's sets where they are there."""
        if not job.cell.of:
            return self.told(self.sets.get(job.subject) or job.subject.stated, job.cell)
        method = f"method={job.subject.name if job.subject.name in options('method') else RANDOM}"
        if job.cell.of == WHOLE:
            return self.alike(job, ["task=evaluate", method, "ipc=null"])
        rival = self.rivals[job.subject.size]
        return self.alike(job, [*self.sets[rival], method]) if rival in self.sets else self.told(rival.stated, job.cell)

    def alike(self, job: Job, stated: list[str]) -> list[str]:
        """The command line of what stands beside a set: its students are such networks, with such teachers, as the set's."""

        def trained(line: Line) -> dict[str, Any]:
            teachers = {} if line.judges is None else {"protocol": {"labels": {"committee": plain(line.judges)}}}
            return flat({"student": line.students, **teachers})

        own = self.line(Job(job.subject, replace(job.cell, of="")))
        other = trained(Line(compose(*self.told(stated, job.cell)), Shown(), self.reals.get(self.judged(job))))
        unlike = {name: value for name, value in trained(own).items() if other.get(name, ...) != value}
        return self.told([*stated, *overrides("", unlike)], job.cell)

    def told(self, stated: Sequence[str], cell: Cell) -> list[str]:
        others = re.compile(rf"student\.(?!{re.escape(cell.student)}\.)")  # settings of networks that this cell has not
        common = [word for word in self.common if not others.match(word)]
        last = (f"baselines=[{WHOLE if cell.of == WHOLE else ''}]", f"out={literal(str(self.out))}")
        # Of words that say the same the last one counts: a user's before the cell's.
        return complete_overrides([f"student=[{cell.student}]", *cell.stated, *common, *stated, *last])

    def making(self, subject: Subject) -> Line:
        """What a subject is made by, which is what the first cell is told."""
        run = compose(*self.told(subject.stated, self.suite.cells({}, subject.name)[0]))
        return Line(run, Shown(), self.reals.get(subject))

    def find_sets(self, subject: Subject, make: bool) -> None:
        """Let cells judge the sets of a method, whatever their students, where they are there; or make them first."""
        if subject in self.sets or "task=evaluate" in subject.stated:
            return
        line = self.making(subject)
        self.reals[subject] = line.real
        if make and not are_made(line):
            carry_out(line.run, line.real, ("experts", "distill"))
        if line.kind.makes_sets and are_made(line):
            paths = [str(folder / "synset.safetensors") for folder in folders(line)]
            self.sets[subject] = ("task=evaluate", f"synset={literal(paths)}")
            self.lines = {}

    def line(self, job: Job) -> Line:
        """What a cell names, as objects; nothing is trained."""
        if job not in self.lines:
            judged = self.judged(job)
            self.lines[job] = Line(compose(*self.words(job)), Shown(), self.reals.get(judged))
            self.reals[judged] = self.lines[job].real
        return self.lines[job]

    def judged(self, job: Job) -> Subject:
        """Whose images are at hand for a job: its own, or the rival's."""
        return self.rivals[job.subject.size] if job.cell.of == RANDOM else job.subject

    def rows(self, subject: Subject) -> dict[str, Row]:
        """The rows that there are, by cell."""
        report, found = Report(self.out / "report.json"), dict[str, Row]()
        for _ in range(2):  # rows of the first cells may decide further ones
            for cell in self.suite.cells(found, subject.name):
                line = self.line(Job(subject, cell)) if cell.sure and cell.name not in found else None
                if line and not judging.waits(line) and (row := judging.found(line, report)[0]):
                    found[cell.name] = row
        return found

    def left(self) -> list[tuple[float, Job]]:
        """Cells without a row whose words are known, with about how many operations they take, the cheap ones first."""
        jobs = []
        for subject in self.subjects:
            there = self.rows(subject)
            every = self.suite.cells(there, subject.name)
            jobs += [Job(subject, cell) for cell in every if cell.sure and cell.name not in there]
        return sorted(((self.operations(job), job) for job in jobs), key=lambda each: each[0])

    def operations(self, job: Job) -> float:
        """About how many floating-point operations the cell's students take."""
        line = self.line(job)
        return ahead.needed_by(line, ahead.students(line))

    def go(self, index: int = 0, count: int = 1) -> None:
        """Try once each what is left, or the ``index``-th of ``count`` shares of it; what fails is noted, and the others go on.

        Where another process is making a row, it is left to that process.
        """
        if self.missing:
            raise FileNotFoundError(
                f"nothing was started, {len(self.missing)} inputs are missing: {'; '.join(self.missing)}"
            )
        for subject in self.made:
            with self.noted(subject.id):
                self.find_sets(subject, make=True)
        every = [Job(subject, cell).id for subject in self.subjects for cell in self.suite.cells({}, subject.name)]
        tried = set(every) - set(every[index::count])
        while jobs := [job for _, job in self.left() if job.id not in tried and job.subject.id not in self.failed]:
            tried |= {job.id for job in jobs}
            self.try_each(jobs)

    def try_each(self, jobs: Sequence[Job]) -> None:
        """One after another with all workers; or, where these are elsewhere, side by side, each cell by one of them."""
        engine: Engine | None = None
        for job in jobs:
            with self.noted(job.id):
                line = self.line(job)
                engine = instantiate(line.cfg.engine)
                carry_out(line.run, line.real, ("experts", "judge") if is_here(engine) else ("experts",))
        left = [job for job in jobs if job.id not in self.failed]
        if engine is None or is_here(engine) or not left:
            return
        longest = self.line(left[-1])
        with sent(engine, [self.words(job) for job in left], ("judge",), longest) as futures:
            for job, future in zip(left, futures, strict=True):
                with self.noted(job.id):
                    future.result()

    @contextmanager
    def noted(self, what: str) -> Iterator[None]:
        """Note why something failed, and go on."""
        try:
            yield
        except (ValueError, RuntimeError, OSError) as error:
            self.failed[what] = str(error)

    def finish(self) -> tuple[list[Form], list[dict[str, Any]], list[Path]]:
        """Tables of the scores of each subject and of every cell; the scores; and the files that both were written to."""
        rows = {subject: self.rows(subject) for subject in self.subjects}
        summary = self.summary(rows)
        tables = [
            scores(self.suite, self.name, rows),
            *self.suite.tables(rows),
            cells(self.suite, self.name, rows, self.failed),
        ]
        told = {"failed": self.failed, "scores": summary}
        return tables, summary, write_tables(tables, told, self.out / "suite" / self.name, {})

    def summary(self, judged: Judged) -> list[dict[str, Any]]:
        """The scores of each subject as fractions, and the intervals of those that have one."""
        found = []
        for subject, rows in judged.items():
            random = random_beside(subject, judged)
            ends = self.suite.intervals(rows, random)
            told = {"intervals": {name: list(pair) for name, pair in ends.items()}} if ends else {}
            found.append({"method": subject.name, "ipc": subject.size, **self.suite.score(rows, random), **told})
        return found
