"""NCFM: characteristic functions of features, matched at random or learned frequencies (Wang et al., CVPR 2025).

arXiv:2502.20653, as its code has it but for what `docs/methods.md` names.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import vector_to_parameters
from torch.optim.lr_scheduler import ReduceLROnPlateau

from distill import rng
from distill.autotune import fuse
from distill.checks import setting
from distill.methods.base import Inputs, Skip, given
from distill.methods.matching.characteristic import Sampler, distance, mean_wave
from distill.methods.matching.classes import WAYS
from distill.methods.matching.gradient import with_gradient
from distill.methods.matching.pixels import PixelMatching, PixelSettings
from distill.networks.base import stateless
from distill.networks.flat import FlatStudent
from distill.sets.synthetic import SyntheticSet
from distill.training.loop import named, optimizer_tensors, restore_optimizer
from distill.training.recipe import EXPERTS

SCALE = 300.0  # of the discrepancy
FACTOR = 0.5  # of the images' rate, where the losses of an iteration have not fallen for ``patience`` of them

OPTIMIZERS: dict[str, Callable[[Any, "NCFMSettings"], torch.optim.Optimizer]] = {
    "adamw": lambda groups, own: torch.optim.AdamW(groups, own.lr_img, weight_decay=own.decay_img),
    "sgd": lambda groups, own: torch.optim.SGD(groups, own.lr_img, own.momentum_img),
}


@dataclass(frozen=True, kw_only=True)
class NCFMSettings(PixelSettings):
    """Of `NCFM`.

    Attributes:
        iterations: each a sweep of matching over the classes and, with ``calibration``, one of calibration.
        steps: sweeps, which are outer steps; None is all of them.
        frequencies: M, drawn anew for each sweep.
        sampler: whether frequencies are learned, to tell real and synthetic images apart, or standard normal.
        lr_sampler, momentum_sampler: SGD on what makes them.
        amplitude, phase: weights of what the two characteristic functions differ by.
        calibration: weight of the images' cross-entropy under an expert that has learned; 0 leaves these sweeps out.
        optimizer: of the images, ``adamw`` (with ``decay_img``) or ``sgd`` (with ``momentum_img``).
        patience: iterations without a lower loss after which the images' rate is halved.
    """

    iterations: int = setting("whole [1, 10000000]")
    steps: int | None = setting("null or whole [0, 100000000]")
    frequencies: int = setting("whole [2, 1000000]")
    sampler: bool = setting("true or false")
    lr_sampler: float = setting("[0, 1000]")
    momentum_sampler: float = setting("[0, 1)")
    amplitude: float = setting("[0, 1000]")
    phase: float = setting("[0, 1000]")
    calibration: float = setting("[0, 1000]")
    optimizer: str = setting(f"one of {', '.join(OPTIMIZERS)}")
    decay_img: float = setting("[0, 10]")
    patience: int = setting("whole [1, 10000000]")


class NCFM(PixelMatching):
    """Make the features of decoded images distributed as those of real ones, under networks on their way from start to end."""

    RANGES: ClassVar[Mapping[str, Any]] = {"experts": EXPERTS}
    settings_type = NCFMSettings
    settings: NCFMSettings

    def __init__(self, inputs: Inputs, settings: NCFMSettings):
        experts, sweeps = given(inputs.experts, "experts"), 2 if settings.calibration else 1
        steps = settings.iterations * sweeps if settings.steps is None else settings.steps
        super().__init__(inputs, replace(settings, steps=steps))
        self.experts, self.sweeps = experts, sweeps  # of an iteration
        self.size = len(FlatStudent(self.net))
        self.lost, self.total, self.swept = 0.0, 0.0, 0  # of the last sweep, and of so many of this iteration

    def images_a_step(self) -> float:
        return self.batch_real * self.real.num_classes / 3 / self.sweeps + sum(self.shown)  # real ones go forward alone

    @property
    def round(self) -> int:
        return self.sweeps

    def make_optimizer(self, pixels: Tensor) -> torch.optim.Optimizer:
        return OPTIMIZERS[self.settings.optimizer]([{"name": "images", "params": [pixels]}], self.settings)

    def begin(self, synset: SyntheticSet | None = None) -> None:
        super().begin(synset)
        self.plateau = ReduceLROnPlateau(self.optimizer, factor=FACTOR, patience=self.settings.patience)
        width = self.net.classifier.in_features
        with rng.seeded(self.seed, "sampler"):
            self.sampler = Sampler(width).to(self.real.images.device)
        self.slopes: list[Tensor] = []
        own = self.settings
        self.adversary = torch.optim.SGD(self.sampler.parameters(), own.lr_sampler, own.momentum_sampler)

    def update(self, step: int) -> Tensor:
        iteration, sweep = divmod(step, self.sweeps)
        first, last, share = self.network(iteration)
        if sweep == 0:
            self.clamp()
        leaf = self.turned()
        if sweep == 1:
            loss = self.settings.calibration * self.misjudged(last, self.seen(step))
            self.log("calibration_loss", loss.detach())
        else:
            loss = self.apart(share * first + (1 - share) * last, step)
            self.log("matching_loss", loss.detach())
        learned = list(self.sampler.parameters()) if self.settings.sampler and sweep == 0 else []
        gradient, *self.slopes = torch.autograd.grad(loss, [leaf, *learned])
        return with_gradient(self.pixels, loss, gradient)

    def network(self, iteration: int) -> tuple[Tensor, Tensor, float]:
        """First and last weights (P,) of an expert, and the share of the first in the network that features are of."""
        g = rng.generator(self.seed, "network", iteration)
        first, last = self.pool[int(torch.randint(self.experts.count, (), generator=g))]
        return first, last, float(torch.rand((), generator=g))

    @cached_property
    def pool(self) -> list[tuple[Tensor, Tensor]]:
        """First and last weights of all experts."""
        device = self.real.images.device
        numbers = range(self.experts.complete().count)
        return [tuple(self.experts.row(i, row, self.size).to(device) for row in (0, -1)) for i in numbers]  # type: ignore[misc]

    def apart(self, theta: Tensor, step: int) -> Tensor:
        """Sum over classes of the discrepancy of real and synthetic images under weights ``theta``."""
        vector_to_parameters(theta, self.net.parameters())
        real, synthetic = self.batches(step)
        with torch.no_grad():
            theirs = self.directions(real.flatten(0, 1)).unflatten(0, real.shape[:2])
        ours, own = self.directions(synthetic).split(self.here(self.shown)), self.settings
        noise = torch.randn(own.frequencies, theirs.shape[-1], generator=rng.generator(self.seed, "frequencies", step))
        noise = noise.to(theirs, non_blocking=True)
        frequencies = self.peers.shared(self.sampler(noise) if own.sampler else noise)
        waves = [
            torch.stack(
                [self.peers.weight(self.batch_real) * mean_wave(a, frequencies), weight * mean_wave(b, frequencies)]
            )
            for a, b, weight in zip(theirs, ours, map(self.peers.weight, self.shown), strict=True)
        ]
        both = self.peers.total(torch.stack(waves))
        return SCALE * torch.stack([distance(a, b, own.amplitude, own.phase) for a, b in both]).sum()

    def misjudged(self, theta: Tensor, synthetic: Tensor) -> Tensor:
        """Sum over classes of the cross-entropy of synthetic images under weights ``theta``."""
        vector_to_parameters(theta, self.net.parameters())
        said = self.net(synthetic).split(self.here(self.shown))
        classes = [torch.full((len(logits),), cls, device=logits.device) for cls, logits in enumerate(said)]
        weights = map(self.peers.weight, self.shown)
        each = [share * F.cross_entropy(*pair) for share, *pair in zip(weights, said, classes, strict=True)]
        return self.peers.total(torch.stack(each).sum())

    @cached_property
    def directions(self) -> Callable[[Tensor], Tensor]:
        """Features (N, F) of images, of length 1; the fastest way on this machine."""
        features = self.net.features
        if not stateless(self.net):
            return partial(directions, features, together=sys.maxsize)
        compiled = fuse(features)
        ways = {
            name: partial(directions, compiled if way[0] else features, together=way[1]) for name, way in WAYS.items()
        }

        @torch.no_grad()
        def work(way: Callable[[Tensor], Tensor], real: Tensor, synthetic: Tensor) -> object:
            return way(real.flatten(0, 1))

        return self.fastest(ways, work, "directions", self.settings.compile)

    def check(self, vitals: Mapping[str, float], optimizer: torch.optim.Optimizer) -> None:
        super().check(vitals, optimizer)
        if not vitals["sampler"]:
            raise Skip("the gradient of the sampler is not finite")
        self.lost = vitals["loss"]

    def vitals(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        finite = [slope.isfinite().all() for slope in self.slopes] or [torch.tensor(True)]
        return {**super().vitals(loss, optimizer), "sampler": torch.stack(finite).all()}

    def take(self) -> None:
        """The images' step; beside it that of the sampler, up where they go down; after an iteration the rate's."""
        super().take()
        for weight, slope in zip(self.sampler.parameters(), self.slopes, strict=False):
            weight.grad = -slope
        if self.slopes:
            self.adversary.step()
        self.total += self.lost
        self.swept += 1
        if self.swept == self.sweeps:
            self.plateau.step(self.total / self.real.num_classes)
            self.total, self.swept = 0.0, 0

    def extra_tensors(self) -> dict[str, Tensor]:
        rate, plateau = self.optimizer.param_groups[0]["lr"], self.plateau
        now = torch.tensor([plateau.best, plateau.num_bad_epochs, rate, self.total, self.swept], dtype=torch.float64)
        own = {f"sampler.{name}": tensor for name, tensor in self.sampler.state_dict().items()}
        own |= {f"adversary.{name}": tensor for name, tensor in optimizer_tensors(self.adversary).items()}
        return {**super().extra_tensors(), **own, "plateau": now}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        super().restore(tensors)
        best, bad, rate, self.total, swept = tensors["plateau"].tolist()
        self.plateau.best, self.plateau.num_bad_epochs, self.swept = best, int(bad), int(swept)
        self.optimizer.param_groups[0]["lr"] = rate
        self.sampler.load_state_dict(named(tensors, "sampler."))
        restore_optimizer(self.adversary, named(tensors, "adversary."))


def directions(features: Callable[[Tensor], Tensor], images: Tensor, together: int) -> Tensor:
    """Features (N, F) of images (N, C, H, W), each divided by its length; ``together`` images are one call's."""
    found = torch.cat([features(part).flatten(1) for part in images.split(together)])
    return F.normalize(found, dim=1)
