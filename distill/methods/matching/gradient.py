"""Gradient matching, class by class or over all classes together.

DC (Zhao et al., ICLR 2021, arXiv:2006.05929), DSA (Zhao & Bilen, ICML 2021, arXiv:2102.08259), and with ``collective`` DCC
and DSAC (Lee et al., ICML 2022, arXiv:2202.02916). They differ in augmentation, ``collective``, ``init`` and ``loops``.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import grad, grad_and_value, vmap

from distill import rng
from distill.augment.families import Augment
from distill.augment.makers import make
from distill.autotune import EAGER, fuse
from distill.checks import check_ranges
from distill.methods.matching.classes import WAYS, ClassMatching, stacks
from distill.networks.base import restart, stateless
from distill.networks.flat import FlatStudent, flatten
from distill.sizes import are_equal, spread
from distill.training.gradients import way_to_train
from distill.training.loop import train
from distill.training.recipe import Recipe

Gradient = Mapping[str, Tensor]  # by parameter name

EPS = 1e-6


def row_distance(a: Gradient, b: Gradient) -> Tensor:
    """Sum over the rows of all weights of one minus the cosine of ``a``'s and ``b``'s row; biases and norms do not count.

    A row belongs to one output: (O, I, k, k) and (O, I) have O of them.

    Returns:
        Scalar in [0, 2 x rows], up to the 1e-6 beside the norms' product.

    Source: DC's code.
    """
    total = torch.zeros(())
    for name, tensor in a.items():
        if tensor.dim() > 1:
            x, y = tensor.flatten(1), b[name].flatten(1)
            total = total.to(x) + (1 - (x * y).sum(1) / (x.norm(dim=1) * y.norm(dim=1) + EPS)).sum()
    return total


def squared_distance(a: Gradient, b: Gradient) -> Tensor:
    """Squared 2-norm of the difference of all gradients, biases included."""
    return sum(((a[name] - b[name]).square().sum() for name in a), torch.zeros(()))


def cosine_distance(a: Gradient, b: Gradient) -> Tensor:
    """One minus the cosine of all gradients laid end to end, biases included."""
    x, y = (torch.cat([part.flatten() for part in parts]) for parts in (list(a.values()), [b[name] for name in a]))
    return 1 - x @ y / (x.norm() * y.norm() + EPS)


DISTANCES: dict[str, Callable[[Gradient, Gradient], Tensor]] = {
    "rows": row_distance, "squared": squared_distance, "cosine": cosine_distance,
}  # fmt: skip


class Matcher:
    """The matching loss of two batches under one network, and its gradient in the synthetic images.

    Class by class it is the sum over classes of the distance of their gradients, each that of the mean loss of a class's
    images; collective it is the distance of the means over classes of these gradients, not over images: classes count alike,
    as they do on the real side, however many synthetic images they have. The second-order graph of one call lives at a time.

    Args:
        net: the network, called with its weights.
        distance: of two gradients.
        compiled: use torch.compile; what is compiled contains `torch.func.grad`.
        together: real images of one call. If several classes' fit they go as a stack (`torch.func.vmap`), larger batches
            go in pieces.
    """

    def __init__(
        self, net: FlatStudent, distance: Callable[[Gradient, Gradient], Tensor], compiled: bool, together: int
    ):
        self.net, self.distance, self.together = net, distance, together
        first, second = grad(self.loss), grad_and_value(self.mismatch, argnums=1)
        made: list[Callable[..., Any]] = [first, second, vmap(first, (None, 0, 0)), vmap(second, (None, 0, 0, 0))]
        if compiled:
            made = [fuse(each) for each in made]
        self.first, self.second, *self.wide = made

    def loss(self, theta: Tensor, images: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        """Mean over images, or weighted by class, (K,)."""
        return F.cross_entropy(self.net(theta, images), labels, weight)

    def mismatch(
        self, theta: Tensor, synthetic: Tensor, labels: Tensor, target: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        """Distance of the synthetic images' gradient from ``target`` (P,)."""
        own = grad(self.loss)(theta, synthetic, labels, weight)
        return self.distance(self.net.unflatten(own), self.net.unflatten(target))

    def target(self, theta: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """Gradient (P,) of the mean loss of images (N, C, H, W)."""
        total = torch.zeros_like(theta)
        for part, its in zip(images.split(self.together), labels.split(self.together), strict=True):
            total += self.first(theta, part, its) * (len(part) / len(images))
        return total

    def class_wise(
        self, theta: Tensor, real: Tensor, synthetic: Tensor, counts: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Loss, and gradient (N, C, H, W), of real (K, B, C, H, W) and synthetic images (N, C, H, W), ``counts`` of each."""
        group = max(1, self.together // real.shape[1])
        losses, gradients, first_class = [], [], 0
        for own in (part for stack in stacks(synthetic, counts) for part in stack.split(group)):
            images = real[first_class : first_class + len(own)]
            labels, own_labels = (labels_like(part, first_class) for part in (images, own))
            first_class += len(own)
            if group > 1:
                first, second = self.wide
                gradient, loss = second(theta, own, own_labels, first(theta, images, labels))
            else:
                gradient, loss = self.second(theta, own[0], own_labels[0], self.target(theta, images[0], labels[0]))
            losses.append(loss.sum())
            gradients.append(gradient.reshape(-1, *synthetic.shape[1:]))
        return torch.stack(losses).sum(), torch.cat(gradients)

    def collective(
        self, theta: Tensor, real: Tensor, synthetic: Tensor, counts: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """The same of the collective loss; all classes' images are one batch."""
        target = self.target(theta, real.flatten(0, 1), labels_like(real).flatten())
        each = torch.tensor(counts)
        labels = torch.arange(len(each)).repeat_interleave(each).to(real.device)
        weight = None if are_equal(counts) else 1 / each.to(theta)  # the plain mean is this where classes are equal
        gradient, loss = self.second(theta, synthetic, labels, target, weight)
        return loss, gradient


def labels_like(images: Tensor, first: int = 0) -> Tensor:
    """Classes (k, B) of images (k, B, C, H, W) of the classes from ``first`` on."""
    classes, batch = images.shape[:2]
    return torch.arange(first, first + classes, device=images.device)[:, None].expand(classes, batch)


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
