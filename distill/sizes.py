"""Sizes: how many images a synthetic set has of each class, the field's ipc, as a user says it and as it is meant."""

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction

from distill.checks import inside
from distill.files import digest
from distill.wording import listed

# Of every class; "upto50": or as many as it has, at most 50; "10%" of what it has; by class.
Size = int | str | Mapping[str, int]
UP_TO = re.compile(r"upto(\d+)")
PERCENT = re.compile(r"(\d+(?:\.\d+)?)%")


def check_size(size: Size) -> None:
    """Raise ValueError if ``size`` is none, whatever the classes are."""
    percent, found = (each.fullmatch(size) if isinstance(size, str) else None for each in (PERCENT, UP_TO))
    values = size.values() if isinstance(size, Mapping) else [int(found[1]) if found else size]
    if percent:
        known = 0 < Fraction(percent[1]) <= 100
    else:
        known = bool(values) and all(inside(value, "whole [1, 1000000]") for value in values)
    if not known:
        raise ValueError(
            f"ipc is {size!r}, expected a whole number in [1, 1000000]; upto50 for as many as a class has, at most 50; "
            "10% for a share in (0, 100] of each class; or a number for each class: {cat: 10, dog: 5}"
        )


def counts(size: Size, classes: Sequence[str], available: Sequence[int]) -> tuple[int, ...]:
    """Images of each of K classes.

    Args:
        classes: their names.
        available: real images of each.

    Raises:
        ValueError: the size is none, or gives some class no number or no image.

    Examples:
        >>> counts("10%", ["cat", "dog"], [60, 24])
        (6, 2)
    """
    check_size(size)
    if isinstance(size, str) and (percent := PERCENT.fullmatch(size)):
        given = shares(round(Fraction(percent[1]) / 100 * sum(available)), available)
        none = [name for name, count in zip(classes, given, strict=True) if not count]
        if none:
            raise ValueError(
                f"ipc is {size!r}, which gives no image of {listed(none)} (the smallest class has {min(available)}), "
                "expected one of each class at least: take a larger share, or the same number of each: ipc=1"
            )
        return given
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


def shares(total: int, sizes: Sequence[int]) -> tuple[int, ...]:
    """A total split over classes in proportion to their sizes: the whole part of each, then one more where most was cut off.

    The sum is ``total`` to the image and no share is above its class; of equal remainders the first class's goes first.

    Raises:
        ValueError: there are fewer than ``total``.

    Source: the method of largest remainders (Hamilton).

    Examples:
        >>> shares(10, [30, 30, 40])
        (3, 3, 4)
        >>> shares(5, [30, 30, 40])
        (2, 1, 2)
    """
    every = sum(sizes)
    if total > every:
        raise ValueError(f"{total} images asked of {len(sizes)} classes, expected at most the {every} that they have")
    whole = [total * size // every for size in sizes]
    by_remainder = sorted(range(len(sizes)), key=lambda cls: -(total * sizes[cls] % every))
    one_more = set(by_remainder[: total - sum(whole)])
    return tuple(count + (cls in one_more) for cls, count in enumerate(whole))


def short(size: Size) -> str:
    """What stands for ``size`` in a file's name."""
    if not isinstance(size, Mapping):
        return str(size).replace("%", "percent")
    return f"{spread(list(size.values()))}-{digest({str(name): count for name, count in size.items()})[:6]}"


def are_equal(counts: Sequence[int]) -> bool:
    """Whether every class has as many."""
    return len(set(counts)) == 1


def of_counts(counts: Sequence[int], names: Sequence[str]) -> Size:
    """The size that asks for these images of classes of these names.

    >>> of_counts([3, 3], ["cat", "dog"]), of_counts([3, 1], ["cat", "dog"])
    (3, {'cat': 3, 'dog': 1})
    """
    return counts[0] if are_equal(counts) else dict(zip(names, counts, strict=True))


def spread(counts: Sequence[int]) -> str:
    """In short: ``10``, or ``3-50`` where classes differ."""
    return str(counts[0]) if are_equal(counts) else f"{min(counts)}-{max(counts)}"


def percent(fraction: float) -> str:
    """A fraction of each class as a size.

    >>> percent(0.1), percent(0.0002)
    ('10%', '0.02%')
    """
    return f"{100 * fraction:.10f}".rstrip("0").rstrip(".") + "%"
