"""The 54 networks on a run's sets, on baselines and on the real images: rows, and the tables that are made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from distill.evaluation.entry import Entry, Network
from distill.evaluation.evaluate import evaluate, plan
from distill.evaluation.protocol import Protocol
from distill.evaluation.rehearsal import check_protocol, rehearse
from distill.networks.flat import flatten
from distill.ranking.space import N54, REPEATED, Architecture, macs
from distill.ranking.tables import Proxy
from distill.ranking.truth import Measured, Truth
from distill.report.rows import Report, Row
from distill.runs.entries import about, entries, random_subsets
from distill.runs.judging import bench, make_rivals
from distill.runs.line import Line
from distill.runs.signals import goes_on
from distill.sets.coreset import Coreset
from distill.teachers.labels import Hard
from distill.text import command_line

EARLY = "early stopping"
SEEDS = 3  # of the truth of the networks that have several
RATE_WITHOUT_NORM = 0.01  # of the truth's students; at the others' 0.05 networks without a norm may diverge


def check(line: Line) -> None:
    """Raise ValueError if there is no validation split to rank by, or a network could not be trained on these images."""
    if not len(line.real.val):
        raise ValueError("networks are ranked on the validation split, which is empty: set data.val=0.1")
    train, recipe = line.real.train, line.protocol().recipe
    for each in N54:
        rehearse(each.make(train.shape, train.num_classes), recipe, train, len(train), "protocol.recipe")


def students(line: Line, architectures: Sequence[Architecture]) -> dict[str, Network]:
    train = line.real.train
    return {
        each.name: Network(partial(each.make, train.shape, train.num_classes), each.config) for each in architectures
    }


# --- what the proxies say ----------------------------------------------------------------------------------------------


def rank(line: Line) -> None:
    """Train every network on the run's sets and its baselines, and as briefly on real images."""
    line.command = command_line()
    make_rivals(line)
    report = Report(line.out / "report.json")
    with goes_on(lambda: "the last epoch kept"):
        for own, entry, protocol in trained(line):
            evaluate(entry, own.real, students(own, N54), protocol, report, bench(own, entry))


def trained(line: Line, quiet: bool = False) -> Iterator[tuple[Line, Entry, Protocol]]:
    """Proxies that are trained: the line that says how, what of, and the protocol."""
    steps: dict[tuple[int, int], None] = {}
    for own, entry in entries(line, quiet):
        yield own, entry, own.protocol()
        images = len(entry.sets[0].decoded)
        recipe = check_protocol(own.protocol(), own.real, images, bool(entry.chosen_among)).recipe
        steps[recipe.updates(images), recipe.batch] = None
    for count, batch in steps:  # as many steps on fresh images as a set of each size takes
        whole = Entry([Coreset.whole(line.real.train)], f"{EARLY}, {count} steps", None, about=about(line))
        protocol = line.protocol().trained(epochs=None, extra_epochs=0, steps=count, batch=batch)
        yield line, whole, protocol.with_(labels=Hard(), candidates={}, name=f"{protocol.name}, {count} steps")


def proxies(line: Line) -> list[Proxy]:
    """What the networks' rows say, then parameters and MACs, which need none; a proxy without all of its rows says nothing."""
    train, report = line.real.train, Report(line.out / "report.json")
    nets = [each.make(train.shape, train.num_classes) for each in N54]
    costs = [macs(net, train.shape) for net in nets]
    found = []
    for own, entry, protocol in trained(line, quiet=True):
        rows = dict[str, Row | None]()
        for each in plan(entry, own.real, students(own, N54), protocol, bench(own, entry))[1]:
            rows.setdefault(
                each.student, report.find(each.row, each.former)
            )  # the protocol's first labels and selection
        there = [row for row in rows.values() if row is not None]
        found.append(of_rows(name_of(entry), there) if len(there) == len(N54) else Proxy(name_of(entry)))
    counts = [len(flatten(net)) for net in nets]
    return [*found, *(Proxy(name, np.array([own], float)) for name, own in (("parameters", counts), ("MACs", costs)))]


def name_of(entry: Entry) -> str:
    return entry.method if entry.ipc is None else f"{entry.method} ipc {entry.ipc:g}"


def of_rows(name: str, rows: Sequence[Row]) -> Proxy:
    """A proxy of the rows of all networks."""
    sets = rows[0]["syntheses"]
    scores = np.array([row["validation_accuracies"] for row in rows]).reshape(len(rows), sets, -1).mean(2).T
    work = sum(row["operations"] * row["students"] for row in rows)
    return Proxy(name, scores, sum(row["seconds"] for row in rows) / sets, work / 1e12)


# --- the truth ---------------------------------------------------------------------------------------------------------


def find_truth(line: Line) -> None:
    """Train every network on real images, twelve with several seeds, and keep the table; networks that are there stay."""
    line.command = command_line()
    report, entry = Report(line.out / "report.json"), real_images(line)
    with goes_on(lambda: "the last epoch kept"):
        for each in sorted(N54, key=lambda each: each.depth * each.width):  # cheap ones first
            evaluate(entry, line.real, students(line, [each]), recipe_of(line, each), report, bench(line, entry))


def real_images(line: Line) -> Entry:
    """Of every class as many as ``ipc`` asks for, or all."""
    train = line.real.train
    counts = train.asked(line.ipcs[0])
    train.check_counts(counts)
    (subset,) = random_subsets(line, counts, 1)
    return Entry([subset], "truth", None, about=about(line))


def recipe_of(line: Line, architecture: Architecture) -> Protocol:
    """How a network is trained for the truth."""
    protocol = line.protocol()
    if architecture.norm == "none":
        protocol = protocol.trained(lr=RATE_WITHOUT_NORM)
    return protocol.with_(students=SEEDS) if architecture in REPEATED else protocol


def truth(line: Line) -> Truth | None:
    """What the rows say; None where one is missing."""
    train, report, entry = line.real.train, Report(line.out / "report.json"), real_images(line)
    networks, device = dict[str, Measured](), ""
    for each in N54:
        protocol = recipe_of(line, each)
        (planned,) = plan(entry, line.real, students(line, [each]), protocol, bench(line, entry))[1]
        row = report.find(planned.row, planned.former)
        if row is None:
            return None
        net = each.make(train.shape, train.num_classes)
        accuracies, device = (row["validation_accuracies"], row["accuracies"]), str(row["device"])
        networks[each.name] = Measured(macs(net, train.shape), len(flatten(net)), *accuracies, row["seconds"])
    recipe = line.protocol().identity | {"lr without norm": RATE_WITHOUT_NORM, "seeds of twelve networks": SEEDS}
    made = {"made_by": line.command, "torch": torch.__version__, "device": device}
    return Truth(train.name, line.real.hash, len(entry.sets[0]), recipe, **made, networks=networks)


def path_of(line: Line) -> Path:
    """Where a table is written."""
    return line.out / f"n54_{line.real.train.name}.json"
