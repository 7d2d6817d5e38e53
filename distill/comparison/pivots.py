"""Rows as a paper's main table has them: methods by data and size, one table for each protocol, student and kind of labels."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from distill.comparison.arms import HASHES, Arm, Comparison, cell_of, setting_of
from distill.comparison.citations import FAMILIES, family
from distill.comparison.published import Where, as_published, beside
from distill.report.rows import RANDOM, WHOLE, Row


class Labels:
    """What rows are called in titles and columns: a thing's first name, numbered where several have one."""

    def __init__(self, rows: Iterable[Row]):
        self.names: dict[tuple[str, str], str] = {}
        self.known: dict[str, dict[str, int]] = {}
        for row in rows:
            for name in HASHES:
                thing = self._thing(row, name)
                first = self.names.setdefault((name, thing), row[name])
                things = self.known.setdefault(f"{name} {first}", {})
                things.setdefault(thing, len(things) + 1)

    @staticmethod
    def _thing(row: Row, name: str) -> str:
        """The hash of the row's protocol, student or data; rows of before may have a name alone."""
        return str(row.get(HASHES[name]) or row[name])

    def of(self, row: Row, name: str) -> str:
        """The row's protocol, student or data."""
        thing = self._thing(row, name)
        first = self.names[name, thing]
        things = self.known[f"{name} {first}"]
        return first + (f" #{things[thing]}" if len(things) > 1 else "")

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
        published: what a paper prints, in %, by columns that have no row of the method.
    """

    family: str
    name: str
    rows: dict[tuple[str, ...], Row]
    published: dict[tuple[str, ...], str] = field(default_factory=dict)


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
    first: dict[str, tuple[int, str, str]] = {}  # line of a method
    for arm in arms:
        method = arm.row["method"]
        key = (place(method), arm.name, arm.row["selection"])
        line = lines.setdefault(key, {})
        mine = [cell for cell in columns if method == WHOLE and cell[:2] == cell_of(arm.row)[:2]]
        line.update(dict.fromkeys(mine or [cell_of(arm.row)], arm.row))
        first.setdefault(method, key)
    papers = {first.get(name, (place(name), name, "last")): each for name, each in _papers(rows, columns).items()}
    for key in papers:
        lines.setdefault(key, {})
    kinds = list(FAMILIES.values())
    ordered = sorted(lines, key=lambda key: key[0])
    return Pivot(rows, columns, [Line(kinds[key[0]], key[1], lines[key], papers.get(key, {})) for key in ordered])


def _papers(rows: Sequence[Row], columns: Mapping[tuple[str, ...], Row]) -> dict[str, dict[tuple[str, ...], str]]:
    """What is published for the columns, by method, where the rows were judged as their protocol's name says."""
    found: dict[str, dict[tuple[str, ...], str]] = {}
    own = {(row["method"], cell_of(row)) for row in rows}
    for cell, row in columns.items() if as_published(rows) else ():
        protocol = re.match(r"[\w-]*", row["protocol"])  # before the marks of changes and precision
        where = Where(protocol[0] if protocol else "", row["student"], row["data"], size(row))
        for name, number in beside(where).items():
            if (name, cell) not in own:  # else it stands among the reproductions
                found.setdefault(name, {})[cell] = number
    return found


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


def place(method: str) -> int:
    """Of the method's family, in the order of a table."""
    return list(FAMILIES).index(family(method))
