"""In which order classes come, and what of a real set has been seen after a step."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from numpy.random import RandomState

from distill.data.real import RealData
from distill.data.split import Split
from distill.files import digest


def order(number: int, classes: int) -> list[int]:
    """A permutation of the classes: numpy's legacy one after seeding with the order's number, as DSA's and DM's code has it.

    >>> order(0, 10)
    [2, 8, 4, 9, 1, 6, 7, 3, 0, 5]
    """
    found: list[int] = RandomState(number).permutation(classes).tolist()
    return found


def blocks(number: int, classes: int, steps: int) -> list[list[int]]:
    """The classes of each step, in the order of a number.

    Raises:
        ValueError: the classes cannot be shared evenly, or a step would have one class alone.

    >>> blocks(0, 10, 5)
    [[2, 8], [4, 9], [1, 6], [7, 3], [0, 5]]
    """
    if classes % steps or classes // steps < 2:
        fits = [each for each in range(1, classes // 2 + 1) if not classes % each]
        raise ValueError(
            f"{classes} classes in {steps} steps: expected as many in each, two or more: steps of {', '.join(map(str, fits))}"
        )
    whole, each = order(number, classes), classes // steps
    return [whole[first : first + each] for first in range(0, classes, each)]


def seen(real: RealData, classes: Sequence[int], name: str) -> RealData:
    """The images of some classes; labels and the number of classes stay those of the whole set, which students answer with.

    Args:
        name: of the view; rows tell it as their data set.
    """
    view = [_of(split, classes, name) for split in (real.train, real.val, real.test)]
    return replace(
        real,
        train=view[0],
        val=view[1],
        test=view[2],
        fingerprint=digest([real.fingerprint, sorted(classes)]),
        hash=digest([real.hash, sorted(classes)]),
    )


def renumbered(real: RealData, classes: Sequence[int]) -> RealData:
    """`seen` images of some classes whose labels are places among ``classes``: students answer with these alone."""
    view = [_renumbered(split, classes) for split in (real.train, real.val, real.test)]
    fingerprint, whole = (digest([own, list(classes)]) for own in (real.fingerprint, real.hash))
    return replace(real, train=view[0], val=view[1], test=view[2], fingerprint=fingerprint, hash=whole)


def _renumbered(split: Split, classes: Sequence[int]) -> Split:
    places = torch.full((split.num_classes,), -1).to(split.labels)
    places[list(classes)] = torch.arange(len(classes)).to(places)
    names = tuple(split.class_names[cls] for cls in classes)
    held_out = tuple(split.held_out[cls] for cls in classes if split.held_out)
    return replace(split, labels=places[split.labels], class_names=names, held_out=held_out)


def _of(split: Split, classes: Sequence[int], name: str) -> Split:
    places = torch.isin(split.labels, torch.tensor(sorted(classes)).to(split.labels)).nonzero()[:, 0]
    return replace(split, images=split.images[places], labels=split.labels[places], name=name)
