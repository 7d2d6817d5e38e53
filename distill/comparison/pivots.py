"""Rows as a paper's main table has them: methods by data and size, one table for each protocol, student and kind of labels."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from distill.comparison.arms import HASHES, Arm, Comparison, cell_of, setting_of
from distill.comparison.citations import FAMILIES, family
from distill.report.rows import RANDOM, WHOLE, Row


class Labels:
    """What rows are called in titles and columns: names, numbered where several things have one."""

    def __init__(self, rows: Iterable[Row]):
        self.known: dict[tuple[str, str], dict[str, int]] = {}
        for row in rows:
            for name, key in HASHES.items():
                hashes = self.known.setdefault((name, row[name]), {})
                hashes.setdefault(str(row.get(key)), len(hashes) + 1)

    def of(self, row: Row, name: str) -> str:
        """The row's protocol, student or data."""
        hashes = self.known[(name, row[name])]
        return row[name] + (f" #{hashes[str(row.get(HASHES[name]))]}" if len(hashes) > 1 else "")

    def setting(self, row: Row) -> str:
        return f"{self.of(row, 'protocol')}, {self.of(row, 'student')}, {row['labels']} labels"

    def column(self, row: Row) -> str:
        return f"{self.of(row, 'data')}, {'all images' if row['ipc'] is None else f'ipc {size(row)}'}"


def size(row: Row) -> str:
    """Images per class."""
    return str(row.get("ipc_range") or row["ipc"] or "all")


def by_size(row: Row) -> tuple[Any, ...]:
    """Sorts rows by data and size."""
    numbers = re.findall(r"\d+\.?\d*", size(row)) or ["inf"]
    return row["data"], str(row.get("data_hash")), float(numbers[0]), size(row)


@dataclass(frozen=True)
class Line:
    """What a method has in a table.

    Attributes:
        family: see `distill.comparison.citations.FAMILIES`.
        rows: by column.
    """

    family: str
    name: str
    rows: dict[tuple[str, ...], Row]


@dataclass(frozen=True)
class Pivot:
    """A table.

    Attributes:
        rows: all that it has; the first tells protocol, student and kind of labels.
        columns: data and size, each with a row that tells their names.
        lines: by family; last the whole set, which stands beside every size of its data.
    """

    rows: list[Row]
    columns: dict[tuple[str, ...], Row]
    lines: list[Line]

    @property
    def single(self) -> bool:
        """Whether every row has one synthesis."""
        return all(row["syntheses"] == 1 for row in self.rows)


def pivots(found: Comparison) -> list[Pivot]:
    """A table for each protocol, student and kind of labels, in the order of their rows."""
    settings = dict.fromkeys(setting_of(arm.row) for arm in found.arms)
    own: dict[tuple[str, ...], list[Arm]] = {setting: [] for setting in settings}
    for arm in found.arms:
        own[setting_of(arm.row)].append(arm)
    return [_pivot([*own[each], *_beside(own[each], own.get((*each[:2], "hard"), []))]) for each in settings]


def _pivot(arms: Sequence[Arm]) -> Pivot:
    rows = [arm.row for arm in arms]
    columns = {cell_of(row): row for row in sorted(rows, key=by_size) if row["method"] != WHOLE}
    lines: dict[tuple[int, str, str], dict[tuple[str, ...], Row]] = {}
    for arm in arms:
        line = lines.setdefault((place(arm), arm.name, arm.row["selection"]), {})
        mine = [cell for cell in columns if arm.row["method"] == WHOLE and cell[:2] == cell_of(arm.row)[:2]]
        line.update(dict.fromkeys(mine or [cell_of(arm.row)], arm.row))
    kinds, ordered = list(FAMILIES.values()), sorted(lines.items(), key=lambda item: item[0][0])
    return Pivot(rows, columns, [Line(kinds[kind], name, line) for (kind, name, _), line in ordered])


def _beside(own: Sequence[Arm], hard: Sequence[Arm]) -> list[Arm]:
    """Random and whole sets with hard labels, where a setting has none of its own."""
    lacking = {RANDOM, WHOLE} - {arm.row["method"] for arm in own}
    sizes = {cell_of(arm.row) for arm in own}
    found = [arm for arm in hard if arm.row["method"] in lacking]
    return [
        Arm(f"{arm.name}, hard labels", arm.row)
        for arm in found
        if arm.row["method"] == WHOLE or cell_of(arm.row) in sizes
    ]


def place(arm: Arm) -> int:
    """Of the arm's family, in the order of a table."""
    return list(FAMILIES).index(family(arm.row["method"]))
