"""Wording of messages that may be about a thousand names."""

from collections.abc import Mapping, Sequence
from typing import Any

from distill.identity import canonical

MOST = 20  # names that are listed whole
WIDTH = 80  # characters of a value


def listed(names: Sequence[str]) -> str:
    """The names, or of many the first, the last and how many there are."""
    if len(names) <= MOST:
        return ", ".join(names)
    return f"{names[0]}, {names[1]}, ... {names[-1]} ({len(names)} in all)"


def difference(theirs: Sequence[str], ours: Sequence[str]) -> str:
    """How many classes differ between two lists of names, and which differs first; empty if none does."""
    if len(theirs) != len(ours):
        alone = next((name for name in (*theirs, *ours) if (name in theirs) != (name in ours)), None)
        first = "" if alone is None else f", the first that one has alone is {alone!r}"
        return f"{len(theirs)} classes there, {len(ours)} here{first}"
    places = [k for k, (their, our) in enumerate(zip(theirs, ours, strict=True)) if their != our]
    if not places:
        return ""
    at = places[0]
    return (
        f"{len(places)} of {len(ours)} classes differ, the first is class {at}: {theirs[at]!r} there, {ours[at]!r} here"
    )


def differing(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """The values in which two nested records differ: ``seed (1 there, 0 here)``."""
    there, here = canonical(theirs), canonical(ours)
    found = []
    for key in there | here:
        their: Any = there.get(key)
        our: Any = here.get(key)
        if their == our:
            continue
        names = their and our and key.endswith("classes")
        found.append(f"{key} ({difference(their, our) if names else f'{_short(their)} there, {_short(our)} here'})")
    return found


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= WIDTH else f"{text[:WIDTH]}..."


def pick(known: Mapping[Any, Any], name: Any, what: str) -> Any:
    """``known[name]``, or a ValueError that lists what is known."""
    if name not in known:
        raise ValueError(f"unknown {what} {name!r}: one of {', '.join(map(str, known))}")
    return known[name]
