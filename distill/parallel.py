"""Crew: who makes the units of work of a run: this process, those of a torchrun, or the workers of an engine."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, as_completed
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from distill.files import alone_in
from distill.progress import HowFar, silent

T = TypeVar("T")

ROUNDS = 3  # in which a unit that fails is tried

Heard = Callable[[str, str, int, int], None]
"""Called with (key of a unit, what is done, how much of it is done, how much there is in all)."""


@dataclass(frozen=True)
class Unit:
    """A piece of work that needs none of those beside it.

    It leaves a file, whole or not at all, and what is in it is a function of the key alone, whoever makes it. Of one that is
    killed the file is missing, and the unit is made again.

    Attributes:
        key: its name within its arrow.
        make: leaves the file; called with a function that takes how much of the unit is done.
        is_done: whether the file is there.
        text: how the work of units like this is called while it is done; empty where the unit itself tells how far it is.
        size: how much it is, as its text counts.
    """

    key: str
    make: Callable[[Callable[[int], None]], object]
    is_done: Callable[[], bool]
    text: str = ""
    size: int = 1


class Made(BaseException):
    """The unit that a worker was sent for is made: it goes no further."""


@dataclass(frozen=True)
class Crew:
    """One process on its own, which makes unit after unit.

    Attributes:
        size: units that are made at the same time.
        local_rank: of this process among those of its machine.
        patience: seconds to wait for a folder that another process holds; below 0 until it is free.
        scope: what the keys of units begin with here.
        rank: of this process among those of a torchrun.
    """

    size: int = 1
    local_rank: int = 0
    patience: float = 0.0
    scope: tuple[str, ...] = ()
    rank: int = 0

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Crew":
        """As torchrun tells it; a process on its own where nobody does."""
        size = int(environment.get("WORLD_SIZE", 1))
        if size == 1:
            return Crew()
        return Ranks(size, int(environment.get("LOCAL_RANK", 0)), rank=int(environment.get("RANK", 0)))

    @property
    def first(self) -> bool:
        """Whether this process speaks for all, and writes what there is one of."""
        return True

    def named(self, key: str) -> str:
        return "/".join([*self.scope, key])

    def agree(self, decide: Callable[[], T], name: str = "") -> T:
        """What the first process decides, in all of them; for what files, clocks and locks have a say in.

        Args:
            name: within the scope, of what whoever makes a single unit must be told; it decides all else for itself.
        """
        return decide()

    def take(self, lock: Callable[[], bool]) -> bool:
        """Whether this crew makes what its scope names; ``lock`` holds it against others, and is called once for all."""
        return lock()

    def make(self, units: Sequence[Unit], progress: HowFar = silent, together: int = 1) -> None:
        """Until every unit is made, the largest first.

        Args:
            together: processes of a torchrun that make each unit as one.

        Raises:
            RuntimeError: some failed `ROUNDS` times, by name and reason; all others are made.
        """
        self.make_each([unit for unit in units if not unit.is_done()], units, progress)

    def make_each(self, left: Sequence[Unit], shown: Sequence[Unit], progress: HowFar) -> None:
        """One after another in this process; what is shown and not left is done."""
        done, told = {unit.key: unit.size for unit in shown}, dict[str, int]()
        done.update((unit.key, 0) for unit in left)

        def tell(unit: Unit, much: int) -> None:
            done[unit.key] = much
            alike = [each for each in shown if each.text == unit.text]
            there = sum(done[each.key] for each in alike)
            if unit.text and told.get(unit.text) != there:
                told[unit.text] = there
                progress(unit.text, there, sum(each.size for each in alike))

        for unit in sorted(left, key=lambda each: -each.size):
            unit.make(partial(tell, unit))
            tell(unit, unit.size)

    def wait(self) -> None:
        """Until every process of the crew is here."""

    def tell(self, text: str, done: int, total: int) -> None:
        """Let the first process know how far this one is, where it listens."""

    @contextmanager
    def alone_in(self, folder: Path) -> Iterator[None]:
        """`distill.files.alone_in` for all of them, until all are done."""
        with alone_in(folder, self.patience):
            yield


@dataclass(frozen=True)
class Ranks(Crew):
    """A process of a torchrun: all go the same way, and each makes its share of the units on it."""

    @property
    def first(self) -> bool:
        return self.rank == 0

    def agree(self, decide: Callable[[], T], name: str = "") -> T:
        box: list[Any] = [decide() if self.first else None]
        self._together(lambda dist: dist.broadcast_object_list(box))
        return box[0]

    def take(self, lock: Callable[[], bool]) -> bool:
        return self.agree(lock)

    def make(self, units: Sequence[Unit], progress: HowFar = silent, together: int = 1) -> None:
        missing = self.agree(lambda: [place for place, unit in enumerate(units) if not unit.is_done()])
        every = sorted((units[place] for place in missing), key=lambda each: -each.size)
        own = every[self.rank // together :: self.size // together]
        there = [unit for place, unit in enumerate(units) if place not in missing] if self.first else []
        self.make_each(own, [*there, *own], progress)
        self.wait()

    def wait(self) -> None:
        self._together(lambda dist: dist.barrier())

    @contextmanager
    def alone_in(self, folder: Path) -> Iterator[None]:
        with alone_in(folder) if self.first else nullcontext():
            self.agree(lambda: None)  # the folder is locked
            yield
            self.wait()

    def _together(self, act: Callable[[Any], object]) -> None:
        import torch.distributed as dist

        if not dist.is_initialized():
            dist.init_process_group("gloo", timeout=timedelta(days=7))
        try:
            act(dist)
        except RuntimeError as error:
            raise RuntimeError(f"another process of this run has ended, its own message says why ({error})") from None


@dataclass(frozen=True)
class Driver(Crew):
    """A process that sends the units of one arrow to the workers of an engine, and goes on when all are made.

    Attributes:
        submit: has workers make the units of these keys, given what is agreed by name.
        heard: of whoever shows how far the units are.
        agreed: by name, in full.
    """

    submit: Callable[[Sequence[str], Mapping[str, Any]], Sequence["Future[Any]"]] = lambda keys, agreed: []
    heard: Heard = lambda *told: None
    agreed: dict[str, Any] = field(default_factory=dict)

    def agree(self, decide: Callable[[], T], name: str = "") -> T:
        answer = decide()
        if name:
            self.agreed[self.named(name)] = answer
        return answer

    def make(self, units: Sequence[Unit], progress: HowFar = silent, together: int = 1) -> None:
        left, why = [unit for unit in units if not unit.is_done()], dict[str, BaseException]()
        for text in {unit.text: None for unit in left if unit.text}:
            whole, waiting = (sum(unit.size for unit in these if unit.text == text) for these in (units, left))
            self.heard(self.named(""), text, whole - waiting, whole)
        for _ in range(ROUNDS):
            left = self.failed(sorted(left, key=lambda each: -each.size), why)
        if left:
            first = why[left[0].key]
            each = "; ".join(f"{unit.key}: {one_line(why[unit.key])}" for unit in left)
            raise RuntimeError(f"{len(left)} of {len(units)} units failed {ROUNDS} times, {each}") from first

    def failed(self, units: Sequence[Unit], why: dict[str, BaseException]) -> list[Unit]:
        """Those of the units that are not made when each was tried once."""
        if not units:
            return []
        futures = self.submit([self.named(unit.key) for unit in units], self.agreed)
        tried, found = dict(zip(futures, units, strict=True)), set[str]()
        for future in as_completed(tried):
            unit, error = tried[future], future.exception()
            if error is not None and not unit.is_done():  # a worker may die as its file is there
                why[unit.key] = error
                found.add(unit.key)
            elif unit.text:
                self.heard(self.named(unit.key), unit.text, unit.size, 0)
        return [unit for unit in units if unit.key in found]


@dataclass(frozen=True)
class Worker(Crew):
    """A process that goes the way of its driver to one unit, makes it, and stops there (`Made`).

    What else is to be made on this way is there. Its driver holds the locks, and writes what there is one of.

    Attributes:
        key: of the unit, in full.
        agreed: by name, what the driver decided.
        heard: takes how far this unit is.
    """

    key: str = ""
    agreed: Mapping[str, Any] = field(default_factory=dict)
    heard: Heard = lambda *told: None

    @property
    def first(self) -> bool:
        return False

    def agree(self, decide: Callable[[], T], name: str = "") -> T:
        return self.agreed[self.named(name)] if self.named(name) in self.agreed else decide()

    def take(self, lock: Callable[[], bool]) -> bool:
        return self.key.startswith(self.named(""))

    def make(self, units: Sequence[Unit], progress: HowFar = silent, together: int = 1) -> None:
        for unit in units:
            if self.named(unit.key) == self.key:
                if not unit.is_done():
                    unit.make(lambda done, of=unit: self.tell(of.text, done, 0))  # type: ignore[misc]
                raise Made

    def tell(self, text: str, done: int, total: int) -> None:
        if text:
            self.heard(self.key, text, done, total)

    @contextmanager
    def alone_in(self, folder: Path) -> Iterator[None]:
        yield


def one_line(error: BaseException) -> str:
    """What an error says, with its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


_crew = Crew()


def crew() -> Crew:
    """Who makes the units at hand; this process alone outside of `working_in`."""
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


@contextmanager
def within(name: str) -> Iterator[Crew]:
    """Within the block, keys begin with ``name``: a worker that was sent for another one takes none of what it names."""
    with working_in(replace(_crew, scope=(*_crew.scope, name))) as those:
        yield those
