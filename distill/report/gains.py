"""Gain: how much more accurate students of a set are than those of as many random real images, under the same protocol."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from distill.report.rows import RANDOM, WHOLE, Row

SAME = ("data", "data_hash", "ipc", "student", "student_hash", "protocol_hash", "seed")


def gains(rows: Sequence[Row]) -> list[tuple[float, float | None] | None]:
    """Of each row the difference of the means, as a fraction, and the half-width of its 95 % interval (Welch's t).

    Numbers are means over the students of a synthesis, or students where R = 1. There is no interval where one side is a single
    number, and no gain of a baseline, of a snapshot chosen on the test split, or where no random images were judged alike.
    """
    randoms = {(*_judged(row), row["labels"]): row for row in rows if row["method"] == RANDOM}
    return [_gain(row, randoms) for row in rows]


def _gain(row: Row, randoms: Mapping[Any, Row]) -> tuple[float, float | None] | None:
    judged = _judged(row)
    beside = randoms.get((*judged, row["labels"]), randoms.get((*judged, "hard")))
    if row["method"] in (RANDOM, WHOLE) or row["selection"] in ("maximum", "test") or beside is None:
        return None
    mine, theirs = _sample(row), _sample(beside)
    half = None
    if min(len(mine), len(theirs)) > 1:
        parts = [each.var(ddof=1) / len(each) for each in (mine, theirs)]
        if sum(parts):
            degrees = sum(parts) ** 2 / sum(
                part**2 / (len(each) - 1) for part, each in zip(parts, (mine, theirs), strict=True)
            )
            half = float(stats.t.ppf(0.975, degrees) * np.sqrt(sum(parts)))
    return row["mean"] - beside["mean"], half


def _judged(row: Row) -> list[str]:
    return [str(row.get(key)) for key in SAME]


def _sample(row: Row) -> np.ndarray:
    values = np.array(row.get("values") or [row["mean"]])
    several = row["syntheses"] > 1 and len(values) % row["syntheses"] == 0
    return values.reshape(row["syntheses"], -1).mean(1) if several else values
