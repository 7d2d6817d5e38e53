"""One run from its configuration to its files; the command line and Python go this way alike."""

import ctypes
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch

from distill.beside import beside
from distill.data.real import RealData
from distill.parallel import Crew, crew, working_in
from distill.presets import unknown
from distill.progress import heard_by, silent, stage
from distill.runs import cost, rivals, room, workers
from distill.runs.composed import Composed
from distill.runs.line import Line
from distill.runs.progress import Shown, shown
from distill.runs.stages import check_split

OF_THEIR_OWN_WORDS = (
    "plan",
    "suite",
    "continual",
    "robustness",
    "rank_networks",
    "network_truth",
    "list",
    "import",
    "export",
    "subset",
)
TASKS = (*workers.TASKS, "all", "report", "compare", *OF_THEIR_OWN_WORDS)


def carry_out(run: Composed, real: RealData | None = None, arrows: Sequence[str] = ()) -> Line:
    """Go the arrows of the run's task, or ``arrows``; what a file already answers is not made again.

    Args:
        real: the real images, where they are at hand.

    Raises:
        ValueError: the configuration names something impossible; nothing was trained.
    """
    task = run.cfg.task
    if task not in (*workers.TASKS, "all"):
        raise ValueError(unknown("task", task, TASKS))
    arrows, cores = arrows or (list(workers.TASKS) if task == "all" else [task]), torch.get_num_threads()
    with at_work() as progress, ExitStack() as to_the_end:
        line = Line(run, progress, real)
        if {"evaluate", "judge", "rank"} & set(arrows):
            rivals.check(line)
        if "distill" in arrows:
            check_split(line)
        if crew().first and not cost.is_chosen(line):
            with stage("measuring what this will cost"):
                told = cost.cost(line)
            if told:
                progress.say(told)
        if crew().first:
            room.check(line, [work for arrow in arrows for work in workers.ahead(arrow, line)])
        count = workers.wanted(line, arrows, cores) if crew().size == 1 else 1
        if count > 1:
            others = beside(partial(carry_out, run, arrows=arrows), count, progress.hear)
            to_the_end.enter_context(working_in(to_the_end.enter_context(others)))
        for arrow in arrows:
            workers.go(line, arrow, cores)
    return line


@contextmanager
def at_work() -> Iterator[Shown]:
    """What training needs around it: its crew, freed memory kept, and somebody who shows how far it is."""
    keep_freed_memory()
    cores = torch.get_num_threads()
    with (
        warnings.catch_warnings(),
        working_in(crew() if crew().size > 1 else Crew.of(os.environ)),
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
