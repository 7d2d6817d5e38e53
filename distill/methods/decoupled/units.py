"""Units: which images are recovered together, by which teachers, and which of them go through those as one stack."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from distill import rng
from distill.teachers.committee import Committee


class Unit(NamedTuple):
    """What is recovered together and shares batch statistics: image ``ipc_index`` of some classes, by some teachers."""

    members: tuple[int, ...]
    ipc_index: int
    block: int
    classes: tuple[int, ...]

    @property
    def likeness(self) -> tuple[tuple[int, ...], int]:
        """Units that are equal in it can be stacked."""
        return self.members, -len(self.classes)


def stacks_of(
    counts: Sequence[int], committee: Committee, pairs: str, seed: int, batch: int, together: int
) -> list[list[Unit]]:
    """All units of a set with so many images of each class, ``together`` of them a stack.

    Raises:
        ValueError: the classes do not divide into blocks of ``batch``.
    """
    block = min(batch, len(counts))
    if len(counts) % block:
        raise ValueError(
            f"{len(counts)} classes do not divide into blocks of method.batch={batch}: "
            f"take {max(n for n in range(1, batch + 1) if len(counts) % n == 0)}"
        )
    units = []
    for index in range(max(counts)):
        members = pair_of(committee, pairs, index, seed)
        classes = [cls for cls, count in enumerate(counts) if count > index]  # fewer where small classes have no more
        blocks = [tuple(classes[first : first + block]) for first in range(0, len(classes), block)]
        units += [Unit(members, index, number, own) for number, own in enumerate(blocks)]
    units.sort(key=lambda unit: (unit.likeness, unit))
    same = [list(group) for _, group in itertools.groupby(units, key=lambda unit: unit.likeness)]
    return [group[i : i + together] for group in same for i in range(0, len(group), together)]


def numbers_of(own: Tensor, counts: Sequence[int]) -> dict[int, list[int]]:
    """By class the numbers, from 0, of its images among ``own`` (n,), places in a set with so many images of each class.

    >>> numbers_of(torch.tensor([0, 3, 4]), (2, 1, 2))
    {0: [0], 2: [0, 1]}
    """
    numbers, found = own.tolist(), dict[int, list[int]]()
    for cls, (first, end) in enumerate(itertools.pairwise([0, *itertools.accumulate(counts)])):
        found[cls] = [number - first for number in numbers if first <= number < end]
    return {cls: numbers for cls, numbers in found.items() if numbers}


def pair_of(committee: Committee, pairs: str, index: int, seed: int) -> tuple[int, ...]:
    """The members that recover the images of one ipc index; see `Recovery`'s ``pairs``."""
    every = tuple(range(len(committee.nets)))
    both = list(itertools.combinations(every, 2))
    ways = {
        "all": lambda: every,
        "in_turn": lambda: every,
        "best": lambda: tuple(sorted(sorted(every, key=lambda member: -committee.priors[member])[:2])),
        "rotate": lambda: both[index % len(both)],
        "random": lambda: both[int(torch.randint(len(both), (), generator=rng.generator(seed, "pair", index)))],
    }
    return every if len(every) <= 2 else ways[pairs]()
