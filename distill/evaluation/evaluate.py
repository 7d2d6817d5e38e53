"""Train fresh students on a synthetic set under a protocol and report their accuracy on the test split.

Choices (rate, epochs, snapshot) are made on the validation split. The test split is read once for each student, after
its last epoch. Where a protocol reproduces a paper that reported its best on test, three rows tell what that is worth: the
last set (``last``), the largest of the means that were measured (``maximum``, the paper's figure), and the set that it
belongs to, measured anew with fresh students (``test``); the last two are marked.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from distill.data.real import RealData
from distill.data.split import Split
from distill.evaluation.measure import Iterates, Measurement, seeds_of
from distill.evaluation.planned import Planned, make_rows
from distill.evaluation.rehearsal import check_protocol
from distill.evaluation.statistics import outer_steps
from distill.evaluation.trial import labelled
from distill.files import digest
from distill.identity import digits, former_digits, former_protocol
from distill.progress import HowFar, silent
from distill.report.rows import Published, Report, Row, Unfinished
from distill.sets.synthetic import SyntheticSet
from distill.sizes import spread
from distill.teachers.committee import Committee
from distill.training.protocol import CommitteeProtocol, Protocol
from distill.wording import difference


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
        report: gets the rows; what it already holds is not trained again, and what another process is just making for it
            is left to that process.
        method, ipc: how the rows are called; ipc is images per class on average, None the whole real set.
        iterates: for every synthesis its snapshots by outer step, where the protocol chooses among them.
        about: more that every row says: ``synsets`` (the sets' files, from the report's folder: the page finds pictures and
            metrics there), ``command``, ``protocol_changes`` (what was changed in a preset, a text for each value).
        published: what a paper reports for the first student, with its labels and its selection.
        networks: configurations of the students by name, which tell rows apart; one without is known by its structure.
        committee: the teachers of a `CommitteeProtocol`; its rows with soft labels have a twin with hard ones.
        labels_path: folder of stored labels, see `distill.teachers.labels.LabelStore`.
        workers: processes that train students side by side on a CPU; the numbers are the same for any count.
        compile: see `distill.autotune.fastest`; where it is faster, too, the students of a set are trained as one stack.

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
    planned = []
    for name, labels, selection in itertools.product(students, kinds, selections):
        row: Row = {
            "method": method,
            "data": real.train.name,
            "data_hash": real.hash,
            "ipc": ipc,
            "ipc_range": None if ipc is None else spread(synsets[0].counts),
            "student": name,
            "student_hash": digits(networks[name]) if name in networks else _structure(students[name]),
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
        beside: Row = {"published": None}
        if published and (name, labels, selection) == (first, kinds[0], papers):
            beside = published.fields(unlike)
        after = None
        if selection == "test" and "maximum" in selections:
            after = {**row, "selection": "maximum", "inputs_hash": inputs(labels, "maximum")}
        text = f"{method} ipc {row['ipc_range'] or 'all'} {name}{' hard labels' * (labels == 'hard' and soft)}"
        planned.append(Planned({**row, **far, **beside, **about}, former, after, name, labels, selection, text))

    def measure(each: Planned, unfinished: Unfinished, best: Row | None) -> Row:
        asked, make = committee if each.labels != "hard" else None, students[each.student]
        run = Measurement(real, make, seed, workers, compile, unfinished, asked, labels_path, each.text, progress)
        steps = best["chosen"].get("step") if best else None
        return run.measure(synsets, iterates, labelled(protocol, each.labels), each.selection, steps)

    make_rows(report, planned, measure)
    return report


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


def _structure(make: Callable[[], nn.Module]) -> str:
    with torch.random.fork_rng():
        return digest(repr(make()))
