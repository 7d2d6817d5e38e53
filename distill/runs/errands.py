"""What whoever works on a run does: an arrow of it, or a worker's errand on the way of one."""

from __future__ import annotations

import ctypes
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from distill.engines.local import place
from distill.parallel import Crew, Made, Worker, crew, one_line, working_in
from distill.progress import heard_by, silent
from distill.runs.ahead import AHEAD, Work
from distill.runs.composed import Composed
from distill.runs.judging import evaluate, judge
from distill.runs.line import Line
from distill.runs.progress import Shown, shown
from distill.runs.ranking import find_truth, rank
from distill.runs.stages import distill, experts

TASKS: dict[str, Callable[[Line], object]] = {"experts": experts, "distill": distill, "evaluate": evaluate}
ARROWS = {**TASKS, "judge": judge, "rank": rank, "truth": find_truth}  # of tasks that show what they found themselves


@contextmanager
def at_work() -> Iterator[Shown]:
    """What training needs around it: its crew, freed memory kept, and somebody who shows how far it is."""
    keep_freed_memory()
    cores = torch.get_num_threads()
    with (
        warnings.catch_warnings(),
        working_in(crew() if crew() != Crew() else Crew.of(os.environ)),
        shown() as progress,
        heard_by(progress if crew().first else silent),
    ):
        warnings.filterwarnings("ignore", module="pytorch_lightning|torch.utils.data|lightning_fabric")
        try:
            yield progress
        finally:
            torch.set_num_threads(cores)


def keep_freed_memory() -> None:
    """Let glibc reuse blocks of any size, here and in workers, rather than give each back and fault it in again.

    Training steps on 100 images of 32x32 (ConvNet-3, eager fp32, one thread): 484 ms without, 373 ms with it.
    """
    most = 2**31 - 1  # freed bytes that are kept: the largest number that glibc takes
    os.environ |= {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(most)}
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return  # another C library
    libc.mallopt(-4, 0)  # no block has a mapping of its own
    libc.mallopt(-1, most)


@dataclass(frozen=True)
class Way:
    """An arrow of a run, as a worker goes it.

    Attributes:
        name: of the run, equal where it is; a worker keeps the last run's images.
        size: units that are made at the same time.
        threads: of torch.
        folder: where relative paths begin.
    """

    name: str
    run: Composed
    arrow: str
    size: int
    threads: int
    folder: Path

    @contextmanager
    def gone(self, key: str, agreed: Mapping[str, Any]) -> Iterator[Line]:
        """As far as the unit of this key."""
        os.chdir(self.folder)
        team = Worker(self.size, place.local_rank, -1.0, key=key, agreed=agreed, heard=place.tell)
        with working_in(team), at_work() as progress:
            line = line_of(self.name, self.run, progress)
            torch.set_num_threads(self.threads)
            yield line


@dataclass(frozen=True)
class Making:
    """The making of one unit."""

    way: Way
    key: str
    agreed: Mapping[str, Any]

    def __call__(self) -> None:
        try:
            with self.way.gone(self.key, self.agreed) as line:
                ARROWS[self.way.arrow](line)
        except Made:
            return
        except Exception as error:  # of any class, which another process may not be able to make anew
            raise RuntimeError(one_line(error)) from error
        raise RuntimeError(f"there is no {self.key} on the way of {self.way.arrow}")


@dataclass(frozen=True)
class Rehearsal:
    """Steps like those of the largest work of an arrow, to see how long they take."""

    way: Way
    steps: int

    def __call__(self) -> None:
        with self.way.gone("", {}) as line:
            step = step_of(line, self.way.arrow)
            for _ in range(self.steps):
                step()


@lru_cache(1)
def step_of(line: Line, arrow: str) -> Callable[[], object]:
    """A step of the largest work of an arrow."""
    return largest(AHEAD[arrow](line)).step(line.real.train)


def largest(works: Sequence[Work]) -> Work:
    return max(works, key=lambda each: each.images)


_last: dict[str, Line] = {}


def line_of(name: str, run: Composed, progress: Shown) -> Line:
    """The line of a run, which is kept until another one is asked for."""
    if name not in _last:
        _last.clear()
        step_of.cache_clear()
        _last[name] = Line(run, progress)
    return _last[name]
