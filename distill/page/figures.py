"""What the page draws: places in percent along axes, which its template turns into lines and points."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from distill.report.rows import RANDOM, WHOLE, Row, gap_to_published
from distill.text import shown

MOST_POINTS = 600  # of a line; a screen shows no more

SHOWN = {"matching_loss": "matching loss", "student_rate": "learned student rate"}


def round_ones(low: float, high: float) -> list[float]:
    """Two to six multiples of 1, 2 or 5 times a power of ten, from ``low`` to ``high``; none of an infinite range."""
    if not math.isfinite(high - low):
        return []
    least = (high - low) / 5  # from one to the next
    power = 10.0 ** math.floor(math.log10(least))
    step = next(power * each for each in (1, 2, 5, 10) if power * each >= least)
    multiples = [step * count for count in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return [each for each in multiples if low <= each <= high]  # rounding may put one beyond


@dataclass(frozen=True)
class Axis:
    """A range of values, and round ones among them.

    Attributes:
        low, high: its ends.
        ticks: (place in percent, what stands there).
    """

    low: float
    high: float
    ticks: list[tuple[float, str]]

    @classmethod
    def over(cls, values: Sequence[float]) -> "Axis":
        """An axis that has room for finite ``values``."""
        low, high = min(values), max(values)
        room = 0.04 * (high - low) or 0.04 * abs(high) or 1.0
        axis = cls(low - room, high + room, [])
        return cls(axis.low, axis.high, [(axis(v), f"{v:.6g}") for v in round_ones(axis.low, axis.high)])

    def __call__(self, value: float) -> float:
        """Place of ``value`` in percent, two decimals."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)


@dataclass(frozen=True)
class Point:
    """One row: places of its mean, its interval and the published number, in percent."""

    label: str
    mean: float
    interval: tuple[float, float] | None
    published: float | None
    hollow: bool


@dataclass(frozen=True)
class Intervals:
    """The rows of one data set on one axis; ``whole`` are the places of the whole set's accuracies."""

    data: str
    axis: Axis
    points: list[Point]
    whole: list[float]


def intervals(rows: Sequence[Row]) -> list[Intervals]:
    """Every row's accuracy with its interval, by data set: random real images hollow, the whole set as a line."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["data"], []).append(row)
    return [_intervals(data, group) for data, group in groups.items() if any(row["ipc"] is not None for row in group)]


def _intervals(data: str, rows: Sequence[Row]) -> Intervals:
    sized = sorted(
        (row for row in rows if row["ipc"] is not None), key=lambda row: (row["ipc"], row["method"] != RANDOM)
    )
    whole = [100 * row["mean"] for row in rows if row["method"] == WHOLE]
    numbers = [(100 * row["mean"], 100 * (row["ci95"] or 0.0), _published(row)) for row in sized]
    ends = [each for mean, half, published in numbers for each in (mean - half, mean + half, published)]
    axis = Axis.over([min(100.0, max(0.0, each)) for each in [*ends, *whole] if each is not None])
    points = []
    for row, (mean, half, published) in zip(sized, numbers, strict=True):
        ends_of_one = axis(max(axis.low, mean - half)), axis(min(axis.high, mean + half))
        points.append(
            Point(
                _label(row), axis(mean), ends_of_one if half else None,
                None if published is None else axis(published), row["method"] == RANDOM,
            )
        )  # fmt: skip
    return Intervals(shown(data), axis, points, [axis(each) for each in whole])


def _published(row: Row) -> float | None:
    gap = gap_to_published(row)
    return None if gap is None else 100 * row["mean"] - gap


def _label(row: Row) -> str:
    """What tells a row from the others of its data set."""
    run, ipc = f"{row['run']}: " if "run" in row else "", row.get("ipc_range") or row["ipc"]
    return shown(f"{run}{row['method']}, ipc {ipc}, {row['student']}, {row['labels']} labels, {row['selection']}")


@dataclass(frozen=True)
class Curve:
    """A value over the outer steps; lines are points ``x,y`` in percent, y downwards.

    Attributes:
        line: as logged.
        mean: a running mean, where the line is too noisy to show its way; else empty.
    """

    name: str
    x: Axis
    y: Axis
    line: str
    mean: str


def curves(metrics: Sequence[Mapping[str, float]], most: int = MOST_POINTS) -> list[Curve]:
    """Matching loss and learned student rate over the outer steps, in at most about ``most`` points each."""
    found = []
    for name, told in SHOWN.items():
        points = [(row["step"], row[name]) for row in metrics if math.isfinite(row.get(name, math.nan))]
        if points:
            found.append(_curve(name, told, points, most))
    return found


def _curve(name: str, told: str, points: Sequence[tuple[float, float]], most: int) -> Curve:
    steps, values = zip(*points, strict=True)
    x, y = Axis.over(steps), Axis.over(values)

    def line(values: Sequence[float]) -> str:
        every = math.ceil(len(values) / most)
        kept = list(zip(steps, values, strict=True))
        return " ".join(f"{x(a)},{round(100 - y(b), 2)}" for a, b in [*kept[:-1:every], kept[-1]])

    # The loss depends on the start epoch: a running mean shows its way.
    noisy = name == "matching_loss" and len(values) > 50
    return Curve(told, x, y, line(values), line(running_mean(values, max(5, len(values) // 25))) if noisy else "")


def running_mean(values: Sequence[float], width: int) -> list[float]:
    """Mean of each value and of the ``width`` - 1 before it, as far as there are any."""
    sums = [0.0, *accumulate(values)]
    return [(sums[i + 1] - sums[max(0, i + 1 - width)]) / min(i + 1, width) for i in range(len(values))]
