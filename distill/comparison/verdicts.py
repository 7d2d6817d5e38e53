"""Verdict of a reproduction: our number beside the published one, with the noise of both."""

import re
from collections.abc import Mapping
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
        published: in %.
        difference: ours less it, in points.
        word: ``met``, ``consistent``, ``below`` or ``above``; ``none`` where nothing can be said.
        why: of ``none``.
        changes: what the run has otherwise than the cell.
    """

    published: float
    difference: float
    word: str
    why: str = ""
    changes: tuple[str, ...] = ()


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
    variance = _variance(row)
    if variance is None:
        return Verdict(published, gap, "none", "too few runs, or no published spread", changes)
    error, changed = sqrt(variance), bool(row.get("cell_changed") or changes)
    if abs(gap) + 1.645 * error <= AS_GOOD_AS and not changed:
        word = "met"
    elif abs(gap) <= max(1.96 * error, AS_GOOD_AS - 1.645 * error):  # equivalent, too, where something was changed
        word = "consistent"
    else:
        word = "below" if gap < 0 else "above"
    return Verdict(published, gap, word, "", changes)


def _variance(row: Mapping[str, Any]) -> float | None:
    """Of the difference, in squared points."""
    spread = re.search(r"± (\d+(?:\.\d+)?)", str(row["published"]))
    theirs = None if spread is None else float(spread[1]) ** 2
    runs, students, within = row["syntheses"], row["students"], row.get("sd_student")
    if runs == 1:
        if theirs is None or within is None:
            return None
        ours = theirs + (100 * within) ** 2 / students
    elif within is None or row.get("sd_synthesis") is None:  # one student each
        ours = (100 * row["sd"]) ** 2 / runs
    else:
        ours = (100 * row["sd_synthesis"]) ** 2 / runs + (100 * within) ** 2 / (runs * students)
    return ours + (theirs or 0.0) / _syntheses(str(row.get("published_of") or ""))


def _syntheses(cell: str) -> int:
    """How many stand behind a cell's published number, as its file has them; 1 where it says nothing."""
    if cell not in options("experiment"):
        return 1
    stated = yaml.safe_load((CONFIGS / "experiment" / f"{cell}.yaml").read_text())
    return int(stated.get("syntheses", 1))
