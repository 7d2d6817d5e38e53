"""The whole real set with the target network's vectors: what a set of KRR-ST stands for, and at best as good as."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from distill.checks import setting
from distill.methods.base import Inputs, Method, Settings, given
from distill.methods.selfsupervised.krrst import Target
from distill.sets.base import TrainingSet
from distill.sets.walks import Walk
from distill.training.recipe import TEACHERS


@dataclass(frozen=True, kw_only=True)
class SourceSettings(Settings):
    """Of `FullSource`.

    Attributes:
        walk: which images a round takes.
    """

    walk: Walk = setting(Walk)


class FullSource(Method):
    """A walk of all real images, with vectors that the target network gives them as they are."""

    RANGES: ClassVar[Mapping[str, Any]] = {"committee": TEACHERS}
    learns, makes_sets, has_vectors = False, False, True
    settings_type = SourceSettings
    settings: SourceSettings

    def __init__(self, inputs: Inputs, settings: SourceSettings):
        super().__init__(inputs, settings)
        self.target = Target.of(inputs)

    def walk(self) -> TrainingSet:
        fingerprint = given(self.inputs.committee, "committee").fingerprint
        walked = self.settings.walk.on(self.real, self.counts).described(self.target(self.real.images), fingerprint)
        walked.record = {"seed": self.seed}
        return walked
