"""Whether a run fits into the memory of its device and on its disk, and by which settings it would; said before it starts."""

from collections.abc import Sequence
from dataclasses import dataclass
from shutil import disk_usage

import torch

from distill.autotune import memory_of
from distill.data.real import RealData
from distill.effort import held_bytes
from distill.runs.line import Line
from distill.runs.rehearsed import Weight, Work

WEIGHED_FROM = 0.25  # of the memory, for a step whose maps may be as large as
MAPS = 1000  # times its images


@dataclass(frozen=True)
class Memory:
    """A device's.

    Attributes:
        name: of the device.
        whole: bytes.
        taken: bytes that the process holds whatever it does: real images, and on a CPU torch.
    """

    name: str
    whole: float
    taken: int

    @classmethod
    def here(cls, line: Line) -> "Memory":
        card = line.device.type == "cuda"
        name = torch.cuda.get_device_name(line.device) if card else "this machine"
        return cls(name, memory_of(line.device), real_bytes(line) if card else held_bytes())

    def lacks(self, work: Work, weight: Weight | None) -> str:
        """What of the work does not fit, and the setting that makes it fit; empty where all does."""
        fixed = self.taken + work.resident + (weight.fixed if weight else 0)
        needed = fixed + (weight.each * weight.images if weight else 0)
        if needed <= self.whole:
            return ""
        told = f"{work.text}: about {needed / 1e9:.1f} GB at once, {self.name} has {self.whole / 1e9:.1f}"
        if weight is not None and work.trial is not None and weight.each and fixed < self.whole:
            images = int((self.whole - fixed) / weight.each)
            lever = work.trial.lever(images) if images else {}
            if lever:
                return f"{told}; {' '.join(f'{name}={value}' for name, value in lever.items())} fits"
        if self.taken > self.whole / 2:
            return f"{told}; {self.taken / 1e9:.1f} GB of it are there before, real images: data.lazy=true leaves those on disk"
        return f"{told}; {work.resident / 1e9:.1f} GB of it are the set: a smaller ipc takes less"


def real_bytes(line: Line) -> int:
    """Of the real images that are in memory."""
    lines: list[RealData] = [line.real, *([line.judge.real] if line.judge is not line else [])]
    splits = [split for real in lines for split in (real.train, real.val, real.test) if split.in_memory]
    return sum(4 * split.images.shape.numel() for split in splits)


def weighed(line: Line, work: Work, whole: float) -> Weight | None:
    """What a step of the work holds; None where that is little for sure."""
    numbers = line.real.train.images[:1].numel()
    if work.trial is None or 4 * numbers * MAPS * work.trial.images < WEIGHED_FROM * whole:
        return None
    return work.weight


def disk_lacks(line: Line, works: Sequence[Work]) -> str:
    """What does not fit on the disk of ``out``; empty where all does."""
    needed, out = sum(work.disk for work in works), line.out.absolute()
    free = disk_usage(next(path for path in (out, *out.parents) if path.is_dir())).free
    if needed <= free:
        return ""
    largest = max(works, key=lambda work: work.disk)
    return (
        f"{needed / 1e9:.1f} GB are going to be written, {largest.disk / 1e9:.1f} of them by {largest.text}, and "
        f"{free / 1e9:.1f} GB are free at {line.out}: choose another out=DIR, {largest.less}"
    )


def check(line: Line, works: Sequence[Work]) -> None:
    """Raise ValueError if this machine has not the memory or the disk for work that is ahead."""
    memory = Memory.here(line)
    told = [memory.lacks(work, weighed(line, work, memory.whole)) for work in works]
    lacking = [each for each in (*told, disk_lacks(line, works)) if each]
    if lacking:
        raise ValueError(f"nothing was started: {'; '.join(lacking)}")
