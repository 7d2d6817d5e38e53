"""One run from its configuration to its files; the command line and Python go this way alike."""

from collections.abc import Sequence

import torch

from distill.data.real import RealData
from distill.parallel import crew
from distill.presets import unknown
from distill.progress import stage
from distill.runs import cost, errands, rivals, room, workers
from distill.runs.composed import Composed
from distill.runs.errands import at_work
from distill.runs.line import Line
from distill.runs.stages import check_split

OF_THEIR_OWN_WORDS = (
    "plan",
    "suite",
    "continual",
    "robustness",
    "rank_networks",
    "network_truth",
    "result",
    "reproduce",
    "list",
    "import",
    "export",
    "subset",
)
TASKS = (*errands.TASKS, "all", "report", "compare", *OF_THEIR_OWN_WORDS)


def carry_out(
    run: Composed, real: RealData | None = None, arrows: Sequence[str] = (), gone: Sequence[str] | None = None
) -> Line:
    """Go the arrows of the run's task, or ``arrows``; what a file already answers is not made again.

    Args:
        real: the real images, where they are at hand.
        gone: those of the arrows that are gone here; None: all. What the others ask for is checked with them.

    Raises:
        ValueError: the configuration names something impossible; nothing was trained.
    """
    task = run.cfg.task
    if task not in (*errands.TASKS, "all"):
        raise ValueError(unknown("task", task, TASKS))
    arrows, cores = arrows or (list(errands.TASKS) if task == "all" else [task]), torch.get_num_threads()
    with at_work() as progress:
        line = Line(run, progress, real)
        if {"evaluate", "judge", "rank"} & set(arrows):
            rivals.check(line)
        if "distill" in arrows:
            check_split(line)
        works = {arrow: workers.ahead(arrow, line) for arrow in arrows} if crew().first else {}
        if crew().first and not cost.is_chosen(line):
            with stage("measuring what this will cost"):
                told = cost.cost(line, works)
            if told:
                progress.say(told)
        if crew().first:
            room.check(line, [work for each in works.values() for work in each])
        with workers.beside(line, works, cores) as team:
            for arrow in arrows if gone is None else gone:
                team.go(arrow)
    return line
