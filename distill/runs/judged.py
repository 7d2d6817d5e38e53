"""Students that lie ahead of a run, and the labels that they are told: what is counted of them before they are there."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter

import torch

from distill.data.split import Split
from distill.effort import BACK, operations
from distill.evaluation.protocol import Protocol
from distill.evaluation.rehearsal import check_protocol
from distill.report.rows import RANDOM, SCRATCH, WHOLE
from distill.runs.checks import UNMADE, baselines
from distill.runs.line import Line
from distill.runs.pieces import Labelling, Training
from distill.runs.rehearsed import Work
from distill.runs.rivals import beside, distilled
from distill.sets.reading import SUFFIX, file_of
from distill.sizes import Size
from distill.teachers.committee import Committee
from distill.teachers.labels import Teaching
from distill.training.accuracy import hits
from distill.training.losses import CrossEntropy
from distill.training.recipe import Recipe

TESTED = 100  # images that tell what a test takes


@dataclass(frozen=True)
class Judged:
    """Sets of one method and size, which are judged or will be.

    Attributes:
        line: says how.
        name: of the method.
        sets: how many there are.
        images: that students see of each.
        soft: whether their own labels are.
        vectors: whether these are vectors.
        snapshots: of each set, among which a protocol chooses.
        rated: whether they come with a step size.
        twins: whether other kinds of labels have rows, too.
    """

    line: Line
    name: str
    sets: int
    images: int
    soft: bool = False
    vectors: bool = False
    snapshots: int = 1
    rated: bool = False
    twins: bool = True


def sets_of(line: Line) -> Iterator[Judged]:
    """All that is judged, in the order of the report."""
    named, judge, train = baselines(line.cfg), line.judge, line.real.train
    for size in [None] if line.synsets else line.ipcs:
        own = given(line) if size is None else made(line, size)
        yield own
        for name in ("random", "kd"):
            if name in named:
                teller = judge if name == "random" else distilled(line)
                yield Judged(teller, RANDOM, named[name], own.images, twins=name == "random")
        for rival, other in ((name, beside(line, name)) for name in named if name not in UNMADE):
            yield Judged(other if judge is line else judge, rival, named[rival], own.images)
    if "whole" in named:
        yield Judged(judge, WHOLE, 1, len(train))
    if "scratch" in named:
        yield Judged(judge, SCRATCH, 1, 0)


def given(line: Line) -> Judged:
    """The sets that somebody gave."""
    first = line.synsets[0]
    kept = [len(list(file_of(path).parent.glob(f"snapshots/step_*{SUFFIX}"))) for path in line.paths]
    snapshots = max(1, min(kept)) if line.protocol().choice.chooses and not line.cfg.union else 1
    name, count = str(first.record.get("method", "unknown")), len(line.synsets)
    return Judged(
        line.judge, name, count, len(first.decoded), first.is_soft, first.has_vectors, snapshots, first.lr is not None
    )


def made(line: Line, size: Size) -> Judged:
    """The sets of one size that this run makes."""
    method = line.method(size, line.cfg.seed, line.untrained)
    snapshots = 1 + math.ceil(method.steps / method.snapshot_every) if line.protocol().choice.chooses else 1
    images = sum(method.counts) * method.copies
    return Judged(
        *(line.judge, line.choices["method"], line.cfg.syntheses, images),
        *(method.is_soft, method.has_vectors, snapshots, method.is_rated),
    )


def students(line: Line) -> list[Work]:
    """All students, with what they learn before and are told."""
    found = []
    for each in sets_of(line):
        real = each.line.judge.real
        images = each.line.protocol().trained_on(each.images, len(real.train))
        protocol = check_protocol(each.line.protocol(), real, images, snapshots=False)
        if protocol.pretraining is not None and each.images:
            found += pretraining(line, each, protocol)
        plan = protocol.plan(each.soft, each.snapshots > 1)
        for labels, selection in (row for row in plan if each.twins or row[0] == plan[0][0]):
            row = Row(each, protocol.with_(labels=labels), selection, images)
            found += row.labelling()
            found += [row.training(name) for name in line.students]
    return [work for work in found if work.units]


@dataclass(frozen=True)
class Row:
    """Students of every network under one kind of labels and one selection.

    Attributes:
        images: that they are trained on.
    """

    of: Judged
    protocol: Protocol
    selection: str
    images: int

    @property
    def line(self) -> Line:
        return self.of.line.judge

    @property
    def name(self) -> str:
        labels = self.protocol.labels.name
        return f"{self.of.name}{f', {labels} labels' if labels not in ('own', 'hard') else ''}"

    @property
    def students(self) -> int:
        """Trained in all, for the row's numbers and for its choice among snapshots."""
        sets, each, snapshots = self.of.sets, self.protocol.students, self.of.snapshots
        if self.selection == "val":
            return sets * (snapshots + each)
        return sets * each * (snapshots if self.selection == "maximum" else 1)

    @property
    def tries(self) -> list[Recipe]:
        """Of the students, one each, that choose among the protocol's candidates."""
        candidates = {name: list(values) for name, values in self.protocol.candidates.items()}
        if not candidates:
            return []
        if "lr" in candidates and self.of.rated:
            candidates["lr"].append(self.protocol.recipe.lr)
        every = (dict(zip(candidates, each, strict=True)) for each in itertools.product(*candidates.values()))
        return [self.protocol.recipe.with_(**values) for values in every]

    @property
    def committee(self) -> Committee | None:
        """Whom the labels ask, untrained."""
        if self.protocol.labels.committee is None:
            return None
        assert self.line.judges is not None
        found = self.line.untrained(self.line.judges)
        for net in found.nets:
            net.to(self.line.device)
        return found

    @property
    def recipe(self) -> Recipe:
        """Of the row's students; where it is to be chosen, the longest."""
        return max(
            [*self.tries, self.protocol.recipe][: len(self.tries) or 1], key=lambda each: each.passes(self.images)
        )

    def training(self, name: str) -> Work:
        """Students of one network."""
        real, recipe, labels, images = self.line.real.train, self.recipe, self.protocol.labels, self.images
        passes, count, tries = recipe.passes(images), self.students, self.tries
        asked = self.committee if not labels.ahead(passes) else None
        alone = labels.committee is not None or self.protocol.pretraining is not None
        own = Training(
            *(self.line.student(name), recipe, real, images, count, 1 if alone else self.protocol.students),
            *("protocol.recipe", CrossEntropy(), False if alone else self.line.cfg.compile),
            *((None, None) if asked is None else (labels, Teaching(asked))),
        )
        seen = count * passes + sum(each.passes(images) for each in tries)
        trial = own.trial._replace(steps=own.trial.steps + sum(each.updates(images) for each in tries))
        told = 0.0 if asked is None else seen * images * asked_once(asked, real)
        set_bytes = 4 * images * math.prod(real.shape) * (not self.protocol.tunes and real.in_memory)
        return Work(
            f"{count + len(tries)} students {name} on {self.name} of {passes} epochs",
            units=count + len(tries),
            images=seen * images * labels.passes / BACK,
            batch=min(recipe.batch, images),
            make=own.make,
            recipe=recipe,
            trial=trial,
            resident=set_bytes + 4 * images * real.num_classes * (labels.ahead(passes) > 0),
            more=lambda: told,
            rest=partial(tests, own, self.line.real.test, count + len(tries)),
        )

    def labelling(self) -> list[Work]:
        """What teachers are asked before."""
        labels, recipe, images, real = self.protocol.labels, self.recipe, self.images, self.line.real.train
        passes, committee, judges = recipe.passes(images), self.committee, self.line.judges
        epochs = self.of.sets * labels.ahead(passes)
        if not epochs or committee is None or judges is None:
            return []
        own = Labelling(committee, labels, recipe, real, images, epochs * recipe.batches(images))
        return [
            Work(
                f"{epochs} times labels of {self.of.name}, by {len(committee.nets)} teachers",
                units=epochs,
                images=epochs * images / BACK,
                batch=min(recipe.batch, images),
                make=self.line.student(self.line.members(judges)[0]),
                recipe=None,
                disk=self.of.sets * labels.takes(images, real.num_classes, passes, 8 * images),
                less="or protocol.labels.top_k=10, fewer protocol.recipe.epochs",
                trial=own.trial,
                resident=4 * images * (math.prod(real.shape) * real.in_memory + 2 * real.num_classes),
                more=lambda: epochs * images * (asked_once(committee, real) - asked_once(committee, real, 1)),
            )
        ]


def asked_once(committee: Committee, real: Split, members: int | None = None) -> float:
    """Operations of so many members, or of all, that are asked about an image."""
    image = real.images[:2]
    return sum(operations(partial(next, iter([net])), image, passes=1) for net in committee.nets[:members])


def tests(own: Training, split: Split, count: int) -> float:
    """Seconds of tests of so many students, as some images tell."""
    some = torch.arange(min(TESTED, len(split)), device=split.labels.device)
    few = replace(split, images=split.images[some], labels=split.labels[some])
    with torch.random.fork_rng():
        net = own.make().to(split.labels.device)
    hits(net, few, own.recipe)
    began = perf_counter()
    hits(net, few, own.recipe)
    return count * (perf_counter() - began) * len(split) / len(few)


def pretraining(line: Line, of: Judged, protocol: Protocol) -> list[Work]:
    """What students do before they are tuned, where the protocol says so; what is found again is counted, too."""
    assert protocol.pretraining is not None
    recipe = protocol.pretraining.vectors if of.vectors else protocol.pretraining.classes
    place = f"protocol.pretraining.{'vectors' if of.vectors else 'classes'}"
    count, real = of.sets * protocol.students, line.real.train
    found = []
    for name in line.students:
        own = Training(line.student(name), recipe, real, of.images, count, 1, place, CrossEntropy(), False)
        passes = recipe.passes(of.images)
        text = f"{count} students {name} on {of.name} before, of {passes} epochs"
        seen = count * passes * of.images
        found.append(Work(text, count, seen, min(recipe.batch, of.images), own.make, recipe, trial=own.trial))
    return found
