"""Train fresh students on a synthetic set under a protocol and report their accuracy on the test split.

Choices (rate, epochs, snapshot) are made on the validation split. The test split is read once for each student, after
its last epoch. Where a protocol reproduces a paper that reported its best on test, three rows tell what that is worth: the
last set (``last``), the largest of the means that were measured (``maximum``, the paper's figure), and the set that it
belongs to, measured anew with fresh students (``test``); the last two are marked.
"""

import itertools
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn

from distill.committee import Committee
from distill.data import RealData, Split
from distill.files import digest
from distill.identity import digits, former_digits, former_protocol
from distill.progress import HowFar, silent
from distill.recipes import CommitteeProtocol, Protocol
from distill.rehearsal import check_protocol
from distill.report import Published, Report, Row
from distill.rows import by_class, outer_steps, statistics
from distill.sizes import spread
from distill.synset import SyntheticSet
from distill.training import way_to_train
from distill.trials import Trial, labelled, rate
from distill.wording import difference
from distill.workers import side_by_side

Iterates = Sequence[Mapping[int, SyntheticSet]]


def evaluate(
    synsets: SyntheticSet | Sequence[SyntheticSet],
    real: RealData,
    students: Mapping[str, Callable[[], nn.Module]],
    protocol: Protocol,
    report: Report,
    *,
    method: str,
    ipc: float | None,
    seed: int = 0,
    iterates: Iterates = (),
    about: Mapping[str, Any] = MappingProxyType({}),
    published: Published | None = None,
    networks: Mapping[str, Any] = MappingProxyType({}),
    committee: Committee | None = None,
    labels_path: Path = Path("labels"),
    workers: int = 1,
    compile: bool | str = False,
    progress: HowFar = silent,
) -> Report:
    """Add one row for every student network and kind of labels.

    Args:
        synsets: R syntheses of one method at one size.
        students: makers of fresh networks by name; student j of synthesis i is a function of (seed, i, j) alone.
        report: gets the rows; what it already holds is not trained again.
        method, ipc: how the rows are called; ipc is images per class on average, None the whole real set.
        iterates: for every synthesis its snapshots by outer step, where the protocol chooses among them.
        about: more that every row says: ``synsets`` (the sets' files, from the report's folder: the page finds pictures and
            metrics there), ``command``, ``protocol_changes`` (what was changed in a preset, a text for each value).
        published: what a paper reports for the first student, with its labels and its selection.
        networks: configurations of the students by name, which tell rows apart; one without is known by its structure.
        committee: the teachers of a `distill.recipes.CommitteeProtocol`; its rows with soft labels have a twin with hard ones.
        labels_path: folder of stored labels, see `distill.labels.LabelStore`.
        workers: processes that train students side by side on a CPU; the numbers are the same for any count.
        compile: see `distill.fastest.fastest`; where it is faster, too, the students of a set are trained as one stack.

    Raises:
        ValueError: a set lives in another space, has other classes or another image size than the real images.
    """
    synsets = [synsets] if isinstance(synsets, SyntheticSet) else list(synsets)
    for synset in synsets:
        _check_fits(synset, real.train)
    synsets = [synset.to(real.train.images.device) for synset in synsets]
    if not all(len(each) > 1 for each in iterates):
        iterates = ()
    protocol = check_protocol(protocol, real, len(synsets[0]), bool(iterates))
    first = next(iter(students))
    about = {"synsets": [], "command": "", "protocol_changes": [], **about}
    soft = synsets[0].label_kind != "hard"
    kinds = {"own": ["own"], "hard": ["hard"], "both": ["own", "hard"] if soft else ["own"]}[protocol.labels]
    if isinstance(protocol, CommitteeProtocol):
        kinds = ["hard"] if protocol.soft == "none" else [protocol.soft, "hard"]
        soft = True
    selections = _selections(protocol, bool(iterates))
    papers = "maximum" if "maximum" in selections else selections[0]
    far = outer_steps(synsets)
    unlike = far["cut"] + ["selection maximum -> last"] * (protocol.iterate == "test" and papers != "maximum")
    leaked = any(synset.record.get("picked_on") == "test" for synset in synsets)
    inputs = _inputs(synsets, iterates if selections != ["last"] else (), committee)
    for (name, make), labels, selection in itertools.product(students.items(), kinds, selections):
        row: Row = {
            "method": method,
            "data": real.train.name,
            "data_hash": real.hash,
            "ipc": ipc,
            "ipc_range": None if ipc is None else spread(synsets[0].counts),
            "student": name,
            "student_hash": digits(networks[name]) if name in networks else _structure(make),
            "protocol": protocol.name,
            "protocol_hash": protocol.hash,
            "labels": labels if soft else "hard",
            "selection": selection if selection == "maximum" or not leaked else "test",
            "synset_hash": ",".join(synset.hash for synset in synsets),
            "inputs_hash": inputs(labels, selection),
            "seed": seed,
        }
        former = {"protocol_hash": former_protocol(protocol.identity)}
        if name in networks:
            former["student_hash"] = former_digits(networks[name])
        if report.find(row, former):
            continue
        text = f"{method} ipc {row['ipc_range'] or 'all'} {name}{' hard labels' * (labels == 'hard' and soft)}"
        asked = committee if labels != "hard" else None
        key = digest([row[key] for key in report.KEY])
        run = _Run(real, make, seed, workers, compile, report, key, asked, labels_path, text, progress)
        best = report.find({**row, "selection": "maximum", "inputs_hash": inputs(labels, "maximum")}, former)
        steps = best["chosen"].get("step") if best and selection == "test" else None
        measured = run.measure(synsets, iterates, labelled(protocol, labels), selection, steps)
        beside = {"published": None}
        if published and (name, labels, selection) == (first, kinds[0], papers):
            beside = published.fields(unlike)
        report.add({**row, **measured, **far, **beside, **about})
    return report


class _Run:
    """One row: the choices, then R x S students."""

    def __init__(
        self,
        real: RealData,
        make: Callable[[], nn.Module],
        seed: int,
        workers: int,
        compile: bool | str,
        report: Report,
        key: str,
        committee: Committee | None,
        labels_path: Path,
        text: str,
        progress: HowFar,
    ):
        self.real, self.make, self.seed, self.workers, self.compile = real, make, seed, workers, compile
        self.report, self.key = report, key
        self.committee, self.labels_path = committee, labels_path
        self.text, self.progress = text, progress
        self.tried = 0
        own = any(each.startswith(f"{key}/") for each in report.hits)
        self.began = time.monotonic() - (report.spent if own else 0.0)  # of this row, before a kill too

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
            compiled, stack = way_to_train(self.make, images, targets, protocol, students, count, self.compile)
        return [
            Trial(
                synset, protocol, split, self.seed, purpose, synthesis, tuple(range(first, min(first + stack, students))),
                compiled, peak and protocol.test_every is not None, self.committee, self.labels_path,
            )
            for synset, synthesis in zip(synsets, seeds, strict=True)
            for first in range(0, students, stack)
        ]  # fmt: skip

    def hits(self, trials: list[Trial], what: str) -> list[list[int]]:
        """What each student classifies correctly, in order; side by side in ``workers`` processes, and each trained once."""
        known = self.report.hits
        keys = [[f"{self.key}/{trial.key(student)}" for student in trial.students] for trial in trials]
        todo = [i for i, own in enumerate(keys) if not set(own) <= set(known)]
        every = [key for own in keys for key in own]
        left = sum(len(keys[i]) for i in todo)

        def tell() -> None:
            self.progress(f"{self.text}: {what}", len(every) - left, len(every))

        tell()
        with side_by_side([partial(trials[i].hits, self.make) for i in todo], self.workers) as new:
            for i, hits in zip(todo, new, strict=True):
                self.report.keep(dict(zip(keys[i], hits, strict=True)), time.monotonic() - self.began)
                left -= len(keys[i])
                tell()
        return [known[key] for key in every]


def _selections(protocol: Protocol, snapshots: bool) -> list[str]:
    """Which rows a protocol has: the last set; what it chose on validation; the maximum on test, and that set anew."""
    if protocol.iterate == "test":
        return ["last", *["maximum"] * (snapshots or protocol.test_every is not None), *["test"] * snapshots]
    return [protocol.iterate if snapshots else "last"]


def _check_fits(synset: SyntheticSet, real: Split) -> None:
    if synset.preprocessing.fingerprint != real.preprocessing.fingerprint:
        raise ValueError(
            f"the synthetic set lives in {synset.preprocessing}, the real images in {real.preprocessing}: "
            "load the real set with prepare=synset.preprocessing"
        )
    if synset.class_names != real.class_names:
        found = difference(synset.class_names, real.class_names)
        raise ValueError(f"the classes of the synthetic set (there) are not those of the real set (here): {found}")
    if tuple(synset.images.shape[1:]) != real.shape:
        raise ValueError(f"synthetic images are {tuple(synset.images.shape[1:])}, real ones {real.shape}")


def _inputs(
    synsets: Sequence[SyntheticSet], iterates: Iterates, committee: Committee | None
) -> Callable[[str, str], str]:
    """Stands for what a row depends on beside configurations and the sets' tensors, by its kind of labels and selection."""
    own = [seeds_of(synsets), [synset.label_kind for synset in synsets]]
    snapshots = [{step: each.hash for step, each in of_one.items()} for of_one in iterates]
    teachers = committee and [committee.names, committee.priors, committee.fingerprint]
    return lambda labels, selection: digest(
        [own, selection != "last" and snapshots, teachers if labels != "hard" else None]
    )


def seeds_of(synsets: Sequence[SyntheticSet], first: int = 0) -> list[int]:
    """What tells syntheses apart: the seed each was made with, not its place in a list, unless it has none."""
    return [int(synset.record.get("seed", first + i)) for i, synset in enumerate(synsets)]


def _structure(make: Callable[[], nn.Module]) -> str:
    with torch.random.fork_rng():
        return digest(repr(make()))


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _device_name(device: torch.device, workers: int) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu {platform.machine()}, {workers} x {torch.get_num_threads()} threads"
