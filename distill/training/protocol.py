"""Protocols: recipes of students, and what is reported of them; their values live in ``configs/protocol``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.checks import check_ranges, stated
from distill.training.expert_recipe import TEACHERS, CosineRecipe
from distill.training.losses import Net, divergence
from distill.training.recipe import VIEWS, Recipe


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

    group: ClassVar[str] = "protocol"
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
