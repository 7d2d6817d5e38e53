"""Stored labels: a committee's, made once for each epoch and view and kept on disk, by one codec or another."""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from distill import rng
from distill.checks import setting
from distill.teachers.codecs import Codec, Distances, Half, Quantised, TopK
from distill.teachers.label_store import LabelStore
from distill.teachers.labels import Asked, Matched, Teaching, Told
from distill.training.batch import Batches, Seen
from distill.training.losses import Divergence, Loss, TwoDistances

ORDER = 4  # bytes of a view that say of which image it is


@dataclass(frozen=True)
class Shelved(Asked):
    """A committee's, made once for each epoch and view, and kept on disk (`LabelStore`): all students see the same views.

    Attributes:
        kept: share of the epochs whose views are stored, one at least; a training goes through these again and again. LPLD
            (arXiv:2410.15919) prunes its labels so, by batches.
    """

    kept: float = setting("(0, 1]")

    @abstractmethod
    def codec(self, classes: int) -> Codec:
        """How labels of so many classes are kept."""

    @property
    @abstractmethod
    def loss(self) -> Loss:
        """What they are for."""

    def stored(self, passes: int) -> int:
        """How many of so many epochs are stored."""
        return max(1, math.ceil(self.kept * passes))

    def ahead(self, passes: int) -> int:
        return self.stored(passes)

    def takes(self, images: int, classes: int, passes: int, own: int) -> int:
        return self.stored(passes) * images * (ORDER + self.codec(classes).bytes(classes))

    def seeds(self, seed: int, purpose: str, synthesis: int, students: Sequence[int]) -> list[int]:
        return [rng.derive(seed, f"{purpose} labels", synthesis)] * len(students)

    def on(self, batches: Batches, seed: int, teaching: Teaching) -> Told:
        if batches.data.observes:
            raise ValueError(
                f"protocol/labels is {self.name}, which is made before training; this walk of the real set follows a student's "
                "losses: protocol/labels=on_the_fly, or reinforced"
            )
        ask, about = self.ask(teaching, batches.recipe.micro_batches), self.asked(teaching)
        count = self.stored(batches.recipe.passes(len(batches.walk.epoch(0, seed)[0])))
        store = LabelStore(teaching.folder, batches, seed, ask, about, self.codec(batches.data.num_classes), count)
        votes = self.votes(teaching)
        return Told(self.told_of(store), self.loss, lambda: store.bytes, votes, store.fill, cycle=count)

    def told_of(self, store: LabelStore) -> Callable[[Seen], Tensor]:
        """What students are told of views: what is stored, unless the labels say otherwise."""
        return store


@dataclass(frozen=True)
class Stored(Shelved, Matched):
    """Logits, in half precision.

    Attributes:
        top_k: keep that many logits of a label, and one number for the others; None keeps all.
    """

    name = "stored"
    top_k: int | None = setting("null or whole [1, 1000000]")

    @property
    def loss(self) -> Loss:
        return Divergence(self.temperature, self.squared)

    def few(self, classes: int) -> int | None:
        """Logits that are kept of each label, None where these are all."""
        return self.top_k if self.top_k is not None and self.top_k < classes else None

    def codec(self, classes: int) -> Codec:
        few = self.few(classes)
        return Half(self.top_k) if few is None else TopK(few, self.temperature)


@dataclass(frozen=True)
class StoredLevels(Stored):
    """Logits in 256 levels (`distill.teachers.codecs.Quantised`)."""

    name = "quantised"

    def codec(self, classes: int) -> Codec:
        return Quantised(self.few(classes), self.temperature)


@dataclass(frozen=True)
class StoredDistances(Shelved):
    """Two numbers a view (`distill.teachers.codecs.Distances`), for a loss of their own.

    Attributes:
        alpha: weight of the distances beside the cross-entropy (`distill.training.losses.TwoDistances`).

    Source: DBR of NRR-DD (arXiv:2503.18267).
    """

    name = "dbr"
    alpha: float = setting("[0, 1000000]")

    @property
    def loss(self) -> Loss:
        return TwoDistances(self.alpha)

    def codec(self, classes: int) -> Codec:
        return Distances()

    def told_of(self, store: LabelStore) -> Callable[[Seen], Tensor]:
        hard = store.data.hard

        def told(seen: Seen) -> Tensor:
            """Both classes, the share of the first, and the teacher's distances to both, (B, 5)."""
            other = seen.index if seen.partner is None else seen.partner
            share = torch.full_like(seen.index, seen.share, dtype=torch.float32)
            known = torch.stack([hard[seen.index], hard[other], share], 1)
            return torch.cat([known, store(seen)], 1)

        return told
