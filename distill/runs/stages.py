"""Experts and synthetic sets of one configuration; each is a file, and skipped where the file is there."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra.utils import instantiate

from distill.data.real import RealData
from distill.experts import train
from distill.files import alone_in
from distill.methods.base import Method
from distill.methods.peers import Peers
from distill.methods.shares import forget, join
from distill.methods.synthesis import claim, is_finished, kept_step
from distill.methods.synthesis import distill as run_method
from distill.parallel import Unit
from distill.runs.checks import plain
from distill.runs.line import Line
from distill.runs.loggers import services
from distill.runs.recorded import choices
from distill.runs.signals import goes_on
from distill.sets.reading import file_of
from distill.sizes import Size
from distill.teachers.store import ExpertStore

JOINING = 60.0  # seconds to wait for another run that looks at a set which is made


def experts(line: Line) -> None:
    """Train what the method and the protocol learn from; a store that is complete may be read-only."""
    units = list[Unit]()
    with goes_on(lambda: "the last epoch kept"), ExitStack() as held:

        def is_to_train(store: ExpertStore) -> bool:
            """Whether networks are missing; then the store is held."""
            missing = store.folder not in line.written and line.crew.agree(lambda: bool(store.missing))
            if missing:
                held.enter_context(line.crew.alone_in(store.folder))
            return missing

        store = None if line.teachers_alone else line.expert_store()
        if store is not None and is_to_train(store):
            recipe, loss = (instantiate(line.cfg.method.experts[name]) for name in ("recipe", "loss"))
            net = line.student(line.first_student)
            units += train.experts(store, line.real, net, recipe, loss, line.cfg.seed, line.cfg.compile)
        stores = {} if store is None else {store.folder: store}
        for node, name, seed, each in line.asked_stores():
            if each.folder not in stores and is_to_train(each):
                kept = train.PROXIES if node.get("dynamics") else train.TEACHERS
                recipe, pretext = (instantiate(node.get(part), _convert_="all") for part in ("recipe", "pretext"))
                units += train.teachers(each, line.real, line.student(name), recipe, seed, kept, pretext)
            stores.setdefault(each.folder, each)
        line.crew.make(units, line.progress)
    for store in stores.values():
        if store.folder not in line.written:
            line.written.append(store.folder)
            if line.crew.first:
                line.progress.say(quality(store, line.real))
    if line.judge is not line:
        experts(line.judge)


def quality(store: ExpertStore, real: RealData) -> str:
    """How much the experts of a store know."""
    found = [100 * store.accuracy(expert) for expert in range(store.count)]
    mean, images = sum(found) / len(found), "validation" if len(real.val) else "training"
    spread = f", {min(found):.1f} to {max(found):.1f}" * (len(found) > 1)
    return (
        f"experts in {store.folder.name} classify {mean:.1f} % of the {images} images correctly ({len(found)}{spread})"
    )


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
    peers = Peers.of(line.crew, line.cfg.split, line.device)
    seeds = [line.cfg.seed + i for i in range(line.cfg.syntheses)]
    every = [Synthesis(line, ipc, seed, store, peers) for ipc in line.ipcs for seed in seeds]
    units = [unit for each in every for unit in each.units()]

    def under_way() -> str:
        return state(next((Path(unit.key) for unit in units if not unit.is_done()), line.out))

    with goes_on(under_way):
        line.crew.make(units, line.progress, together=line.cfg.split)
    for each in every:
        each.join()
    line.written += [each.folder / "synset.safetensors" for each in every]


@dataclass(frozen=True)
class Synthesis:
    """The making of the set of one size and seed: at once, or in shares where many ask for it, or a set larger than memory.

    Attributes:
        store: of the experts that the method learns from; None where it needs none.
        peers: processes that make a set together.
    """

    line: Line
    ipc: Size
    seed: int
    store: ExpertStore | None
    peers: Peers

    @property
    def folder(self) -> Path:
        return self.line.folder(self.ipc, self.seed)

    @property
    def identity(self) -> dict[str, Any]:
        """What the set is made of; its folder is of this alone."""
        line = self.line
        return {
            "data": line.real.fingerprint,
            "student": line.students[line.first_student],
            "method": line.kind.settings_type.by_content(plain(line.cfg.method)),
            "experts": line.learned_from(self.store, self.seed),
            "ipc": self.ipc,
            "seed": self.seed,
        }

    @property
    def record(self) -> dict[str, Any]:
        """What the set says of itself."""
        line = self.line
        return {
            "method": line.choices["method"],
            "ipc": self.ipc,
            "seed": self.seed,
            "picked_on": "last",
            "protocol": plain(line.cfg.protocol),
            "config": plain(line.cfg),
            "choices": choices(line.run, list(line.students)),
            "overrides": list(line.run.stated),
            "data_fingerprint": line.real.fingerprint,
            "experts": line.learned_from(self.store, self.seed),
        }

    @cached_property
    def shares(self) -> list[Path]:
        """Folders of what is put together; of a set that is made at once its own.

        Real images that stay in their files (``data.lazy``) have as many shares as the method can make.
        """
        parts, in_memory = self.untrained((0, 1)).parts, self.line.real.train.in_memory
        count = min(self.line.crew.size, parts) if in_memory else parts
        names = [f"share_{place}_of_{count}" for place in range(count)]
        return [self.folder] if in_memory and count == 1 else [self.folder / name for name in names]

    def untrained(self, share: tuple[int, int]) -> Method:
        """The method of a share, with teachers that know nothing."""
        return self.line.method(self.ipc, self.seed, self.line.untrained, share)

    def units(self) -> list[Unit]:
        """The making of each share."""
        count = len(self.shares)
        return [self.unit(folder, (place, count)) for place, folder in enumerate(self.shares)]

    def unit(self, folder: Path, share: tuple[int, int]) -> Unit:
        def is_done() -> bool:
            return self.is_there(self.folder, (0, 1)) or (folder != self.folder and self.is_there(folder, share))

        return Unit(str(folder), lambda tell: self.make(folder, share), is_done)

    def is_there(self, folder: Path, share: tuple[int, int]) -> bool:
        """Whether a share is finished; raises ValueError where the folder is of another configuration."""
        if not file_of(folder).exists():
            return False
        claim(folder, self.identity)
        return is_finished(folder, self.untrained(share).steps)

    def make(self, folder: Path, share: tuple[int, int]) -> None:
        """Make a share in a folder, or go on with it; peers do so together."""
        line, record, first = self.line, self.record, self.peers.first
        about = {"data": line.real.train.name, "run": record["config"]}
        about |= {name: record[name] for name in ("method", "ipc", "seed")}
        csv = instantiate(line.cfg.logger.csv, save_dir=str(folder), name="metrics")
        with services(line, self.folder.name, "distill", "distill", about) as found:
            with alone_in(folder, line.crew.patience) if first else nullcontext():
                if first:
                    claim(folder, self.identity)
                method = line.method(self.ipc, self.seed, share=share)
                method.peers = self.peers
                loggers = [csv, *found] if first and share[0] == 0 else []
                run_method(method, folder, record, loggers, str(line.device), line.progress)
                if folder != self.folder:
                    forget(folder)
            for service in found if folder == self.folder else ():
                if service.begun:  # else the set was there before
                    service.keep(folder / "synset.safetensors")

    def join(self) -> None:
        """Put the shares together, where they are not yet; what a killed run left half-written goes."""
        line, count = self.line, len(self.shares)
        if line.crew.first:
            with alone_in(self.folder, JOINING):
                if self.shares != [self.folder] and not self.is_there(self.folder, (0, 1)):
                    claim(self.folder, self.identity)
                    every = [line.method(self.ipc, self.seed, share=(place, count)).made() for place in range(count)]
                    join(every, self.shares, self.folder)
        line.crew.wait()


def state(folder: Path) -> str:
    """Where an interrupted synthesis goes on."""
    step = kept_step(folder)
    return "its begin" if not step else f"the last state (step {step})"
