"""One row: the choices, then R x S students."""

import itertools
import math
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from distill.data.real import RealData
from distill.data.split import Split
from distill.effort import operations, peak_bytes
from distill.evaluation.kept import Kept
from distill.evaluation.pretraining import Source
from distill.evaluation.protocol import Protocol
from distill.evaluation.statistics import by_class, statistics
from distill.evaluation.trial import Trial, rate
from distill.evaluation.underway import Underway
from distill.parallel import Unit, crew
from distill.progress import HowFar, silent
from distill.report.rows import Row
from distill.report.unfinished import Unfinished
from distill.sets.base import TrainingSet
from distill.sets.coreset import Coreset
from distill.teachers.labels import Teaching
from distill.training.batch import Batches
from distill.training.gradients import way_to_train

Iterates = Sequence[Mapping[int, TrainingSet]]  # for every synthesis its snapshots by outer step


@dataclass(frozen=True)
class Bench:
    """What students are trained with.

    Attributes:
        seed: student j of synthesis i is a function of (seed, i, j) alone.
        teaching: who is asked for labels.
        compile: see `distill.autotune.fastest`; where it is faster, too, the students of a set are trained as one stack.
        progress: called with (text, students done, students in all).
        keep: folder of trained students, which are kept there row by row; None keeps none.
        before: students that these go on from, one each; None for fresh ones.
        source: where students are pre-trained, under a protocol that does; else None.
    """

    seed: int = 0
    teaching: Teaching = field(default_factory=Teaching)
    compile: bool | str = False
    progress: HowFar = silent
    keep: Path | None = None
    before: Kept | None = None
    source: Source | None = None


class Measurement:
    """One row: the choices, then R x S students.

    Args:
        make: makes a student's network.
        unfinished: the row's students so far.
        text: what the row is called while it is made.
        kept: where its students are kept; None for nowhere.
    """

    def __init__(
        self,
        real: RealData,
        make: Callable[[], nn.Module],
        bench: Bench,
        unfinished: Unfinished,
        text: str,
        kept: Kept | None = None,
    ):
        self.kept = kept
        self.real, self.make, self.bench, self.unfinished, self.text = real, make, bench, unfinished, text
        self.device = real.train.labels.device
        self.tried = 0
        self.began = time.monotonic() - unfinished.spent  # of this row, before a kill too

    def measure(
        self,
        sets: Sequence[TrainingSet],
        iterates: Iterates,
        protocol: Protocol,
        selection: str,
        steps: list[int] | None,
    ) -> Row:
        """The row's numbers; ``steps`` are the snapshots that the row of the maximum chose on the test split."""
        test = self.real.test
        chosen: dict[str, Any] = {}
        trials: list[Trial] = []
        if protocol.candidates:
            protocol, chosen = self.choose(sets[0], protocol)
        if selection == "val" and iterates:
            steps, _ = self.best_iterates(protocol, iterates, self.real.val, 1)
        if selection == "maximum" and iterates:
            steps, trials = self.best_iterates(protocol, iterates, test, protocol.students)
            self.tried -= len(sets) * protocol.students
        if steps:
            chosen["step"] = steps
            sets = [snapshots[step].to(self.device) for snapshots, step in zip(iterates, steps, strict=True)]
        trials = trials or self.trials(protocol, sets, test, protocol.students, peak=selection == "maximum")
        hits = self.hits(trials, "students")
        accuracies = [sum(each) / len(test) for each in hits]
        also = [self.unfinished.hits[key] for trial in trials for key in trial.also_keys]
        batches, told = trials[0].told()
        return {
            "accuracies": accuracies,
            **statistics(np.array(accuracies).reshape(len(sets), -1)),
            **({"ci95": None} if selection == "maximum" else {}),  # the largest of several means has no such interval
            **by_class(hits, test),
            **({"validation_accuracies": [sum(each) / len(self.real.val) for each in also]} if also else {}),
            "syntheses": len(sets),
            "students": protocol.students,
            "lr": [rate(each, protocol) for each in sets],
            "chosen": chosen,
            "students_for_choices": self.tried,
            "seconds": time.monotonic() - self.began,
            "peak_bytes": self.unfinished.peak_bytes or peak_bytes(self.device),
            "device": self.trained_on(),
            "images": len(sets[0].images),
            **({"decoded": len(batches.data)} if sets[0].decoded is not sets[0] else {}),
            "image_bytes": sets[0].image_bytes,
            "label_bytes": told.bytes() if protocol.pretraining is None else sets[0].label_bytes,
            **self.took(trials, batches, protocol.labels.passes),
            "committee": dict(told.votes),
            "torch": torch.__version__,
        }

    def trained_on(self) -> str:
        """Whatever students of this row were trained on, and how many at once."""
        names = ", ".join(sorted(self.unfinished.devices or {_device_name(self.device)}))
        return names if self.device.type == "cuda" else f"{names}, {crew().size} x {torch.get_num_threads()} threads"

    def took(self, trials: Sequence[Trial], batches: Batches, passes: int) -> dict[str, Any]:
        """Means over the students: optimiser steps, images seen in them, what these took, and what share of all was not seen.

        Nothing where an earlier version trained a student, which did not count; no share where steps are fixed.
        """
        found = [self.unfinished.took.get(key) for trial in trials for key in trial.keys]
        if None in found:
            return {}
        steps, seen = np.array(found).mean(0).tolist()
        images, recipe = len(batches.data), batches.recipe
        whole = images * recipe.passes(images) if recipe.steps is None else 0
        done = seen * operations(self.make, self.real.train.images[:2], passes)
        told = {"optimizer_steps": steps, "seen": seen, "operations": done}
        return told | ({"saved": 1 - seen / whole} if whole else {})

    def choose(self, data: TrainingSet, protocol: Protocol) -> tuple[Protocol, dict[str, Any]]:
        """The best combination of the protocol's candidates, by the same single student on the validation split."""
        candidates = {name: list(values) for name, values in protocol.candidates.items()}
        if "lr" in candidates and data.lr is not None:
            candidates["lr"].append(float(data.lr))
        combinations = [dict(zip(candidates, each, strict=True)) for each in itertools.product(*candidates.values())]
        fixed = [protocol.trained(**values).with_(artefact_lr=False) for values in combinations]
        trials = [t for each in fixed for t in self.trials(each, [data], self.real.val, 1, "choice")]
        scores = [sum(hits) / len(self.real.val) for hits in self.hits(trials, "choices on validation")]
        self.tried += len(scores)
        best = int(np.argmax(scores))
        return fixed[best], {**combinations[best], "candidates": candidates, "validation_accuracies": scores}

    def best_iterates(
        self, protocol: Protocol, iterates: Iterates, split: Split, students: int
    ) -> tuple[list[int], list[Trial]]:
        """For every synthesis the step of the snapshot with the best mean accuracy on ``split``, of equals the latest.

        Returns:
            The R steps, and the trials of these snapshots.
        """
        chosen, kept = [], list[Trial]()
        for i, snapshots in enumerate(iterates):
            steps = sorted(snapshots)
            sets = [snapshots[step].to(self.device) for step in steps]
            peak = split is self.real.test
            trials = [self.trials(protocol, [s], split, students, "iterate", i, peak) for s in sets]
            hits = self.hits([trial for each in trials for trial in each], "choice of the snapshot")
            self.tried += len(hits)
            correct = np.array(hits).sum(1).reshape(len(steps), students).sum(1)
            best = int(np.flatnonzero(correct == correct.max())[-1])
            chosen.append(steps[best])
            kept += trials[best]
        return chosen, kept

    def trials(
        self,
        protocol: Protocol,
        sets: Sequence[TrainingSet],
        split: Split,
        students: int,
        purpose: str = "student",
        position: int = 0,
        peak: bool = False,
    ) -> list[Trial]:
        """Synthesis by synthesis."""
        seeds, hashes = seeds_of(sets, position), [each.hash for each in sets]
        also = self.real.val if protocol.validate and purpose == "student" and len(self.real.val) else None
        kept = self.kept if purpose == "student" else None

        source = self.bench.source

        def trial(place: int, own: range, compiled: bool) -> Trial:
            data = self.tuned_on(sets[place], protocol)
            return Trial(
                data, hashes[place], protocol, split, self.bench.seed, purpose, seeds[place], tuple(own), compiled,
                peak, self.bench.teaching, also, kept, place, self.bench.before,
                None if source is None else (sets[place].decoded, source),
            )  # fmt: skip

        compiled, stack = False, 1
        if protocol.labels.committee is None and self.bench.before is None and source is None:
            first, count = trial(0, range(1), False), len(sets) * students
            batches, _ = first.told()
            most = math.ceil(students * math.gcd(len(sets), crew().size) / crew().size)  # each process gets as many
            compiled, stack = crew().agree(
                lambda: way_to_train(self.make, batches, most, count, self.bench.compile), f"the way of {first.keys[0]}"
            )
        return [
            trial(place, range(first, min(first + stack, students)), compiled)
            for place in range(len(sets))
            for first in range(0, students, stack)
        ]

    def tuned_on(self, data: TrainingSet, protocol: Protocol) -> TrainingSet:
        """What the protocol's recipe trains on: the set that is judged, or, of pre-trained students, all real images."""
        return Coreset.whole(self.real.train) if protocol.tunes else data

    def hits(self, trials: list[Trial], what: str) -> list[list[int]]:
        """What each student classifies correctly, in order; stacks of them are units of work."""
        units, known = [self.unit(trial, f"{self.text}: {what}") for trial in trials], self.unfinished.hits
        missing = crew().agree(lambda: [place for place, unit in enumerate(units) if not unit.is_done()])
        for trial in {(trials[i].data_hash, *trials[i].seeds): trials[i] for i in missing}.values():
            trial.told()[1].prepare()
        crew().make(units, self.bench.progress)
        self.unfinished.read()
        self.began = min(self.began, time.monotonic() - self.unfinished.spent)  # with what killed students took
        crew().wait()  # the row's files are cleared when it is there
        return [known[key] for trial in trials for key in trial.keys]

    def unit(self, trial: Trial, text: str) -> Unit:
        """The training of the students of a trial."""

        def make(tell: Callable[[int], None]) -> None:
            tell(0)
            under_way = Underway(self.unfinished.state_path(trial.keys), trial.keys, self.began)
            hits = trial.run(self.make, under_way)
            took, kind = [under_way.steps, under_way.seen], _device_name(self.device)
            about = {"device": kind, "peak_bytes": peak_bytes(self.device)}
            self.unfinished.keep(hits, dict.fromkeys(trial.keys, took), under_way.spent, **about)
            under_way.forget()

        def is_done() -> bool:
            return self.unfinished.has(trial.keys) and trial.is_kept

        return Unit(trial.keys[0], make, is_done, text, len(trial.keys))


def seeds_of(sets: Sequence[TrainingSet], first: int = 0) -> list[int]:
    """What tells syntheses apart: the seed each was made with, not its place in a list, unless it has none."""
    return [int(each.record.get("seed", first + i)) for i, each in enumerate(sets)]


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu {platform.machine()}"
