"""Cells of a suite that workers of other machines judge side by side, each of them by one."""

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from distill.engines.base import Engine, Need
from distill.parallel import Crew
from distill.runs import ahead
from distill.runs.composed import compose
from distill.runs.line import Line
from distill.runs.pipeline import carry_out
from distill.runs.workers import needed


@dataclass(frozen=True)
class Judging:
    """What a worker does: the rows of one cell, whose sets and teachers are there.

    Attributes:
        words: of the cell's run.
        folder: where relative paths begin.
    """

    words: Sequence[str]
    folder: Path

    def __call__(self) -> None:
        os.chdir(self.folder)
        carry_out(compose(*self.words), arrows=("judge",))


def alone(words: Sequence[str]) -> list[str]:
    """The same run by one process of whatever machine.

    >>> alone(["data=digits", "engine=slurm", "+engine.more.account=me", "workers=8"])
    ['data=digits', 'workers=1']
    """
    return [*(word for word in words if not re.match(r"\+*(engine|workers)\b", word)), "workers=1"]


def is_here(engine: Engine) -> bool:
    """Whether cells are judged by this process, and by others of its torchrun."""
    return engine.here or Crew.of(os.environ) != Crew()


@contextmanager
def sent(engine: Engine, runs: Sequence[Sequence[str]], longest: Line) -> Iterator[Sequence["Future[Any]"]]:
    """Until the block ends, workers that judge the cells of these runs; ``longest`` is the line of the last."""

    def need() -> Need:
        seconds = sum(each.seconds(longest.real.train) for each in ahead.students(longest))
        return needed(longest, seconds, torch.get_num_threads())

    with engine.open(longest.cfg.workers, lambda *told: None) as submit:
        yield submit([Judging(alone(words), Path.cwd()) for words in runs], need)
