"""Ranges: what values a setting may have, written as an interval: ``whole [1, inf)``, ``null or (0, 1]``."""

import re
from collections.abc import Mapping
from typing import Any


def check_ranges(group: str, values: Mapping[str, Any], ranges: Mapping[str, str]) -> None:
    """Raise ValueError if one of ``values`` is not in its interval, or is no number.

    Args:
        group: what the values are settings of, for the message; may be empty.
    """
    for name, interval in ranges.items():
        if not inside(values[name], interval):
            null, whole, *bounds = _parsed(interval)
            kind = f"{'null or ' if null else ''}a {'whole ' if whole else ''}number in "
            raise ValueError(f"{group}{'.' * bool(group)}{name} is {values[name]!r}, expected {kind}{''.join(bounds)}")


def inside(value: Any, interval: str) -> bool:
    """Whether ``value`` is a number of the interval, or None where that says ``null or``."""
    null, whole, left, low, _, high, right = _parsed(interval)
    if value is None:
        return bool(null)
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        return False
    least, most = float(low), float(high)
    return least < value < most or (value == least and left == "[") or (value == most and right == "]")


def _parsed(interval: str) -> tuple[str, ...]:
    found = re.fullmatch(r"(null or )?(whole )?([(\[])([^,]+)(, )([^,]+)([)\]])", interval)
    assert found is not None, interval
    return tuple(part or "" for part in found.groups())
