"""What students are told of what they see: labels of the set, or a committee's, for each view or each image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill import rng
from distill.checks import check_ranges, setting, stated
from distill.effort import BACK
from distill.teachers.committee import Committee
from distill.training.batch import Batches, OwnLabels, Seen
from distill.training.losses import CrossEntropy, Distillation, Divergence, Loss, Smoothed
from distill.training.recipe import TEACHERS


@dataclass(frozen=True)
class Told:
    """What is told of the views of one set.

    Attributes:
        targets: of the views of a batch.
        loss: what they are for.
        bytes: what they take on disk, or in the set.
        votes: how much each teacher's voice weighs, by name.
        prepare: makes what can be made before any student asks, as units of work.
        replay, order, cycle: see `distill.training.batch.Batches`.
    """

    targets: Callable[[Seen], Tensor]
    loss: Loss
    bytes: Callable[[], int]
    votes: Mapping[str, float] = field(default_factory=dict)
    prepare: Callable[[], None] = lambda: None
    replay: Callable[[Seen, Tensor, int], Seen] | None = None
    order: Callable[[int], Tensor] | None = None
    cycle: int | None = None


@dataclass(frozen=True)
class Teaching:
    """Who is asked for labels, and where they are kept.

    Attributes:
        committee: None where nobody is asked.
        folder: of stored labels.
    """

    committee: Committee | None = None
    folder: Path = Path("labels")


@dataclass(frozen=True)
class Labels(ABC):
    """A kind of labels, as a protocol names it; ``name`` is what rows call it.

    Raises:
        ValueError: a value is out of range.
    """

    name: ClassVar[str]
    committee: ClassVar[Any] = None  # configuration of the teachers that are asked
    continues: ClassVar[bool] = False  # whether students of a stream go on from those of the step before
    passes: ClassVar[int] = BACK  # forward passes of a student that a step of its training is worth

    def __post_init__(self) -> None:
        check_ranges("protocol.labels", vars(self), stated(type(self)))

    def sized(self, kept: float) -> Labels:
        """For a set of so many images as this fraction of the real ones."""
        return self

    def rows(self, soft: bool) -> list[Labels]:
        """The kinds that there is a row of, for a set whose own labels are soft or not."""
        return [self]

    def seeds(self, seed: int, purpose: str, synthesis: int, students: Sequence[int]) -> list[int]:
        """Of the students' batches and views."""
        return [rng.derive(seed, f"{purpose} training", synthesis, student) for student in students]

    def learner(self, net: nn.Module, teaching: Teaching) -> nn.Module:
        """What of a fresh student is trained; its parameters are some of the student's own."""
        return net

    def check(self, has_vectors: bool, is_shown_whole: bool) -> None:  # noqa: B027  # most kinds go with any set
        """Raise ValueError if these are no labels of sets that have vectors, or whose views are made of parts of images."""

    def takes(self, images: int, classes: int, passes: int, own: int) -> int:
        """About the bytes that labels of so many images take, as `Told` counts them once they are there.

        Args:
            passes: epochs of a training.
            own: bytes of the set's own labels.
        """
        return 8 * images  # classes

    def ahead(self, passes: int) -> int:
        """Times that a committee is asked about all images, each in a view, before students of so many epochs train."""
        return 0

    @abstractmethod
    def on(self, batches: Batches, seed: int, teaching: Teaching) -> Told:
        """What is told of the views in ``batches``, which are those of ``seed`` where all students see the same."""


@dataclass(frozen=True)
class Hard(Labels):
    """Classes; soft labels of a set are arg-maxed."""

    name = "hard"

    def on(self, batches: Batches, seed: int, teaching: Teaching) -> Told:
        hard = batches.data.hard
        return Told(OwnLabels(hard, batches.data.num_classes), CrossEntropy(), lambda: batches.data.class_bytes)


@dataclass(frozen=True)
class SmoothedHard(Hard):
    """Classes that share ``smoothing`` of their probability with all K (`distill.training.losses.Smoothed`)."""

    smoothing: float = setting("(0, 1]")

    def on(self, batches: Batches, seed: int, teaching: Teaching) -> Told:
        return replace(super().on(batches, seed, teaching), loss=Smoothed(self.smoothing))


@dataclass(frozen=True)
class Own(Labels):
    """As the set has them, soft ones as soft cross-entropy.

    Attributes:
        twin: a second row has hard ones, where the set's are soft.
    """

    name = "own"
    twin: bool = setting("true or false")

    def rows(self, soft: bool) -> list[Labels]:
        return [self, Hard()] if self.twin and soft else [self]

    def check(self, has_vectors: bool, is_shown_whole: bool) -> None:
        if has_vectors:
            raise ValueError(
                "the set's own labels are vectors, expected classes: judge it by transfer (protocol=transfer), or by the "
                "classes of its images (protocol/labels=hard)"
            )

    def takes(self, images: int, classes: int, passes: int, own: int) -> int:
        return own

    def on(self, batches: Batches, seed: int, teaching: Teaching) -> Told:
        data = batches.data
        self.check(data.has_vectors, data.is_shown_whole)
        return Told(OwnLabels(data.targets, data.num_classes), CrossEntropy(), lambda: data.label_bytes)


@dataclass(frozen=True)
class Asked(Labels):
    """A committee's labels.

    Attributes:
        committee: configuration of the teachers (``configs/experts/teacher.yaml``), and ``mode``: ``eval``, or ``batch``
            (each teacher normalises with the statistics of the very images the student sees: CV-DD's batch-specific labels).
        vote_temperature: of the softmax over the teachers' accuracies in percent.
        twin: a second row has hard ones.
    """

    committee: Mapping[str, Any] = setting(TEACHERS)  # type: ignore[misc]
    vote_temperature: float = setting("(0, 1000000]")
    twin: bool = setting("true or false")

    def rows(self, soft: bool) -> list[Labels]:
        return [self, Hard()] if self.twin else [self]

    def ask(self, teaching: Teaching, parts: int) -> Callable[[Tensor], Tensor]:
        """The committee's logits (B, K) for views (B, C, H, W), which ``mode: batch`` takes in so many parts."""
        assert teaching.committee is not None
        mode = self.committee["mode"]
        return lambda views: teaching.committee.logits(views, self.vote_temperature, mode, parts)  # type: ignore[union-attr]

    def votes(self, teaching: Teaching) -> dict[str, float]:
        """How much each teacher's voice weighs."""
        assert teaching.committee is not None
        return dict(
            zip(teaching.committee.names, teaching.committee.votes(self.vote_temperature).tolist(), strict=True)
        )

    def asked(self, teaching: Teaching) -> dict[str, Any]:
        """Who is asked, and how: part of a store's identity."""
        assert teaching.committee is not None
        return {
            "members": list(teaching.committee.names),
            "weights": teaching.committee.fingerprint,
            "votes": [round(vote, 6) for vote in self.votes(teaching).values()],
            "mode": self.committee["mode"],
        }


@dataclass(frozen=True)
class Matched(Asked):
    """Logits that students are matched with.

    Attributes:
        temperature: tau of the Kullback-Leibler loss.
        squared: multiply that loss by tau squared.
    """

    temperature: float = setting("(0, 1000000]")
    squared: bool = setting("true or false")

    def told(self, targets: Callable[[Seen], Tensor], bytes: Callable[[], int], teaching: Teaching) -> Told:
        return Told(targets, Divergence(self.temperature, self.squared), bytes, self.votes(teaching))


@dataclass(frozen=True)
class OnTheFly(Matched):
    """Made for the very view that a student sees."""

    name = "on_the_fly"

    def takes(self, images: int, classes: int, passes: int, own: int) -> int:
        return 0

    def on(self, batches: Batches, seed: int, teaching: Teaching) -> Told:
        ask = self.ask(teaching, batches.recipe.micro_batches)
        return self.told(lambda seen: ask(seen.views), lambda: 0, teaching)


@dataclass(frozen=True)
class KnowledgeDistillation(OnTheFly):
    """The class and a committee's logits for the very view, side by side (`distill.training.losses.Distillation`).

    Attributes:
        alpha: the committee's share; None takes 1 - f / 2 where a set has as many images as a fraction f of the real ones.

    Source: knowledge distillation on pruned data, arXiv:2403.07854; alpha of f is our starting point.
    """

    name = "kd"
    alpha: float | None = setting("null or [0, 1]")

    def sized(self, kept: float) -> Labels:
        return self if self.alpha is not None else replace(self, alpha=1 - kept / 2)

    def takes(self, images: int, classes: int, passes: int, own: int) -> int:
        return 8 * images

    def on(self, batches: Batches, seed: int, teaching: Teaching) -> Told:
        assert self.alpha is not None, "the fraction of images is not known: `sized` tells"
        loss = Distillation(self.temperature, self.squared, self.alpha)
        return both(super().on(batches, seed, teaching), batches, loss)


def both(asked: Told, batches: Batches, loss: Loss) -> Told:
    """The class and a committee's logits side by side, (B, 2 K), for a loss that takes both; the class alone is stored."""
    classes = batches.data.num_classes
    of_class = OwnLabels(batches.data.hard, classes)

    def targets(seen: Seen) -> Tensor:
        own = of_class(seen)
        return torch.cat([F.one_hot(own, classes).float() if own.ndim == 1 else own, asked.targets(seen)], 1)

    return replace(asked, targets=targets, loss=loss, bytes=lambda: batches.data.class_bytes)


def told(labels: Labels, batches: Batches, seed: int, teaching: Teaching) -> tuple[Batches, Told]:
    """``batches`` with these labels, and what is told."""
    own = labels.on(batches, seed, teaching)
    return replace(
        batches, loss=own.loss, targets=own.targets, replay=own.replay, order=own.order, cycle=own.cycle
    ), own
