"""Sizes: how many images a synthetic set has of each class, the field's ipc, as a user says it and as it is meant."""

import re
from collections.abc import Mapping, Sequence

from distill.checks import inside
from distill.files import digest
from distill.wording import listed

Size = int | str | Mapping[str, int]  # of every class; "upto50": or as many as it has, at most 50; by class
UP_TO = re.compile(r"upto(\d+)")


def check_size(size: Size) -> None:
    """Raise ValueError if ``size`` is none, whatever the classes are."""
    found = UP_TO.fullmatch(size) if isinstance(size, str) else None
    values = size.values() if isinstance(size, Mapping) else [int(found[1]) if found else size]
    if not values or not all(inside(value, "whole [1, 1000000]") for value in values):
        raise ValueError(
            f"ipc is {size!r}, expected a whole number in [1, 1000000]; upto50 for as many as a class has, at most 50; "
            "or a number for each class: {cat: 10, dog: 5}"
        )


def counts(size: Size, classes: Sequence[str], available: Sequence[int]) -> tuple[int, ...]:
    """Images of each of K classes.

    Args:
        classes: their names.
        available: real images of each.

    Raises:
        ValueError: the size is none, or gives some class no number.
    """
    check_size(size)
    if isinstance(size, str):
        return tuple(min(int(size.removeprefix("upto")), has) for has in available)
    if not isinstance(size, Mapping):
        return (size,) * len(classes)
    asked = {str(name): count for name, count in size.items()}
    for told, which in (
        ("no number for", set(classes) - set(asked)),
        ("a number for unknown", set(asked) - set(classes)),
    ):
        if which:
            raise ValueError(f"ipc has {told} {listed(sorted(which))}: give one for each of {listed(classes)}")
    return tuple(asked[name] for name in classes)


def short(size: Size) -> str:
    """What stands for ``size`` in a file's name."""
    if not isinstance(size, Mapping):
        return str(size)
    return f"{spread(list(size.values()))}-{digest({str(name): count for name, count in size.items()})[:6]}"


def are_equal(counts: Sequence[int]) -> bool:
    """Whether every class has as many."""
    return len(set(counts)) == 1


def spread(counts: Sequence[int]) -> str:
    """In short: ``10``, or ``3-50`` where classes differ."""
    return str(counts[0]) if are_equal(counts) else f"{min(counts)}-{max(counts)}"
