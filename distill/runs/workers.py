"""How many processes of this machine share a run, and whether they do more side by side than one of them alone."""

import os
from collections.abc import Callable, Sequence

import torch

from distill.autotune import fastest, memory_of
from distill.data.split import Split
from distill.effort import peak_bytes
from distill.parallel import Crew, crew, working_in
from distill.runs.ahead import AHEAD, Work
from distill.runs.judging import evaluate, judge
from distill.runs.line import Line
from distill.runs.ranking import find_truth, rank
from distill.runs.stages import distill, experts

TASKS: dict[str, Callable[[Line], object]] = {"experts": experts, "distill": distill, "evaluate": evaluate}
ARROWS = {**TASKS, "judge": judge, "rank": rank, "truth": find_truth}  # of tasks that show what they found themselves

WORTH_SECONDS = 20.0  # of work from which more processes, which take some seconds to begin, are worth it
SHARE = 0.5  # of the machine's memory that processes may take


def wanted(line: Line, arrows: Sequence[str], cores: int) -> int:
    """Processes for ``workers`` and the work ahead, this one with them."""
    asked = line.cfg.workers
    if asked == 1 or os.name != "posix":  # elsewhere a process cannot hand a pipe to another
        return 1
    works = [work for arrow in arrows for work in ahead(arrow, line)]
    units = max((work.units for work in works), default=0)
    if asked != "auto":
        return max(1, min(asked, units))
    count = min(room(line.device, line.cfg.threads, cores), units)
    return count if count > 1 and is_long(works, line.real.train) else 1


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


def go(line: Line, arrow: str, cores: int) -> None:
    """Go one arrow: all processes of a torchrun, or of a crew on this machine as many as do most, which is measured."""
    team = crew()
    if team.size == 1 or is_torchrun():
        ARROWS[arrow](line)
        team.wait()
        return
    works = team.agree(lambda: ahead(arrow, line))
    work = max(works, key=lambda each: each.images, default=None)
    members = max(1, min(team.size, max((each.units for each in works), default=1)))
    shares_cores = line.device.type == "cpu" and line.cfg.threads is None
    if work is not None and members > 1 and shares_cores and line.cfg.workers == "auto":
        members = members if side_by_side(line, work, members, cores) else 1
    if shares_cores:
        torch.set_num_threads(max(1, cores // members))
    if team.rank < members:
        with working_in(team.part(members)):
            ARROWS[arrow](line)
    team.wait()


def side_by_side(line: Line, work: Work, members: int, cores: int) -> bool:
    """Whether so many processes, each with its share of the cores, do more than the first with all of them."""
    team = crew()
    step = work.step(line.real.train) if team.rank < members else bool
    torch.set_num_threads(cores)

    def together() -> None:
        torch.set_num_threads(max(1, cores // members))
        step()
        team.wait()

    if not team.first:
        while team.agree(bool):
            together()
        return team.agree(bool)

    def all_together() -> None:
        team.agree(lambda: True)
        together()

    def alone() -> None:
        torch.set_num_threads(cores)
        for _ in range(members):
            step()

    about = {
        "side by side": members,
        "network": repr(work.make()),
        "images": [min(work.batch, len(line.real.train)), *line.real.train.shape],
        "precision": work.recipe and work.recipe.precision,
    }
    calls = int(work.images / work.batch / members)
    way = fastest({"side by side": all_together, "alone": alone}, about, calls, line.device, "auto")
    team.agree(lambda: False)
    return team.agree(lambda: way == "side by side")


def is_torchrun() -> bool:
    """Whether somebody else began the processes of this run."""
    return Crew.of(os.environ).size > 1
