"""What a command is going to take, arrow by arrow. Nothing is trained but two small steps of each network, which are timed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distill.comparison.forms import Form, plain
from distill.runs import ahead, workers
from distill.runs.cost import millions
from distill.runs.line import Line
from distill.runs.progress import duration

ARROWS: Mapping[str, Sequence[str]] = {
    **{task: [task] for task in workers.TASKS},
    "all": list(workers.TASKS),
}  # of each task

AT_ONCE = (1, 4, 16)  # processes that a plan tells of, where none are asked for


@dataclass(frozen=True)
class Part:
    """Work of one arrow that processes share.

    Attributes:
        units: alike, of which a process makes one after another.
        operations: floating-point, in all.
        seconds: of one process of this machine.
        disk: bytes.
    """

    arrow: str
    text: str
    units: int
    images: float
    operations: float
    seconds: float
    disk: int

    def seconds_of(self, processes: int) -> float:
        """Until as many processes have made all units, none of which is divided.

        >>> [Part("distill", "3 sets", 3, 0.0, 0.0, 30.0, 0).seconds_of(n) for n in (1, 2, 3, 9)]
        [30.0, 20.0, 10.0, 10.0]
        """
        return self.seconds / self.units * math.ceil(self.units / processes)


def parts(line: Line) -> list[Part]:
    """What is left of a run's arrows; empty where all is there."""
    found, real = list[Part](), line.real.train
    for arrow in ARROWS[line.cfg.task]:
        for work in ahead.AHEAD[arrow](line):
            if work.units:
                needed, took = ahead.needed_by(line, [work]), work.seconds(real)
                found.append(Part(arrow, work.text, work.units, work.images, needed, took, work.disk))
    return found


def plan(line: Line, processes: Sequence[int]) -> Form:
    """A row for each part, and what all of them take by so many processes."""
    found = parts(line)
    rows = [
        plain(
            *(each.arrow, each.text, f"{each.units:,}", millions(round(each.images)), f"{each.operations / 1e12:.3g}"),
            *(duration(each.seconds), f"{each.disk / 1e9:.2g} GB" if each.disk else ""),
        )
        for each in found
    ]
    columns = ["arrow", "what", "units", "images", "TFLOP", "one process here", "on disk"]
    return Form("plan", f"{line.cfg.task}: what is left", columns, rows, notes(found, processes))


def notes(found: Sequence[Part], processes: Sequence[int]) -> list[str]:
    """Sums: work, time by number of processes, and the time that no number of them goes below."""
    if not found:
        return ["Nothing is left: all of it is there."]
    whole, disk = sum(each.operations for each in found), sum(each.disk for each in found)
    times = [f"{count} in {duration(sum(each.seconds_of(count) for each in found))}" for count in processes]
    last = sum(each.seconds_of(each.units) for each in found)
    return [
        f"In all {whole / 1e12:.3g} TFLOP{f' and {disk / 1e9:.2g} GB on disk' if disk else ''}. Processes like this one, "
        f"each with as many cores: {', '.join(times)}; units are not divided, so that any number takes {duration(last)}.",
        "A unit is an expert or a teacher, a set (or an image of one, where a method can share it) or a student. Time is that "
        "of the shorter of two small steps of each network; what a method does beside its networks' passes is not in it.",
    ]
