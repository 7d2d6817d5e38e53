"""DC-BENCH (Cui et al., NeurIPS 2022, arXiv:2207.09639): every augmentation, then other architectures at the best of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from distill.checks import setting
from distill.report.rows import Row
from distill.suites.base import Cell, Rows, Suite, mean


@dataclass(frozen=True)
class DcBench(Suite):
    """A network under several augmentations: the best, the mean, the spread; other networks at the best.

    Attributes:
        mode: ``ours`` chooses the augmentation on the validation split, from the students that are reported; ``paper``
            takes the largest mean on the test split, which its table does.
        augmentations: a protocol each, by name; the mean is over these.
        beside: the same, judged but in no score.
        transfer: students at the chosen augmentation.
    """

    mode: str = setting("one of ours, paper")
    augmentations: Mapping[str, str] = setting("map of text to text")
    beside: Mapping[str, str] = setting("{} or map of text to text")
    transfer: Sequence[str] = setting("any number of text")

    scores = ("best", "avg", "transfer", "avg but none", "spread", "best less random's")

    @property
    def notes(self) -> list[str]:
        how = "of the largest mean on the test split, as the paper has it" if self.peeks else "chosen on validation"
        return [
            f"best: the augmentation {how}; avg: over {', '.join(self.augmentations)}; transfer: over "
            f"{', '.join(self.transfer)} at the best augmentation; spread: largest less smallest.",
        ]

    @property
    def peeks(self) -> bool:
        return self.mode == "paper"

    def spread(self, row: Row) -> float | None:
        return float(np.std(row["values"])) if self.peeks else super().spread(row)

    @property
    def spread_told(self) -> str:
        return (
            "± standard deviation of all students, of n and not n - 1 as the release has it."
            if self.peeks
            else super().spread_told
        )

    def check(self, val: bool) -> None:
        if self.mode == "ours" and not val:
            raise ValueError(
                "suite=dc-bench chooses an augmentation on the validation split, and data.val is 0: leave it out, or take "
                "mode=paper, which chooses on the test split"
            )

    def cells(self, rows: Rows, method: str) -> list[Cell]:
        every = {**self.augmentations, **self.beside}
        first = [
            Cell(name, self.student, (f"protocol={protocol}", "protocol.validate=true"))
            for name, protocol in every.items()
        ]
        best = self.best(rows)
        protocol = self.augmentations[best or list(self.augmentations)[-1]]
        return first + [
            Cell(student, student, (f"protocol={protocol}",), sure=best is not None) for student in self.transfer
        ]

    def best(self, rows: Rows) -> str | None:
        """The augmentation of the largest mean, of equals the first; None as long as one is missing."""
        if any(name not in rows for name in self.augmentations):
            return None
        on = "validation_accuracies" if self.mode == "ours" else "accuracies"
        return max(self.augmentations, key=lambda name: mean(rows[name][on]) or 0.0)

    def score(self, rows: Rows, random: Rows) -> dict[str, float | None]:
        each = {name: rows[name]["mean"] if name in rows else None for name in self.augmentations}
        there, best = [value for value in each.values() if value is not None], self.best_accuracy(rows)
        other = self.best_accuracy(random)
        return {
            "best": best,
            "avg": mean(list(each.values())),
            "transfer": mean([rows[name]["mean"] if name in rows else None for name in self.transfer]),
            "avg but none": mean([value for name, value in each.items() if name != "none"]),
            "spread": max(there) - min(there) if len(there) == len(each) else None,
            "best less random's": None if best is None or other is None else best - other,
        }

    def best_accuracy(self, rows: Rows) -> float | None:
        """Accuracy at the best augmentation."""
        best = self.best(rows)
        return None if best is None else rows[best]["mean"]
