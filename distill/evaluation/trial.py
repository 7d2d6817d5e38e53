"""Trial: students trained on a set under a protocol, and what each then classifies correctly."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from distill import rng
from distill.data.split import Split
from distill.evaluation.kept import Kept
from distill.evaluation.pretraining import Source
from distill.evaluation.protocol import Protocol
from distill.evaluation.underway import Underway
from distill.networks.base import Student
from distill.networks.flat import flatten, put
from distill.sets.base import TrainingSet
from distill.teachers.labels import Teaching, Told, told
from distill.teachers.lwf import continued
from distill.training.accuracy import hits
from distill.training.batch import Batches
from distill.training.loop import Progress, train


@dataclass(frozen=True)
class Trial:
    """Students trained as one stack, usually a single one.

    Each is a function of (seed, purpose, synthesis, student) and of what it is trained and measured on.

    Attributes:
        data: what the protocol's recipe trains on.
        data_hash: of the set that is judged.
        also: a split that they are scored on, too, once they are trained; None for none.
        peak: take the best of the tests on ``split`` that the protocol's choice asks for on the way.
        kept: where the students are kept once they are trained; None for nowhere.
        place: of the synthesis in its row.
        before: students that these go on from (`distill.teachers.lwf`); None for fresh ones.
        first: what the students learn before, where the protocol pre-trains them, and in which real set's views; else None.
    """

    data: TrainingSet
    data_hash: str
    protocol: Protocol
    split: Split
    seed: int
    purpose: str
    synthesis: int
    students: tuple[int, ...]
    compiled: bool
    peak: bool
    teaching: Teaching
    also: Split | None = None
    kept: Kept | None = None
    place: int = 0
    before: Kept | None = None
    first: tuple[TrainingSet, Source] | None = None

    @property
    def seeds(self) -> list[int]:
        """Of the students' batches and views."""
        return self.protocol.labels.seeds(self.seed, self.purpose, self.synthesis, self.students)

    def told(self) -> tuple[Batches, Told]:
        """What the students see, and what they are told of it."""
        recipe = self.protocol.recipe.with_(lr=rate(self.data, self.protocol))
        batches = Batches(self.data.decoded, recipe, recipe.views.on(self.split))
        return told(self.protocol.labels, batches, self.seeds[0], self.teaching)

    def learner(self, net: nn.Module, student: int) -> nn.Module:
        """What is trained: what the labels take of ``net``, or it and beside it the student whose weights it goes on from."""
        if self.before is not None:
            return continued(net, self.before.load(self.place, student).to(self.data.images.device))
        if self.protocol.pretraining is not None:
            assert self.first is not None and isinstance(net, Student), "pre-training needs the bench's source"
            seed = rng.derive(self.seed, f"{self.purpose} pretraining", self.synthesis, student)
            self.protocol.pretraining.begin(net, *self.first, seed)
        return self.protocol.labels.learner(net, self.teaching)

    def run(self, make: Callable[[], nn.Module], under_way: Underway) -> dict[str, list[int]]:
        """Train the students, or go on training them.

        Returns:
            By `keys` how many images of each class of ``split``, and of ``also``, each classifies correctly, after the last
            epoch.
        """
        nets = []
        for student in self.students:
            with rng.seeded(self.seed, self.purpose, self.synthesis, student):
                nets.append(make().to(self.data.images.device))
        batches, _ = self.told()
        learners = [self.learner(net, student) for net, student in zip(nets, self.students, strict=True)]

        def test() -> None:
            for i, net in enumerate(nets):
                under_way.score(i, hits(net, self.split, batches.recipe, self.compiled))
                learners[i].train()

        def after_epoch(now: Progress) -> None:
            if self.peak and self.protocol.choice.tests(now.epochs):
                put(learners, now.weights)
                test()
            under_way.keep(now)

        train(
            learners,
            batches,
            seeds=self.seeds,
            compiled=self.compiled,
            after_batch=under_way.count,
            after_epoch=after_epoch,
            progress=under_way.before(self.data.images.device),
        )
        lost = [student for student, net in zip(self.students, nets, strict=True) if not flatten(net).isfinite().all()]
        if lost and self.purpose != "choice":
            print(
                f"warning: student {lost[0]} of synthesis {self.synthesis} diverged, and counts as it is: lower "
                f"protocol.recipe.lr ({batches.recipe.lr:g})",
                file=sys.stderr,
            )
        test()
        found = under_way.found
        if self.kept is not None:
            for student, net, right in zip(self.students, nets, found, strict=True):
                self.kept.keep(net, self.place, student, self.synthesis, sum(right) / len(self.split))
        if self.also is not None:
            found = [*found, *(hits(net, self.also, batches.recipe, self.compiled) for net in nets)]
        return dict(zip([*self.keys, *self.also_keys], found, strict=True))

    @property
    def is_kept(self) -> bool:
        """Whether the files of all its students are there, where some are asked for."""
        return self.kept is None or all(self.kept.path(self.place, student).exists() for student in self.students)

    @property
    def keys(self) -> list[str]:
        """Each stands for one student's numbers in an unfinished report."""
        about = [self.data_hash, self.protocol.hash, self.peak]
        return ["/".join(map(str, [self.purpose, self.synthesis, student, *about])) for student in self.students]

    @property
    def also_keys(self) -> list[str]:
        """The same for what they are scored on besides."""
        return [] if self.also is None else [f"{key}/also" for key in self.keys]


def rate(data: TrainingSet, protocol: Protocol) -> float:
    """The student's step size on a set."""
    return float(data.lr) if protocol.artefact_lr and data.lr is not None else protocol.recipe.lr
