"""Suite: a list of cells, and scores over their rows. It adds no trainer."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from distill.checks import check_ranges, setting, stated
from distill.report.rows import Row

Rows = Mapping[str, Row]
"""Of one set, or of its syntheses, by the cell that measured it."""


@dataclass(frozen=True)
class Cell:
    """How a set is judged once.

    Attributes:
        name: of the cell, within its suite.
        student: the network that is trained.
        stated: what else a run is told, as on a command line.
        sure: False where rows that are not there yet will decide what it is told.
    """

    name: str
    student: str
    stated: tuple[str, ...]
    sure: bool = True


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
    def cells(self, rows: Rows) -> Sequence[Cell]:
        """All there will be, as far as the rows that there are decide it."""

    @property
    @abstractmethod
    def scores(self) -> Sequence[str]:
        """The names of what `score` tells, in the order of the table."""

    @abstractmethod
    def score(self, rows: Rows) -> dict[str, float | None]:
        """What the rows say together, in fractions; None where a row is missing that it is made of."""

    @property
    def picked(self) -> Collection[str]:
        """Scores that were chosen on the test split, which a dagger marks."""
        return ()

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
