"""What a run of all steps comes to: final and average accuracy, forgetting; and their intervals over orders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.data.split import Split
from distill.evaluation.statistics import statistics


@dataclass(frozen=True)
class Course:
    """One order.

    Attributes:
        overall: accuracy over all classes seen after each of T steps, (T,) in [0, 1].
        blocks: the same on the classes that came with each step, (T, T): row t after step t; not a number where not yet seen.

    >>> course = Course(np.array([0.9, 0.6]), np.array([[0.9, np.nan], [0.5, 0.7]]))
    >>> course.final, course.average, round(course.forgetting, 3)
    (0.6, 0.75, 0.4)
    """

    overall: np.ndarray
    blocks: np.ndarray

    @property
    def final(self) -> float:
        """After the last step."""
        return float(self.overall[-1])

    @property
    def average(self) -> float:
        """Over the steps."""
        return float(self.overall.mean())

    @property
    def forgetting(self) -> float | None:
        """Best accuracy on a step's classes after any step but the last, less the last; the mean over all steps but the last.

        None where there is one step. Source: Chaudhry et al., ECCV 2018, arXiv:1801.10112.
        """
        if len(self.overall) == 1:
            return None
        return float((np.nanmax(self.blocks[:-1, :-1], axis=0) - self.blocks[-1, :-1]).mean())


MEASURES = ("final", "average", "forgetting")


def course(rows: Sequence[Mapping[str, Any]], blocks: Sequence[Sequence[int]], test: Split) -> Course:
    """Of the rows of one order, step by step.

    Args:
        blocks: classes of each step.
        test: of the whole real set.
    """
    weights = np.array(test.counts, float)
    found = np.full((len(rows), len(blocks)), np.nan)
    for step, row in enumerate(rows):
        by_class = [row["accuracy_by_class"].get(name) for name in test.class_names]
        for place, classes in enumerate(blocks[: step + 1]):
            known = [cls for cls in classes if weights[cls]]
            hits = sum(by_class[cls] * weights[cls] for cls in known)
            found[step, place] = hits / weights[known].sum() if known else np.nan
    return Course(np.array([row["mean"] for row in rows]), found)


def over_orders(courses: Sequence[Course], measure: str) -> tuple[float, float | None] | None:
    """Mean of a measure, and half of its 95 % t interval over orders; None where it is not defined."""
    values = [getattr(each, measure) for each in courses]
    if None in values:
        return None
    return mean_and_half(values)


def mean_and_half(values: Sequence[float]) -> tuple[float, float | None]:
    """A value for each order: the mean, and half of its 95 % interval, None of one order."""
    found = statistics(np.array(values, float)[:, None])
    return found["mean"], found["ci95"]
