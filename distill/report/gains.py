"""Gain: how much more accurate students of a set are than those of as many random real images, under the same protocol."""

from collections.abc import Sequence

import numpy as np

from distill.report.differences import difference
from distill.report.rows import BASELINES, PEAKED, RANDOM, Row

ACCURACY, TRANSFER = (
    "accuracy",
    "transfer accuracy",
)  # of students as they are; rows under conditions have names of their own

SAME = ("data", "data_hash", "ipc", "counts", "student", "student_hash", "seed")


def gains(rows: Sequence[Row]) -> list[tuple[float, float | None] | None]:
    """Of each row the difference of the means, as a fraction, and the half-width of its 95 % interval (Welch's t).

    Numbers are means over the students of a synthesis, or students where R = 1. There is no interval where one side is a single
    number, and no gain of a row that has nothing `beside` it.
    """
    return [None if other is None else over(row, other) for row, other in zip(rows, beside(rows), strict=True)]


def beside(rows: Sequence[Row]) -> list[Row | None]:
    """Of each row that of as many random real images, judged alike.

    None for a baseline, for a snapshot chosen on the test split, and where no random images were judged alike.
    """
    judged = [
        [*(str(row.get(key)) for key in SAME), metric_of(row), training]
        for row, training in zip(rows, trainings(rows), strict=True)
    ]
    pairs = list(zip(rows, judged, strict=True))
    randoms = {(*own, row["labels"]): row for row, own in pairs if row["method"] == RANDOM}
    return [
        None
        if row["method"] in BASELINES or row["selection"] in PEAKED
        else randoms.get((*own, row["labels"]), randoms.get((*own, "hard")))
        for row, own in pairs
    ]


def metric_of(row: Row) -> str:
    """What the row measures; rows of before tell none, and measure accuracy."""
    return str(row.get("metric", ACCURACY))


def trainings(rows: Sequence[Row]) -> list[str]:
    """Of each row a hash of how each student is trained, however many there are.

    Rows of before tell their protocol's hash alone: it stands for what another row of that protocol tells, else for itself.
    """
    known = {row["protocol_hash"]: row["training_hash"] for row in rows if "training_hash" in row}
    return [str(known.get(row.get("protocol_hash"), row.get("protocol_hash"))) for row in rows]


def over(row: Row, beside: Row) -> tuple[float, float | None]:
    """The difference of two rows' means, as a fraction, and the half-width of its 95 % interval (Welch's t)."""
    found = difference(sample(row), sample(beside))
    half = None if found.low is None or found.high is None else (found.high - found.low) / 2
    return row["mean"] - beside["mean"], half


def sample(row: Row) -> np.ndarray:
    """The row's runs: means over the students of each synthesis, or the students where R = 1; as fractions."""
    values = np.array(row.get("values") or [row["mean"]])
    several = row["syntheses"] > 1 and len(values) % row["syntheses"] == 0
    return values.reshape(row["syntheses"], -1).mean(1) if several else values
