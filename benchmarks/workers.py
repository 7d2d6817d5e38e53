"""Eight students by one process or by one for each core; a part of ``benchmarks/speed.py``."""

from functools import cache, partial
from typing import NamedTuple

import torch

from benchmarks.training import batches, compare, net, recipe
from distill.engines.base import Need
from distill.engines.local import Local
from distill.runs.errands import keep_freed_memory
from distill.training.loop import train

STUDENTS = 8


class Case(NamedTuple):
    """Images per class, of what shape, for a ConvNet of what width, for how many epochs."""

    ipc: int
    shape: tuple[int, int, int]
    width: int
    epochs: int


CASES = [
    Case(1, (1, 8, 8), 32, 200),
    Case(10, (1, 8, 8), 32, 100),
    Case(1, (3, 32, 32), 128, 20),
    Case(10, (3, 32, 32), 128, 3),
]


def train_share(case: Case, threads: int, rank: int = 0, processes: int = 1) -> None:
    """A process's share of the students."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    labels = torch.arange(10).repeat_interleave(case.ipc)
    own = batches(
        torch.randn(len(labels), *case.shape), labels, of_students().with_(epochs=case.epochs, extra_epochs=0)
    )
    for student in range(STUDENTS)[rank::processes]:
        train([net(case.shape, case.width)], own, seeds=[student])


of_students = cache(partial(recipe, "protocol", "fp32"))


def workers(repeat: int) -> None:
    """Each case on one thread, on all of one process, and by one process for each core."""
    cores = torch.get_num_threads()
    with Local().open(cores, lambda *told: None) as submit:

        def together(case: Case) -> None:
            shares = [partial(train_share, case, 1, rank, cores) for rank in range(cores)]
            for future in submit(shares, lambda: Need(0.0, 0, 1, 0)):
                future.result()

        for case in CASES:
            ways = {
                "one thread": partial(train_share, case, 1),
                f"{cores} threads": partial(train_share, case, cores),
                f"{cores} processes": partial(together, case),
            }
            side = case.shape[1]
            compare(f"{STUDENTS} students, {case.epochs} epochs, {side}x{side}, ipc {case.ipc}", ways, repeat)
    torch.set_num_threads(cores)
