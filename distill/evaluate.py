"""Train fresh students on a synthetic set under a protocol and report their accuracy on the test split.

Choices (rate, epochs, snapshot) are made on the validation split. The test split is read once for each student, after
its last epoch; a best-on-test figure exists only where a protocol reproduces a paper that reported one, and is marked.
"""

import itertools
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from scipy import stats
from torch import nn

from distill import rng
from distill.committee import Committee
from distill.data import RealData, Split
from distill.files import digest
from distill.labels import Labels, LabelStore
from distill.recipes import CommitteeProtocol, Protocol
from distill.report import Report, Row
from distill.synset import SyntheticSet
from distill.training import Progress, accuracy, augmentation, train, way_to_train
from distill.wording import difference

Iterates = Sequence[Mapping[int, SyntheticSet]]


def evaluate(
    synsets: SyntheticSet | Sequence[SyntheticSet],
    real: RealData,
    students: Mapping[str, Callable[[], nn.Module]],
    protocol: Protocol,
    report: Report,
    *,
    method: str,
    ipc: int | None,
    seed: int = 0,
    iterates: Iterates = (),
    command: str = "",
    published: str | None = None,
    paths: Sequence[str] = (),
    student_hashes: Mapping[str, str] | None = None,
    committee: Committee | None = None,
    labels_path: Path = Path("labels"),
    workers: int = 1,
    compile: bool | str = False,
    progress: Callable[[str, int, int], None] = lambda text, done, total: None,
) -> Report:
    """Add one row for every student network and kind of labels.

    Args:
        synsets: R syntheses of one method at one size.
        students: makers of fresh networks by name; student j of synthesis i is a function of (seed, i, j) alone.
        report: gets the rows; what it already holds is not trained again.
        method, ipc: how the rows are called; ipc None is the whole real set.
        iterates: for every synthesis its snapshots by outer step, where the protocol chooses among them.
        paths: of the sets' files, from the report's folder; the page finds pictures and metrics there.
        published: what the paper reports for the first student, in %, shown beside ours.
        student_hashes: of the networks' configurations, by name; None takes the networks' structure.
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
    if (protocol.choices or (iterates and protocol.iterate == "val")) and not len(real.val):
        raise ValueError(
            f"protocol {protocol.name} makes choices on the validation split, which is empty: set data.val=0.1"
        )
    first = next(iter(students))
    about = {"synsets": list(paths), "command": command}
    soft = synsets[0].label_kind != "hard"
    kinds = {"own": ["own"], "hard": ["hard"], "both": ["own", "hard"] if soft else ["own"]}[protocol.labels]
    if isinstance(protocol, CommitteeProtocol):
        protocol = protocol.sized(len(synsets[0]), real.train.num_classes)
        kinds = ["hard"] if protocol.soft == "none" else [protocol.soft, "hard"]
        soft = True
    peaks = protocol.iterate == "test" and protocol.test_every is not None
    selections = {"last": ["last"], "val": ["val"], "test": ["last", "test"]}[protocol.iterate]
    selections = selections if iterates or peaks else ["last"]
    inputs = _inputs(synsets, iterates if selections != ["last"] else (), committee)
    for (name, make), labels, selection in itertools.product(students.items(), kinds, selections):
        row: Row = {
            "method": method,
            "data": real.train.name,
            "data_hash": real.hash,
            "ipc": ipc,
            "student": name,
            "student_hash": (student_hashes or {}).get(name) or _structure(make),
            "protocol": protocol.name,
            "protocol_hash": protocol.hash,
            "labels": labels if soft else "hard",
            "selection": "test" if any(synset.record.get("picked_on") == "test" for synset in synsets) else selection,
            "synset_hash": ",".join(synset.hash for synset in synsets),
            "inputs_hash": inputs(labels, selection),
            "seed": seed,
        }
        if report.find(row):
            continue
        text = f"{method} ipc {ipc or 'all'} {name}"
        asked = committee if labels != "hard" else None
        run = _Run(
            real, make, seed, workers, compile, report, digest([row[key] for key in report.KEY]), asked, labels_path
        )
        measured = run.measure(synsets, iterates, labelled(protocol, labels), selection, partial(progress, text))
        report.add({**row, **measured, "published": published if name == first else None, **about})
    return report


def labelled(protocol: Protocol, labels: str) -> Protocol:
    """The protocol with one kind of labels: ``own``, ``hard``, or how a committee gives them."""
    if isinstance(protocol, CommitteeProtocol):
        return protocol.with_(labels="hard", soft="none" if labels == "hard" else labels)
    return protocol.with_(labels=labels)


@dataclass(frozen=True)
class Trial:
    """Students trained as one stack, usually a single one.

    Each is a function of (seed, purpose, synthesis, student) and of what it is trained and measured on.

    Attributes:
        peak: report the best of the accuracies on ``split`` after every ``test_every`` epochs, as AST does.
    """

    synset: SyntheticSet
    protocol: Protocol
    split: Split
    seed: int
    purpose: str
    synthesis: int
    students: tuple[int, ...]
    compiled: bool
    peak: bool
    committee: Committee | None
    labels_path: Path

    def labels(self) -> Labels | None:
        """What a committee's protocol tells its students; None under other protocols."""
        if not isinstance(self.protocol, CommitteeProtocol):
            return None
        store = None
        if self.protocol.soft == "stored":
            assert self.committee is not None
            views = augmentation(self.protocol, self.split)
            store = LabelStore(self.labels_path, self.synset, self.protocol, views, self.seeds()[0], self.committee)
        return Labels(self.synset, self.protocol, self.committee, store)

    def seeds(self) -> list[int]:
        """Of the students' batches and views; stored labels are those of one training for all."""
        if isinstance(self.protocol, CommitteeProtocol) and self.protocol.soft == "stored":
            return [rng.derive(self.seed, f"{self.purpose} labels", self.synthesis)] * len(self.students)
        return [rng.derive(self.seed, f"{self.purpose} training", self.synthesis, j) for j in self.students]

    def scores(self, make: Callable[[], nn.Module]) -> list[float]:
        """Accuracy of each student on ``split`` after the last epoch."""
        synset, protocol = self.synset, self.protocol
        nets, peaks = [], [0.0] * len(self.students)
        for student in self.students:
            with rng.seeded(self.seed, self.purpose, self.synthesis, student):
                nets.append(make().to(synset.images.device))

        def test(now: Progress) -> None:
            assert protocol.test_every is not None
            if now.epochs % protocol.test_every == 0:
                for i, net in enumerate(nets):
                    peaks[i] = max(peaks[i], accuracy(net, self.split, protocol, self.compiled))
                    net.train()

        train(
            nets,
            synset.images,
            synset.hard if protocol.labels == "hard" else synset.targets,
            protocol.with_(lr=_rate(synset, protocol)),
            seeds=self.seeds(),
            augment=augmentation(protocol, self.split),
            label=self.labels(),
            compiled=self.compiled,
            after_epoch=test if self.peak else None,
        )
        return [
            max(accuracy(net, self.split, protocol, self.compiled), peak) for net, peak in zip(nets, peaks, strict=True)
        ]

    def key(self, student: int) -> str:
        """Stands for one student's accuracy in an unfinished report."""
        parts = [self.purpose, self.synthesis, student, self.synset.hash, self.protocol.hash, self.peak]
        return "/".join(map(str, parts))


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
    ):
        self.real, self.make, self.seed, self.workers, self.compile = real, make, seed, workers, compile
        self.report, self.key = report, key
        self.committee, self.labels_path = committee, labels_path
        self.tried = 0
        own = any(each.startswith(f"{key}/") for each in report.scores)
        self.began = time.monotonic() - (report.spent if own else 0.0)  # of this row, before a kill too

    def measure(
        self,
        synsets: list[SyntheticSet],
        iterates: Iterates,
        protocol: Protocol,
        selection: str,
        progress: Callable[[int, int], None],
    ) -> Row:
        chosen: dict[str, Any] = {}
        if protocol.choices:
            protocol, chosen = self.choose(synsets[0], protocol)
        if selection != "last" and iterates:
            split, students = (self.real.val, 1) if selection == "val" else (self.real.test, protocol.students)
            synsets, chosen["step"] = self.best_iterates(protocol, iterates, split, students)
        accuracies = []
        trials = self.trials(protocol, synsets, self.real.test, protocol.students, peak=selection == "test")
        for score in self.scores(trials):
            accuracies.append(score)
            progress(len(accuracies), len(synsets) * protocol.students)
        told, own = trials[0].labels(), synsets[0].hard if protocol.labels == "hard" else synsets[0].labels
        return {
            "accuracies": accuracies,
            **statistics(np.array(accuracies).reshape(len(synsets), -1)),
            "syntheses": len(synsets),
            "students": protocol.students,
            "lr": [_rate(synset, protocol) for synset in synsets],
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
        scores = list(self.scores(trials))
        self.tried += len(scores)
        best = int(np.argmax(scores))
        return fixed[best], {**combinations[best], "candidates": candidates, "validation_accuracies": scores}

    def best_iterates(
        self, protocol: Protocol, iterates: Iterates, split: Split, students: int
    ) -> tuple[list[SyntheticSet], list[int]]:
        """For every synthesis the snapshot with the best mean accuracy on ``split``; of equals the latest."""
        best, chosen = [], []
        for i, snapshots in enumerate(iterates):
            steps = sorted(snapshots)
            sets = [snapshots[step].to(self.real.train.images.device) for step in steps]
            peak = split is self.real.test
            trials = [t for s in sets for t in self.trials(protocol, [s], split, students, "iterate", i, peak)]
            scores = list(self.scores(trials))
            self.tried += len(scores)
            means = np.array(scores).reshape(len(steps), students).mean(1)
            last_best = int(np.flatnonzero(means == means.max())[-1])
            best.append(sets[last_best])
            chosen.append(steps[last_best])
        return best, chosen

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
        seeds = _seeds(synsets, position)
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

    def scores(self, trials: list[Trial]) -> Iterator[float]:
        """The accuracy of each student, in order; side by side in ``workers`` processes, and each trained once."""
        known = self.report.scores
        keys = [[f"{self.key}/{trial.key(student)}" for student in trial.students] for trial in trials]
        todo = [trial for trial, own in zip(trials, keys, strict=True) if not set(own) <= set(known)]
        jobs = (joblib.delayed(trial.scores)(self.make) for trial in todo)
        new = joblib.Parallel(n_jobs=self.workers, return_as="generator", pre_dispatch="n_jobs")(jobs)
        for own in keys:
            if not set(own) <= set(known):
                self.report.keep(dict(zip(own, next(new), strict=True)), time.monotonic() - self.began)
            yield from (known[key] for key in own)


def statistics(accuracies: np.ndarray) -> Row:
    """Mean and spread of accuracies (R, S) as fractions.

    Returns:
        ``mean``; ``sd`` and ``ci95`` (half-width of the 95 % t interval of the mean), over synthesis means where R > 1
        and over students where R = 1, None where there is one number; ``sd_synthesis`` and ``sd_student``, the two
        sources of noise apart.

    Source: the variance model of the evaluation protocol, ddof 1 throughout.
    """
    syntheses, students = accuracies.shape
    sample = accuracies.mean(1) if syntheses > 1 else accuracies[0]
    sd = float(sample.std(ddof=1)) if len(sample) > 1 else None
    within = float(np.sqrt(accuracies.var(axis=1, ddof=1).mean())) if students > 1 else None
    between = None
    if syntheses > 1 and within is not None and sd is not None:
        between = float(np.sqrt(max(0.0, sd**2 - within**2 / students)))
    half = None if sd is None else float(stats.t.ppf(0.975, len(sample) - 1) * sd / np.sqrt(len(sample)))
    return {"mean": float(accuracies.mean()), "sd": sd, "ci95": half, "sd_synthesis": between, "sd_student": within}


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
    own = [_seeds(synsets), [synset.label_kind for synset in synsets]]
    snapshots = [{step: each.hash for step, each in of_one.items()} for of_one in iterates]
    teachers = committee and [committee.names, committee.priors, committee.fingerprint]
    return lambda labels, selection: digest(
        [own, selection != "last" and snapshots, teachers if labels != "hard" else None]
    )


def _seeds(synsets: Sequence[SyntheticSet], first: int = 0) -> list[int]:
    """What tells syntheses apart: the seed each was made with, not its place in a list, unless it has none."""
    return [int(synset.record.get("seed", first + i)) for i, synset in enumerate(synsets)]


def _structure(make: Callable[[], nn.Module]) -> str:
    with torch.random.fork_rng():
        return digest(repr(make()))


def _rate(synset: SyntheticSet, protocol: Protocol) -> float:
    return float(synset.lr) if protocol.artefact_lr and synset.lr is not None else protocol.lr


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _device_name(device: torch.device, workers: int) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu {platform.machine()}, {workers} x {torch.get_num_threads()} threads"
