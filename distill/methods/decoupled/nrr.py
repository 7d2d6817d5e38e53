"""NRR-DD (arXiv:2503.18267): composites of critical regions, refined where these regions are not.

Its third part, two numbers for a label, is ``protocol/labels=dbr`` (`distill.teachers.stored.StoredDistances`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from distill.checks import setting
from distill.methods.base import Inputs
from distill.methods.decoupled.critical import activation_maps, critical_composites, last_maps
from distill.methods.decoupled.rded import check_pool
from distill.methods.decoupled.recovery import Recovery, RecoverySettings
from distill.sets.synthetic import SyntheticSet


@dataclass(frozen=True, kw_only=True)
class NRRSettings(RecoverySettings):
    """Of `NRR`.

    Attributes:
        init: as of `RecoverySettings`, or ``critical`` (`critical_composites`, by the first teacher).
        critical: images of a class whose crops hold most of their class activation map, among which the teacher's confidence
            chooses; with ``init: critical``.
        threshold: epsilon; a pixel whose class activation is as large, or larger, keeps its value.
    """

    init: str = setting("one of noise, real, composite, critical")
    critical: int = setting("whole [1, 1000000]")
    threshold: float = setting("[0, 1]")


class NRR(Recovery):
    """Recovery whose steps are weighed, pixel by pixel, by max(0, threshold - class activation) of the initial images.

    The weight is multiplied onto Adam's step; a constant factor of the gradient Adam would take out again. Maps are those of
    the first teacher, made once of the images that refinement starts from.

    Raises:
        ValueError: as `Recovery`; or the first teacher has no maps, or too few images are critical.
    """

    settings_type = NRRSettings
    settings: NRRSettings

    def __init__(self, inputs: Inputs, settings: NRRSettings):
        if settings.init == "critical":
            check_pool(inputs.real, settings.pool, inputs.ipc, settings.factor)
        super().__init__(inputs, settings)
        teacher = self.committee.nets[0]  # untrained ones, which are asked ahead of a run, stay in memory
        last_maps(teacher, torch.zeros(1, *self.real.shape, device=next(teacher.parameters()).device))
        most = max(self.counts) * settings.factor**2
        if settings.init == "critical" and not most <= settings.critical <= settings.pool:
            raise ValueError(
                f"method.critical is {settings.critical}, expected ipc x factor^2 = {most} to method.pool = {settings.pool}"
            )
        self.weights: Tensor

    @property
    def real_each(self) -> int:
        return self.settings.factor**2 if self.settings.init == "critical" else super().real_each

    def initial_set(self) -> SyntheticSet:
        if self.settings.init != "critical":
            return super().initial_set()
        own = self.settings.pool, self.settings.patches, self.settings.factor, self.settings.critical
        images = critical_composites(self.real, self.committee.nets[0], self.counts, self.seed, *own)
        made = self.made()
        return SyntheticSet.blank(self.real, self.inputs.ipc, made).with_(images=images[made.to(images.device)])

    def begin(self, synset: SyntheticSet | None = None) -> None:
        super().begin(synset)
        if synset is None:
            images = self.synset.images.detach()
            self.weights = step_weights(
                activation_maps(self.committee.nets[0], images, self.synset.classes), self.settings.threshold
            )

    def extra_tensors(self) -> dict[str, Tensor]:
        return {"weights": self.weights, **super().extra_tensors()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self.weights = tensors["weights"]
        super().restore({name: tensor for name, tensor in tensors.items() if name != "weights"})

    def settle(self) -> None:
        """Take the step as far as each pixel's weight says; what has none stays as it is, bit for bit."""
        before, weights = self.synset.images.detach()[self.places], self.weights[self.places]
        self.pixels.copy_(before + weights * (self.pixels - before))
        super().settle()
        self.pixels.copy_(torch.where(weights > 0, self.pixels, before))


def step_weights(maps: Tensor, threshold: float) -> Tensor:
    """max(0, threshold - map), as the maps (N, 1, H, W): 0 where a class is seen.

    >>> step_weights(torch.tensor([0.0, 0.25, 0.5, 1.0]), 0.5)
    tensor([0.5000, 0.2500, 0.0000, 0.0000])
    """
    return (threshold - maps).clamp_min(0)
