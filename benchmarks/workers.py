"""Eight students by one process or by one for each core; a part of ``benchmarks/speed.py``."""

from functools import cache, partial
from typing import NamedTuple

import torch

from benchmarks.training import batches, compare, net, recipe
from distill.beside import beside
from distill.parallel import crew, working_in
from distill.runs.pipeline import keep_freed_memory
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


def own_share(case: Case) -> None:
    """This process's share of the students."""
    labels = torch.arange(10).repeat_interleave(case.ipc)
    own = batches(
        torch.randn(len(labels), *case.shape), labels, of_students().with_(epochs=case.epochs, extra_epochs=0)
    )
    for student in crew().share(range(STUDENTS)):
        train([net(case.shape, case.width)], own, seeds=[student])


of_students = cache(partial(recipe, "protocol", "fp32"))


def others() -> None:
    """What the other processes do."""
    keep_freed_memory()
    torch.set_num_threads(1)
    while (case := crew().agree(lambda: None)) is not None:
        own_share(case)
        crew().wait()


def workers(repeat: int) -> None:
    """Each case on one thread, on all of one process, and by one process for each core."""
    cores = torch.get_num_threads()

    def alone(case: Case, threads: int) -> None:
        torch.set_num_threads(threads)
        own_share(case)

    with beside(others, cores, lambda *told: None) as team:

        def together(case: Case) -> None:
            torch.set_num_threads(1)
            with working_in(team):
                team.agree(lambda: case)
                own_share(case)
                team.wait()

        for case in CASES:
            ways = {
                "one thread": partial(alone, case, 1),
                f"{cores} threads": partial(alone, case, cores),
                f"{cores} processes": partial(together, case),
            }
            side = case.shape[1]
            compare(f"{STUDENTS} students, {case.epochs} epochs, {side}x{side}, ipc {case.ipc}", ways, repeat)
        team.agree(lambda: None)
    torch.set_num_threads(cores)
