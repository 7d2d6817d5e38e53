"""Trajectory matching: train a student on the synthetic set until it lands where an expert went.

MTT (Cazenavette et al., CVPR 2022, arXiv:2203.11932) and TESLA (Cui et al., ICML 2023, arXiv:2211.10586).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from distill import rng
from distill.augment.families import Augment
from distill.augment.makers import make
from distill.checks import setting
from distill.methods.base import Inputs, LoopSettings, Method, Skip, given
from distill.methods.matching.unroll import (
    MODES,
    InnerLoop,
    InnerLoss,
    InnerStep,
    chunks,
    unroll,
)
from distill.methods.matching.ways import Case, Way, choose
from distill.networks.convolution import differentiable_twice
from distill.networks.flat import FlatStudent
from distill.sets.synthetic import SyntheticSet
from distill.training.recipe import EXPERTS, MAX_LR


def trajectory_error(student: Tensor, start: Tensor, target: Tensor) -> Tensor:
    """Squared distance to where the expert went, in units of how far the expert itself moved.

    Args:
        student: weights after the inner loop, (P,); their graph reaches the synthetic images.
        start: the expert's weights where the student began, (P,).
        target: the expert's weights ``expert_epochs`` later, (P,).

    Returns:
        Scalar >= 0 without unit: 0 is a perfect landing, 1 is as far away as at the start; NaN if the expert stood still.

    Raises:
        ValueError: the lengths differ, as with a trajectory of another architecture.
    """
    if not student.shape == start.shape == target.shape:
        raise ValueError(
            f"student has {len(student)} weights, the expert {len(start)} and {len(target)}: another network?"
        )
    return (student - target).square().sum() / (start - target).square().sum()


def inner_loss(net: FlatStudent, label_kind: str) -> InnerLoss:
    """Cross-entropy of one inner step, on classes or on soft labels (logits before the softmax)."""

    def loss(theta: Tensor, views: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(net(theta, views), labels.softmax(1) if label_kind == "logits" else labels)

    return loss


@dataclass(frozen=True, kw_only=True)
class TrajectorySettings(LoopSettings):
    """Of `TrajectoryMatching`.

    Attributes:
        augment: of every inner step.
        student_steps: N, updates of the student.
        expert_epochs: M, epochs of the expert that these updates are to match.
        min_start_epoch, max_start_epoch: start epochs are drawn from [min_start_epoch, max_start_epoch).
        batch_syn: synthetic images of an inner step; None takes them all.
        lr_student: the student's step size at the beginning; it is learned.
        student_momentum: of the inner loop's heavy ball, 0 in MTT, TESLA and DATM.
        lr_img, momentum_img: SGD on the images.
        lr_lr, momentum_lr: SGD on the student's step size.
        max_error: steps whose matching loss is above it are skipped; None takes all that are finite.
        soft_label_assignment: TESLA's; labels are the target network's predictions, anew at every outer step.
        memory: a mode of `distill.methods.matching.unroll`, or ``auto``: that which is fastest here and fits.
        compile: torch.compile for the inner loop: True, False or ``auto``, where it is measured faster.
    """

    augment: Augment = setting(make)
    student_steps: int = setting("whole [1, 100000]")
    expert_epochs: int = setting("whole [1, 100000]")
    min_start_epoch: int = setting("whole [0, 100000]")
    max_start_epoch: int = setting("whole [1, 100000]")
    batch_syn: int | None = setting("null or whole [1, 1000000]")
    lr_student: float = setting(f"(0, {MAX_LR:g}]")
    student_momentum: float = setting("[0, 1)")
    lr_img: float = setting("[0, 1000000]")
    momentum_img: float = setting("[0, 1)")
    lr_lr: float = setting("[0, 1000]")
    momentum_lr: float = setting("[0, 1)")
    max_error: float | None = setting("null or (0, 1000000]")
    soft_label_assignment: bool = setting("true or false")
    memory: str = setting(f"one of auto, {', '.join(MODES)}")
    compile: bool | str = setting("one of true, false, auto")

    def check(self) -> None:
        low, high = self.min_start_epoch, self.max_start_epoch
        if low >= high:
            raise ValueError(f"start epochs from {low} to below {high}: the range is empty")
        if self.memory == "tesla" and self.student_momentum:
            raise ValueError("method.memory=tesla knows no method.student_momentum: use recompute")


class TrajectoryMatching(Method):
    """MTT and, with ``memory=tesla``, TESLA.

    Raises:
        ValueError: the experts end before the last epoch that may be read.
    """

    RANGES: ClassVar[Mapping[str, Any]] = {"experts": EXPERTS}
    settings_type = TrajectorySettings
    settings: TrajectorySettings

    def __init__(self, inputs: Inputs, settings: TrajectorySettings):
        experts = given(inputs.experts, "experts")
        last = settings.max_start_epoch + settings.expert_epochs - 1
        if last > experts.epochs:
            raise ValueError(
                f"experts in {experts.folder} end at epoch {experts.epochs}, this range reads epoch {last}: "
                "lower method.max_start_epoch or train longer experts (method.experts.recipe.epochs)"
            )
        super().__init__(inputs, settings)
        self.experts = experts
        self.net = FlatStudent(differentiable_twice(self.student()))

    def begin(self, synset: SyntheticSet | None = None) -> None:
        super().begin(synset)
        if self.synset.lr is None:
            self.synset = self.synset.with_(lr=torch.tensor(self.settings.lr_student, device=self.real.images.device))
        self.learned_rate.requires_grad_()

    @property
    def learned_rate(self) -> Tensor:
        """The student's step size, a leaf."""
        assert self.synset.lr is not None
        return self.synset.lr

    def images_a_step(self) -> float:
        return 3.0 * self.settings.student_steps * self.at_once  # the gradient's own gradient is twice the work again

    @property
    def is_soft(self) -> bool:
        return self.settings.soft_label_assignment

    @property
    def is_rated(self) -> bool:
        return True

    @property
    def at_once(self) -> int:
        return min(self.settings.batch_syn or sum(self.counts), sum(self.counts))

    def lighter(self, images: int) -> dict[str, Any]:
        return {"batch_syn": max(1, min(images, self.at_once))}

    @property
    def most_peers(self) -> tuple[int, str]:
        images = sum(self.counts)
        batch = min(self.settings.batch_syn or images, images)
        least = images % batch or batch
        return least, f"an inner step has {least} images, more with another ipc or method.batch_syn"

    def configure_optimizers(self) -> torch.optim.Optimizer:
        values = self.settings
        images = {"params": [self.synset.images], "lr": values.lr_img, "momentum": values.momentum_img}
        rate = {"params": [self.learned_rate], "lr": values.lr_lr, "momentum": values.momentum_lr}
        return torch.optim.SGD([{"name": "images", **images}, {"name": "student rate", **rate}])

    def update(self, step: int) -> Tensor:
        expert, epoch = self.pick(step)
        start = self.start(expert, epoch, step)
        landings = self.landings()
        if self.settings.soft_label_assignment:
            self.assign_labels(self.weights(expert, epoch + self.settings.expert_epochs))
        loop = InnerLoop(
            self.way.derivatives,
            self.plan(step),
            self.settings.augment,
            self.settings.student_momentum,
            self.inner_scale(epoch),
            [steps for steps, _, _ in landings],
        )
        images, labels = self.peers.shared(self.synset.images), self.peers.shared(self.synset.labels)
        landed = unroll(loop, start, images, labels, self.learned_rate, self.way.mode)
        error = sum(
            weight * trajectory_error(student, start, self.weights(expert, epoch + epochs))
            for student, (_, epochs, weight) in zip(landed, landings, strict=True)
        )
        assert isinstance(error, Tensor)
        self.log_dict(
            {"matching_loss": error.detach(), "student_rate": self.learned_rate.detach(), "start_epoch": float(epoch)}
        )
        return error

    def start(self, expert: int, epoch: int, step: int) -> Tensor:
        """Where the student of an outer step begins, (P,)."""
        return self.weights(expert, epoch)

    def landings(self) -> list[tuple[int, int, float]]:
        """(student steps, expert epochs, weight): after so many steps the student should be where the expert went."""
        return [(self.settings.student_steps, self.settings.expert_epochs, 1.0)]

    def inner_scale(self, epoch: int) -> float:
        """Factor on the inner loss of a student that starts at ``epoch``."""
        return 1.0

    @cached_property
    def way(self) -> Way:
        """To the inner loop's derivatives, the fastest here."""
        n, steps = len(self.synset), self.settings.student_steps
        batch = min(self.settings.batch_syn or n, n)
        own = self.peers.rows(batch)
        images, labels = self.synset.images.detach()[own], self.synset.labels.detach()[own]
        loss = inner_loss(self.net, self.synset.label_kind)
        about = {"inner loop": repr(self.net.net), "images": list(images.shape), "labels": self.synset.label_kind}
        case = Case(loss, self.weights(0, 0), images, labels, steps, self.steps, about)
        return choose(case, self.settings.memory, self.settings.compile, self.peers)

    def pick(self, step: int) -> tuple[int, int]:
        """Expert and start epoch of an outer step, both uniform."""
        g = rng.generator(self.seed, "start", step)
        low, high = self.settings.min_start_epoch, self.start_bound(step)
        return int(torch.randint(self.experts.count, (), generator=g)), int(torch.randint(low, high, (), generator=g))

    def start_bound(self, step: int) -> int:
        """Start epochs of outer step ``step`` lie below this."""
        return self.settings.max_start_epoch

    def plan(self, step: int) -> list[InnerStep]:
        """The inner loop's batches and augmentation draws, fixed before it runs so that it can be replayed."""
        g = rng.generator(self.seed, "inner batches", step)
        batches = chunks(len(self.synset), self.settings.batch_syn, self.settings.student_steps, g)
        device = self.synset.images.device
        return [
            InnerStep(b.to(device, non_blocking=True), rng.derive(self.seed, "inner augment", step, i))
            for i, b in enumerate(batches)
        ]

    def weights(self, expert: int, epoch: int) -> Tensor:
        """An expert's weights (P,) on the device of the images; epoch -1 is the last."""
        return self.experts.row(expert, epoch, len(self.net)).to(self.real.images.device, non_blocking=True)

    @torch.no_grad()
    def logits(self, expert: int, images: Tensor) -> Tensor:
        """What an expert says at its last epoch, (N, K)."""
        theta = self.weights(expert, -1)
        return torch.cat([self.net(theta, part) for part in images.split(256)])

    @torch.no_grad()
    def assign_labels(self, target: Tensor) -> None:
        """TESLA's soft label assignment: what the target network says of the images as they are."""
        labels = torch.cat([self.net(target, images).softmax(1) for images in self.synset.images.split(256)])
        self.synset = self.synset.with_probabilities(labels)

    def vitals(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        """Besides those of every method: the student rate that this step would lead to."""
        rate, group = self.learned_rate, optimizer.param_groups[1]
        assert rate.grad is not None
        velocity = optimizer.state.get(rate, {}).get("momentum_buffer", 0.0)
        after = rate.detach() - group["lr"] * (group["momentum"] * velocity + rate.grad)
        return {**super().vitals(loss, optimizer), "rate": rate, "rate after": after}

    def check(self, vitals: Mapping[str, float], optimizer: torch.optim.Optimizer) -> None:
        """Besides what is not finite: a loss above ``max_error``, or a student rate that would be negative or too large.

        The rate's velocity is then forgotten: it alone could forbid every later step.
        """
        # Above 1 the student landed farther from the target than it began: nothing to learn from (DATM's guard).
        limit = self.settings.max_error
        if limit is not None and vitals["loss"] > limit:
            raise Skip(f"the matching loss is {vitals['loss']:.4g}, above method.max_error={limit}")
        super().check(vitals, optimizer)
        if not 0 < vitals["rate after"] <= MAX_LR:
            optimizer.state[self.learned_rate].clear()
            raise Skip(f"the learned student rate would become {vitals['rate after']:.4g} (it is {vitals['rate']:.4g})")
