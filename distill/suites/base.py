"""Suite: a list of cells, and scores over their rows. It adds no trainer."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distill.checks import check_ranges, setting, stated
from distill.comparison.forms import HOW, Form
from distill.report.rows import Row

Rows = Mapping[str, Row]
"""Of one set, or of its syntheses, by the cell that measured it."""

RANDOM, WHOLE = "random", "whole"  # the method that draws random images, and the baseline that is all of them


@dataclass(frozen=True)
class Cell:
    """How a set is judged once.

    Attributes:
        name: of the cell, within its suite.
        student: the network that is trained.
        stated: what else a run is told, as on a command line.
        sure: False where rows that are not there yet will decide what it is told.
        of: what it judges in place of the set: ``random``, as many random real images, of draws of their own; ``whole``,
            the whole real set; empty for the set itself.
    """

    name: str
    student: str
    stated: tuple[str, ...]
    sure: bool = True
    of: str = ""


@dataclass(frozen=True)
class Subject:
    """What a suite judges: sets of one method and one size.

    Attributes:
        name, size: for tables.
        stated: what makes or names them, as on a command line.
    """

    name: str
    size: str
    stated: tuple[str, ...]

    @property
    def id(self) -> str:
        return f"{self.name}-ipc{self.size}"


Judged = Mapping[Subject, Rows]


@dataclass(frozen=True)
class Suite(ABC):
    """Which cells judge a set, and what their rows say together.

    Attributes:
        student: the first network: it makes what a method makes, and is judged in every cell but those for other ones.

    Raises:
        ValueError: a value is out of range.
    """

    student: str = setting("text")

    def __post_init__(self) -> None:
        check_ranges("suite", vars(self), stated(type(self)))

    @abstractmethod
    def cells(self, rows: Rows, method: str) -> Sequence[Cell]:
        """All there will be for a method's sets, as far as the rows that there are decide it."""

    @property
    @abstractmethod
    def scores(self) -> Sequence[str]:
        """The names of what `score` tells, in the order of the table."""

    @abstractmethod
    def score(self, rows: Rows, random: Rows) -> dict[str, float | None]:
        """What the rows say together, in fractions; None where a row is missing that it is made of.

        Args:
            random: those of random images of the size, a subject of their own; none where it is these that are judged.
        """

    def intervals(self, rows: Rows, random: Rows) -> dict[str, tuple[float, float]]:
        """The 95 % intervals of scores, of those that have one."""
        return {}

    def tables(self, judged: Judged) -> Sequence[Form]:
        """Further tables."""
        return []

    @property
    def peeks(self) -> bool:
        """Whether it chooses on the test split, as a paper did: a dagger marks all its numbers."""
        return False

    def spread(self, row: Row) -> float | None:
        """What stands behind the ± of a cell: the half-width of the interval of its mean."""
        return row["ci95"]

    @property
    def spread_told(self) -> str:
        """What that is."""
        return HOW[0]

    def check(self, val: bool) -> None:  # noqa: B027
        """Raise ValueError if the suite chooses on the validation split, and there is none."""

    @property
    def notes(self) -> Sequence[str]:
        """What stands below the table."""
        return ()


def mean(values: Sequence[float | None]) -> float | None:
    """The mean, or None where one is missing: never a mean of fewer.

    >>> mean([0.25, 0.75]), mean([0.25, None]), mean([])
    (0.5, None, None)
    """
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there and len(there) == len(values) else None
