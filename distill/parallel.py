"""Processes that share work: those of a torchrun, unit by unit, and those beside this one, which end with it."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import joblib

from distill.files import alone_in

T = TypeVar("T")

WATCH_SECONDS = 1.0


@dataclass(frozen=True)
class Crew:
    """The processes of a torchrun: all go the same way, and each makes its share of the units of work on it.

    A unit has a key and leaves a file, or a part of one, that tells whether it is done. What it gives is a function of its key
    alone, so that any number of processes end with the same files, and one that is killed loses its open unit.

    Attributes:
        rank, size: of this process among all of them.
        local_rank: of this process on its machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Crew":
        """As torchrun tells it; a process on its own where nobody does."""
        rank, size = int(environment.get("RANK", 0)), int(environment.get("WORLD_SIZE", 1))
        return cls(rank, size, int(environment.get("LOCAL_RANK", 0)))

    @property
    def first(self) -> bool:
        """Whether this process speaks for all, and writes what there is one of."""
        return self.rank == 0

    def share(self, units: Sequence[T]) -> Sequence[T]:
        """The units that are this process's, by their place in the list."""
        return units[self.rank :: self.size]

    def agree(self, decide: Callable[[], T]) -> T:
        """What the first process decides, in all of them; for what files, clocks and locks have a say in."""
        if self.size == 1:
            return decide()
        answer: list[Any] = [decide() if self.first else None]
        self._together(lambda dist: dist.broadcast_object_list(answer))
        return answer[0]

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            self._together(lambda dist: dist.barrier())

    @contextmanager
    def alone_in(self, folder: Path) -> Iterator[None]:
        """`distill.files.alone_in` for all of them, from when all are here until all are done."""
        with alone_in(folder) if self.first else nullcontext():
            self.wait()
            yield
            self.wait()

    def _together(self, act: Callable[[Any], object]) -> None:
        import torch.distributed as dist

        if not dist.is_initialized():
            dist.init_process_group("gloo", timeout=timedelta(days=7))
        try:
            act(dist)
        except RuntimeError as error:
            raise RuntimeError(f"another process of this run has ended, its own message says why ({error})") from None


_crew = Crew()


def crew() -> Crew:
    """The processes that share the work at hand; this one alone outside of `working_in`."""
    return _crew


@contextmanager
def working_in(those: Crew) -> Iterator[Crew]:
    """Within the block, `crew` is ``those``; workers of `side_by_side` are on their own nevertheless."""
    global _crew
    before, _crew = _crew, those
    try:
        yield those
    finally:
        _crew = before


@contextmanager
def side_by_side(jobs: Iterable[Callable[[], T]], workers: int) -> Iterator[Iterator[T]]:
    """The results of ``jobs``, in order, from ``workers`` processes; they stop where the block is left.

    One worker is this process itself.
    """
    if workers == 1:
        yield (job() for job in jobs)
        return
    parallel = joblib.Parallel(
        n_jobs=workers, return_as="generator", pre_dispatch="n_jobs", initializer=end_with, initargs=(os.getpid(),)
    )
    with closing(parallel(joblib.delayed(job)() for job in jobs)) as results:
        yield results


def end_with(parent: int) -> None:
    """Let this process end once ``parent`` is not its parent any more, and leave Ctrl-C to it.

    A killed parent cannot tell its workers, and they would wait for it: for minutes, with all of their memory.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the whole group
    threading.Thread(target=watch, daemon=True).start()
