"""Coverage-centric selection (CCS, Zheng et al., ICLR 2023, arXiv:2210.15809): the hardest are dropped, the rest is covered."""

import math
from fractions import Fraction

import torch
from torch import Generator, Tensor


def ccs(scores: Tensor, aum: Tensor, count: int, cutoff: float, strata: int, g: Generator) -> Tensor:
    """Random images from every part of a score's range, without those that are likely mislabelled.

    The floor(cutoff N) images of lowest ``aum`` go, whatever the score is. The range of the others' scores is cut into strata
    of equal width. From the least populated on, each gives an equal part of what is still to be chosen, or all it has; so what
    small strata lack comes from larger ones, what division leaves from the largest, and the sum is ``count``.

    Args:
        scores: (N,), finite; CCS takes the area under the margin.
        aum: (N,), low is hard; of equal ones the first image goes first.
        cutoff: fraction of N in [0, 1).
        strata: their number, 50 in the paper.

    Returns:
        Indices (count,) int64, ascending.

    Raises:
        ValueError: fewer than ``count`` are left, or a score is infinite.

    Examples:
        >>> scores = torch.tensor([0.0, 1.0, 1.1, 1.2, 9.0])
        >>> ccs(scores, scores, 2, cutoff=0.2, strata=2, g=torch.Generator().manual_seed(0))[1]
        tensor(4)
    """
    dropped = left_out(len(scores), count, cutoff)
    if not scores.isfinite().all():
        raise ValueError(
            "ccs cuts the range of a score into strata and some scores are infinite or NaN, expected numbers: "
            "forgetting has them with unlearned=zero"
        )
    kept = aum.argsort(stable=True)[dropped:].sort().values
    strata_of = strata_between(scores[kept], strata)
    members = [kept[strata_of == stratum] for stratum in range(strata)]
    chosen, missing = list[Tensor](), count
    for visited, each in enumerate(sorted(members, key=len)):
        budget = min(len(each), missing // (strata - visited))
        chosen.append(each[torch.randperm(len(each), generator=g)[:budget]])
        missing -= budget
    return torch.cat(chosen).sort().values


def left_out(images: int, count: int, cutoff: float) -> int:
    """How many images a cut-off leaves out, as it is written: .29 of 100 are 29.

    Raises:
        ValueError: fewer than ``count`` are left.
    """
    dropped = math.floor(Fraction(str(cutoff)) * images)
    if count > images - dropped:
        raise ValueError(
            f"ccs is to choose {count} of {images} images after a cut-off of {cutoff}, expected at most the {images - dropped} "
            "left: a smaller cutoff leaves more"
        )
    return dropped


def strata_between(scores: Tensor, strata: int) -> Tensor:
    """Which stratum each score is in, (N,) int64: all are of equal width, with the lower edge, and the last with both."""
    scores = scores.double()
    low, high = scores.min(), scores.max()
    if low == high:
        return torch.zeros(len(scores), dtype=torch.int64)
    return ((scores - low) / (high - low) * strata).long().clamp(max=strata - 1)
