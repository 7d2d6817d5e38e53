"""Entry: the sets that are judged together, and the rows that there will be of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from distill.data.real import RealData
from distill.evaluation.measure import Bench, Iterates, seeds_of
from distill.evaluation.planned import Planned
from distill.evaluation.protocol import Protocol
from distill.evaluation.statistics import outer_steps, syntheses
from distill.files import digest
from distill.identity import digits, former_digits, former_protocol
from distill.report.rows import Published, Report, Row
from distill.sets.base import TrainingSet
from distill.sizes import are_equal, spread
from distill.teachers.labels import Labels


@dataclass(frozen=True)
class Entry:
    """R sets of one method at one size, and what rows say of them.

    Attributes:
        method: how the rows are called.
        ipc: images per class on average, None the whole real set.
        iterates: for every set its snapshots, where the protocol chooses among them.
        about: more that every row says: ``synsets`` (the sets' files, from the report's folder: the page finds pictures and
            metrics there), ``command``, ``protocol_changes`` (what was changed in a preset, a text for each value).
        published: what a paper reports for the first student, with its labels and its selection.
        twins: whether other kinds of labels have rows beside the protocol's first one.
    """

    sets: Sequence[TrainingSet]
    method: str
    ipc: float | None
    iterates: Iterates = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    published: Published | None = None
    twins: bool = True

    @property
    def chosen_among(self) -> Iterates:
        """The snapshots, where every set has several."""
        return self.iterates if all(len(each) > 1 for each in self.iterates) else ()

    @property
    def soft(self) -> bool:
        """Whether the sets' own labels are."""
        return self.sets[0].is_soft

    def inputs(self, labels: Labels, selection: str, bench: Bench) -> str:
        """Stands for what a row depends on beside configurations and the sets' tensors."""
        own = [seeds_of(self.sets), [each.label_kind for each in self.sets]]
        snapshots = [{step: each.hash for step, each in of_one.items()} for of_one in self.chosen_among]
        asked = bench.teaching.committee if labels.committee is not None else None
        teachers = asked and [asked.names, asked.priors, asked.fingerprint]
        before = [] if bench.before is None else [Report.name(bench.before.row)]
        return digest([own, selection != "last" and snapshots, teachers, *before])


@dataclass(frozen=True)
class Network:
    """A student's network.

    Attributes:
        make: makes a fresh one under torch's global seed.
        config: tells rows apart; without one it is known by its structure.
    """

    make: Callable[[], nn.Module]
    config: Mapping[str, Any] | None = None

    @property
    def hashes(self) -> tuple[str, str]:
        """Twelve hex digits that it is known by, and those of format 1."""
        if self.config is not None:
            return digits(self.config), former_digits(self.config)
        with torch.random.fork_rng():
            return (digest(repr(self.make())),) * 2


def planned(
    entry: Entry, real: RealData, students: Mapping[str, Network], protocol: Protocol, sized: Protocol, bench: Bench
) -> list[Planned]:
    """The rows of an entry: every student, kind of labels and selection.

    Args:
        sized: the protocol for sets of this size: what students are told, and what earlier versions knew their rows by.
    """
    plan, far = sized.plan(entry.soft, bool(entry.chosen_among)), outer_steps(entry.sets)
    made = syntheses(entry.sets)
    plan = [each for each in plan if entry.twins or each[0] == plan[0][0]]
    selections = [selection for _, selection in plan]
    papers = "maximum" if "maximum" in selections else selections[0]
    unlike = far["cut"] + ["selection maximum -> last"] * (protocol.choice.peak and papers != "maximum")
    leaked = any(each.record.get("picked_on") == "test" for each in entry.sets)
    former = [former_protocol(protocol.identity), sized.hash, former_protocol(sized.identity)]
    size = None if entry.ipc is None else spread(entry.sets[0].counts)
    shared: Row = {
        "method": entry.method,
        "data": real.train.name,
        "data_hash": real.hash,
        "ipc": entry.ipc,
        "ipc_range": size,
        "counts": None if entry.ipc is None or are_equal(entry.sets[0].counts) else list(entry.sets[0].counts),
        "protocol": protocol.name,
        "protocol_hash": protocol.hash,
        "training_hash": protocol.training_hash,
        "assumed": list(protocol.assumed),
        "synset_hash": ",".join(each.hash for each in entry.sets),
        "seed": bench.seed,
    }
    found = []
    for name, network in students.items():
        own, before = network.hashes
        for labels, selection in plan:
            row: Row = {
                **shared,
                "student": name,
                "student_hash": own,
                "labels": "hard" if labels.name == "own" and not entry.soft else labels.name,
                "selection": selection if selection == "maximum" or not leaked else "test",
                "inputs_hash": entry.inputs(labels, selection, bench),
            }
            beside: Row = {"published": None}
            if entry.published and (name, labels, selection) == (next(iter(students)), plan[0][0], papers):
                beside = entry.published.fields(unlike)
            after = None
            if selection == "test" and "maximum" in selections:
                inputs = entry.inputs(labels, "maximum", bench)
                after = {**row, "selection": "maximum", "inputs_hash": inputs}
            text = f"{entry.method} ipc {size or 'all'} {name}{' hard labels' * (labels != plan[0][0])}"
            about = {"synsets": [], "command": "", "protocol_changes": [], **entry.about}
            keys = {"protocol_hash": former, "student_hash": [before]}
            found.append(Planned({**row, **far, **made, **beside, **about}, keys, after, name, labels, selection, text))
    return found
