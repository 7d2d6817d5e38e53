"""Pre-training: students learn a set first, and are then tuned on another real set, or on what its teachers say (transfer).

Source: KRR-ST (Lee et al., ICLR 2024, arXiv:2310.06511).
"""

import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from distill import rng
from distill.checks import check_ranges, setting, stated
from distill.data.split import Split
from distill.evaluation.underway import Underway
from distill.files import clear_abandoned, digest, hash_tensors, load_tensors, save_tensors
from distill.identity import digits, parts_of
from distill.networks.base import Student, with_head
from distill.sets.base import TrainingSet
from distill.training.batch import Batches
from distill.training.loop import train
from distill.training.losses import CrossEntropy, Squares
from distill.training.recipe import Recipe


@dataclass(frozen=True)
class Source:
    """Where students are pre-trained.

    Attributes:
        split: training images of the real set behind the sets, whose families and preprocessing make views of them.
        folder: of pre-trained features, a file for each student.
    """

    split: Split
    folder: Path


@dataclass(frozen=True)
class Pretraining:
    """What students do before a protocol's recipe tunes them: all but their last layer is kept of it.

    Attributes:
        vectors: recipe on a set whose labels are vectors: the mean square of what outputs of their width lack to them.
        classes: on one whose labels are classes: cross-entropy.
        data_free: tune on the images of the set itself, as teachers of the other real set label them; no image of that one
            is seen. Else on all training images of that one.

    Raises:
        ValueError: a value is out of range.
    """

    vectors: Recipe = setting(Recipe)
    classes: Recipe = setting(Recipe)
    data_free: bool = setting("true or false")

    def __post_init__(self) -> None:
        check_ranges("protocol.pretraining", vars(self), stated(type(self)))

    def recipe(self, data: TrainingSet) -> Recipe:
        """That of a set of this kind."""
        return self.vectors if data.has_vectors else self.classes

    def begin(self, net: Student, data: TrainingSet, source: Source, seed: int) -> None:
        """Give ``net`` the features that it has after learning ``data``: they are found, or trained, on from a kill, and kept.

        Args:
            data: a set; of no images, it leaves the student as it is.
            seed: of batches, views and the layer that is not kept.

        Raises:
            ValueError: the file of the features is damaged.
        """
        if not len(data):
            return
        about = [digits(parts_of(self.recipe(data))), data.hash, data.label_kind, seed]
        path = source.folder / f"{digest([hash_tensors(net.state_dict()), repr(net), *about])}.safetensors"
        if not path.exists():
            clear_abandoned(source.folder, ".*.part")
            under_way = Underway(path.with_name(f"unfinished_{path.name}"), [path.stem], time.monotonic())
            save_tensors(path, self.learned(net, data, source.split, seed, under_way))
            under_way.forget()
        net.features.load_state_dict(load_tensors(path)[0])

    def learned(
        self, net: Student, data: TrainingSet, split: Split, seed: int, under_way: Underway
    ) -> Mapping[str, Tensor]:
        """The features of a copy of ``net`` that has learned ``data``, by name."""
        with rng.seeded(seed, "head"):
            learner = with_head(deepcopy(net), data.targets.shape[1] if data.has_vectors else data.num_classes)
        recipe = self.recipe(data)
        loss = Squares() if data.has_vectors else CrossEntropy()
        batches, before = Batches(data, recipe, recipe.views.on(split), loss), under_way.before(data.images.device)
        train([learner], batches, seeds=[seed], after_epoch=under_way.keep, progress=before)
        return learner.features.state_dict()
