"""Pieces that workers of other machines carry out side by side, each by one of them: cells of a suite, jobs of a sweep."""

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate

from distill.engines.base import Engine, Need
from distill.parallel import Crew
from distill.runs.ahead import AHEAD
from distill.runs.composed import Composed, compose
from distill.runs.line import Line
from distill.runs.pipeline import carry_out
from distill.runs.workers import needed

ALONE = {"all": ("distill", "evaluate"), "distill": ("distill",), "evaluate": ("evaluate",)}  # of a task, by one worker


@dataclass(frozen=True)
class Piece:
    """What a worker does: some arrows of a run, whose experts and teachers are there.

    Attributes:
        words: of the run.
        arrows: by name.
        folder: where relative paths begin.
    """

    words: Sequence[str]
    arrows: Sequence[str]
    folder: Path

    def __call__(self) -> None:
        os.chdir(self.folder)
        carry_out(compose(*self.words), arrows=self.arrows)


def alone(words: Sequence[str]) -> list[str]:
    """The same run by one process of whatever machine.

    >>> alone(["data=digits", "engine=slurm", "+engine.more.account=me", "workers=8"])
    ['data=digits', 'workers=1']
    """
    return [*(word for word in words if not re.match(r"\+*(engine|workers)\b", word)), "workers=1"]


def is_here(engine: Engine) -> bool:
    """Whether pieces are carried out by this process, and by others of its torchrun."""
    return engine.here or Crew.of(os.environ) != Crew()


@contextmanager
def sent(
    engine: Engine, runs: Sequence[Sequence[str]], arrows: Sequence[str], longest: Line
) -> Iterator[Sequence["Future[Any]"]]:
    """Until the block ends, workers that go these arrows of each run; ``longest`` is the line of one that takes longest."""

    def need() -> Need:
        real = longest.real.train
        seconds = sum(each.seconds(real) for arrow in arrows for each in AHEAD[arrow](longest))
        return needed(longest, seconds, torch.get_num_threads())

    with engine.open(longest.cfg.workers, lambda *told: None) as submit:
        yield submit([Piece(alone(words), tuple(arrows), Path.cwd()) for words in runs], need)


class Waiting:
    """Jobs of a sweep whose workers are elsewhere: each one's experts are made with all of them, then jobs go side by side."""

    def __init__(self) -> None:
        self.runs: dict[str, Composed] = {}
        self.longest: Line | None = None
        self._images = -1.0

    def take(self, name: str, run: Composed) -> bool:
        """Whether the job waits from here on: it is checked, and its experts are there."""
        alone = ALONE.get(run.cfg.task)
        if alone is None or is_here(instantiate(run.cfg.engine)):
            return False
        first = ["experts"] if run.cfg.task == "all" else []
        line = carry_out(run, arrows=[*first, *alone], gone=first)
        images = sum(work.images for arrow in alone for work in AHEAD[arrow](line))
        if images > self._images:
            self.longest, self._images = line, images
        self.runs[name] = run
        return True

    def go(self) -> Iterator[tuple[str, BaseException | None]]:
        """Each job's name as it is done, with what it failed by."""
        if self.longest is None:
            return
        engine, arrows = instantiate(self.longest.cfg.engine), ALONE[self.longest.cfg.task]
        with sent(engine, [run.stated for run in self.runs.values()], arrows, self.longest) as futures:
            for name, future in zip(self.runs, futures, strict=True):
                yield name, future.exception()
