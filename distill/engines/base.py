"""What an engine is: the queue, the placement and the retries are those of the library behind it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from distill.parallel import Heard

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

    @abstractmethod
    def open(self, count: int, heard: Heard) -> AbstractContextManager[Submit]:
        """Until the block ends, workers, at most ``count`` at the same time; then all have ended.

        Args:
            heard: of how far units are, where workers can tell.
        """
