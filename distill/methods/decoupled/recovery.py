"""Recovery: images that a committee of teachers classifies well and whose statistics are those of its batch norms.

SRe2L (Yin et al., NeurIPS 2023, arXiv:2306.13092); CDA (Yin & Shen, arXiv:2311.18838) moves the smallest crop from the whole
image to a small part of it; CV-DD (arXiv:2501.07575) starts from real images and lets pairs of teachers vote; EDC
(arXiv:2404.13733) asks teachers in turn, for statistics of classes, too. They differ in settings and the committee alone.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill import rng
from distill.checks import setting
from distill.methods.base import Inputs, Method, given
from distill.methods.decoupled.edc import Averages, EDCSettings, class_statistics, of_batches, smoothed
from distill.methods.decoupled.foreseen import RecoveryForeseen
from distill.methods.decoupled.moments import Moments, gathered_statistics, statistics_distance
from distill.methods.decoupled.rded import check_pool, composites
from distill.methods.decoupled.units import Unit, numbers_of, stacks_of
from distill.methods.decoupled.views import ViewSettings, displayable, unit_views
from distill.sets.synthetic import SyntheticSet
from distill.teachers.committee import batch_norms
from distill.training.losses import divergence
from distill.training.recipe import PRECISIONS, TEACHERS


@dataclass(frozen=True, kw_only=True)
class RecoverySettings(ViewSettings, EDCSettings):
    """Of `Recovery`.

    Attributes:
        steps: updates of all stacks in this process; None is all of them, T for each stack.
        batch: classes of a unit; all classes where there are fewer.
        together: units of a stack.
        pairs: ``all`` teachers for every unit, or two: ``best`` (the largest priors), ``rotate`` (index k takes pair k) or
            ``random`` (drawn for each index); or ``in_turn``: all, one an iteration.
        vote_temperature: of the softmax over priors in percent that weighs the teachers' losses; in turn they count alike.
        bn_weight: r_bn, of the statistics' distance in the loss.
        first_bn_weight: of the first batch norm's in it; the others have 1.
        init: ``noise``, ``real`` images or ``composite`` (RDED's, by the first teacher, as ``pool``, ``patches`` and
            ``factor`` say).
        lr_img, betas: Adam on the images; the rate follows half a cosine to zero.
        log_every: steps between rows of the metrics, where the device is waited for and skipped steps are counted; their
            common divisor with ``snapshot_every`` counts.
        precision: of the teachers' forward and backward pass, ``fp32`` or ``bf16``; images, moments and norms are fp32.
    """

    steps: int | None = setting("null or whole [0, 100000000]")
    batch: int = setting("whole [1, 1000000]")
    together: int = setting("whole [1, 10000]")
    pairs: str = setting("one of all, best, rotate, random, in_turn")
    vote_temperature: float = setting("(0, 1000000]")
    bn_weight: float = setting("[0, 1000000]")
    first_bn_weight: float = setting("[0, 1000000]")
    init: str = setting("one of noise, real, composite")
    patches: int = setting("whole [1, 1000]")
    pool: int = setting("whole [1, 1000000]")
    factor: int = setting("whole [1, 100]")
    lr_img: float = setting("(0, 1000000]")
    betas: tuple[float, float] = setting("two of [0, 1)")
    log_every: int = setting("whole [1, 100000000]")
    precision: str = setting(f"one of {', '.join(PRECISIONS)}")


class Asked(NamedTuple):
    """A teacher of the stack at hand.

    Attributes:
        member: its number in the committee.
        weight: of its voice.
        aims: statistics that the units' classes have, (units, C); None where it is not asked for them.
    """

    member: int
    net: nn.Module
    weight: float
    aims: Moments | None


class Recovery(RecoveryForeseen, Method):
    """Recover images unit by unit; units that ask the same teachers go through them as one stack.

    A unit's draws are functions of the seed and its key (ipc index, block) alone: its images are the same whichever units it is
    stacked with and whichever process works on it. (A stack skips a step together where one of its losses is not finite.)
    Of ``processes`` that share the work, every ``processes``-th stack from ``rank`` on is this one's, and its set has the
    images of these stacks alone.

    Raises:
        ValueError: a member has no batch norm, the classes do not divide into blocks, or the real images are whitened.
    """

    RANGES: ClassVar[Mapping[str, Any]] = {"committee": TEACHERS, "share": "two of whole [0, 10000]"}
    settings_type = RecoverySettings
    settings: RecoverySettings

    def __init__(self, inputs: Inputs, settings: RecoverySettings):
        self.committee = given(inputs.committee, "committee")
        for name, net in zip(self.committee.names, self.committee.nets, strict=True):
            if not batch_norms(net):
                raise ValueError(f"teacher {name} has no batch norm, whose statistics recovery needs: use norm=batch")
        if inputs.real.preprocessing.space == "zca":
            raise ValueError(
                "recovery keeps pixels displayable one by one, which whitened images are not: set data.zca=false"
            )
        if settings.init == "composite":
            check_pool(inputs.real, settings.pool, inputs.ipc, settings.factor)
        rank, processes = inputs.share
        counts = inputs.real.asked(inputs.ipc)
        stacks = stacks_of(counts, self.committee, settings.pairs, inputs.seed, settings.batch, settings.together)
        self.stacks = stacks[rank::processes]
        self.parts = len(stacks)
        if not 0 <= rank < min(processes, self.parts):
            raise ValueError(
                f"method.share is {list(inputs.share)}, expected [rank, processes] with 0 <= rank < processes, and a rank for "
                f"each of {self.parts} stacks at most"
            )
        steps, most = settings.steps, settings.iterations * len(self.stacks)
        if steps is not None and steps > most:
            raise ValueError(f"method.steps is {steps}, all iterations of all stacks are {most}: leave it null")
        super().__init__(inputs, replace(settings, steps=most if steps is None else steps))
        self.log_every = min(math.gcd(settings.log_every, settings.snapshot_every), max(1, self.steps))
        self.skipped: list[Tensor] = []  # whether each step since the last count was
        self.pixels: Tensor
        self.averages = Averages({})
        self.by_class: dict[int, Moments] = {}  # by member of the committee

    def initial_set(self) -> SyntheticSet:
        own, settings = self.made(), self.settings
        if settings.init == "real":
            drawn = self.real.drawn(self.inputs.ipc, rng.generator(self.seed, "initial images"))
            return SyntheticSet.of_images(self.real, drawn[own.to(drawn.device)])
        blank, wanted = SyntheticSet.blank(self.real, self.inputs.ipc, own), numbers_of(own, self.counts)
        if settings.init == "composite":
            how = settings.pool, settings.patches, settings.factor
            images, _ = composites(self.real, self.committee.members([0]), self.counts, self.seed, *how, wanted)
            return blank.with_(images=images)
        draws = [
            torch.randn(self.real.shape, generator=rng.generator(self.seed, "noise", cls, index))
            for cls, numbers in wanted.items()
            for index in numbers
        ]
        return blank.with_(images=torch.stack(draws).to(blank.images))

    def begin(self, synset: SyntheticSet | None = None) -> None:
        super().begin(synset)
        if self.settings.class_share is not None:
            members = {member for stack in self.stacks for member in stack[0].members}
            self.by_class = {each: class_statistics(self.committee.nets[each], self.real) for each in sorted(members)}

    def extra_tensors(self) -> dict[str, Tensor]:
        return self.averages.kept

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self.averages = Averages(tensors)

    @property
    def real_each(self) -> int:
        return {"noise": 0, "real": 1, "composite": self.settings.factor**2}[self.settings.init]

    def artefact(self) -> SyntheticSet:
        """In eight bits, as it is stored and judged."""
        return super().artefact().quantised()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        self.open(min(self.start_step // self.settings.iterations, len(self.stacks) - 1))
        group = {"name": "images", "params": [self.pixels]}
        return torch.optim.Adam([group], self.settings.lr_img, self.settings.betas, fused=True)

    def open(self, stack: int) -> None:
        """Take a stack's images out of the set, (units, block, C, H, W), as what is learned."""
        self.units = self.stacks[stack]
        self.places = torch.searchsorted(self.made(), self.where(self.units)).to(self.synset.images.device)
        self.pixels = self.synset.images.detach()[self.places].clone().requires_grad_()
        self.labels = self.synset.classes[self.places]
        members = self.units[0].members
        asked = self.committee.members(members)
        votes = asked.votes(self.settings.vote_temperature).tolist()
        self.asked = [
            Asked(
                member,
                net,
                1.0 if self.settings.pairs == "in_turn" else vote,
                of_batches(self.by_class[member], self.labels) if member in self.by_class else None,
            )
            for member, net, vote in zip(members, asked.nets, votes, strict=True)
        ]
        self.bounds = displayable(self.synset)

    def made(self) -> Tensor:
        """Indices in the whole set of this process's images, ascending."""
        return torch.cat([self.where(stack).flatten() for stack in self.stacks]).sort().values

    def where(self, units: Sequence[Unit]) -> Tensor:
        """Indices of units' images in the whole set, (units, block)."""
        firsts = [0, *itertools.accumulate(self.counts)]
        return torch.tensor([[firsts[cls] + unit.ipc_index for cls in unit.classes] for unit in units])

    def learn(self, step: int) -> None:
        """One step of Adam on one stack; its images stay displayable."""
        stack, iteration = divmod(step, self.settings.iterations)
        optimizer: Any = self.optimizers()
        (group,) = optimizer.param_groups
        if iteration == 0:
            self.open(stack)
            self.averages = Averages({})
            group["params"] = [self.pixels]
            optimizer.optimizer.state.clear()
        group["lr"] = self.settings.lr_img * 0.5 * (1 + math.cos(math.pi * iteration / self.settings.iterations))
        optimizer.zero_grad()
        loss = self.update(step)
        self.manual_backward(loss)
        assert self.pixels.grad is not None
        self.skipped.append(~(loss.isfinite() & self.pixels.grad.isfinite().all()))
        optimizer.optimizer.found_inf = self.skipped[-1].float()  # 1 makes a fused step that changes nothing
        optimizer.step()
        self.averages.take(self.skipped[-1])
        with torch.no_grad():
            self.settle()
            self.synset.images[self.places] = self.pixels.detach()

    def settle(self) -> None:
        """Keep the images, which Adam has moved from what they are in the set, displayable."""
        self.pixels.copy_(self.pixels.maximum(self.bounds[0]).minimum(self.bounds[1]))

    def tally(self, step: int, reason: str) -> None:
        """Count the steps since the last count; only here is the device waited for."""
        after, every = step + 1, (self.log_every, self.settings.snapshot_every, self.steps)
        if not any(after % each == 0 for each in every):
            return
        for skipped in torch.stack(self.skipped).tolist():
            super().tally(step, "the loss or its gradient is not finite" if skipped else "")
        self.skipped = []

    def update(self, step: int) -> Tensor:
        iteration, own = step % self.settings.iterations, self.settings
        views = self.views(self.pixels, iteration)
        loss = mismatch = views.new_zeros(())
        in_turn = own.pairs == "in_turn"
        for asked in [self.asked[iteration % len(self.asked)]] if in_turn else self.asked:
            with gathered_statistics(asked.net, len(self.units)) as moments:
                logits = self.logits(asked.net, views)
            errors = F.cross_entropy(logits, self.labels.flatten(), reduction="none")
            if own.flatness is not None:
                errors = errors + own.flatness * self.sharpness(asked.net, logits, iteration)
            distance = self.distance(moments, asked)
            by_unit = errors.view(self.labels.shape).mean(1) + own.bn_weight * distance
            loss, mismatch = loss + asked.weight * by_unit.sum(), mismatch + asked.weight * distance.detach().sum()
        self.log_dict({"matching_loss": loss.detach() / len(self.units), "statistics": mismatch / len(self.units)})
        return loss

    def logits(self, net: nn.Module, views: Tensor) -> Tensor:
        """A teacher's, float32, for views (units, block, C, H, W)."""
        dtype = PRECISIONS[self.settings.precision]
        flat = views.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        with torch.autocast(flat.device.type, dtype, enabled=dtype is not None):
            found: Tensor = net(flat)
        return found.float()

    def distance(self, moments: Moments, asked: Asked) -> Tensor:
        """How far the units' statistics are from the teacher's, (units,)."""
        first, average, share = (
            self.settings.first_bn_weight,
            self.settings.statistics_average,
            self.settings.class_share,
        )
        if average is not None:
            moments = smoothed(moments, self.averages, average, asked.member)
        found = statistics_distance(moments, first)
        if share is None:
            return found
        return (1 - share) * found + share * statistics_distance(moments, first, asked.aims)

    def sharpness(self, net: nn.Module, logits: Tensor, iteration: int) -> Tensor:
        """How far a teacher's logits are from those for the images' moving average under the same views, (images,)."""
        average, temperature = self.settings.flatness_average, self.settings.flatness_temperature
        assert average is not None and temperature is not None  # as `check` has seen
        with torch.no_grad():
            still = self.logits(net, self.views(self.averages.of("images", self.pixels, average), iteration))
        return divergence(logits, still, temperature)

    def views(self, images: Tensor, iteration: int) -> Tensor:
        """The stack's images (units, block, C, H, W) as its teachers see them at an iteration."""
        mirror = "flip" in self.real.strategy
        return torch.stack(
            [
                unit_views(part, unit, iteration, self.seed, mirror, self.settings)
                for part, unit in zip(images, self.units, strict=True)
            ]
        )
