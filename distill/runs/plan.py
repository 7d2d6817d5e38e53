"""What a command is going to take, arrow by arrow. Nothing is trained but pieces of its steps, which are timed and weighed."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from time import process_time

from distill.comparison.forms import Form, plain
from distill.progress import stage
from distill.runs import ahead, errands, room
from distill.runs.cards import Card
from distill.runs.cost import millions
from distill.runs.line import Line
from distill.runs.progress import duration
from distill.runs.recorded import stated
from distill.runs.rehearsed import Weight, Work

ARROWS: Mapping[str, Sequence[str]] = {
    **{task: [task] for task in errands.TASKS},
    "all": list(errands.TASKS),
}  # of each task

AT_ONCE = (1, 4, 16)  # processes that a plan tells of, where none are asked for


@dataclass(frozen=True)
class Part:
    """Work of one arrow that processes share.

    Attributes:
        stage: parts of one are done side by side, those of the next wait for it.
        units: alike, of which a process makes one after another.
        operations: floating-point, in all.
        seconds: of one process of this machine; then of each stated card.
        memory: bytes at once, with the real images.
        disk: bytes.
    """

    arrow: str
    stage: int
    text: str
    units: int
    images: float
    operations: float
    seconds: Sequence[float]
    memory: float = 0.0
    disk: int = 0


def seconds_of(found: Sequence[Part], processes: int, place: int = 0) -> float:
    """Until so many processes have made all units, each at one of them and none divided, stage after stage.

    Args:
        place: among a part's ``seconds``.

    >>> sets = [Part("distill", 1, "", 1, 0.0, 0.0, [9.0]), Part("distill", 1, "", 3, 0.0, 0.0, [30.0])]
    >>> [seconds_of([Part("experts", 0, "", 2, 0.0, 0.0, [4.0]), *sets], n) for n in (1, 2, 99)]
    [43.0, 22.0, 12.0]
    """
    whole = 0.0
    for _, together in groupby(found, key=lambda part: part.stage):
        units = [(part.seconds[place] / part.units, part.units) for part in together]
        busy = [0.0] * min(processes, sum(count for _, count in units))
        for seconds, count in sorted(units, reverse=True):
            for _ in range(count):
                heapq.heappush(busy, heapq.heappop(busy) + seconds)
        whole += max(busy)
    return whole


def left(line: Line) -> list[tuple[str, Work]]:
    """What is left of a run's arrows, in order."""
    return [(arrow, work) for arrow in ARROWS[line.cfg.task] for work in ahead.AHEAD[arrow](line) if work.units]


def parts(line: Line, cards: Sequence[Card] = ()) -> tuple[list[Part], list[str]]:
    """What is left of a run's arrows, and what of it does not fit; empty where all is there, or fits."""
    found, lacking = list[Part](), list[str]()
    real = room.real_bytes(line)
    memories = [room.Memory.here(line), *(room.Memory(card.name, card.memory, real) for card in cards)]
    works = left(line)
    for place, (arrow, work) in enumerate(works):
        with stage(f"trying out {work.text}"):
            weight, operations = work.weight, work.operations(line.real.train)
            told = [memory.lacks(work, weight) for memory in memories]
            here = work.taken()
        lacking += [each for each in told if each]
        seconds = [here, *(on(card, line, work, weight, operations) for card in cards)]
        turn = -1 if arrow == "distill" else place  # processes share the sets of all sizes; other work is in turn
        memory = real + work.resident + (weight.bytes if weight else 0)
        found.append(Part(arrow, turn, work.text, work.units, work.images, operations, seconds, memory, work.disk))
    disk = room.disk_lacks(line, [work for _, work in works])
    return found, [*lacking, *([disk] if disk else [])]


def on(card: Card, line: Line, work: Work, weight: Weight | None, operations: float) -> float:
    """Seconds on a stated card, by its data."""
    trains = work.recipe is not None
    precision = stated(line.run.stated).get("precision", "auto")
    halves = precision != "fp32" and (trains or "precision" in line.cfg.method)
    launched = work.trial.steps * weight.operations if work.trial and weight else 0.0
    return card.seconds(operations, launched, "bf16" if halves else "fp32", trains)


def plan(line: Line, processes: Sequence[int], cards: Sequence[Card] = ()) -> Form:
    """A row for each part, and what all of them take by so many processes."""
    begun = process_time()  # what was read until now is read by every run
    found, lacking = parts(line, cards)
    rows = [
        plain(
            *(each.arrow, each.text, f"{each.units:,}", millions(round(each.images)), f"{each.operations / 1e12:.3g}"),
            *(size(each.memory), *map(duration, each.seconds), size(each.disk)),
        )
        for each in found
    ]
    columns = ["arrow", "what", "units", "images", "TFLOP", "memory", "one process here"]
    columns += [*(f"one {card.name}" for card in cards), "on disk"]
    told = [f"Cannot fit: {each}." for each in lacking]
    told += [
        *notes(found, processes, cards),
        f"A process of this machine begins in about {duration(begun)}, beside that.",
    ]
    return Form("plan", f"{line.cfg.task}: what is left", columns, rows, told if found else notes(found, processes))


def size(count: float) -> str:
    """Bytes, for people; nothing for none.

    >>> size(0), size(2.5e6), size(1.25e12)
    ('', '2.5 MB', '1,250 GB')
    """
    if count >= 1e11:
        return f"{count / 1e9:,.0f} GB"
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB" if count else ""


def notes(found: Sequence[Part], processes: Sequence[int], cards: Sequence[Card] = ()) -> list[str]:
    """Sums: work, time by number of processes, and the time that no number of them goes below."""
    if not found:
        return ["Nothing is left: all of it is there."]
    whole, disk = sum(each.operations for each in found), sum(each.disk for each in found)
    most = sum(each.units for each in found)
    told = [f"In all {whole / 1e12:.3g} TFLOP{f' and {size(disk)} on disk' if disk else ''}."]
    for place, name in enumerate(["Processes like this one", *(f"Cards like {card.name}" for card in cards)]):
        times = [f"{count} in {duration(seconds_of(found, count, place))}" for count in processes]
        told.append(f"{name}: {', '.join(times)}; any number takes {duration(seconds_of(found, most, place))}.")
    return [
        " ".join(told),
        "A unit is an expert or a teacher, a set (or an image of one, where a method can share it), an epoch of stored labels "
        "or a student; none is divided, and each arrow waits for the one before. Time and memory are those of steps that were "
        "tried out here; memory is that of tensors, with the real images, without torch itself.",
    ]
