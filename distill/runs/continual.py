"""Class-incremental learning: after each step, students on the memories of all steps so far, fresh or going on.

Source: DSA (arXiv:2102.08259) and DM (arXiv:2110.04181), after GDumb (Prabhu et al., ECCV 2020); of students that go on, IDC
(arXiv:2205.14959), after learning without forgetting (Li & Hoiem, ECCV 2016).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from distill.continual.courses import Course, course
from distill.continual.orders import blocks, renumbered, seen
from distill.data.real import RealData
from distill.evaluation.entry import Entry, Network
from distill.evaluation.evaluate import evaluate, kept, plan
from distill.evaluation.kept import Kept
from distill.evaluation.measure import Bench
from distill.evaluation.protocol import Protocol
from distill.evaluation.rehearsal import check_protocol
from distill.report.rows import Report, Row
from distill.runs.composed import Composed, compose, overrides
from distill.runs.entries import about, are_made
from distill.runs.judging import bench, networks
from distill.runs.line import Line
from distill.runs.pipeline import at_work, carry_out
from distill.runs.progress import Shown
from distill.runs.recorded import complete_overrides
from distill.runs.signals import goes_on
from distill.sets.base import TrainingSet
from distill.sets.coreset import Coreset
from distill.sets.reading import load
from distill.sets.union import joined
from distill.teachers.labels import Hard
from distill.text import command_line

RANDOM, JOINT = "random", "joint"


@dataclass
class Stream:
    """Classes that come step by step, in several orders, and the methods that keep a memory of each step.

    Attributes:
        methods: by name, random real images among them.
        common: what all runs are told.
        out: where memories and rows lie.
    """

    methods: Sequence[str]
    steps: int
    orders: int
    ipc: Any
    common: Sequence[str]
    out: Path
    paths: dict[tuple[str, int, int], Path] = field(default_factory=dict)
    kept: dict[tuple[str, int, int], Kept | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.whole = Line(self.run("task=evaluate", *overrides("", {"out": str(self.out)})), Shown())
        self.real: RealData = self.whole.real
        self.blocks = [blocks(number, self.real.train.num_classes, self.steps) for number in range(self.orders)]
        self.whole.command = command_line()

    def run(self, *words: str) -> Composed:
        return compose(*complete_overrides([*self.common, *words]))

    def check(self) -> None:
        """Raise ValueError if a method could not make the memory of a step, or no student could be trained on it."""
        if self.whole.judges is not None:
            raise ValueError(
                f"protocol {self.whole.protocol().name} asks teachers, who would know classes that have not come: take one "
                "without, such as protocol=cl-gdumb"
            )
        if self.whole.protocol().labels.continues and len(self.whole.students) > 1:
            raise ValueError(
                f"student is {','.join(self.whole.students)}: students that go on are of one network, run one after another"
            )
        for name in self.methods:
            self.memory(name, 0, 0)
        images = sum(self.real.train.asked(self.ipc))
        check_protocol(self.whole.protocol(), self.real, images, snapshots=False)

    def memory(self, method: str, order: int, step: int) -> Line:
        """What makes the memory of one step: it is given that step's classes alone."""
        names = [self.real.train.class_names[cls] for cls in self.blocks[order][step]]
        folder = self.out / "memories" / f"order{order}-step{step + 1}of{self.steps}"
        own = {"task": "distill", "data.classes": names, "seed": self.seed(order), "out": str(folder)}
        words = [
            *overrides("", {**own, "experts_path": str(self.out / "experts"), "ipc": self.ipc}),
            f"method={method}",
        ]
        line = Line(self.run(*words), Shown())
        self.paths[method, order, step] = line.folder(line.ipcs[0], line.cfg.seed) / "synset.safetensors"
        return line

    def seed(self, order: int) -> int:
        """Of memories and students: each order has its own."""
        return int(self.whole.cfg.seed) + order

    # --- memories, then students ----------------------------------------------------------------------------------------

    def go(self) -> None:
        """Make what is not there, order by order and step by step; a memory that is there is never touched again."""
        for order, step in self.places:
            for method in self.methods:
                line = self.memory(method, order, step)
                if not are_made(line):
                    carry_out(line.run, line.real, ("experts", "distill"))
            with at_work() as progress, goes_on(lambda: "the last epoch kept"):
                self.whole.progress = progress
                for method in (*self.methods, JOINT):
                    entry, real, protocol = self.judged(method, order, step)
                    report, own = Report(self.out / "report.json"), self.bench(method, order, step)
                    evaluate(entry, real, self.networks(real), protocol, report, own)

    @property
    def places(self) -> Iterator[tuple[int, int]]:
        return ((order, step) for order in range(self.orders) for step in range(self.steps))

    def judged(self, method: str, order: int, step: int) -> tuple[Entry, RealData, Protocol]:
        """What students learn from after a step, which images tell, and how they are trained."""
        classes = [cls for block in self.blocks[order][: step + 1] for cls in block]
        name = f"{self.real.train.name}, order {order}, step {step + 1} of {self.steps}"
        real, protocol = seen(self.real, classes, name), self.whole.protocol()
        real = renumbered(real, classes) if protocol.labels.continues else real
        if method != JOINT:
            memories = self.memories(method, order, step, real.train.class_names)
            return Entry([memories], method, None, about=about(self.whole), twins=False), real, protocol
        steps, batch = self.steps_of_joint(order, step, real)
        protocol = protocol.trained(epochs=None, extra_epochs=0, steps=steps, batch=batch)
        protocol = protocol.with_(labels=Hard(), candidates={}, name=f"{protocol.name}, {steps} steps")
        whole = Coreset.whole(real.train)
        whole.record = {"seed": self.seed(order)}
        return Entry([whole], JOINT, None, about=about(self.whole)), real, protocol

    def steps_of_joint(self, order: int, step: int, real: RealData) -> tuple[int, int]:
        """As many as the memory's students take, in all steps so far where they go on; and their batch."""
        protocol, asked, found, made = self.whole.protocol(), self.real.train.asked(self.ipc), list[int](), 0
        for block in self.blocks[order][: step + 1]:
            made += sum(asked[cls] for cls in block)
            recipe = check_protocol(protocol, real, made, snapshots=False).recipe
            found.append(recipe.updates(made))
        return sum(found) if protocol.labels.continues else found[-1], recipe.batch

    def memories(self, method: str, order: int, step: int, class_names: Sequence[str]) -> TrainingSet:
        """Those of all steps so far as one set, whose students answer with these classes."""
        return joined([load(self.paths[method, order, each]) for each in range(step + 1)], class_names)

    def networks(self, real: RealData) -> dict[str, Network]:
        """The students, which answer with the classes of a view."""
        return networks(self.whole, real.train.num_classes)

    def bench(self, method: str, order: int, step: int) -> Bench:
        """What the students after a step are trained with: where they go on, all are kept for the next step."""
        entry, _, protocol = self.judged(method, order, step)
        own = bench(self.whole, entry)
        if not protocol.labels.continues:
            return own
        own = replace(own, keep=self.out / "students")
        return replace(own, before=self.students(method, order, step - 1)) if step else own

    def students(self, method: str, order: int, step: int) -> Kept | None:
        """Where those after a step lie."""
        if (method, order, step) not in self.kept:
            entry, real, protocol = self.judged(method, order, step)
            own, students = self.bench(method, order, step), self.networks(real)
            self.kept[method, order, step] = kept(plan(entry, real, students, protocol, own)[1][0], own, students, real)
        return self.kept[method, order, step]

    # --- what came out --------------------------------------------------------------------------------------------------

    def rows(self, method: str, order: int) -> list[Row]:
        """Of one order, step by step.

        Raises:
            RuntimeError: another process is making one.
        """
        report, found = Report(self.out / "report.json"), []
        for step in range(self.steps):
            entry, real, protocol = self.judged(method, order, step)
            planned = plan(entry, real, self.networks(real), protocol, self.bench(method, order, step))[1][0]
            row = report.find(planned.row, planned.former)
            if row is None:
                raise RuntimeError("another process is making rows of this stream: call it again when that is done")
            found.append(row)
        return found

    def courses(self) -> Mapping[str, list[tuple[Course, list[Row]]]]:
        """By method, order by order: the course and its rows."""
        test = self.real.test
        both = partial(self._both, test=test)
        return {name: [both(name, order) for order in range(self.orders)] for name in (*self.methods, JOINT)}

    def _both(self, name: str, order: int, test: Any) -> tuple[Course, list[Row]]:
        rows = self.rows(name, order)
        return course(rows, self.blocks[order], test), rows
