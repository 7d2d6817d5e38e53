"""Protocol: how students are trained and told, and what is reported of them; presets are in ``configs/protocol``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from distill.checks import check_ranges, setting, stated
from distill.evaluation.pretraining import Pretraining
from distill.identity import digits, flat_protocol, parts_of
from distill.teachers.labels import Labels
from distill.training.recipe import Recipe


@dataclass(frozen=True)
class Choice:
    """Which snapshot of a synthetic set counts."""

    chooses: ClassVar[bool] = True  # whether snapshots matter
    val: ClassVar[bool] = False  # whether it is made on the validation split
    peak: ClassVar[bool] = False  # whether papers report the largest mean on the test split

    def __post_init__(self) -> None:
        check_ranges("protocol.choice", vars(self), stated(type(self)))

    def rows(self, snapshots: bool) -> list[str]:
        """The selections that there is a row of, for sets with snapshots or without."""
        return ["last"]

    def tests(self, epoch: int) -> bool:
        """Whether a student is tested after so many epochs, its best test being its number."""
        return False


@dataclass(frozen=True)
class Last(Choice):
    """The last one."""

    chooses = False


@dataclass(frozen=True)
class OnVal(Choice):
    """The best on the validation split."""

    val = True

    def rows(self, snapshots: bool) -> list[str]:
        return ["val" if snapshots else "last"]


@dataclass(frozen=True)
class OnTest(Choice):
    """The best on the test split, only to reproduce a paper that did so: marked, and the last is reported beside it.

    Attributes:
        test_every: a student's best accuracy among tests after so many epochs is its number (AST); None takes the last
            epoch's.
    """

    peak = True
    test_every: int | None = setting("null or whole [1, 100000]")

    def rows(self, snapshots: bool) -> list[str]:
        """The last set, the largest mean of all (``maximum``), and the set that it belongs to, measured anew (``test``)."""
        return ["last", *["maximum"] * (snapshots or self.test_every is not None), *["test"] * snapshots]

    def tests(self, epoch: int) -> bool:
        return self.test_every is not None and epoch % self.test_every == 0


@dataclass(frozen=True)
class Protocol:
    """How students are trained and told, and what is reported of them.

    Attributes:
        name: what papers and reports call it.
        version: of the preset; another one measures other rows.
        recipe: of the students' training.
        labels: what they are told.
        choice: which snapshot counts.
        students: S, fresh students for each synthetic set.
        pretraining: what students do before the recipe tunes them on another real set; None trains them on the set alone.
        validate: score students on the validation split, too; for choices between rows.
        artefact_lr: train at the rate learned with the synthetic set, where it has one.
        batch_of_ipc: the recipe's batch by images per class where a paper varies it (RDED: twice that from 100 classes on;
            not on Tiny-ImageNet); an ipc takes its smaller neighbour's. None leaves the batch alone.
        candidates: values of fields of the recipe; all combinations are tried on the validation split with one student
            each, the best is kept. A learned rate joins the candidates of ``lr``.
        assumed: what the paper does not tell, and is filled in.

    Raises:
        ValueError: a value is out of range.
    """

    name: str = setting("text")
    version: int = setting("whole [1, 1000]")
    recipe: Recipe = setting(Recipe)
    labels: Labels = setting(Labels)
    choice: Choice = setting(Choice)
    pretraining: Pretraining | None = setting(("null", Pretraining))
    students: int = setting("whole [1, 1000]")
    validate: bool = setting("true or false")
    artefact_lr: bool = setting("true or false")
    batch_of_ipc: Mapping[int, int] | None = setting("null or map of whole [1, 1000000] to whole [1, 1000000]")
    candidates: Mapping[str, Sequence[Any]] = setting("{} or map of text to list of anything")
    assumed: Sequence[str] = setting("any number of text")

    def __post_init__(self) -> None:
        check_ranges("protocol", vars(self), stated(type(self)))
        known = {name: kind for name, kind in stated(Recipe).items() if isinstance(kind, str)}
        unknown = sorted(set(self.candidates) - set(known))
        if unknown:
            raise ValueError(f"protocol.candidates name {unknown[0]!r}, expected some of {', '.join(known)}")
        check_ranges(
            "protocol.candidates", self.candidates, {name: f"list of {known[name]}" for name in self.candidates}
        )

    def with_(self, **fields: Any) -> Protocol:
        """A copy with other values."""
        return replace(self, **fields)

    def trained(self, **fields: Any) -> Protocol:
        """A copy whose recipe has other values."""
        return replace(self, recipe=self.recipe.with_(**fields))

    @property
    def tunes(self) -> bool:
        """Whether the recipe is for all images of a real set, of students that learned the judged set before."""
        return self.pretraining is not None and not self.pretraining.data_free

    def trained_on(self, images: int, real: int) -> int:
        """Images that the recipe is for, of a set with ``images`` that is judged beside so many real ones."""
        return real if self.tunes else images

    def check_labels(self, has_vectors: bool, is_shown_whole: bool) -> None:
        """Raise ValueError if the recipe is for sets of a kind that its labels are not for (`Labels.check`)."""
        if not self.tunes:
            self.labels.check(has_vectors, is_shown_whole)

    def sized(self, images: int, classes: int, real: int) -> Protocol:
        """With the batch and the labels of a set of so many images, of ``real`` ones; no batch is larger than the set."""
        batch = self.recipe.batch
        if self.batch_of_ipc:
            smaller = [ipc for ipc in self.batch_of_ipc if ipc <= images // classes]
            batch = self.batch_of_ipc[max(smaller, default=min(self.batch_of_ipc))] * (2 if classes >= 100 else 1)
        return self.trained(batch=min(batch, images)).with_(labels=self.labels.sized(min(1.0, images / real)))

    def plan(self, soft: bool, snapshots: bool) -> list[tuple[Labels, str]]:
        """The rows that there will be: a kind of labels and a selection each.

        Args:
            soft: whether the set's own labels are.
            snapshots: whether it has some to choose from.
        """
        return [(labels, each) for labels in self.labels.rows(soft) for each in self.choice.rows(snapshots)]

    @property
    def identity(self) -> dict[str, Any]:
        """What rows know it by."""
        return flat_protocol(parts_of(self))

    @property
    def hash(self) -> str:
        """Twelve hex digits of `identity`."""
        return digits(self.identity)

    @property
    def training_hash(self) -> str:
        """Of how each student is trained: whatever the protocol is called, of how many students, scored on whatever besides."""
        apart = ("name", "students", "validate")
        return digits({name: value for name, value in self.identity.items() if name not in apart})
