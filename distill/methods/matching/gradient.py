"""Gradient matching, class by class or over all classes together.

DC (Zhao et al., ICLR 2021, arXiv:2006.05929), DSA (Zhao & Bilen, ICML 2021, arXiv:2102.08259), and with ``collective`` DCC
and DSAC (Lee et al., ICML 2022, arXiv:2202.02916). They differ in augmentation, ``collective``, ``init`` and ``loops``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from distill import rng
from distill.autotune import EAGER
from distill.checks import setting
from distill.methods.base import Inputs
from distill.methods.matching.classes import WAYS, ClassMatching, ClassSettings
from distill.methods.matching.matcher import DISTANCES, Matcher, shared_by
from distill.networks.base import restart, stateless
from distill.networks.flat import FlatStudent, flatten
from distill.sizes import are_equal, spread
from distill.training.batch import Batches
from distill.training.gradients import way_to_train
from distill.training.loop import train
from distill.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class GradientSettings(ClassSettings):
    """Of `GradientMatching`.

    Attributes:
        networks: K, how many are trained.
        steps: image updates; None is all of them, K T.
        loops: (T, Z) by ipc, as published; another ipc takes its larger neighbour's, with a warning. Of classes with
            different numbers of images the largest counts.
        collective: match the mean gradient over classes after the warm-up (DCC, DSAC).
        warmup_networks, warmup_updates: with ``collective``, image update t of network k is class-wise where
            k < warmup_networks and t < warmup_updates.
        distance: ``rows`` (DC's), ``squared`` or ``cosine`` (ablations).
        network: recipe of the network's training, its epochs aside.
    """

    networks: int = setting("whole [1, 1000000]")
    steps: int | None = setting("null or whole [0, 100000000]")
    loops: Mapping[int, Sequence[int]] = setting("map of whole [1, 1000000] to two of whole [1, 100000]")
    collective: bool = setting("true or false")
    warmup_networks: int = setting("whole [0, 1000000]")
    warmup_updates: int = setting("whole [0, 1000000]")
    distance: str = setting(f"one of {', '.join(DISTANCES)}")
    network: Recipe = setting(Recipe)


class GradientMatching(ClassMatching):
    """Make the synthetic images' gradients those of the real ones, along the training of a network on the former.

    Every network gets T image updates, and Z epochs of training on the synthetic set between two of them; then the next
    fresh one begins.
    """

    settings_type = GradientSettings
    settings: GradientSettings

    def __init__(self, inputs: Inputs, settings: GradientSettings):
        counts = inputs.real.asked(inputs.ipc)
        self.updates, epochs, note = loops_for(max(counts), settings.loops)
        steps = settings.networks * self.updates if settings.steps is None else settings.steps
        super().__init__(inputs, replace(settings, steps=steps))
        self.notes += [note] if note else []
        if settings.compile is True and not are_equal(counts):
            self.notes.append(f"ipc is {spread(counts)}: the matching of unequal classes goes without torch.compile")
        self.network = settings.network.with_(epochs=epochs)
        self.norms = [module for module in self.net.modules() if isinstance(module, nn.BatchNorm2d)]
        if self.norms:
            self.notes.append(
                "gradient matching is known to fail with batch norm (ResNet18-BN, CIFAR-10, ipc 1: 16 %): its "
                "statistics hardly move before they are frozen; use norm=instance"
            )

    def images_a_step(self) -> float:
        trained = self.network.passes(sum(self.counts)) * sum(self.counts) * (self.updates - 1) / self.updates
        return super().images_a_step() + trained

    def update(self, step: int) -> Tensor:
        network, update = divmod(step, self.updates)
        self.move_network(network, update)
        if self.norms:
            self.set_statistics(step)
        real, synthetic = self.batches(step)
        match = self.matcher.collective if self.is_collective(network, update) else self.matcher.class_wise
        loss, gradient = match(self.peers.same(flatten(self.net)), real, synthetic.detach(), self.counts)
        self.log_dict({"matching_loss": loss, "network": float(network)})
        return with_gradient(synthetic, loss, gradient)

    def is_collective(self, network: int, update: int) -> bool:
        """DCC's rule: class-wise during the first updates of the first networks, collective otherwise."""
        warm = network < self.settings.warmup_networks and update < self.settings.warmup_updates
        return self.settings.collective and not warm

    def move_network(self, network: int, update: int) -> None:
        """A fresh network, or the one at hand after Z epochs on the synthetic set."""
        if update == 0:
            with rng.seeded(self.seed, "network", network):
                restart(self.net)
            return
        seeds = [rng.derive(self.seed, "network training", network, update)]
        train([self.net], self.of_the_set, seeds=seeds, compiled=self.compiled)

    @property
    def of_the_set(self) -> Batches:
        """Of the network on the synthetic set."""
        return Batches(self.synset.detached, self.network, self.network.views.on(self.real))

    def set_statistics(self, step: int) -> None:
        """Batch norm's running statistics move once, on 16 real images of each class, and stand still for the matching."""
        self.net.train()
        with torch.no_grad():
            self.net(self.real_images(step, 16, "statistics").flatten(0, 1))
        for norm in self.norms:
            norm.eval()

    @cached_property
    def compiled(self) -> bool:
        """Whether torch.compile makes the network's training faster on this machine."""
        return way_to_train(self.student, self.of_the_set, 1, self.steps, self.settings.compile)[0]

    @cached_property
    def matcher(self) -> Matcher:
        """The fastest on this machine; of unequal classes an eager one: every size would be compiled, and torch keeps eight."""
        flat, distance = FlatStudent(self.net, with_state=True), DISTANCES[self.settings.distance]
        if not stateless(self.net):
            return Matcher(flat, distance, *WAYS[EAGER])
        theta, collective = flatten(self.net), self.settings.collective

        def work(matcher: Matcher, real: Tensor, synthetic: Tensor) -> object:
            match = matcher.collective if collective else matcher.class_wise
            return match(theta, real, synthetic, self.here(self.counts))

        matchers = {name: Matcher(flat, distance, *way) for name, way in WAYS.items()}
        compile = self.settings.compile if are_equal(self.counts) and self.peers.size == 1 else False
        found = self.fastest(matchers, work, [self.settings.distance, collective], compile)
        return shared_by(found, self.peers, self.batch_real)

    def extra_tensors(self) -> dict[str, Tensor]:
        return dict(self.net.state_dict())

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self.net.load_state_dict(tensors)


def with_gradient(views: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
    """A scalar that is ``value`` and whose gradient in ``views`` is ``gradient``."""
    return value.detach() + (gradient.detach() * (views - views.detach())).sum()


def loops_for(ipc: int, loops: Mapping[int, Sequence[int]]) -> tuple[int, int, str]:
    """(T, Z) of ``ipc``, or of its larger neighbour in the table (the largest beyond it) and a note that says so."""
    if ipc in loops:
        updates, epochs = loops[ipc]
        return updates, epochs, ""
    known = sorted(loops)
    near = [each for each in known if each < ipc][-1:] + [each for each in known if each > ipc][:1]
    note = (
        f"no published method.loops for ipc {ipc}; its neighbours are "
        f"{' and '.join(f'{each}: {list(loops[each])}' for each in near)}: those of {near[-1]} are taken, untuned"
    )
    updates, epochs = loops[near[-1]]
    return updates, epochs, note
