"""Crew: the processes that share the work of a run, unit by unit."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

from distill.files import alone_in

T = TypeVar("T")


class Link(Protocol):
    """How the processes of a crew talk.

    Raises:
        RuntimeError: one of them has ended.
    """

    def hand_out(self, answer: Any) -> Any:
        """What the first process gives, in all of them."""

    def meet(self) -> None:
        """Until every process is here."""

    def tell(self, text: str, done: int, total: int) -> None:
        """Let the first process know how far this one is, where it listens."""

    @property
    def listens(self) -> bool:
        """Whether the first process hears what the others tell."""

    def part(self, size: int) -> "Link":
        """Of the first ``size`` processes alone."""


class Gloo:
    """Of a torchrun; its processes do not tell how far they are, and all of them take part."""

    listens = False

    def part(self, size: int) -> "Link":
        return self

    def hand_out(self, answer: Any) -> Any:
        box = [answer]
        self._together(lambda dist: dist.broadcast_object_list(box))
        return box[0]

    def meet(self) -> None:
        self._together(lambda dist: dist.barrier())

    def tell(self, text: str, done: int, total: int) -> None:
        pass

    def _together(self, act: Callable[[Any], object]) -> None:
        import torch.distributed as dist

        if not dist.is_initialized():
            dist.init_process_group("gloo", timeout=timedelta(days=7))
        try:
            act(dist)
        except RuntimeError as error:
            raise RuntimeError(f"another process of this run has ended, its own message says why ({error})") from None


@dataclass(frozen=True)
class Crew:
    """The processes of a run: all go the same way, and each makes its share of the units of work on it.

    A unit has a key and leaves a file, or a part of one, that tells whether it is done. What it gives is a function of its key
    alone, so that any number of processes end with the same files, and one that is killed loses its open unit.

    Attributes:
        rank, size: of this process among all of them.
        local_rank: of this process on its machine.
        link: how they talk.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    link: Link = field(default_factory=Gloo, compare=False)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Crew":
        """As torchrun tells it; a process on its own where nobody does."""
        rank, size = int(environment.get("RANK", 0)), int(environment.get("WORLD_SIZE", 1))
        return cls(rank, size, int(environment.get("LOCAL_RANK", 0)))

    @property
    def first(self) -> bool:
        """Whether this process speaks for all, and writes what there is one of."""
        return self.rank == 0

    def share(self, units: Sequence[T]) -> Sequence[T]:
        """The units that are this process's, by their place in the list."""
        return units[self.rank :: self.size]

    def part(self, size: int) -> "Crew":
        """The first ``size`` processes, in one of them."""
        return replace(self, size=size, link=self.link.part(size))

    def told(self, own: int, all_of_it: int) -> int:
        """How much work this process tells of, so that the sum is that of all."""
        if not self.link.listens:
            return own
        return all_of_it if self.first else 0

    def agree(self, decide: Callable[[], T]) -> T:
        """What the first process decides, in all of them; for what files, clocks and locks have a say in."""
        answer: Any = decide() if self.first else None
        return answer if self.size == 1 else self.link.hand_out(answer)

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            self.link.meet()

    @contextmanager
    def alone_in(self, folder: Path) -> Iterator[None]:
        """`distill.files.alone_in` for all of them, until all are done."""
        with alone_in(folder) if self.first else nullcontext():
            self.agree(lambda: None)  # the folder is locked
            yield
            self.wait()


_crew = Crew()


def crew() -> Crew:
    """The processes that share the work at hand; this one alone outside of `working_in`."""
    return _crew


@contextmanager
def working_in(those: Crew) -> Iterator[Crew]:
    """Within the block, `crew` is ``those``."""
    global _crew
    before, _crew = _crew, those
    try:
        yield those
    finally:
        _crew = before
