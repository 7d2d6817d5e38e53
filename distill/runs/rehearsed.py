"""What work ahead takes here: small pieces of it are done as they will be done, timed and weighed; nothing is kept of them."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from time import perf_counter
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from distill.autotune import memory_of
from distill.data.split import Split
from distill.effort import Allocations, operations, peak_at
from distill.sets.coreset import Coreset
from distill.training.batch import Batches
from distill.training.loop import train
from distill.training.recipe import Recipe

PROBE = 32  # images of a step that roughly tells what an image costs
SIZES = (8, 24)  # images of the pieces that are weighed
SHORT = 2.0  # seconds of a step that is weighed as it is
LONG = 10.0  # seconds of a step that is timed as it is; of a longer one, a part
SHARE = 0.2  # of the memory that a piece may take


class Piece(NamedTuple):
    """Part of a step, or all of it.

    Attributes:
        share: of the step's work, in (0, 1].
        weigh: does it once, and gives the bytes that it held after each operation.
        time: does it for about so many seconds, and gives the mean of a step.
    """

    share: float
    weigh: Callable[[], Sequence[int]]
    time: Callable[[float], float]


class Trial(NamedTuple):
    """How to try a step out.

    Attributes:
        piece: of about so many images at once; as many as there are where there are fewer.
        images: at once, of the whole step.
        steps: of all units.
        lever: settings that take at most so many images at once; none where there are no such.
    """

    piece: Callable[[int], Piece]
    images: int
    steps: float
    lever: Callable[[int], Mapping[str, Any]] = lambda images: {}


class Weight(NamedTuple):
    """Bytes that a step holds at the most: ``fixed``, and ``each`` for every image at once; and its tensor operations."""

    fixed: int
    each: float
    images: int
    operations: int

    @property
    def bytes(self) -> int:
        return round(self.fixed + self.each * self.images)


@dataclass(frozen=True)
class Work:
    """Images that are to go through a network, forward and back.

    Attributes:
        text: what for.
        units: parts of it, and of what is done at the same time, that processes can share.
        images: in all.
        batch: of them in a step.
        make: makes the network.
        recipe: how it is trained; None where a method does it in its own way.
        disk: bytes that it leaves.
        less: what makes these fewer.
        trial: how a step is tried out; None where that is not told.
        resident: bytes that it holds beside a step: sets.
        more: operations beside those of ``images``: other networks'. Asked when they are wanted.
        rest: seconds beside the steps, of all units.
    """

    text: str
    units: int
    images: float
    batch: int
    make: Callable[[], nn.Module]
    recipe: Recipe | None
    disk: int = 0
    less: str = ""
    trial: Trial | None = None
    resident: int = 0
    more: Callable[[], float] = lambda: 0.0
    rest: Callable[[], float] = lambda: 0.0

    def seconds(self, real: Split) -> float:
        """Roughly how long it takes here, told at once: an image of the shorter of two small steps, times the images."""
        small = replace(self, batch=min(PROBE, len(real)))
        step = small.step(real)
        times = []
        for _ in range(2 if self.images else 0):
            began = perf_counter()
            step()
            times.append(perf_counter() - began)
        return self.images * min(times, default=0.0) / small.batch

    def step(self, real: Split) -> Callable[[], object]:
        """One step on real images, as often as it is called."""
        size = min(self.batch, len(real))
        with torch.random.fork_rng():
            net = self.make().to(real.labels.device)
        return partial(one_step, net, self.recipe, Coreset(real, torch.arange(size)), real)

    def operations(self, real: Split) -> float:
        """About how many floating-point operations it is."""
        return self.images * operations(self.make, real.images[:2].cpu()) + self.more()

    @cached_property
    def weight(self) -> Weight | None:
        """What a step holds; of a long one, as two small pieces of it tell."""
        if self.trial is None or not self.images:
            return None
        found = list[tuple[float, Sequence[int]]]()
        for size in SIZES:
            piece, began = self.trial.piece(size), perf_counter()
            found.append((piece.share, piece.weigh()))
            if piece.share == 1:
                break
            if (perf_counter() - began) / piece.share < SHORT and peak_at(1.0, found[0], found[-1]) < room():
                found.append((1.0, self.trial.piece(self.trial.images).weigh()))
                break
        if len(found) == 1:
            return Weight(max(found[0][1]), 0.0, self.trial.images, len(found[0][1]))
        found = [found[0], found[-1]]
        whole = peak_at(1.0, *found)
        fixed = min(whole, peak_at(0.0, *found))
        return Weight(fixed, (whole - fixed) / self.trial.images, self.trial.images, len(found[1][1]))

    def taken(self) -> float:
        """Seconds that it takes one process here, as some of its steps tell."""
        if self.trial is None or not self.images:
            return 0.0
        small = self.trial.piece(SIZES[1])
        step = small.time(SHORT)
        if small.share < 1:
            step = self.longer(small.share, step)
        return self.trial.steps * step + self.rest()

    def longer(self, share: float, seconds: float) -> float:
        """Seconds of a step, of whose ``share`` they are known, as the largest part of it tells that is not too much."""
        assert self.trial is not None
        weight = self.weight
        most = min(1.0, share * LONG / seconds, 1.0 if weight is None else room() / max(1, weight.bytes))
        if most <= 2 * share:
            return seconds / share
        piece = self.trial.piece(math.ceil(most * self.trial.images))
        found = piece.time(SHORT)
        return found + (found - seconds) * (1 - piece.share) / (piece.share - share)


def room() -> float:
    """Bytes that a piece may take."""
    card = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else None
    return SHARE * memory_of(card)


def one_step(net: nn.Module, recipe: Recipe | None, data: Coreset, real: Split) -> None:
    """On some of the real images, as ``recipe`` trains, or plainly."""
    if recipe is None:
        F.cross_entropy(net(data.images[:]), data.targets).backward()
    else:
        short = recipe.with_(epochs=1, steps=None, extra_epochs=0)
        train([net], Batches(data, short, recipe.views.on(real)), seeds=[0])
    settle()


def settle() -> None:
    """Wait for the card."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Enough(Exception):
    """As many steps as were wanted."""


class Clock:
    """Takes the time at every step's begin; raises `Enough` after so many seconds and ``round`` steps beside the first."""

    def __init__(self, seconds: float, round: int = 1):
        self.seconds, self.round, self.times = seconds, round, list[float]()

    def __call__(self, *_: object) -> None:
        settle()
        self.times.append(perf_counter())
        if len(self.times) > self.round + 1 and self.times[-1] - self.times[1] >= self.seconds:
            raise Enough

    def mean(self, work: Callable[[], object]) -> float:
        """Seconds of a step of ``work``, which calls this at each one's begin: the median of rounds, without the first step."""
        self.until_enough(work)
        times = self.times[1:] if len(self.times) > self.round + 1 else self.times
        ends = times[:: self.round]
        if len(ends) < 2:
            return (times[-1] - times[0]) / (len(times) - 1)
        return statistics.median(b - a for a, b in zip(ends, ends[1:], strict=False)) / self.round

    def until_enough(self, work: Callable[[], object]) -> None:
        """Do ``work`` until this says that it is enough."""
        with suppress(Enough):
            work()


def weighed(work: Callable[[], object]) -> Sequence[int]:
    """Bytes that tensors made in ``work`` held after each operation."""
    with torch.random.fork_rng(), Allocations() as held:
        work()
    return held.levels
