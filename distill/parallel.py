"""Processes that work beside this one, and end with it, however it ends."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import TypeVar

import joblib

T = TypeVar("T")

WATCH_SECONDS = 1.0


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
