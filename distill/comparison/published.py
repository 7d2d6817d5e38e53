"""Numbers of papers that a table shows beside rows: of cells of its protocol, student, data and size."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import NamedTuple

from distill.presets import CONFIGS
from distill.report.rows import Row


class Where(NamedTuple):
    """What a published number is of; ``size`` is images per class."""

    protocol: str
    student: str
    data: str
    size: str


def beside(where: Where) -> Mapping[str, str]:
    """Published accuracies in %, by method.

    Examples:
        >>> beside(Where("dm", "convnet", "cifar10", "1"))
        {'dm': '26.0 ± 0.8'}
        >>> beside(Where("ours", "convnet", "digits", "1"))
        {}
    """
    return _known().get(where, {})


def as_published(rows: Iterable[Row]) -> bool:
    """Whether rows were judged as their protocol's name says, but for the number of students."""
    changes = [change for row in rows for change in row.get("protocol_changes", [])]
    return all(change.startswith("students ") for change in changes)


@cache
def _known() -> dict[Where, dict[str, str]]:
    found: dict[Where, dict[str, str]] = {}
    for path in sorted((CONFIGS / "experiment").glob("*_ipc*.yaml")):
        text = path.read_text(encoding="utf-8")
        chosen = dict(re.findall(r"^  - override /(\w+): \[?(\w+)", text, re.MULTILINE))
        stated = dict(re.findall(r'^(ipc|published): "?(.+?)"?(?: *#.*)?$', text, re.MULTILINE))
        if "published" in stated:
            where = Where(chosen["protocol"], chosen.get("student", "convnet"), chosen["data"], stated["ipc"])
            found.setdefault(where, {})[chosen["method"]] = stated["published"]
    return found
