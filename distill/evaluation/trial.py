"""Trial: students trained on a synthetic set under a protocol, and what each then classifies correctly."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from distill import rng
from distill.data.split import Split
from distill.sets.synthetic import SyntheticSet
from distill.teachers.committee import Committee
from distill.teachers.labels import Labels, LabelStore
from distill.training.accuracy import hits
from distill.training.loop import Progress, train
from distill.training.protocol import CommitteeProtocol, Protocol
from distill.training.views import augmentation


@dataclass(frozen=True)
class Trial:
    """Students trained as one stack, usually a single one.

    Each is a function of (seed, purpose, synthesis, student) and of what it is trained and measured on.

    Attributes:
        peak: take the best of the tests on ``split`` after every ``test_every`` epochs and after the last, as AST does.
    """

    synset: SyntheticSet
    protocol: Protocol
    split: Split
    seed: int
    purpose: str
    synthesis: int
    students: tuple[int, ...]
    compiled: bool
    peak: bool
    committee: Committee | None
    labels_path: Path

    def labels(self) -> Labels | None:
        """What a committee's protocol tells its students; None under other protocols."""
        if not isinstance(self.protocol, CommitteeProtocol):
            return None
        return Labels(self.synset, self.protocol, self.committee, self.label_store())

    def label_store(self) -> LabelStore | None:
        """Where the labels of the students are kept, if they are."""
        if not isinstance(self.protocol, CommitteeProtocol) or self.protocol.soft != "stored":
            return None
        assert self.committee is not None
        views = augmentation(self.protocol, self.split)
        return LabelStore(self.labels_path, self.synset, self.protocol, views, self.seeds()[0], self.committee)

    def seeds(self) -> list[int]:
        """Of the students' batches and views; stored labels are those of one training for all."""
        if isinstance(self.protocol, CommitteeProtocol) and self.protocol.soft == "stored":
            return [rng.derive(self.seed, f"{self.purpose} labels", self.synthesis)] * len(self.students)
        return [rng.derive(self.seed, f"{self.purpose} training", self.synthesis, j) for j in self.students]

    def hits(self, make: Callable[[], nn.Module]) -> list[list[int]]:
        """For each student how many images of each class of ``split`` it classifies correctly, after the last epoch."""
        synset, protocol = self.synset, self.protocol
        nets, found = [], [[0] for _ in self.students]
        for student in self.students:
            with rng.seeded(self.seed, self.purpose, self.synthesis, student):
                nets.append(make().to(synset.images.device))

        def test() -> None:
            for i, net in enumerate(nets):
                found[i] = max(hits(net, self.split, protocol, self.compiled), found[i], key=sum)
                net.train()

        def test_on_the_way(now: Progress) -> None:
            assert protocol.test_every is not None
            if now.epochs % protocol.test_every == 0:
                test()

        train(
            nets,
            synset.images,
            synset.hard if protocol.labels == "hard" else synset.targets,
            protocol.with_(lr=rate(synset, protocol)),
            seeds=self.seeds(),
            augment=augmentation(protocol, self.split),
            label=self.labels(),
            compiled=self.compiled,
            after_epoch=test_on_the_way if self.peak else None,
        )
        test()
        return found

    def key(self, student: int) -> str:
        """Stands for one student's numbers in an unfinished report."""
        parts = [self.purpose, self.synthesis, student, self.synset.hash, self.protocol.hash, self.peak]
        return "/".join(map(str, parts))


def label_stores(trials: Sequence[Trial]) -> list[LabelStore]:
    """The stores that students of these trials read, each once."""
    by_use = {(id(trial.synset), trial.seeds()[0]): trial for trial in trials}
    return [store for trial in by_use.values() if (store := trial.label_store()) is not None]


def labelled(protocol: Protocol, labels: str) -> Protocol:
    """The protocol with one kind of labels: ``own``, ``hard``, or how a committee gives them."""
    if isinstance(protocol, CommitteeProtocol):
        return protocol.with_(labels="hard", soft="none" if labels == "hard" else labels)
    return protocol.with_(labels=labels)


def rate(synset: SyntheticSet, protocol: Protocol) -> float:
    """The student's step size on ``synset``."""
    return float(synset.lr) if protocol.artefact_lr and synset.lr is not None else protocol.lr
