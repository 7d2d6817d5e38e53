"""IDC: several images in each stored one, and a matching network that learns from real images (Kim et al., ICML 2022).

arXiv:2205.14959, as its code has it, for small images.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from distill import rng
from distill.checks import setting
from distill.methods.base import Inputs
from distill.methods.matching.classes import WAYS
from distill.methods.matching.gradient import with_gradient
from distill.methods.matching.matcher import KERNELS, Matcher, shared_by
from distill.methods.matching.pixels import PixelMatching, PixelSettings
from distill.networks.base import restart, stateless
from distill.networks.flat import FlatStudent, flatten
from distill.sets.coreset import Coreset
from distill.sizes import are_equal
from distill.training.batch import Batches
from distill.training.gradients import way_to_train
from distill.training.loop import Progress, named, train
from distill.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class IDCSettings(PixelSettings):
    """Of `IDC`.

    Attributes:
        networks: how many are trained.
        sweeps: over the classes with each; one is an outer step.
        steps: outer steps; None is all of them.
        distance: of the gradients of convolutions' kernels, which alone count: ``squared`` or ``absolute`` differences, summed.
        lr_img: for ten images per class; it grows with their number.
        batch_synthetic: decoded images of a class at a step, at most; random ones where there are more.
        network: recipe of the network's training between two sweeps, on real images; its steps are those of one such stretch.
    """

    networks: int = setting("whole [1, 1000000]")
    sweeps: int = setting("whole [1, 1000000]")
    steps: int | None = setting("null or whole [0, 100000000]")
    distance: str = setting(f"one of {', '.join(KERNELS)}")
    batch_synthetic: int = setting("whole [1, 1000000]")
    network: Recipe = setting(Recipe)


class IDC(PixelMatching):
    """Make the gradients of decoded images those of real ones, under networks that have just begun to learn from the latter.

    Raises:
        ValueError: the network has no convolution, or is no function of weights and images alone.
    """

    settings_type = IDCSettings
    settings: IDCSettings

    def __init__(self, inputs: Inputs, settings: IDCSettings):
        steps = settings.networks * settings.sweeps if settings.steps is None else settings.steps
        super().__init__(inputs, replace(settings, steps=steps))
        if not stateless(self.net) or not any(weight.dim() == 4 for weight in self.net.parameters()):
            raise ValueError(
                "idc matches gradients of convolutions, of a network without batch statistics and dropout: "
                "student=[convnet], with norm=instance"
            )
        self.shown = [min(shown, settings.batch_synthetic) for shown in self.shown]
        self.momentum: Mapping[str, Tensor] = {}  # of the network's optimiser

    def images_a_step(self) -> float:
        trained = self.settings.network.updates(len(self.real)) * self.settings.network.batch
        share = 1 - 1 / self.settings.sweeps
        return self.batch_real * self.real.num_classes + 3.0 * sum(self.shown) + trained * share

    def make_optimizer(self, pixels: Tensor) -> torch.optim.Optimizer:
        rate = self.settings.lr_img * max(self.counts) / 10
        return torch.optim.SGD([{"name": "images", "params": [pixels]}], rate, self.settings.momentum_img)

    def update(self, step: int) -> Tensor:
        network, sweep = divmod(step, self.settings.sweeps)
        self.move_network(network, sweep)
        leaf = self.turned()
        real, synthetic = self.batches(step)
        loss, slope = self.matcher.class_wise(self.peers.same(flatten(self.net)), real, synthetic.detach(), self.shown)
        (gradient,) = torch.autograd.grad(synthetic, leaf, slope)
        self.log_dict({"matching_loss": loss, "network": float(network)})
        return with_gradient(self.pixels, loss, gradient)

    def move_network(self, network: int, sweep: int) -> None:
        """A fresh network, and clamped pixels; or the one at hand after a further stretch of its training on real images."""
        if sweep == 0:
            with rng.seeded(self.seed, "network", network):
                restart(self.net)
            self.momentum = {}
            self.clamp()
            return
        seeds = [rng.derive(self.seed, "network training", network, sweep)]
        before = Progress(0, flatten(self.net)[None], self.momentum)
        train([self.net], self.of_real, seeds=seeds, compiled=self.compiled, progress=before, after_epoch=self.roll_on)

    def roll_on(self, now: Progress) -> None:
        """Keep the momentum for the network's next stretch."""
        self.momentum = now.optimizer

    def synthetic(self, step: int) -> list[Tensor]:
        """Of each class at most ``batch_synthetic`` decoded images, random ones where there are more."""
        found = super().synthetic(step)
        for cls, (images, shown) in enumerate(zip(found, self.shown, strict=True)):
            if shown < len(images):
                some = torch.randperm(len(images), generator=rng.generator(self.seed, "synthetic batch", step, cls))
                found[cls] = images[some[:shown].to(images.device, non_blocking=True)]
        return found

    @cached_property
    def of_real(self) -> Batches:
        """Of the network on the real images."""
        return Batches(Coreset.whole(self.real), self.settings.network, self.settings.network.views.on(self.real))

    @cached_property
    def compiled(self) -> bool:
        """Whether torch.compile makes the network's training faster on this machine."""
        return way_to_train(self.student, self.of_real, 1, self.steps, self.settings.compile)[0]

    @cached_property
    def matcher(self) -> Matcher:
        """The fastest on this machine."""
        flat, theta = FlatStudent(self.net, with_state=True), flatten(self.net)

        def work(matcher: Matcher, real: Tensor, synthetic: Tensor) -> object:
            return matcher.class_wise(theta, real, synthetic, self.here(self.shown))

        matchers = {name: Matcher(flat, KERNELS[self.settings.distance], *way) for name, way in WAYS.items()}
        compile = self.settings.compile if are_equal(self.shown) and self.peers.size == 1 else False
        found = self.fastest(matchers, work, ["kernels", self.settings.distance], compile)
        return shared_by(found, self.peers, self.batch_real)

    def extra_tensors(self) -> dict[str, Tensor]:
        own = {f"net.{name}": tensor for name, tensor in self.net.state_dict().items()}
        own |= {f"momentum.{name}": tensor for name, tensor in self.momentum.items()}
        return {**super().extra_tensors(), **own}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        super().restore(tensors)
        self.net.load_state_dict(named(tensors, "net."))
        self.momentum = named(tensors, "momentum.")
