"""Regimes of labels (arXiv:2604.18811, arXiv:2502.06434): what a set gains over random images, by what students are told.

With a label an image, the images count; with a teacher's on every view, the training does. A method that leads with hard labels
and ties with a teacher is the normal case.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distill.checks import setting
from distill.comparison.forms import Form, plain
from distill.report.differences import Difference, difference
from distill.report.gains import sample
from distill.suites.base import Cell, Judged, Rows, Suite


@dataclass(frozen=True)
class Regimes(Suite):
    """Every regime with every network, each against random images.

    Attributes:
        regimes: words of a run by the name of the regime.
        students: networks.
        told: what stands below the tables.
    """

    regimes: Mapping[str, Sequence[str]] = setting("map of text to list of text")
    students: Sequence[str] = setting("list of text")
    told: Sequence[str] = setting("any number of text")

    @property
    def scores(self) -> list[str]:
        return [self.name(regime, student) for student in self.students for regime in self.regimes]

    @property
    def notes(self) -> list[str]:
        how = (
            "Accuracy less that of random images under the same words. [ ]: Welch's 95 % interval of the difference, over R "
            "syntheses; where R = 1 over students."
        )
        return [how, *self.told]

    @staticmethod
    def name(regime: str, student: str) -> str:
        return f"{regime} {student}"

    def cells(self, rows: Rows, method: str) -> list[Cell]:
        return [
            Cell(self.name(regime, student), student, tuple(words))
            for student in self.students
            for regime, words in self.regimes.items()
        ]

    def gaps(self, rows: Rows, random: Rows) -> dict[str, Difference]:
        """Of each cell that both have."""
        both = [name for name in self.scores if name in rows and name in random]
        return {name: difference(sample(rows[name]), sample(random[name])) for name in both}

    def score(self, rows: Rows, random: Rows) -> dict[str, float | None]:
        gaps = self.gaps(rows, random)
        return {name: gaps[name].mean if name in gaps else None for name in self.scores}

    def intervals(self, rows: Rows, random: Rows) -> dict[str, tuple[float, float]]:
        found = self.gaps(rows, random).items()
        return {name: (gap.low, gap.high) for name, gap in found if gap.low is not None and gap.high is not None}

    def tables(self, judged: Judged) -> list[Form]:
        body = [
            plain(each.name, each.size, *(rows[name]["label_bytes"] if name in rows else None for name in self.scores))
            for each, rows in judged.items()
        ]
        notes = ["Of one set, as they are kept. 0: a teacher is asked in training, for every view."]
        return [Form("label-bytes", "Bytes of labels", ["method", "ipc", *self.scores], body, notes)]
