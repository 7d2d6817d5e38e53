"""Workers that are processes of this machine, and end with the one that began them."""

import fcntl
import json
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from distill.engines.base import Engine, Errand, Need, Submit
from distill.parallel import Heard

WATCH_SECONDS = 1.0  # between two looks at whether the driver lives
ENDING_SECONDS = 10.0  # until a process that was asked to end is killed
MOST_TOLD = 65536  # bytes of what is told at once


@dataclass(frozen=True)
class Local(Engine):
    """Each worker carries out one unit after another; one that dies fails the unit it had, and another takes its place."""

    here = True

    def check_ranks(self) -> None:
        """What the default is to them."""

    @contextmanager
    def open(self, workers: int | str, heard: Heard) -> Iterator[Submit]:
        count = self.at_once(workers)
        with TemporaryDirectory(prefix="distill-") as folder, listening(Path(folder) / "told", heard):
            own = Workers(count, partial(begin, Path(folder), count, os.getpid()))
            try:
                yield own.submit
            finally:
                own.end()


class Workers:
    """Threads, each of which has a process of its own: a process that is killed breaks no other's pipes or locks."""

    def __init__(self, count: int, begin: Callable[[], None]):
        self.threads, self.own, self.begin = ThreadPoolExecutor(count), threading.local(), begin
        self.starting = threading.Lock()
        self.executors: dict[int, ProcessPoolExecutor] = {}  # by the process's id

    def submit(self, errands: Sequence[Errand], need: Callable[[], Need]) -> list["Future[Any]"]:
        return [self.threads.submit(self.carry_out, each) for each in errands]

    def carry_out(self, errand: Errand) -> object:
        """In this thread's process; the next errand has another one where it dies."""
        try:
            if not hasattr(self.own, "process"):
                self.own.process = self.started()
            return self.own.process.submit(errand).result()
        except BrokenProcessPool:
            self.own.__dict__.clear()
            raise RuntimeError("its process has ended, perhaps for want of memory: workers=1 is one process") from None

    def started(self) -> ProcessPoolExecutor:
        executor = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), self.begin)
        with self.starting, without_main():
            process = executor.submit(os.getpid)
        self.executors[process.result()] = executor
        return executor

    def end(self) -> None:
        """All processes, gently and then at once."""
        self.threads.shutdown(wait=False, cancel_futures=True)
        processes = [each for each in multiprocessing.active_children() if each.pid in self.executors]
        for each in processes:
            each.terminate()
        for executor in self.executors.values():
            executor.shutdown(wait=False, cancel_futures=True)
        deadline = time.monotonic() + ENDING_SECONDS
        for each in processes:
            each.join(max(0.0, deadline - time.monotonic()))
            if each.is_alive():
                each.kill()


@contextmanager
def without_main() -> Iterator[None]:
    """Processes that begin here do not import this one's main module: a script may do its work as it is imported."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


# --- in a worker -------------------------------------------------------------------------------------------------------


@dataclass
class Place:
    """What a worker knows of where it is.

    Attributes:
        local_rank: tells it from others of this machine.
        tell: of how far its unit is.
    """

    local_rank: int = 0
    tell: Heard = lambda *told: None


place = Place()


def begin(folder: Path, count: int, driver: int) -> None:
    """What a process does first; ``driver`` began it."""
    end_with(driver)
    place.local_rank = next(rank for rank in range(count) if is_free(folder / f"rank{rank}"))
    mouth = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    mouth.settimeout(WATCH_SECONDS)

    def tell(*told: Any) -> None:
        with suppress(OSError):  # nobody listens any more
            mouth.sendto(json.dumps(told).encode(), str(folder / "told"))

    place.tell = tell


def is_free(path: Path) -> bool:
    """Take what no other process has, until this one ends."""
    file = os.open(path, os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return False
    return True


def end_with(driver: int) -> None:
    """Let this process end once ``driver`` is not its parent any more, or asks it to; Ctrl-C is left to that one.

    A killed parent cannot tell anybody, and what computes does not read its pipe.
    """

    def watch() -> None:
        while os.getppid() == driver:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the whole group
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # files that are being written go
    threading.Thread(target=watch, daemon=True).start()


# --- in the driver -----------------------------------------------------------------------------------------------------


@contextmanager
def listening(path: Path, heard: Heard) -> Iterator[None]:
    """To what workers tell: a message is whole or not there, whenever one of them dies."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(path))

        def listen() -> None:
            while told := ear.recv(MOST_TOLD):
                heard(*json.loads(told))

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ear.sendto(b"", str(path))
            thread.join()
