"""What an engine is: the queue, the placement and the retries are those of the library behind it."""

import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from distill.parallel import Heard, one_line

Errand = Callable[[], object]
"""What a worker does: can be pickled, finds all else on a disk that it shares, and can be done again."""


@dataclass(frozen=True)
class Need:
    """What one errand takes.

    Attributes:
        seconds: of time.
        memory: bytes of the machine's.
        threads: cores that it uses.
        gpus: cards that it uses.
    """

    seconds: float
    memory: int
    threads: int
    gpus: int


Submit = Callable[[Sequence[Errand], Callable[[], Need]], Sequence["Future[Any]"]]
"""Has errands done; a future fails where its errand raised, or its worker ended. What each needs is asked where it matters."""


class Engine(ABC):
    """Settings of who carries out units."""

    here: ClassVar[bool] = (
        False  # whether workers are processes of this machine, which is worth it where there is much to do
    )

    def at_once(self, asked: int | str) -> int:
        """About how many units are made at the same time, where ``workers`` is ``asked``."""
        return 1 if asked == "auto" else int(asked)

    def check_ranks(self) -> None:
        """Raise ValueError where the processes of a torchrun are not the workers."""
        raise ValueError("within a torchrun its processes make the units: leave engine out, or begin one process alone")

    @abstractmethod
    def open(self, workers: int | str, heard: Heard) -> AbstractContextManager[Submit]:
        """Until the block ends, so many workers, or as many as this engine finds right where it is ``auto``.

        Args:
            heard: of how far units are, where workers can tell.
        """


def outcome(errand: Errand) -> str:
    """Why it could not be done, in one line, empty where it was; errors come home differently from each library."""
    try:
        errand()
    except Exception as error:
        traceback.print_exc()  # into the worker's log
        return one_line(error)
    return ""


def settle(future: "Future[None]", told: Callable[[], str]) -> None:
    """Let a future have the `outcome` that ``told`` gives, or the error that it raises where the worker was lost."""
    try:
        why = told()
    except BaseException as error:
        future.set_exception(error)
        return
    if why:
        future.set_exception(RuntimeError(why))
    else:
        future.set_result(None)
