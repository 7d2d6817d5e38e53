"""Distribution matching (Zhao & Bilen, WACV 2023, arXiv:2110.04181)."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from distill import rng
from distill.autotune import fuse
from distill.checks import setting
from distill.methods.base import Inputs
from distill.methods.matching.classes import WAYS, ClassMatching, ClassSettings, stacks
from distill.networks.base import restart, stateless
from distill.training.recipe import PRECISIONS


@dataclass(frozen=True, kw_only=True)
class DMSettings(ClassSettings):
    """Of `DistributionMatching`.

    Attributes:
        precision: of the real images' forward pass, ``fp32`` or ``bf16`` (autocast); the synthetic images' is fp32.
    """

    precision: str = setting(f"one of {', '.join(PRECISIONS)}")


class DistributionMatching(ClassMatching):
    """Match the mean feature of each class's real and synthetic images under a fresh random network."""

    settings_type = DMSettings
    settings: DMSettings

    def __init__(self, inputs: Inputs, settings: DMSettings):
        super().__init__(inputs, settings)
        self.net.requires_grad_(False)

    def images_a_step(self) -> float:
        return self.batch_real * self.real.num_classes / 3 + sum(self.counts)  # real images go forward alone

    def update(self, step: int) -> Tensor:
        with rng.seeded(self.seed, "network", step):
            restart(self.net)
        real, synthetic = self.batches(step)
        dtype = PRECISIONS[self.settings.precision]
        with torch.no_grad(), torch.autocast(real.device.type, dtype, enabled=dtype is not None):
            target = self.centres(real.flatten(0, 1), [self.batch_real] * len(real))
        loss = (self.centres(synthetic, self.counts) - target).square().sum()
        self.log("matching_loss", loss.detach())
        return loss

    def centres(self, images: Tensor, counts: Sequence[int]) -> Tensor:
        """Mean feature of every class, (K, F), of so many images; ``images`` are those of a slice."""
        share = torch.tensor([self.peers.weight(count) for count in counts])[:, None]
        return self.peers.total(share.to(images, non_blocking=True) * self.means(images, self.here(counts)))

    @cached_property
    def means(self) -> Callable[[Tensor, Sequence[int]], Tensor]:
        """`class_means`, the fastest way on this machine."""
        features, dtype = self.net.features, PRECISIONS[self.settings.precision]
        if not stateless(self.net):
            return partial(class_means, features, together=sys.maxsize)

        @torch.no_grad()
        def work(means: Callable[[Tensor, Sequence[int]], Tensor], real: Tensor, synthetic: Tensor) -> object:
            with torch.autocast(real.device.type, dtype, enabled=dtype is not None):
                return means(real.flatten(0, 1), self.here([self.batch_real] * len(real)))

        compiled = fuse(features)
        ways = {
            name: partial(class_means, compiled if way[0] else features, together=way[1]) for name, way in WAYS.items()
        }
        return self.fastest(ways, work, ["means", self.settings.precision], self.settings.compile)


def class_means(features: Callable[[Tensor], Tensor], images: Tensor, counts: Sequence[int], together: int) -> Tensor:
    """Mean feature of every class, (K, F) float32 or better, of images (N, C, H, W), ``counts`` of each, ``together`` a call.

    With batch norm all go together: its statistics are those of all images, as in the authors' code.
    """
    found = torch.cat([features(part).flatten(1) for part in images.split(together)])
    found = found.to(torch.promote_types(found.dtype, torch.float32))
    return torch.cat([stack.mean(1) for stack in stacks(found, counts)])
