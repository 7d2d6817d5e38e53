"""Wording of messages that may be about a thousand names."""

from collections.abc import Sequence

MOST = 20  # names that are listed whole


def listed(names: Sequence[str]) -> str:
    """The names, or of many the first, the last and how many there are."""
    if len(names) <= MOST:
        return ", ".join(names)
    return f"{names[0]}, {names[1]}, ... {names[-1]} ({len(names)} in all)"


def difference(theirs: Sequence[str], ours: Sequence[str]) -> str:
    """How many names differ between two lists, and which differs first; empty if none does."""
    if len(theirs) != len(ours):
        first = next(iter([name for name in [*theirs, *ours] if (name in theirs) != (name in ours)]), ours[0])
        return f"{len(theirs)} classes there, {len(ours)} here, the first in one alone is {first!r}"
    places = [k for k, (their, our) in enumerate(zip(theirs, ours, strict=True)) if their != our]
    if not places:
        return ""
    at = places[0]
    return (
        f"{len(places)} of {len(ours)} classes differ, the first is class {at}: {theirs[at]!r} there, {ours[at]!r} here"
    )
