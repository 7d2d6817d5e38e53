"""What a run judges: its sets of each size, the baselines beside them, and the whole real set."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from distill import rng
from distill.evaluation.entry import Entry
from distill.evaluation.statistics import outer_steps
from distill.methods.synthesis import iterates
from distill.report.gains import TRANSFER
from distill.report.rows import RANDOM, SCRATCH, WHOLE
from distill.runs.cells import protocol_changes, published, told
from distill.runs.checks import UNMADE, baselines
from distill.runs.line import Line
from distill.runs.rivals import beside, distilled
from distill.sets.base import TrainingSet
from distill.sets.coreset import Coreset
from distill.sets.reading import file_of, load
from distill.sizes import Size, spread
from distill.text import shown


def entries(line: Line, quiet: bool = False) -> Iterator[tuple[Line, Entry]]:
    """What is judged, in the order of the report, and the line that says how."""
    named, judge = baselines(line.cfg), line.judge
    whole = "whole" in named
    for size in [None] if line.synsets else line.ipcs:
        own = entry(line, size, quiet)
        yield judge, own
        drawn = [name for name in ("random", "kd") if name in named]
        if own.ipc is None:  # random images, as many as it walks, are all of them
            whole, drawn = whole or "random" in named, []
        for name in drawn:
            teller = judge if name == "random" else distilled(line)
            subsets = random_subsets(line, own.sets[0].counts, named[name])
            yield teller, Entry(subsets, RANDOM, subsets[0].ipc, about=about(line), twins=name == "random")
        for rival in named:
            if rival not in UNMADE:
                other = beside(line, rival)
                teller = other if judge is line else judge
                yield teller, entry(other, other.ipcs[0] if size is None else size, quiet)
    if whole:
        yield judge, Entry([Coreset.whole(line.real.train)], WHOLE, None, about=about(line))
    if "scratch" in named:
        nothing = Coreset(line.real.train, torch.arange(0))
        yield judge, Entry([nothing], SCRATCH, 0, about=about(line))


def about(line: Line) -> dict[str, Any]:
    """What rows say of their making; those of pre-trained students name both real sets."""
    made = {"command": line.command, "protocol_changes": told(protocol_changes(line.run))}
    if line.cfg.protocol.pretraining is None:
        return made
    return made | {"data": f"{line.real.train.name} to {line.judge.real.train.name}", "metric": TRANSFER}


def entry(line: Line, size: Size | None, quiet: bool) -> Entry:
    """The sets of a line, of one size or those that somebody gave."""
    if not line.kind.makes_sets and size is not None:
        sets = [line.method(size, line.cfg.seed + i).walk() for i in range(line.cfg.syntheses)]
        whole = len(sets[0]) == len(line.real.train)
        return Entry(sets, line.choices["method"], None if whole else sets[0].ipc, about=about(line))
    paths: Sequence[str | Path] = line.paths if size is None else folders(line, size)
    synsets = line.synsets if size is None else [load(path) for path in paths]
    method, images = str(synsets[0].record.get("method", "unknown")), len(synsets[0])
    if any((s.record.get("method", "unknown"), len(s)) != (method, images) for s in synsets):
        raise ValueError("synset lists sets of different methods or sizes: evaluate them one after the other")
    found = [file_of(path) for path in paths]
    for cut in outer_steps(synsets)["cut"] if line.crew.first and not quiet else ():
        print(
            f"warning: {shown(found[0].parent)} was cut at {cut}: it is judged as it is, and its rows say so",
            file=sys.stderr,
        )
    snapshots = [iterates(path) for path in found] if line.protocol().choice.chooses and not line.cfg.union else []
    own = {"synsets": [os.path.relpath(path, line.out) for path in found], **about(line)}
    counts = synsets[0].counts
    number = published(line.run, synsets, counts[0] if len(set(counts)) == 1 else spread(counts))
    return Entry(synsets, method, synsets[0].ipc, snapshots, own, number)


def folders(line: Line, ipc: Size | None = None) -> list[Path]:
    """Of the sets that this run makes, of all sizes or of one."""
    sizes = line.ipcs if ipc is None else [ipc]
    return [line.folder(size, line.cfg.seed + i) for size in sizes for i in range(line.cfg.syntheses)]


def are_made(line: Line) -> bool:
    """Whether every set that there is to be judged is there."""
    return bool(line.synsets) or not line.kind.makes_sets or all(file_of(each).exists() for each in folders(line))


def random_subsets(line: Line, counts: Sequence[int], draws: int) -> list[TrainingSet]:
    """Random real images of each class, as many as the set has, or as there are."""
    train = line.real.train
    found: list[TrainingSet] = []
    for i in range(draws):
        g = rng.generator(line.cfg.seed, "random subset", i)
        found.append(Coreset(train, torch.cat([train.draw(k, n, g) for k, n in enumerate(counts)])))
    return found
