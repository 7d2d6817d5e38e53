"""Gradient matching, class by class or over all classes together.

DC (Zhao et al., ICLR 2021, arXiv:2006.05929), DSA (Zhao & Bilen, ICML 2021, arXiv:2102.08259), and with ``collective`` DCC
and DSAC (Lee et al., ICML 2022, arXiv:2202.02916). They differ in augmentation, ``collective``, ``init`` and ``loops``.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from distill import rng
from distill.augment.families import Augment
from distill.augment.makers import make
from distill.autotune import EAGER
from distill.checks import check_ranges
from distill.methods.matching.classes import WAYS, ClassMatching
from distill.methods.matching.matcher import DISTANCES, Matcher
from distill.networks.base import restart, stateless
from distill.networks.flat import FlatStudent, flatten
from distill.sizes import are_equal, spread
from distill.training.gradients import way_to_train
from distill.training.loop import train
from distill.training.recipe import Recipe


class GradientMatching(ClassMatching):
    """Make the synthetic images' gradients those of the real ones, along the training of a network on the former.

    Every network gets T image updates, and Z epochs of training on the synthetic set between two of them; then the next
    fresh one begins.

    Args:
        networks: K, how many are trained.
        steps: image updates; None is all of them, K T.
        loops: (T, Z) by ipc, as published; another ipc takes its larger neighbour's, with a warning. Of classes with
            different numbers of images the largest counts.
        collective: match the mean gradient over classes after the warm-up (DCC, DSAC).
        warmup_networks, warmup_updates: with ``collective``, image update t of network k is class-wise where
            k < warmup_networks and t < warmup_updates.
        distance: ``rows`` (DC's), ``squared`` or ``cosine`` (ablations).
        network: recipe of the network's training, its epochs aside.
        network_augment: of that training, image by image.
        others: see `ClassMatching`.

    Raises:
        ValueError: a value is unknown.
    """

    RANGES: ClassVar[Mapping[str, Any]] = {
        "networks": "whole [1, 1000000]",
        "steps": "null or whole [0, 100000000]",
        "loops": "map of whole [1, 1000000] to two of whole [1, 100000]",
        "collective": "true or false",
        "warmup_networks": "whole [0, 1000000]",
        "warmup_updates": "whole [0, 1000000]",
        "distance": f"one of {', '.join(DISTANCES)}",
        "network": Recipe,
        "network_augment": make,
    }

    def __init__(
        self,
        *,
        networks: int,
        steps: int | None,
        loops: Mapping[int, Sequence[int]],
        collective: bool,
        warmup_networks: int,
        warmup_updates: int,
        distance: str,
        network: Recipe,
        network_augment: Augment,
        **others: Any,
    ):
        check_ranges("method", locals(), GradientMatching.RANGES)
        counts = others["real"].asked(others["ipc"])
        self.updates, epochs, note = loops_for(max(counts), loops)
        steps = networks * self.updates if steps is None else steps
        super().__init__(steps=steps, **others)
        self.notes += [note] if note else []
        if others["compile"] is True and not are_equal(counts):
            self.notes.append(f"ipc is {spread(counts)}: the matching of unequal classes goes without torch.compile")
        self.network, self.network_augment = network.with_(epochs=epochs), network_augment
        self.norms = [module for module in self.net.modules() if isinstance(module, nn.BatchNorm2d)]
        if self.norms:
            self.notes.append(
                "gradient matching is known to fail with batch norm (ResNet18-BN, CIFAR-10, ipc 1: 16 %): its "
                "statistics hardly move before they are frozen; use norm=instance"
            )

    def images_a_step(self) -> float:
        trained = self.network.passes * sum(self.counts) * (self.updates - 1) / self.updates
        return super().images_a_step() + trained

    def update(self, step: int) -> Tensor:
        network, update = divmod(step, self.updates)
        self.move_network(network, update)
        if self.norms:
            self.set_statistics(step)
        real, synthetic = self.batches(step)
        match = self.matcher.collective if self.is_collective(network, update) else self.matcher.class_wise
        loss, gradient = match(flatten(self.net), real, synthetic.detach(), self.counts)
        self.log_dict({"matching_loss": loss, "network": float(network)})
        return with_gradient(synthetic, loss, gradient)

    def is_collective(self, network: int, update: int) -> bool:
        """DCC's rule: class-wise during the first updates of the first networks, collective otherwise."""
        warm = network < self.hparams["warmup_networks"] and update < self.hparams["warmup_updates"]
        return self.hparams["collective"] and not warm

    def move_network(self, network: int, update: int) -> None:
        """A fresh network, or the one at hand after Z epochs on the synthetic set."""
        if update == 0:
            with rng.seeded(self.seed, "network", network):
                restart(self.net)
            return
        train(
            [self.net],
            self.synset.images.detach(),
            self.synset.labels,
            self.network,
            seeds=[rng.derive(self.seed, "network training", network, update)],
            augment=self.network_augment,
            compiled=self.compiled,
        )

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
        images, labels, calls = self.synset.images.detach(), self.synset.labels, self.hparams["steps"]
        return way_to_train(self.student, images, labels, self.network, 1, calls, self.hparams["compile"])[0]

    @cached_property
    def matcher(self) -> Matcher:
        """The fastest on this machine; of unequal classes an eager one: every size would be compiled, and torch keeps eight."""
        flat, distance = FlatStudent(self.net, with_state=True), DISTANCES[self.hparams["distance"]]
        if not stateless(self.net):
            return Matcher(flat, distance, *WAYS[EAGER])
        theta, collective, compile = flatten(self.net), self.hparams["collective"], self.hparams["compile"]

        def work(matcher: Matcher, real: Tensor, synthetic: Tensor) -> object:
            return (matcher.collective if collective else matcher.class_wise)(theta, real, synthetic, self.counts)

        matchers = {name: Matcher(flat, distance, *way) for name, way in WAYS.items()}
        return self.fastest(
            matchers, work, [self.hparams["distance"], collective], compile if are_equal(self.counts) else False
        )

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
