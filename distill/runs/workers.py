"""Who makes the units of a run's arrows, how many at the same time, and whether they do more side by side than alone."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from distill.autotune import fastest, memory_of
from distill.data.split import Split
from distill.effort import peak_bytes
from distill.engines.base import Engine, Need, Submit
from distill.files import digest
from distill.parallel import Crew, Driver, crew, working_in
from distill.runs.ahead import AHEAD, Work, needed_by
from distill.runs.errands import ARROWS, Making, Rehearsal, Way, largest, step_of
from distill.runs.line import Line

WORTH_SECONDS = 20.0  # of work from which more processes, which take some seconds to begin, are worth it
SHARE = 0.5  # of the machine's memory that processes may take
SMALL = 1e9  # operations of a step, beside which it counts what it takes to ask for one


@contextmanager
def beside(line: Line, works: Mapping[str, Sequence[Work]], cores: int) -> Iterator["Team"]:
    """Until the block ends, whoever makes the units of arrows with this work ahead."""
    engine: Engine = instantiate(line.cfg.engine)
    if crew() != Crew():
        engine.check_ranks()
        yield Team(line, engine.here, crew().size, cores)
        return
    workers = wanted(line, works, cores) if engine.here else line.cfg.workers
    if workers == 1 and engine.here:
        yield Team(line, engine.here, 1, cores)
        return
    with engine.open(workers, line.progress.hear) as submit:
        yield Team(line, engine.here, engine.at_once(workers), cores, submit)


def wanted(line: Line, works: Mapping[str, Sequence[Work]], cores: int) -> int:
    """Workers of this machine, for ``workers`` and the work ahead, by arrow."""
    asked = line.cfg.workers
    if asked == 1 or os.name != "posix":  # what workers tell goes through sockets that have a path
        return 1
    units = max((at_once(*each) for each in works.items()), default=0)
    if asked != "auto":
        return max(1, min(asked, units))
    count = min(room(line.device, line.cfg.threads, cores), units)
    return count if count > 1 and is_long([work for each in works.values() for work in each], line.real.train) else 1


def at_once(arrow: str, works: Sequence[Work]) -> int:
    """Units of an arrow that can be made at the same time: sets of all sizes; one after another what else there is."""
    units = [work.units for work in works]
    return sum(units) if arrow == "distill" else max(units, default=0)


def ahead(arrow: str, line: Line) -> list[Work]:
    """Work that processes share; networks that are ranked are shared by commands side by side."""
    return AHEAD[arrow](line) if arrow in AHEAD else []


def room(device: torch.device, threads: int | None, cores: int) -> int:
    """Processes that this machine has GPUs for, or cores and memory."""
    if device.type == "cuda":
        return torch.cuda.device_count()
    return min(cores // (threads or 1), int(SHARE * memory_of() / peak_bytes()))


def is_long(works: Sequence[Work], real: Split) -> bool:
    """Whether the works together take `WORTH_SECONDS`; the largest are timed first, and no more than it takes to know."""
    seconds = 0.0
    for work in sorted(works, key=lambda each: -each.images):
        seconds += work.seconds(real)
        if seconds >= WORTH_SECONDS:
            return True
    return False


def needed(line: Line, seconds: float, threads: int) -> Need:
    """By an errand of so many seconds on a line."""
    return Need(seconds, peak_bytes(), threads, int(line.device.type == "cuda"))


@dataclass(frozen=True)
class Team:
    """Who makes the units of a run.

    Attributes:
        here: whether they share this machine.
        count: units at the same time.
        cores: of this machine that torch may use.
        submit: has errands done by workers; None where this process, or a torchrun's, makes all.
    """

    line: Line
    here: bool
    count: int
    cores: int
    submit: Submit | None = None

    def go(self, arrow: str) -> None:
        """Go one arrow."""
        works = [] if self.submit is None else ahead(arrow, self.line)
        members = self.members(arrow, works)
        threads = self.line.cfg.threads or max(1, self.cores // (members if self.here else 1))
        if self.submit is not None and self.line.device.type == "cpu":
            torch.set_num_threads(threads)
        with working_in(
            crew()
            if self.submit is None or (members == 1 and self.here)
            else self.driver(self.way(arrow, members, threads), works)
        ):
            ARROWS[arrow](self.line)
        crew().wait()

    def members(self, arrow: str, works: Sequence[Work]) -> int:
        """As many workers as there are units for, or one where that does more, which is measured."""
        if not self.here or self.submit is None:
            return self.count
        count = max(1, min(self.count, at_once(arrow, works)))
        shares_cores = self.line.device.type == "cpu" and self.line.cfg.threads is None
        if count > 1 and shares_cores and self.line.cfg.workers == "auto":
            return count if self.side_by_side(arrow, largest(works), count) else 1
        return count

    def way(self, arrow: str, members: int, threads: int) -> Way:
        run = self.line.run
        name = digest([OmegaConf.to_yaml(run.cfg), dict(run.choices), list(run.stated)])
        return Way(name, run, arrow, members, threads, Path.cwd())

    def driver(self, way: Way, works: Sequence[Work]) -> Driver:
        """Sends the units of an arrow to workers."""

        def need() -> Need:
            real = self.line.real.train
            return needed(self.line, max((each.seconds(real) / each.units for each in works), default=0.0), way.threads)

        def submit(keys: Sequence[str], agreed: Mapping[str, Any]) -> Sequence["Future[Any]"]:
            assert self.submit is not None
            return self.submit([Making(way, key, dict(agreed)) for key in keys], need)

        return Driver(way.size, submit=submit, heard=self.line.progress.hear)

    def side_by_side(self, arrow: str, work: Work, members: int) -> bool:
        """Whether so many workers, each with its share of the cores, do more than this process with all of them."""
        torch.set_num_threads(self.cores)
        step, operations = step_of(self.line, arrow), needed_by(self.line, [work]) * work.batch / work.images
        steps = 16 if operations < SMALL else 1
        rehearsal = Rehearsal(self.way(arrow, members, max(1, self.cores // members)), steps)

        def together() -> None:
            assert self.submit is not None
            for future in self.submit([rehearsal] * members, lambda: Need(0.0, 0, 0, 0)):
                future.result()

        def alone() -> None:
            for _ in range(members * steps):
                step()

        about = {
            "side by side": members,
            "steps": steps,
            "network": repr(work.make()),
            "images": [min(work.batch, len(self.line.real.train)), *self.line.real.train.shape],
            "precision": work.recipe and work.recipe.precision,
        }
        calls = ceil(work.images / work.batch / members / steps)
        ways: dict[str, Callable[[], object]] = {"side by side": together, "alone": alone}
        return fastest(ways, about, calls, self.line.device, "auto") == "side by side"
