"""Verdict of a reproduction: our number beside the published one, with the noise of both."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import yaml

from distill.presets import CONFIGS, options
from distill.report.rows import published_mean

AS_GOOD_AS = 1.0  # point; closer than this, with its noise, is met


@dataclass(frozen=True)
class Verdict:
    """How a row stands to the number that is published for its cell.

    Attributes:
        published: the number that ours stands beside, in %.
        difference: ours less it, in points.
        word: ``met``, ``consistent``, ``below`` or ``above``; ``none`` where nothing can be said.
        why: of ``none``.
        changes: what the run has otherwise than the cell.
        error: standard error of the difference, in points; None where it is not known.
    """

    published: float
    difference: float
    word: str
    why: str = ""
    changes: tuple[str, ...] = ()
    error: float | None = None


def verdict(row: Mapping[str, Any]) -> Verdict | None:
    """By the noise of both numbers; None where none is published.

    Met is a test of equivalence: with 1.645 standard errors the two are at most a point apart. Consistent is within 1.96 of
    them, and all that a run can be that has something otherwise than the cell. A number that nobody read again proves nothing.

    Source: the specification of suites, 5.4. Of one synthesis the published spread stands for ours.
    """
    published = published_mean(row.get("published"))
    if published is None:
        return None
    gap, changes = 100 * row["mean"] - published, tuple(row.get("cell_changes") or ())
    if str(row["published"]).endswith("recalled"):
        return Verdict(published, gap, "none", "the number is recalled, not read", changes)
    spread = _spread(row["published"])
    ours = _variance(row, spread)
    if ours is None:
        return Verdict(published, gap, "none", "too few runs, or no published spread", changes)
    theirs = (spread or 0.0) ** 2 / _syntheses(str(row.get("published_of") or ""))
    error = sqrt(ours + theirs)
    return Verdict(published, gap, _word(gap, error, bool(row.get("cell_changed") or changes)), "", changes, error)


def repeated(row: Mapping[str, Any], former: Mapping[str, Any], changes: Sequence[str] = ()) -> Verdict:
    """The same rule for a run that is made again, beside the row of the one before.

    Args:
        changes: what it has otherwise than that run.

    >>> former = {"mean": 0.90, "syntheses": 1, "students": 20, "sd_student": 0.01, "published": "91.7 ± 0.5"}
    >>> [repeated({**former, "mean": mean}, former).word for mean in (0.90, 0.88)]
    ['consistent', 'below']
    """
    gap, spread = 100 * (row["mean"] - former["mean"]), _spread(former.get("published"))
    ours, before = _variance(row, spread), _variance(former, spread)
    if ours is None or before is None:
        return Verdict(100 * former["mean"], gap, "none", "too few runs, or no published spread", tuple(changes))
    error = sqrt(ours + before)
    return Verdict(100 * former["mean"], gap, _word(gap, error, bool(changes)), "", tuple(changes), error)


def _word(gap: float, error: float, changed: bool) -> str:
    """What a gap in points is called, of numbers whose difference has this standard error."""
    if abs(gap) + 1.645 * error <= AS_GOOD_AS and not changed:
        return "met"
    if abs(gap) <= max(1.96 * error, AS_GOOD_AS - 1.645 * error):  # equivalent, too, where something was changed
        return "consistent"
    return "below" if gap < 0 else "above"


def _spread(published: Any) -> float | None:
    """The standard deviation in ``46.2 ± 0.8``, in points."""
    found = re.search(r"± (\d+(?:\.\d+)?)", str(published))
    return None if found is None else float(found[1])


def _variance(row: Mapping[str, Any], spread: float | None) -> float | None:
    """Of a row's mean, in squared points; of one synthesis the published ``spread`` stands for the one that is not known."""
    runs, students, within = row["syntheses"], row["students"], row.get("sd_student")
    if runs == 1:
        return None if spread is None or within is None else spread**2 + (100 * within) ** 2 / students
    if within is None or row.get("sd_synthesis") is None:  # one student each
        return float((100 * row["sd"]) ** 2 / runs)
    return float((100 * row["sd_synthesis"]) ** 2 / runs + (100 * within) ** 2 / (runs * students))


def _syntheses(cell: str) -> int:
    """How many stand behind a cell's published number, as its file has them; 1 where it says nothing."""
    if cell not in options("experiment"):
        return 1
    stated = yaml.safe_load((CONFIGS / "experiment" / f"{cell}.yaml").read_text())
    return int(stated.get("syntheses", 1))
