"""What a training run is: `Recipe` for experts and teachers, `Protocol` for students and what is reported of them.

The values live in ``configs/protocol`` and ``configs/experts``; `distill.training` carries a recipe out.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad

from distill import augment
from distill.identity import digits
from distill.ranges import check_ranges, stated

R = TypeVar("R", bound="Recipe")
Net = Callable[[Tensor], Tensor]  # images (B, C, H, W) -> logits (B, K)
MAX_LR = 10.0  # no published student rate is near it; beyond lies a learned rate that exploded


PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}
VIEWS = f"one of {', '.join([*augment.MAKERS, 'crop_flip_black'])}"  # `distill.training.augmentation` makes them


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
        augment: ``none``, ``dsa``, ``siamese``, ``crop_scale_rotate`` (DC's), ``crop_flip`` (what comes in is mean grey)
            or ``crop_flip_black``; with a committee ``resized_crop`` too.
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

    RANGES: ClassVar[Mapping[str, Any]] = {
        "name": "text",
        "epochs": "whole [0, 100000]",
        "extra_epochs": "whole [0, 100000]",
        "optimizer": "one of sgd, adam",
        "lr": f"(0, {MAX_LR:g}]",
        "momentum": "[0, 1)",
        "weight_decay": "[0, 1000]",
        "decay": "[0, 1]",
        "decay_epoch": "null or whole [0, 100000]",
        "decay_momentum": "null or [0, 1)",
        "batch": "whole [1, 1000000]",
        "augment": VIEWS,
        "precision": f"one of {', '.join(PRECISIONS)}",
    }

    def __post_init__(self) -> None:
        check_ranges(self.group, vars(self), stated(type(self)))

    @property
    def group(self) -> str:
        """What messages call the settings."""
        return "protocol" if isinstance(self, Protocol) else "recipe"

    @property
    def passes(self) -> int:
        """Epochs really run."""
        return self.epochs + self.extra_epochs

    @property
    def parts(self) -> int:
        """Pieces of a batch that go through the network one after another; they matter with batch norm alone."""
        return 1

    @property
    def mean_decay(self) -> float | None:
        """Decay of the running mean of weights that training ends with; None ends with the last weights."""
        return None

    @property
    def last_epoch_before_decay(self) -> int:
        return self.epochs // 2 + 1 if self.decay_epoch is None else self.decay_epoch

    @property
    def identity(self) -> dict[str, Any]:
        """What stores and rows know it by: its values."""
        return asdict(self)

    @property
    def hash(self) -> str:
        """Twelve hex digits of `identity`."""
        return digits(self.identity)

    def with_(self: R, **fields: Any) -> R:
        """A copy with other values."""
        return replace(self, **fields)

    def steps(self, images: int) -> int:
        """Optimiser steps on a set of this many images."""
        return self.passes * math.ceil(images / self.batch)

    def make_optimizer(self, weights: Tensor, epoch: int) -> torch.optim.Optimizer:
        """A fresh optimiser over ``weights`` as ``epoch`` begins."""
        decayed = self.decay != 1 and epoch > self.last_epoch_before_decay
        lr = self.rate(epoch)
        if self.optimizer == "adam":
            return torch.optim.Adam([weights], lr, weight_decay=self.weight_decay)
        momentum = self.decay_momentum if decayed and self.decay_momentum is not None else self.momentum
        return torch.optim.SGD([weights], lr, momentum, weight_decay=self.weight_decay)

    def prepare(self, weights: Tensor, optimizer: torch.optim.Optimizer, epoch: int, matrices: Tensor) -> None:
        """What happens to weights (S, P) and optimiser before a step; ``matrices`` (P,) is 1 on kernels, 0 on biases, norms."""

    def rate(self, epoch: int) -> float:
        """Step size in ``epoch``."""
        return self.lr * self.decay if self.decay != 1 and epoch > self.last_epoch_before_decay else self.lr

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

    RANGES: ClassVar[Mapping[str, Any]] = {
        "gsam_rho": "null or [0, 1000]",
        "gsam_alpha": "null or [0, 1000]",
        "ramp_start": "(0, 1]",
        "ramp_epochs": "whole [0, 100000]",
        "gradient_penalty": "[0, 1000000]",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.gsam_rho is None) != (self.gsam_alpha is None):
            raise ValueError(
                f"gsam_rho is {self.gsam_rho} and gsam_alpha {self.gsam_alpha}: give both, or null for both"
            )

    @property
    def identity(self) -> dict[str, Any]:
        """Its values, and which penalty is meant: stores of the square of the mean, as it once was, hold other experts."""
        return super().identity | ({"penalty": "mean of squares"} if self.gradient_penalty else {})

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
class CosineRecipe(Recipe):
    """A recipe whose step size follows a cosine, epoch by epoch: that of teachers and of their students.

    Attributes:
        stretch: zeta; the cosine reaches zero after zeta E epochs, so that 2 ends at half the rate. None keeps it constant.
        warmup_epochs: epochs of a linear climb to ``lr`` before the cosine.
        warmup_start: share of ``lr`` it begins at.
        decoupled_decay: AdamW's weight decay, of kernels alone (tensors of two dimensions and more); 0 for none.

    Source: SRe2L (arXiv:2306.13092), RDED (arXiv:2312.03526), EDC (arXiv:2404.13733), as their code has it.
    """

    stretch: float | None
    warmup_epochs: int
    warmup_start: float
    decoupled_decay: float

    RANGES: ClassVar[Mapping[str, Any]] = {
        "stretch": "null or (0, 1000000]",
        "warmup_epochs": "whole [0, 100000]",
        "warmup_start": "[0, 1]",
        "decoupled_decay": "[0, 1000]",
    }

    def rate(self, epoch: int) -> float:
        """Step size in ``epoch``."""
        if epoch < self.warmup_epochs:
            return self.lr * (self.warmup_start + (1 - self.warmup_start) * epoch / self.warmup_epochs)
        if self.stretch is None:
            return self.lr
        done = (epoch - self.warmup_epochs) / max(1, self.epochs - self.warmup_epochs)
        return self.lr * 0.5 * (1 + math.cos(math.pi * done / self.stretch))

    def prepare(self, weights: Tensor, optimizer: torch.optim.Optimizer, epoch: int, matrices: Tensor) -> None:
        """The epoch's step size, and the decay that is no part of the gradient."""
        rate = self.rate(epoch)
        for group in optimizer.param_groups:
            group["lr"] = rate
        if self.decoupled_decay:
            weights.data.mul_(1 - rate * self.decoupled_decay * matrices)


EXPERTS = {"count": "whole [1, 10000]", "recipe": ExpertRecipe}  # settings of trajectories, ``configs/experts``
TEACHERS = {  # settings of a committee, there too
    "networks": "list of text",
    "count": "whole [1, 100]",
    "minimum": "[0, 1]",
    "priors": "null or list of [0, 100]",
    "mode": "one of eval, batch",
    "recipe": Recipe,
}


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

    RANGES: ClassVar[Mapping[str, Any]] = {
        "artefact_lr": "true or false",
        "labels": "one of own, hard, both",
        "students": "whole [1, 1000]",
        "iterate": "one of last, val, test",
        "test_every": "null or whole [1, 100000]",
        "choices": "{} or map of text to list of anything",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        known = {name: kind for name, kind in stated(type(self)).items() if isinstance(kind, str) and name != "choices"}
        unknown = sorted(set(self.choices) - set(known))
        if unknown:
            raise ValueError(f"protocol.choices name {unknown[0]!r}, expected some of {', '.join(known)}")
        check_ranges("protocol.choices", self.choices, {name: f"list of {known[name]}" for name in self.choices})

    def sized(self, images: int, classes: int) -> "Protocol":
        """With the batch of a set of so many images, where that depends on it."""
        return self


@dataclass(frozen=True)
class CommitteeProtocol(CosineRecipe, Protocol):
    """How students are trained where a committee of teachers labels what they see, or could.

    Every row with the committee's labels has a twin with hard ones.

    Attributes:
        committee: configuration of the teachers (``configs/experts/teacher.yaml``), and ``mode``: ``eval``, or ``batch``
            (each teacher normalises with the statistics of the very images the student sees: CV-DD's batch-specific labels).
        soft: the committee's labels are made ``on_the_fly`` (for the view the student sees), ``stored`` (once for each
            epoch and view, on disk; all students see the same views), ``once`` (one for each image) or ``none``.
        temperature: tau of the Kullback-Leibler loss.
        squared: multiply that loss by tau squared.
        vote_temperature: of the softmax over the teachers' accuracies in percent.
        top_k: keep that many logits of a stored label, and one number for the others; None keeps all.
        batch_of_ipc: ``batch`` by images per class where a paper varies it (RDED: twice that from 100 classes on; not on
            Tiny-ImageNet); an ipc takes its smaller neighbour's, no batch is larger than the set. None leaves ``batch`` alone.
        mix: ``none``, ``cutmix`` or ``mixup``; one share and one box for a batch.
        mix_alpha: the share is drawn from Beta(alpha, alpha).
        area: smallest share of an image that a crop keeps, with ``augment: resized_crop``.
        shuffle: strips along each axis that change places before the crop (RDED); 1 for none.
        micro_batches: parts of a batch that go through networks one after another, with batch statistics of their own. Of an
            epoch's last, smaller batch students take parts of the same size (whole where it fits into one), each weighed
            as a part of a full batch; teachers take as many parts as ever.
        ema: decay of the running mean of weights that is measured in the end; None measures the last weights.
        decay_biases: ``decoupled_decay`` reaches biases and norms too.

    Raises:
        ValueError: a value is unknown.
    """

    committee: Mapping[str, Any]
    soft: str
    temperature: float
    squared: bool
    vote_temperature: float
    top_k: int | None
    batch_of_ipc: Mapping[int, int] | None
    mix: str
    mix_alpha: float
    area: float
    shuffle: int
    micro_batches: int
    ema: float | None
    decay_biases: bool

    RANGES: ClassVar[Mapping[str, Any]] = {
        "augment": f"{VIEWS}, resized_crop",
        "committee": ("{}", TEACHERS),
        "soft": "one of on_the_fly, stored, once, none",
        "temperature": "(0, 1000000]",
        "squared": "true or false",
        "vote_temperature": "(0, 1000000]",
        "top_k": "null or whole [1, 1000000]",
        "batch_of_ipc": "null or map of whole [1, 1000000] to whole [1, 1000000]",
        "mix": "one of none, cutmix, mixup",
        "mix_alpha": "(0, 1000000]",
        "area": "(0, 1]",
        "shuffle": "whole [1, 1000]",
        "micro_batches": "whole [1, 1000]",
        "ema": "null or [0, 1]",
        "decay_biases": "true or false",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.soft != "none" and not self.committee:
            raise ValueError(f"protocol.soft is {self.soft}, which asks teachers: protocol.committee names none")
        if self.micro_batches > self.batch:
            raise ValueError(
                f"protocol.micro_batches is {self.micro_batches}, expected at most the batch of {self.batch}"
            )

    def sized(self, images: int, classes: int) -> "CommitteeProtocol":
        """With the batch of a set of so many images."""
        batch = self.batch
        if self.batch_of_ipc:
            smaller = [ipc for ipc in self.batch_of_ipc if ipc <= images // classes]
            batch = self.batch_of_ipc[max(smaller, default=min(self.batch_of_ipc))] * (2 if classes >= 100 else 1)
        return self.with_(batch=min(batch, images))

    @property
    def parts(self) -> int:
        """Pieces of a batch."""
        return self.micro_batches

    @property
    def identity(self) -> dict[str, Any]:
        """Its values; what came later is left out where it changes nothing, so that rows from before are found."""
        own = super().identity
        if not self.decay_biases:
            del own["decay_biases"]
        return own | ({"last_batch": "in parts of the same size"} if self.micro_batches > 1 else {})

    @property
    def mean_decay(self) -> float | None:
        """Decay of the running mean."""
        return self.ema

    def prepare(self, weights: Tensor, optimizer: torch.optim.Optimizer, epoch: int, matrices: Tensor) -> None:
        """As other cosine recipes do, ``decay_biases`` heeded."""
        super().prepare(weights, optimizer, epoch, torch.ones_like(matrices) if self.decay_biases else matrices)

    @property
    def loss_settings(self) -> tuple[Any, ...]:
        """The fields that `loss` depends on."""
        return self.precision, self.soft, self.temperature, self.squared

    def loss(self, net: Net, images: Tensor, views: Tensor, targets: Tensor, epoch: Tensor) -> Tensor:
        """Divergence from the committee's logits (B, K), or cross-entropy with hard labels (B, K) as mixed."""
        logits = self.logits(net, views)
        if self.soft == "none":
            return F.cross_entropy(logits, targets)
        return divergence(logits, targets, self.temperature) * (self.temperature**2 if self.squared else 1.0)


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Mean over images of KL(softmax(teacher / tau) || softmax(student / tau)), logits (B, K); no factor tau squared."""
    target, own = (logits.div(temperature).log_softmax(1) for logits in (teacher, student))
    return F.kl_div(own, target, reduction="batchmean", log_target=True)


def gradient_penalty(net: Net, images: Tensor) -> Tensor:
    """Mean over images and pixels of (n - 1)^2, a scalar >= 0; n is the 2-norm over colour channels of d/dx (sum of logits).

    Args:
        net: maps images to logits.
        images: without augmentation, (B, C, H, W).

    Source: AST, arXiv:2310.10541, as its code has it.
    """
    slope = grad(lambda x: net(x).sum())(images)
    return (slope.square().sum(1).clamp_min(1e-24).sqrt() - 1).square().mean()


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
