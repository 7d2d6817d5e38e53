"""One row: the choices, then R x S students."""

import itertools
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from distill.data.real import RealData
from distill.data.split import Split
from distill.evaluation.statistics import by_class, statistics
from distill.evaluation.trial import Trial, label_stores, rate
from distill.parallel import crew, side_by_side
from distill.progress import HowFar
from distill.report.rows import Row, Unfinished
from distill.sets.synthetic import SyntheticSet
from distill.teachers.committee import Committee
from distill.training.gradients import way_to_train
from distill.training.protocol import CommitteeProtocol, Protocol

Iterates = Sequence[Mapping[int, SyntheticSet]]


class Measurement:
    """One row: the choices, then R x S students."""

    def __init__(
        self,
        real: RealData,
        make: Callable[[], nn.Module],
        seed: int,
        workers: int,
        compile: bool | str,
        unfinished: Unfinished,
        committee: Committee | None,
        labels_path: Path,
        text: str,
        progress: HowFar,
    ):
        self.real, self.make, self.seed, self.workers, self.compile = real, make, seed, workers, compile
        self.unfinished = unfinished
        self.committee, self.labels_path = committee, labels_path
        self.text, self.progress = text, progress
        self.tried = 0
        self.began = time.monotonic() - unfinished.spent  # of this row, before a kill too

    def measure(
        self,
        synsets: list[SyntheticSet],
        iterates: Iterates,
        protocol: Protocol,
        selection: str,
        steps: list[int] | None,
    ) -> Row:
        """The row's numbers; ``steps`` are the snapshots that the row of the maximum chose on the test split."""
        test, device = self.real.test, self.real.train.images.device
        chosen: dict[str, Any] = {}
        hits: list[list[int]] = []
        if protocol.choices:
            protocol, chosen = self.choose(synsets[0], protocol)
        if selection == "val" and iterates:
            steps, _ = self.best_iterates(protocol, iterates, self.real.val, 1)
        if selection == "maximum" and iterates:
            steps, hits = self.best_iterates(protocol, iterates, test, protocol.students)
            self.tried -= len(hits)
        if steps:
            chosen["step"] = steps
            synsets = [snapshots[step].to(device) for snapshots, step in zip(iterates, steps, strict=True)]
        trials = self.trials(protocol, synsets, test, protocol.students, peak=selection == "maximum")
        hits = hits or self.hits(trials, "students")
        accuracies = [sum(each) / len(test) for each in hits]
        told, own = trials[0].labels(), synsets[0].hard if protocol.labels == "hard" else synsets[0].labels
        return {
            "accuracies": accuracies,
            **statistics(np.array(accuracies).reshape(len(synsets), -1)),
            **({"ci95": None} if selection == "maximum" else {}),  # the largest of several means has no such interval
            **by_class(hits, test),
            "syntheses": len(synsets),
            "students": protocol.students,
            "lr": [rate(synset, protocol) for synset in synsets],
            "chosen": chosen,
            "students_for_choices": self.tried,
            "seconds": time.monotonic() - self.began,
            "device": _device_name(synsets[0].images.device, self.workers),
            "image_bytes": _bytes(synsets[0].stored["images"]),
            "label_bytes": told.bytes if told else _bytes(own),
            "committee": told.votes if told else {},
            "torch": torch.__version__,
        }

    def choose(self, synset: SyntheticSet, protocol: Protocol) -> tuple[Protocol, dict[str, Any]]:
        """The best combination of the protocol's choices, by the same single student on the validation split."""
        candidates = {field: list(values) for field, values in protocol.choices.items()}
        if "lr" in candidates and synset.lr is not None:
            candidates["lr"].append(float(synset.lr))
        combinations = [dict(zip(candidates, each, strict=True)) for each in itertools.product(*candidates.values())]
        fixed = [protocol.with_(artefact_lr=False, **fields) for fields in combinations]
        trials = [t for each in fixed for t in self.trials(each, [synset], self.real.val, 1, "choice")]
        scores = [sum(hits) / len(self.real.val) for hits in self.hits(trials, "choices on validation")]
        self.tried += len(scores)
        best = int(np.argmax(scores))
        return fixed[best], {**combinations[best], "candidates": candidates, "validation_accuracies": scores}

    def best_iterates(
        self, protocol: Protocol, iterates: Iterates, split: Split, students: int
    ) -> tuple[list[int], list[list[int]]]:
        """For every synthesis the step of the snapshot with the best mean accuracy on ``split``, of equals the latest.

        Returns:
            The R steps, and what the students of these snapshots classified correctly, (R * students, K).
        """
        chosen, kept = [], []
        for i, snapshots in enumerate(iterates):
            steps = sorted(snapshots)
            sets = [snapshots[step].to(self.real.train.images.device) for step in steps]
            peak = split is self.real.test
            trials = [t for s in sets for t in self.trials(protocol, [s], split, students, "iterate", i, peak)]
            hits = self.hits(trials, "choice of the snapshot")
            self.tried += len(hits)
            correct = np.array(hits).sum(1).reshape(len(steps), students).sum(1)
            best = int(np.flatnonzero(correct == correct.max())[-1])
            chosen.append(steps[best])
            kept += hits[best * students : (best + 1) * students]
        return chosen, kept

    def trials(
        self,
        protocol: Protocol,
        synsets: list[SyntheticSet],
        split: Split,
        students: int,
        purpose: str = "student",
        position: int = 0,
        peak: bool = False,
    ) -> list[Trial]:
        """Synthesis by synthesis."""
        seeds = seeds_of(synsets, position)
        images, targets = synsets[0].images, synsets[0].hard if protocol.labels == "hard" else synsets[0].targets
        count = len(synsets) * students
        if isinstance(protocol, CommitteeProtocol):
            compiled, stack = False, 1
        else:
            compiled, stack = crew().agree(
                lambda: way_to_train(self.make, images, targets, protocol, students, count, self.compile)
            )
        return [
            Trial(
                synset, protocol, split, self.seed, purpose, synthesis, tuple(range(first, min(first + stack, students))),
                compiled, peak and protocol.test_every is not None, self.committee, self.labels_path,
            )
            for synset, synthesis in zip(synsets, seeds, strict=True)
            for first in range(0, students, stack)
        ]  # fmt: skip

    def hits(self, trials: list[Trial], what: str) -> list[list[int]]:
        """What each student classifies correctly, in order; each is trained once.

        Every process of the crew takes its share of the trials, and trains them side by side in ``workers`` processes.
        """
        known = self.unfinished.hits
        keys = [[trial.key(student) for student in trial.students] for trial in trials]
        missing = crew().agree(lambda: [i for i, own in enumerate(keys) if not set(own) <= set(known)])
        todo = crew().share(missing)
        left = sum(len(keys[i]) for i in todo)
        total = sum(map(len, keys)) - sum(len(keys[i]) for i in missing) + left  # without the others' shares
        for store in label_stores([trials[i] for i in missing]):
            store.fill()

        def tell() -> None:
            self.progress(f"{self.text}: {what}", total - left, total)

        tell()
        with side_by_side([partial(trials[i].hits, self.make) for i in todo], self.workers) as new:
            for i, hits in zip(todo, new, strict=True):
                self.unfinished.keep(dict(zip(keys[i], hits, strict=True)), time.monotonic() - self.began)
                left -= len(keys[i])
                tell()
        crew().wait()
        self.unfinished.read()
        crew().wait()  # the row's files are cleared when it is there
        return [known[key] for own in keys for key in own]


def seeds_of(synsets: Sequence[SyntheticSet], first: int = 0) -> list[int]:
    """What tells syntheses apart: the seed each was made with, not its place in a list, unless it has none."""
    return [int(synset.record.get("seed", first + i)) for i, synset in enumerate(synsets)]


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _device_name(device: torch.device, workers: int) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu {platform.machine()}, {workers} x {torch.get_num_threads()} threads"
