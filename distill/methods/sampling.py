"""Sampling: the real set itself, which students walk in rounds of the size asked for; nothing is made."""

from dataclasses import dataclass

from distill.checks import setting
from distill.methods.base import Method, Settings
from distill.sets.base import TrainingSet
from distill.sets.walks import Walk


@dataclass(frozen=True, kw_only=True)
class SamplingSettings(Settings):
    """Of `Sampling`.

    Attributes:
        walk: which images a round takes.
    """

    walk: Walk = setting(Walk)


class Sampling(Method):
    """A walk of all real images; ipc or fraction say how many a round has.

    Raises:
        ValueError: a class has fewer images than a round asks of it.
    """

    learns, makes_sets = False, False
    settings_type = SamplingSettings
    settings: SamplingSettings

    def walk(self) -> TrainingSet:
        walked = self.settings.walk.on(self.real, self.counts)
        walked.record = {"seed": self.seed}
        return walked
