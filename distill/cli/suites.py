"""`distill suite`: its words are those of its cells' runs, and some of its own."""

from collections.abc import Sequence
from typing import Any

from distill.checks import check_ranges
from distill.cli.artefacts import values_of
from distill.runs.comparing import show
from distill.runs.foreseen import check_room, plan
from distill.runs.suited import run_of


def carried_out(arguments: Sequence[str]) -> list[str]:
    """Plan the suite, or carry it out and show its tables."""
    values = values_of(arguments)
    run = run_of(values)
    run.check()
    if values.get("plan"):
        return plan(run)
    check_room(run)
    run.go(*shard_of(values.get("shard", [0, 1])))
    tables, _, paths = run.finish()
    show(tables)
    return [f"wrote {path}" for path in paths]


def shard_of(value: Any) -> tuple[int, int]:
    """The number of a shard and how many there are.

    >>> shard_of([1, 4])
    (1, 4)
    """
    check_ranges("", {"shard": value}, {"shard": "two of whole [0, 100000]"})
    index, count = value
    if index >= count:
        raise ValueError(f"shard is {value}, expected [i, n] with 0 <= i < n: shard=[0,4] to shard=[3,4]")
    return index, count


TASKS = {"suite": carried_out}
