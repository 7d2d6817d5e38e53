"""How far a run is: bars on a terminal; plain lines, a few a stage, where output goes to a file or a pipe."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn
from rich.progress import TaskID as Task

from distill.parallel import crew
from distill.runs.signals import Interrupted

QUIET_SECONDS = 60.0  # between two plain lines of a stage


@dataclass
class Stage:
    """Work that has begun and has not ended; ``first`` of ``total`` were there before, so its rate is that of the rest.

    Attributes:
        moved: when ``done`` became what it is.
    """

    text: str
    first: int
    total: int
    began: float
    done: int
    moved: float

    @property
    def how_far(self) -> str:
        return f", {self.done} of {self.total}" if self.total > 1 else ""

    def left(self, now: float) -> str:
        """What is left, and for how long at the rate of this run."""
        if self.total == 1:
            return f"{duration(now - self.began)} so far"
        left, made = self.total - self.done, self.done - self.first
        if not made:
            return f"{left} left, no rate yet"
        each = (self.moved - self.began) / made
        ahead = max(each * left - (now - self.moved), each * (left - 1))
        return f"{left} left, {f'about {duration(ahead)} to go' if ahead else 'due by now'}"


class Shown:
    """A `distill.progress.HowFar` that says nothing but knows what is under way; as a context, of one run."""

    def __init__(self) -> None:
        self.stages: dict[str, Stage] = {}
        self.parts: dict[str, dict[str, tuple[int, int]]] = {}  # of what several processes do, by text and part
        self.lock = threading.RLock()

    def __call__(self, text: str, done: int, total: int) -> None:
        self.hear("", text, done, total)

    def hear(self, part: str, text: str, done: int, total: int) -> None:
        """Take how far a part of it is, which one process does."""
        with self.lock:
            parts = self.parts.setdefault(text, {})
            parts[part] = (done, total)
            done, total = (sum(numbers) for numbers in zip(*parts.values(), strict=True))
            self.move(text, done, total)
            if done >= total:
                del self.parts[text]

    def move(self, text: str, done: int, total: int) -> None:
        now, stage = time.monotonic(), self.stages.pop(text, None)
        begins = stage is None
        if stage is None:
            stage = Stage(text, done, total, now, done, now)
        if done != stage.done:
            stage.moved = now
        stage.done, stage.total = done, total
        if done < total:
            self.stages[text] = stage  # what moved last stands last
        elif begins:
            return  # it was there already
        self.show(stage, begins)

    def show(self, stage: Stage, begins: bool) -> None:
        """Tell that a stage begins, moved or, with all of it done, ended."""

    def say(self, line: str) -> None:
        """A line that stays."""

    def stop(self) -> None:
        """Make room for what follows."""

    def __enter__(self) -> Shown:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if isinstance(error, Interrupted):
            error.at = self.at

    @property
    def at(self) -> str:
        """What is under way, for the sentence that says where a run was interrupted."""
        stage = next(reversed(self.stages.values()), None)
        return "" if stage is None else f" at {stage.text}{stage.how_far}"


class Told(Shown):
    """Of a process whose crew's first one shows it."""

    def __call__(self, text: str, done: int, total: int) -> None:
        crew().tell(text, done, total)


class Bars(Shown):
    """For a terminal."""

    def __init__(self) -> None:
        super().__init__()
        columns = Progress.get_default_columns()
        self.bars = Progress(*columns, MofNCompleteColumn(), TimeElapsedColumn(), console=Console(stderr=True))
        self.tasks: dict[str, Task] = {}
        self.bars.start()

    def show(self, stage: Stage, begins: bool) -> None:
        if stage.text not in self.tasks:
            self.tasks[stage.text] = self.bars.add_task(stage.text, total=stage.total)
        self.bars.update(self.tasks[stage.text], completed=stage.done, total=stage.total)

    def say(self, line: str) -> None:
        self.bars.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        self.bars.stop()


class Lines(Shown):
    """For files and pipes: a line at a stage's begin and end, and one a minute between, though nothing moved."""

    def __init__(self, quiet: float = QUIET_SECONDS) -> None:
        super().__init__()
        self.quiet, self.stopped, self.said = quiet, threading.Event(), time.monotonic()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def show(self, stage: Stage, begins: bool) -> None:
        if begins:
            self.say(f"{stage.text}{stage.how_far}")
        elif stage.done >= stage.total:
            self.say(f"{stage.text}: done{stage.how_far}, {duration(time.monotonic() - stage.began)}")

    def say(self, line: str) -> None:
        with self.lock:
            self.said = time.monotonic()
            print(time.strftime("%H:%M:%S"), line, file=sys.stderr, flush=True)

    def watch(self) -> None:
        while not self.stopped.wait(max(0.01, self.said + self.quiet - time.monotonic())):
            now, stage = time.monotonic(), next(reversed(list(self.stages.values())), None)
            if stage is None:
                self.said = now
            elif now - self.said >= self.quiet:
                self.say(f"{stage.text}{stage.how_far}, {stage.left(now)}")

    def stop(self) -> None:
        self.stopped.set()


def shown() -> Shown:
    """The face for where standard error goes; of a crew one process speaks."""
    if not crew().first:
        return Told()
    return Bars() if sys.stderr.isatty() else Lines()


def duration(seconds: float) -> str:
    """As people say it: 12 s, 3 min 5 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
