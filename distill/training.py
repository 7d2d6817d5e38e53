"""How a network is trained: `Recipe` states it, `train` does it, for experts, teachers and students alike.

`Protocol` is a recipe plus how its outcome is measured. The values live in ``configs/protocol`` and ``configs/experts``.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import grad, vmap

from distill import augment, rng
from distill.augment import Augment
from distill.data import Split
from distill.fastest import EAGER, fastest
from distill.files import digest
from distill.students import FlatStudent, flatten, stateless

R = TypeVar("R", bound="Recipe")
Net = Callable[[Tensor], Tensor]  # images (B, C, H, W) -> logits (B, K)
MAX_LR = 10.0  # no published student rate is near it; beyond lies a learned rate that exploded


PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Recipe:
    """Everything about a training run but its images and labels.

    Attributes:
        name: what papers and reports call it.
        epochs: E.
        extra_epochs: 1 where the published loop counts 0..E inclusive, else 0.
        optimizer: ``sgd`` or ``adam``.
        lr: step size.
        momentum: of SGD.
        weight_decay: on all parameters.
        decay: factor on the step size, once; 1 keeps it constant.
        decay_epoch: index of the last epoch before the decay, where the optimiser starts afresh (momentum is cleared);
            None is E // 2 + 1.
        decay_momentum: momentum from there on; None keeps it.
        batch: images a step; the last, smaller batch of an epoch is kept.
        augment: ``none``, ``dsa`` or ``dc_mnist``.
        precision: of the network's forward and backward pass, ``fp32`` or ``bf16`` (autocast); weights stay in fp32.

    Raises:
        ValueError: a value is out of range.
    """

    name: str
    epochs: int
    extra_epochs: int
    optimizer: str
    lr: float
    momentum: float
    weight_decay: float
    decay: float
    decay_epoch: int | None
    decay_momentum: float | None
    batch: int
    augment: str
    precision: str

    def __post_init__(self) -> None:
        if not 0 < self.lr <= MAX_LR:
            raise ValueError(
                f"learning rate is {self.lr}, expected above 0 and at most {MAX_LR:g}: it diverged or was mistyped"
            )
        if self.optimizer not in ("sgd", "adam"):
            raise ValueError(f"unknown optimizer {self.optimizer!r}: one of sgd, adam")
        if self.precision not in PRECISIONS:
            raise ValueError(f"unknown precision {self.precision!r}: one of {', '.join(PRECISIONS)}")
        if self.epochs < 0 or self.batch < 1:
            raise ValueError(f"epochs {self.epochs} and batch {self.batch}: expected at least 0 and 1")

    @property
    def passes(self) -> int:
        """Epochs really run."""
        return self.epochs + self.extra_epochs

    @property
    def last_epoch_before_decay(self) -> int:
        return self.epochs // 2 + 1 if self.decay_epoch is None else self.decay_epoch

    @property
    def hash(self) -> str:
        """Twelve hex digits of all fields."""
        return digest(asdict(self))

    def with_(self: R, **fields: Any) -> R:
        """A copy with other values."""
        return replace(self, **fields)

    def steps(self, images: int) -> int:
        """Optimiser steps on a set of this many images."""
        return self.passes * math.ceil(images / self.batch)

    def make_optimizer(self, weights: Tensor, epoch: int) -> torch.optim.Optimizer:
        """A fresh optimiser over ``weights`` as ``epoch`` begins."""
        decayed = self.decay != 1 and epoch > self.last_epoch_before_decay
        lr = self.lr * self.decay if decayed else self.lr
        if self.optimizer == "adam":
            return torch.optim.Adam([weights], lr, weight_decay=self.weight_decay)
        momentum = self.decay_momentum if decayed and self.decay_momentum is not None else self.momentum
        return torch.optim.SGD([weights], lr, momentum, weight_decay=self.weight_decay)

    def loss(self, net: Net, images: Tensor, views: Tensor, targets: Tensor, epoch: Tensor) -> Tensor:
        """What a step lowers, a scalar.

        Args:
            net: maps images to logits, under the weights of the step.
            images: as they are, (B, C, H, W).
            views: the same images, augmented.
            targets: classes (B,) or soft labels (B, K).
            epoch: scalar, 0 in the first one.
        """
        return F.cross_entropy(self.logits(net, views), targets)

    @property
    def loss_settings(self) -> tuple[Any, ...]:
        """The fields that `loss` depends on."""
        return (self.precision,)

    def logits(self, net: Net, views: Tensor) -> Tensor:
        """What ``net`` says of ``views`` at this recipe's precision, float32."""
        dtype = PRECISIONS[self.precision]
        with torch.autocast(views.device.type, dtype, enabled=dtype is not None):
            return net(views).float()

    def direction(self, gradient: Callable[[Tensor], Tensor], weights: Tensor) -> Tensor:
        """What the optimiser takes for the gradient, (S, P), at ``weights`` (S, P)."""
        return gradient(weights)


@dataclass(frozen=True)
class ExpertRecipe(Recipe):
    """A recipe for experts, with what papers add to make their trajectories easier to follow.

    Attributes:
        gsam_rho, gsam_alpha: radius and weight of the orthogonal part of FTD's gradient (`gsam_gradient`); None without.
        ramp_start, ramp_epochs: the cross-entropy's weight grows linearly from ``ramp_start`` in epoch 0 to 1 in epoch
            ``ramp_epochs`` (AST's clipping loss); 1 and 0 for no ramp.
        gradient_penalty: weight of `gradient_penalty` (AST); 0 for none.
    """

    gsam_rho: float | None
    gsam_alpha: float | None
    ramp_start: float
    ramp_epochs: int
    gradient_penalty: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.gsam_rho is None) != (self.gsam_alpha is None):
            raise ValueError(
                f"gsam_rho is {self.gsam_rho} and gsam_alpha {self.gsam_alpha}: give both, or null for both"
            )
        if not 0 < self.ramp_start <= 1 or self.ramp_epochs < 0:
            raise ValueError(
                f"ramp_start {self.ramp_start} and ramp_epochs {self.ramp_epochs}: expected in (0, 1] and at least 0"
            )

    @property
    def loss_settings(self) -> tuple[Any, ...]:
        """The fields that `loss` depends on."""
        return self.precision, self.ramp_start, self.ramp_epochs, self.gradient_penalty

    def ramp(self, epoch: Tensor) -> Tensor:
        """Weight of the cross-entropy in ``epoch``."""
        return (self.ramp_start + (1 - self.ramp_start) * epoch / max(1, self.ramp_epochs)).clamp(max=1.0)

    def loss(self, net: Net, images: Tensor, views: Tensor, targets: Tensor, epoch: Tensor) -> Tensor:
        """Ramped cross-entropy plus the gradient penalty, which is not ramped."""
        loss = super().loss(net, images, views, targets, epoch)
        if self.ramp_start < 1:
            loss = self.ramp(epoch) * loss
        if self.gradient_penalty:
            loss = loss + self.gradient_penalty * gradient_penalty(net, images)
        return loss

    def direction(self, gradient: Callable[[Tensor], Tensor], weights: Tensor) -> Tensor:
        """The gradient, or GSAM's."""
        if self.gsam_rho is None or self.gsam_alpha is None:
            return gradient(weights)
        return gsam_gradient(gradient, weights, self.gsam_rho, self.gsam_alpha)


@dataclass(frozen=True)
class Protocol(Recipe):
    """A recipe for students and what is reported of them. Presets: ``configs/protocol``.

    Attributes:
        artefact_lr: train at the rate learned with the synthetic set, where it has one.
        labels: ``own`` (as stored, soft labels as soft cross-entropy), ``hard`` (soft labels arg-maxed) or ``both``.
        students: S, fresh students for each synthetic set.
        iterate: which snapshot counts: the ``last``, the best on ``val``, or the best on ``test`` (only to reproduce a
            paper that did so; the last is reported beside it and the best is marked).
        test_every: where ``iterate`` is ``test``, a student's best accuracy among tests after so many epochs is its number
            (AST); None takes the last epoch's.
        choices: candidate values of other fields; all combinations are tried on the validation split with one student
            each, the best is kept. A learned rate joins the candidates of ``lr``.
    """

    artefact_lr: bool
    labels: str
    students: int
    iterate: str
    test_every: int | None
    choices: Mapping[str, Sequence[Any]]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.labels not in ("own", "hard", "both"):
            raise ValueError(f"unknown labels {self.labels!r}: one of own, hard, both")
        if self.iterate not in ("last", "val", "test"):
            raise ValueError(f"unknown iterate {self.iterate!r}: one of last, val, test")
        if self.students < 1:
            raise ValueError(f"{self.students} students, expected at least 1")
        unknown = set(self.choices) - set(self.__dataclass_fields__)
        if unknown:
            raise ValueError(f"choices name {sorted(unknown)[0]!r}, which is no field of a protocol")


def train(
    nets: Sequence[nn.Module],
    images: Tensor,
    targets: Tensor,
    recipe: Recipe,
    *,
    seeds: Sequence[int],
    augment: Augment,
    compiled: bool = False,
    after_epoch: "Callable[[Progress], None] | None" = None,
    progress: "Progress | None" = None,
) -> None:
    """Train networks of one architecture in place, each on batches and views of its own; several go as one stack.

    Args:
        nets: S networks on the device of the images; S > 1 takes networks without state (`stateless`).
        images: (N, C, H, W).
        targets: classes (N,) int64 or soft labels (N, K) whose rows sum to 1.
        seeds: one for each network; its batches, augmentation and dropout are functions of it.
        augment: what ``recipe.augment`` stands for on this data set (`augmentation`).
        compiled: use torch.compile, for full batches of networks without state.
        after_epoch: called with where training stands; the networks hold their weights of that moment.
        progress: where an earlier call stood: training goes on from there.
    """
    gradients = Gradients(nets, recipe, min(recipe.batch, len(images)) if compiled else None)
    weights = torch.stack([flatten(net) for net in nets]) if progress is None else progress.weights.clone()
    first = 0 if progress is None else progress.epochs
    optimizer = recipe.make_optimizer(weights, first)
    if progress is not None:
        restore_optimizer(optimizer, progress.optimizer)
    for net in nets:
        net.train()
    for epoch in range(first, recipe.passes):
        orders = [torch.randperm(len(images), generator=rng.generator(seed, "batches", epoch)) for seed in seeds]
        with rng.seeded(seeds[0], "dropout", epoch):
            for batch, index in enumerate(torch.stack(orders).to(images.device).split(recipe.batch, dim=1)):
                own = images[index]
                draws = [rng.derive(seed, "augment", epoch, batch) for seed in seeds]
                views = torch.stack([augment(part, draw) for part, draw in zip(own, draws, strict=True)])
                gradient = partial(gradients, images=own, views=views, targets=targets[index], epoch=epoch)
                weights.grad = recipe.direction(gradient, weights)
                optimizer.step()
        if recipe.decay != 1 and epoch == recipe.last_epoch_before_decay:
            optimizer = recipe.make_optimizer(weights, epoch + 1)
        if after_epoch:
            gradients.put(weights)
            after_epoch(Progress(epoch + 1, weights.detach().clone(), optimizer_tensors(optimizer)))
    gradients.put(weights)


@dataclass(frozen=True)
class Progress:
    """Where training stands: epochs done, weights (S, P) and the optimiser's tensors."""

    epochs: int
    weights: Tensor
    optimizer: Mapping[str, Tensor]


class Gradients:
    """The gradient (S, P) of a recipe's loss at weights (S, P), for S networks at once.

    Args:
        compiled: size of the batches to use torch.compile for; None does without, as do networks with state.
    """

    def __init__(self, nets: Sequence[nn.Module], recipe: Recipe, compiled: int | None):
        self.flats = [FlatStudent(net, with_state=True) for net in nets]
        self.stacked, self.batch = len(nets) > 1, compiled
        if not stateless(nets[0]):
            if self.stacked:
                raise ValueError(f"{type(nets[0]).__name__} keeps statistics or drops units: train one at a time")
            compiled = None
        self.loss = self.full_batch = self.objective(recipe)
        if compiled is not None:
            key = (repr(nets[0]), recipe.loss_settings, self.stacked)
            self.full_batch = _COMPILED.setdefault(key, torch.compile(self.loss, dynamic=False))

    def objective(self, recipe: Recipe) -> Callable[..., Tensor]:
        """The sum of the networks' losses as a function of tensors alone."""
        flat = self.flats[0]

        def loss(weights: Tensor, images: Tensor, views: Tensor, targets: Tensor, epoch: Tensor) -> Tensor:
            return recipe.loss(partial(flat, weights), images, views, targets, epoch)

        if self.stacked:
            return lambda *tensors: vmap(loss, in_dims=(0, 0, 0, 0, None))(*tensors).sum()
        return lambda weights, images, views, targets, epoch: loss(weights[0], images[0], views[0], targets[0], epoch)

    def __call__(self, weights: Tensor, images: Tensor, views: Tensor, targets: Tensor, epoch: int) -> Tensor:
        leaf = weights.detach().requires_grad_()
        loss = self.full_batch if views.shape[1] == self.batch else self.loss
        when = torch.tensor(float(epoch), device=views.device)
        return torch.autograd.grad(loss(leaf, images, views, targets, when), leaf)[0]

    def put(self, weights: Tensor) -> None:
        """Copy ``weights`` into the networks."""
        for flat, row in zip(self.flats, weights.detach(), strict=True):
            for parameter, value in zip(flat.net.parameters(), flat.unflatten(row).values(), strict=True):
                parameter.copy_(value)


_COMPILED: dict[Any, Callable[..., Tensor]] = {}  # a second network of the same kind is not compiled again


def way_to_train(
    make: Callable[[], nn.Module],
    images: Tensor,
    targets: Tensor,
    recipe: Recipe,
    stack: int,
    count: int,
    compile: bool | str,
) -> tuple[bool, int]:
    """Whether to compile, and how many networks to train as one stack: whatever takes the least time here.

    Args:
        make: makes a network.
        images, targets: what the networks are going to be trained on.
        stack: networks that may go together.
        count: networks in all.
        compile: see `distill.fastest.fastest`.
    """
    with torch.random.fork_rng():
        nets = [make().to(images.device) for _ in range(stack)]
    if not stateless(nets[0]):
        return False, 1
    weights = torch.stack([flatten(net) for net in nets])
    size = min(recipe.batch, len(images))
    x, y = (part[:size].expand(stack, *part[:size].shape) for part in (images, targets))

    def work(compiled: bool, together: int) -> Callable[[], object]:
        def run() -> None:
            for part in range(0, stack, together):
                own = slice(part, part + together)
                gradients = Gradients(nets[own], recipe, size if compiled else None)
                recipe.direction(partial(gradients, images=x[own], views=x[own], targets=y[own], epoch=0), weights[own])

        return run

    ways = {EAGER: (False, 1), "stacked": (False, stack), "compiled": (True, 1), "compiled stacked": (True, stack)}
    if stack == 1:
        ways = {name: way for name, way in ways.items() if "stacked" not in name}
    about = {
        "training": repr(nets[0]),
        "images": [stack, *x.shape[1:]],
        "targets": str(targets.dtype),
        "loss": recipe.loss_settings,
    }
    calls = math.ceil(count / stack) * recipe.steps(len(images))
    return ways[fastest({name: work(*way) for name, way in ways.items()}, about, calls, images.device, compile)]


def gradient_penalty(net: Net, images: Tensor) -> Tensor:
    """(mean of the 2-norm over colour channels of d/dx (sum of logits) - 1)^2, one norm for each image and pixel.

    Args:
        net: maps images to logits.
        images: without augmentation, (B, C, H, W).

    Source: AST, arXiv:2310.10541, as its code has it.
    """
    slope = grad(lambda x: net(x).sum())(images)
    return (slope.square().sum(1).clamp_min(1e-24).sqrt().mean() - 1).square()


def gsam_gradient(gradient: Callable[[Tensor], Tensor], weights: Tensor, rho: float, alpha: float) -> Tensor:
    """FTD's update direction: the gradient at an adversarial neighbour, less ``alpha`` times the orthogonal rest.

    With g at w, e = rho * w*w*g / |w*g| and p the gradient at w + e, it is p - alpha * (g - <g, p> / |p|^2 p).

    Args:
        gradient: the gradient (S, P) at weights (S, P), on one fixed augmented batch for each network.
        weights: of S networks, (S, P).
        rho: radius; 0 gives the plain gradient.
        alpha: weight of the orthogonal part; 0 gives adaptive SAM.

    Source: Du et al., FTD, CVPR 2023, arXiv:2211.11004; Zhuang et al., GSAM, ICLR 2022, arXiv:2203.08065.
    """
    w = weights.detach()
    g = gradient(w)
    reach = rho / (w * g).norm(dim=1, keepdim=True).clamp_min(1e-12)
    p = gradient(w + reach * w * w * g)
    along = (g * p).sum(1, keepdim=True) / p.square().sum(1, keepdim=True).clamp_min(1e-24)
    return p - alpha * (g - along * p)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state by name, for `restore_optimizer`."""
    states = optimizer.state_dict()["state"]
    return {f"{i}.{k}": v.clone() for i, state in states.items() for k, v in state.items() if isinstance(v, Tensor)}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give a fresh optimiser the state that `optimizer_tensors` took."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        i, key = name.split(".")
        state.setdefault(int(i), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def augmentation(recipe: Recipe, strategy: str) -> Augment:
    """The recipe's augmentation with a data set's DSA families."""
    return augment.make(recipe.augment, strategy)


@torch.no_grad()
def accuracy(net: nn.Module, split: Split, recipe: Recipe, compiled: bool = False, batch: int = 250) -> float:
    """Fraction of ``split`` classified correctly at the recipe's precision, in [0, 1]; ``net`` stays in evaluation mode.

    With ``compiled``, whole batches of a network without state go through torch.compile.
    """
    net.eval()
    plain = whole = partial(recipe.logits, net)
    if compiled and stateless(net):
        flat, key = FlatStudent(net), ("logits", repr(net), recipe.precision)
        own = torch.compile(lambda theta, x: recipe.logits(partial(flat, theta), x), dynamic=False)
        whole = partial(_COMPILED.setdefault(key, own), flatten(net))
    correct = 0
    for images, labels in zip(split.images.split(batch), split.labels.split(batch), strict=True):
        logits = (whole if len(images) == batch else plain)(images)
        correct += int((logits.argmax(1) == labels).sum())
    return correct / len(split)
