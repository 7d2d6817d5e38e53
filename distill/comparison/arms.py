"""Rows of one protocol, student, kind of labels, data set and size side by side, each against random and against the best."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from distill.report.differences import Difference, difference, holm, permuted, rank_holds, ranks, runs_needed
from distill.report.gains import sample, trainings
from distill.report.rows import PEAKED, RANDOM, WHOLE, Report, Row
from distill.report.table import differing

SETTING = ("protocol", "student", "labels")  # of a table; data and size are its columns
HASHES = {"protocol": "training", "student": "student_hash", "data": "data_hash"}
HALF_A_POINT = 0.005


@dataclass(frozen=True)
class Arm:
    """A row under the name that a table gives it."""

    name: str
    row: Row

    @property
    def runs(self) -> np.ndarray:
        """See `distill.report.gains.sample`."""
        return sample(self.row)

    @property
    def seeds(self) -> list[int] | None:
        """Of the syntheses, as far as the row tells; sets of one seed start from the same real images."""
        return self.row.get("synthesis_seeds") if self.row["syntheses"] > 1 else None

    def shares_seeds(self, other: "Arm") -> bool:
        """Whether synthesis i of both has the same seed, for all i."""
        return self.seeds is not None and self.seeds == other.seeds


@dataclass(frozen=True)
class Contrast:
    """One arm less another.

    Attributes:
        ours, other: the arms.
        against: ``random`` or ``best``.
        found: difference with interval and t test; paired where both share the seeds of their syntheses.
        p_holm: the t test's p, corrected for all contrasts of the comparison; None where there is no test.
    """

    ours: Arm
    other: Arm
    against: str
    found: Difference
    p_holm: float | None = None

    @classmethod
    def of(cls, ours: Arm, other: Arm, against: str) -> "Contrast":
        return cls(ours, other, against, difference(ours.runs, other.runs, ours.shares_seeds(other)))

    @property
    def paired(self) -> bool:
        return self.ours.shares_seeds(self.other)

    @cached_property
    def permutation(self) -> tuple[float | None, float | None]:
        """p of the permutation test over syntheses, and the least that so many allow; None where one has a single synthesis."""
        several = min(self.ours.row["syntheses"], self.other.row["syntheses"]) > 1
        return permuted(self.ours.runs, self.other.runs, self.paired) if several else (None, None)

    def runs_for(self, gap: float) -> int | None:
        """Syntheses of each arm that would show ``gap``; None where students of one synthesis cannot tell."""
        return None if self.permutation[1] is None else runs_needed(gap, self.found.sd or 0.0, self.paired)

    @property
    def runs_for_this(self) -> int | None:
        """As many as would show a gap of this size."""
        return self.runs_for(self.found.mean)

    @property
    def runs_for_half_a_point(self) -> int | None:
        return self.runs_for(HALF_A_POINT)

    @property
    def separates(self) -> bool:
        """Whether the two differ at the 5 % level."""
        return self.p_holm is not None and self.p_holm < 0.05


@dataclass(frozen=True)
class Group:
    """Arms that may be compared.

    Attributes:
        arms: in the order of their rows.
        random: random real images under the same protocol, with the same labels or else with hard ones; it may be one of them.
    """

    arms: list[Arm]
    random: Arm | None

    @property
    def best(self) -> Arm:
        """Of the largest mean."""
        return max(self.arms, key=lambda arm: arm.row["mean"])

    @property
    def ranks(self) -> dict[str, tuple[int, float | None]]:
        """By arm: its rank, and in what share of bootstrap draws it holds."""
        holds: Sequence[float | None] = rank_holds([arm.runs for arm in self.arms]) or [None] * len(self.arms)
        own = ranks(np.array([arm.runs.mean() for arm in self.arms]))
        return {arm.name: (int(rank), share) for arm, rank, share in zip(self.arms, own, holds, strict=True)}

    def contrasts(self) -> list[Contrast]:
        """Each arm against random, then each against the best; no pair twice."""
        best, random = self.best, self.random
        if random is None:
            return [Contrast.of(arm, best, "best") for arm in self.arms if arm is not best]
        others = [arm for arm in self.arms if arm is not random]
        found = [Contrast.of(arm, random, "random") for arm in others]
        return found + [Contrast.of(arm, best, "best") for arm in others if best not in (arm, random)]


def compared(rows: Iterable[Row]) -> list[Row]:
    """Rows without those that are there twice, each with what `trainings` says of it."""
    once = list({Report.name(row): row for row in rows}.values())
    return [{**row, "training": training} for row, training in zip(once, trainings(once), strict=True)]


def setting_of(row: Row) -> tuple[str, ...]:
    """What rows of one table have in common."""
    return tuple(str(row.get(HASHES.get(name, name))) for name in SETTING)


def cell_of(row: Row) -> tuple[str, ...]:
    """The data and size of a row, by class where classes differ: a column of a table."""
    return str(row["data"]), str(row.get("data_hash")), str(row.get("ipc_range") or row["ipc"]), str(row.get("counts"))


def groups(rows: Sequence[Row]) -> list[Group]:
    """Rows that were judged alike; neither the whole set nor what was chosen on the test split."""
    alike: dict[tuple[str, ...], list[Arm]] = defaultdict(list)
    for arm in named(rows):
        if arm.row["method"] != WHOLE and arm.row["selection"] not in PEAKED:
            alike[(*setting_of(arm.row), *cell_of(arm.row))].append(arm)
    randoms = {key: found for key, arms in alike.items() if (found := _random(arms))}

    def hard(key: tuple[str, ...]) -> tuple[str, ...]:
        return (*key[:2], "hard", *key[3:])

    return [Group(arms, randoms.get(key, randoms.get(hard(key)))) for key, arms in alike.items()]


def _random(arms: Sequence[Arm]) -> Arm | None:
    """The most draws of random real images, whether they are the baseline or the method of that name."""
    found = [arm for arm in arms if arm.row["method"] in (RANDOM, "random")]
    return max(found, key=lambda arm: arm.row["syntheses"], default=None)


def named(rows: Sequence[Row]) -> list[Arm]:
    """Rows under their method's name; where one has several in a cell, with what tells them apart, or numbered."""
    own: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        own[(*setting_of(row), row["method"], row["selection"])].append(row)
    names: dict[int, str] = {}
    for alike in own.values():
        several = len({cell_of(row) for row in alike}) < len(alike)
        told = differing(alike) if several else {}
        taken: dict[tuple[str, ...], int] = defaultdict(int)
        for place, row in enumerate(alike):
            more = [f"{name}={values[place]}" for name, values in told.items() if values[place]]
            name = ", ".join([row["method"], *sorted(set(row.get("cut", []))), *more])
            taken[(name, *cell_of(row))] += 1
            count = taken[(name, *cell_of(row))]
            names[id(row)] = f"{name} #{count}" if count > 1 else name
    return [Arm(names[id(row)], row) for row in rows]


def corrected(found: Sequence[Contrast]) -> list[Contrast]:
    """All contrasts of a comparison, with Holm's correction over those that have a test."""
    tested = [each for each in found if each.found.p is not None]
    ps = dict(zip(map(id, tested), holm([each.found.p for each in tested if each.found.p is not None]), strict=True))
    return [replace(each, p_holm=ps.get(id(each))) for each in found]


@dataclass(frozen=True)
class Comparison:
    """Rows of any runs side by side; one family of tests.

    Attributes:
        arms: every row, under the name that a table gives it.
        groups: of those that may be compared.
        contrasts: of all groups, with Holm's correction over all of them.
    """

    arms: list[Arm]
    groups: list[Group]
    contrasts: list[Contrast]

    @classmethod
    def of(cls, rows: Iterable[Row]) -> "Comparison":
        once = compared(rows)
        found = groups(once)
        return cls(named(once), found, corrected([each for group in found for each in group.contrasts()]))

    @property
    def leading(self) -> set[int]:
        """``id`` of the rows of the best arms and of those that no test separates from them."""
        best = {id(group.best.row) for group in self.groups}
        tied = set(best)
        for each in self.contrasts:
            pair = {id(each.ours.row), id(each.other.row)}
            if pair & best and each.found.p is not None and not each.separates:
                tied |= pair
        return tied
