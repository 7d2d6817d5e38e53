"""Rules by which real images are picked, those that ask where they lie; the mathematics is in `geometry`."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor
from torch.nn.functional import normalize

from distill import rng
from distill.checks import check_ranges, setting, stated
from distill.data.split import Split
from distill.methods.selection import geometry
from distill.teachers.proxies import Proxies


@dataclass(frozen=True)
class Pool:
    """The images that a rule picks from, of one class or of all.

    Attributes:
        real: the training split.
        index: their places in it, (n,).
        proxies: for a rule that asks some.
        seed: of the draws.
    """

    real: Split
    index: Tensor
    proxies: Proxies | None
    seed: int

    @property
    def asked(self) -> Proxies:
        assert self.proxies is not None  # the configuration of a rule that asks some names them
        return self.proxies

    @cached_property
    def labels(self) -> Tensor:
        return self.real.labels[self.index].cpu()

    def features(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """What the first proxy makes of each, (n, d)."""
        return self.asked.features(self.real, self.index, dtype)

    @cached_property
    def answers(self) -> list[tuple[Tensor, Tensor]]:
        """Features (n, d) and logits (n, K) of every proxy."""
        return self.asked.answers(self.real, self.index)

    @property
    def logs(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Of every proxy whether it was right, its margins and its errors, (E, n) each."""
        where = self.index.cpu()
        return [(log.correct[:, where], log.margins[:, where], log.errors[:, where]) for log in self.asked.logs]

    def generator(self) -> Generator:
        return rng.generator(self.seed, "selection", int(self.index[0]))


@dataclass(frozen=True)
class Rule(ABC):
    """Picks some of a pool.

    Raises:
        ValueError: a value is out of range.
    """

    def __post_init__(self) -> None:
        check_ranges("method.rule", vars(self), stated(type(self)))

    @property
    def variants(self) -> Sequence["Rule"]:
        """The rules to choose among on the validation split; most are the only one."""
        return [self]

    def check(self, images: int, count: int) -> None:  # noqa: B027
        """Raise ValueError if ``count`` cannot be picked of so many images, whichever they are."""

    @abstractmethod
    def pick(self, pool: Pool, count: int) -> Tensor:
        """Places (count,) in the pool, each once, for 0 < count <= its size."""


@dataclass(frozen=True)
class Random(Rule):
    """Any, with equal chances."""

    def pick(self, pool: Pool, count: int) -> Tensor:
        return torch.randperm(len(pool.index), generator=pool.generator())[:count]


@dataclass(frozen=True)
class Herding(Rule):
    """`distill.methods.selection.geometry.herding`.

    Attributes:
        unit_norm: features have length 1.
        farthest: take the maximum where herding takes the minimum, as DeepCore's and RS2's published rows do.
    """

    unit_norm: bool = setting("true or false")
    farthest: bool = setting("true or false")

    def pick(self, pool: Pool, count: int) -> Tensor:
        return geometry.herding(scaled(pool.features(), self.unit_norm), count, self.farthest)


@dataclass(frozen=True)
class KCenter(Rule):
    """`distill.methods.selection.geometry.k_center`.

    Attributes:
        unit_norm: features have length 1.
        skip: share of the points, those farthest from the mean, that are no candidates.
        features: precision in which features are kept.
        block: numbers of them that are read in float32 at once.
    """

    unit_norm: bool = setting("true or false")
    skip: float = setting("[0, 1)")
    features: str = setting("one of fp32, fp16")
    block: int = setting("whole [1, 100000000000]")

    def pick(self, pool: Pool, count: int) -> Tensor:
        features = scaled(pool.features(DTYPES[self.features]), self.unit_norm)
        near = torch.arange(len(features))
        if self.skip:
            far = (features.float() - features.float().mean(0)).square().sum(1)
            kept = max(count, len(features) - int(self.skip * len(features)))
            near = far.argsort(stable=True)[:kept].sort().values
        return near[geometry.k_center(features[near] if self.skip else features, count, pool.generator(), self.block)]


DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


@dataclass(frozen=True)
class KMeans(Rule):
    """`distill.methods.selection.geometry.k_means`."""

    def pick(self, pool: Pool, count: int) -> Tensor:
        return geometry.k_means(pool.features(), count, pool.generator().initial_seed())


@dataclass(frozen=True)
class Medoid(Rule):
    """`distill.methods.selection.geometry.medoids`."""

    def pick(self, pool: Pool, count: int) -> Tensor:
        return geometry.medoids(pool.features(), count, pool.generator().initial_seed())


@dataclass(frozen=True)
class FacilityLocation(Rule):
    """`distill.methods.selection.geometry.facility_location`."""

    def pick(self, pool: Pool, count: int) -> Tensor:
        return geometry.facility_location(pool.features(), count)


def scaled(features: Tensor, unit_norm: bool) -> Tensor:
    """Features (n, d), of length 1 where that is asked for."""
    return normalize(features) if unit_norm else features
