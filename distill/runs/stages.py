"""Experts and synthetic sets of one configuration; each is a file, and skipped where the file is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from pytorch_lightning.loggers import Logger

from distill.experts.train import PROXIES, TEACHERS, train_experts, train_teachers
from distill.files import alone_in
from distill.methods.peers import Peers
from distill.methods.shares import forget, join
from distill.methods.synthesis import claim, is_finished, kept_step
from distill.methods.synthesis import distill as run_method
from distill.runs.checks import plain
from distill.runs.line import Line
from distill.runs.loggers import services
from distill.runs.recorded import choices
from distill.runs.signals import goes_on
from distill.sizes import Size
from distill.teachers.store import ExpertStore


def experts(line: Line) -> None:
    """Train what the method and the protocol learn from; a store that is complete may be read-only."""
    store = None if line.teachers_alone else line.expert_store()
    if store is not None:
        if is_to_train(line, store):
            recipe, loss = (instantiate(line.cfg.method.experts[name]) for name in ("recipe", "loss"))
            net = line.student(line.first_student)
            with goes_on(lambda: "the last epoch kept"), line.crew.alone_in(store.folder):
                train_experts(store, line.real, net, recipe, loss, line.cfg.seed, line.progress, line.cfg.compile)
        line.written.append(store.folder)
    for node, name, seed, store in line.asked_stores():
        if store.folder in line.written:
            continue
        if is_to_train(line, store):
            kept = PROXIES if node.get("dynamics") else TEACHERS
            with goes_on(lambda: "the last epoch kept"), line.crew.alone_in(store.folder):
                recipe, pretext = (instantiate(node.get(each), _convert_="all") for each in ("recipe", "pretext"))
                train_teachers(store, line.real, line.student(name), recipe, seed, line.progress, kept, pretext)
        line.written.append(store.folder)
    if line.judge is not line:
        experts(line.judge)


def is_to_train(line: Line, store: ExpertStore) -> bool:
    return line.crew.agree(lambda: bool(store.missing))


def check_split(line: Line) -> None:
    """Raise ValueError if the processes at hand do not make whole groups of ``split``."""
    size, split = line.crew.size, line.cfg.split
    if size % split:
        raise ValueError(
            f"split is {split}, expected a divisor of the processes, which are {size}: begin them by "
            f"torchrun --nproc-per-node={split} run.py ..."
        )


def distill(line: Line) -> None:
    """Make the synthetic sets of every size and seed, where the method makes some."""
    if not line.kind.makes_sets:
        return
    store = line.expert_store()
    if store is not None:
        store.complete()
    every = [(ipc, line.cfg.seed + i) for ipc in line.ipcs for i in range(line.cfg.syntheses)]
    # Processes share the images of each set where the method can, else the sets; peers make one together.
    split = line.cfg.split
    peers = Peers.of(line.crew, split, line.device)
    shares = replace(line.crew, rank=line.crew.rank // split, size=line.crew.size // split)
    for ipc, seed in every if "share" in line.cfg.method else shares.share(every):
        synthesis(line, ipc, seed, store, peers)
    line.written += [line.folder(*each) / "synset.safetensors" for each in every]


def synthesis(line: Line, ipc: Size, seed: int, store: ExpertStore | None, peers: Peers) -> None:
    """Make the set of one size and seed, or find it."""
    folder = line.folder(ipc, seed)
    identity = {
        "data": line.real.fingerprint,
        "student": line.students[line.first_student],
        "method": plain(line.cfg.method),
        "experts": line.learned_from(store, seed),
        "ipc": ipc,
        "seed": seed,
    }
    record = {
        "method": line.choices["method"],
        "ipc": ipc,
        "seed": seed,
        "picked_on": "last",
        "protocol": plain(line.cfg.protocol),
        "config": plain(line.cfg),
        "choices": choices(line.run, list(line.students)),
        "overrides": list(line.run.stated),
        "data_fingerprint": line.real.fingerprint,
        "experts": identity["experts"],
    }
    about = {
        "method": record["method"],
        "data": line.real.train.name,
        "ipc": ipc,
        "seed": seed,
        "run": record["config"],
    }
    csv = instantiate(line.cfg.logger.csv, save_dir=str(folder), name="metrics")
    with services(line, folder.name, "distill", "distill", about) as found:
        carried_out(line, folder, identity, record, [csv, *found], peers)
        for service in found:
            if service.begun:  # else the set was there before
                service.keep(folder / "synset.safetensors")


def carried_out(
    line: Line,
    folder: Path,
    identity: Mapping[str, Any],
    record: Mapping[str, Any],
    loggers: Sequence[Logger],
    peers: Peers,
) -> None:
    """Make the set of a record: at once, or in shares where several processes or a set larger than memory ask for it."""
    ipc, seed, in_memory = record["ipc"], record["seed"], line.real.train.in_memory
    if "share" in line.cfg.method and not (in_memory and line.crew.size == 1):
        in_shares(line, folder, identity, record, loggers)
        return
    with goes_on(lambda: snapshot(folder)), alone_in(folder) if peers.first else nullcontext():
        if peers.first:
            claim(folder, identity)
        method = line.method(ipc, seed)
        method.peers = peers
        run_method(method, folder, record, loggers if peers.first else [], str(line.device), line.progress)


def in_shares(
    line: Line, folder: Path, identity: Mapping[str, Any], record: Mapping[str, Any], loggers: Sequence[Logger]
) -> None:
    """Make the shares of a set, each process one at a time, and put them together.

    Real images that stay in their files (``data.lazy``) have as many shares as the method can make; else each process has
    one.
    """
    ipc, seed, device, crew = record["ipc"], record["seed"], str(line.device), line.crew
    whole = line.method(ipc, seed)

    def is_there() -> bool:
        with alone_in(folder):
            claim(folder, identity)
        return is_finished(folder, whole.steps)

    count = min(crew.size, whole.parts) if line.real.train.in_memory else whole.parts
    shares = [folder / f"share_{place}_of_{count}" for place in range(count)]
    if crew.agree(is_there):
        return
    for place in crew.share(range(count)):
        with goes_on(partial(snapshot, shares[place])), alone_in(shares[place]):
            claim(shares[place], identity)
            method = line.method(ipc, seed, share=(place, count))
            run_method(method, shares[place], record, loggers if place == 0 else [], device, line.progress)
            forget(shares[place])
    crew.wait()
    if crew.first:
        with alone_in(folder):
            join([line.method(ipc, seed, share=(place, count)).made() for place in range(count)], shares, folder)
    crew.wait()


def snapshot(folder: Path) -> str:
    """Where an interrupted synthesis goes on."""
    step = kept_step(folder)
    return "its begin" if not step else f"the last snapshot (step {step})"
