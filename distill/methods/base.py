"""Method: what every distillation method is, a Lightning module whose `update` reads like the paper's algorithm box."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader

from distill import rng
from distill.checks import check_ranges, setting, stated
from distill.data.split import Split
from distill.methods.foreseen import Foreseen
from distill.methods.peers import ALONE, Peers
from distill.networks.base import Student
from distill.sets.base import TrainingSet
from distill.sets.synthetic import SyntheticSet
from distill.sizes import Size
from distill.teachers.committee import Committee
from distill.teachers.proxies import Proxies
from distill.teachers.store import ExpertStore

T = TypeVar("T")


class Skip(Exception):
    """This outer step gives nothing to learn from; its text says why."""


class Diverged(RuntimeError):
    """Too many outer steps in a row gave nothing to learn from."""


@dataclass(frozen=True)
class Inputs:
    """What a method makes a synthetic set of.

    Attributes:
        real: the training split; validation and test images stay out of reach.
        ipc: images per class, as `distill.sizes` has it.
        student: makes a network under torch's global seed.
        seed: of the synthesis; every draw is a function of (seed, purpose, step).
        experts: for a method that learns from trajectories.
        committee: for a method that asks teachers.
        proxies: for a rule that asks what images did to networks.
        share: (rank, processes), for one process's share of the work.
    """

    real: Split
    ipc: Size
    student: Callable[[], Student]
    seed: int
    experts: ExpertStore | None = None
    committee: Committee | None = None
    proxies: Proxies | None = None
    share: tuple[int, int] = (0, 1)


def numbers(values: Iterable[Any]) -> list[float]:
    """Scalars as Python's numbers; those on a GPU come in one piece, for which it is waited once."""
    values = [value.detach() if isinstance(value, Tensor) else value for value in values]
    far = [value.double() for value in values if isinstance(value, Tensor) and value.device.type != "cpu"]
    found = iter(torch.stack(far).tolist() if far else ())
    return [
        next(found) if isinstance(value, Tensor) and value.device.type != "cpu" else float(value) for value in values
    ]


def given(value: T | None, name: str) -> T:
    """An input that the method at hand needs; raises ValueError where it is none."""
    if value is None:
        raise ValueError(f"inputs.{name} is null, expected what this method learns from: Inputs(..., {name}=...)")
    return value


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The values of a method, each within the range that stands beside it.

    Raises:
        ValueError: a value is out of its range.
    """

    def __post_init__(self) -> None:
        check_ranges("method", vars(self), stated(type(self)))
        self.check()

    def check(self) -> None:
        """Raise ValueError if values that are in range do not go together."""

    @classmethod
    def by_content(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values of a configuration, where they name files by what is in these; what a set is known by."""
        return dict(values)

    @property
    def plain(self) -> dict[str, Any]:
        """All that are numbers, texts, and lists or maps of them."""
        return {name: getattr(self, name) for name, kind in stated(type(self)).items() if isinstance(kind, str)}

    @property
    def pace(self) -> tuple[int, int, int]:
        """Outer steps, those between snapshots, and how many may be skipped in a row; a set is there without any."""
        return 0, 1, 1


@dataclass(frozen=True, kw_only=True)
class LoopSettings(Settings):
    """Those of a method that learns in outer steps; its own have more.

    Attributes:
        steps: outer steps; None, where a method takes it, are all that there are.
        snapshot_every: outer steps between snapshots.
        max_skips: skipped outer steps in a row after which the run is given up.
    """

    steps: int | None = setting("whole [0, 100000000]")
    snapshot_every: int = setting("whole [1, 100000000]")
    max_skips: int = setting("whole [1, 100000000]")

    @property
    def pace(self) -> tuple[int, int, int]:
        assert self.steps is not None  # a method that takes None has counted them
        return self.steps, self.snapshot_every, self.max_skips


class Method(Foreseen, LightningModule):
    """Learns a synthetic set; loop, logging, snapshots, restart and evaluation are shared.

    A subclass gives `update`, `configure_optimizers`, and `initial_set` if it does not start from random real images.

    Args:
        inputs: what the set is made of.
        settings: how; a ``settings_type``.

    Raises:
        ValueError: ipc is none, an input is missing, or the start takes more real images than a class has.
    """

    learns: ClassVar[bool] = True  # else it picks, and is quick enough to stand beside others as a baseline
    makes_sets: ClassVar[bool] = True  # else students walk the real one, as `walk` says
    has_vectors: ClassVar[bool] = False  # whether the labels of its sets are vectors
    peers: Peers = ALONE  # who go through each outer step with this process
    parts: int = 1  # in which its set can be made, each alone (`Inputs.share`)
    settings_type: ClassVar[type[Settings]] = Settings
    settings: Settings

    def __init__(self, inputs: Inputs, settings: Settings):
        super().__init__()
        self.inputs, self.settings = inputs, settings
        self.real, self.student, self.seed = inputs.real, inputs.student, inputs.seed
        self.counts = self.real.asked(inputs.ipc)  # of each class
        self.steps, self.snapshot_every, self.max_skips = settings.pace
        self.automatic_optimization = False
        self.save_hyperparameters({"ipc": inputs.ipc, "seed": inputs.seed, **settings.plain})
        if self.real_each:
            self.real.check_counts(self.counts, self.real_each)
        self.start_step = 0
        self.log_every = 1  # outer steps between rows of the metrics
        self.skips = self.skips_in_a_row = 0  # of all outer steps
        self.skipped_because = ""
        self.told: dict[str, Any] = {}  # metrics of the next row, numbers or scalars
        self.synset: SyntheticSet

    @classmethod
    def make(cls, inputs: Inputs, values: Mapping[str, Any]) -> "Method":
        """Of the values of a configuration; those that say where ``inputs`` come from are no settings."""
        known = {each.name for each in fields(Inputs)}
        own = {name: value for name, value in values.items() if name not in known}
        return cls(inputs, cls.settings_type(**own))

    @property
    def real_each(self) -> int:
        """Different real images of a class that one of `initial_set` is made of; 0 where it starts from noise."""
        return 1

    @property
    def is_shown_whole(self) -> bool:
        """Whether views are made of the whole of its sets' images."""
        return True

    @property
    def most_peers(self) -> tuple[int, str]:
        """Processes that an outer step can be split over, at most, and why no more."""
        return 1, "an outer step of this method is one process's, leave split out"

    def check_split(self, split: int) -> None:
        """Raise ValueError if an outer step cannot be split over so many processes."""
        most, why = self.most_peers
        if split > most:
            raise ValueError(f"split is {split}, expected at most {most}: {why}")

    def begin(self, synset: SyntheticSet | None = None) -> None:
        """Go on with ``synset``, or start from `initial_set`; what is learned becomes leaves of the graph."""
        self.synset = synset or self.initial_set()
        self.synset.images.requires_grad_()

    def initial_set(self) -> SyntheticSet:
        """Where the synthetic set starts: random real images, unless the method says otherwise."""
        return SyntheticSet.from_real(self.real, self.inputs.ipc, rng.generator(self.seed, "initial images"))

    def check_choice(self, val: bool) -> None:
        """Raise ValueError if snapshots must be chosen among on the validation split, and ``val`` is False: nobody does."""

    def walk(self) -> TrainingSet:
        """The real set as students walk it, for a method that makes none."""
        raise NotImplementedError

    def extra_tensors(self) -> dict[str, Tensor]:
        """What a restart needs besides the set and the optimiser's state."""
        return {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `extra_tensors` gave."""

    def update(self, step: int) -> Tensor:
        """The loss of outer step ``step``, with its graph to the synthetic set; raises `Skip` if there is nothing to learn."""
        raise NotImplementedError

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One optimiser over all that is learned; parameter groups carry a ``name`` for messages."""
        raise NotImplementedError

    def vitals(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        """Scalars that tell whether the step may be taken: the loss, and 0 for a gradient that is not finite."""
        found = {"loss": loss}
        for group in optimizer.param_groups:
            finite = [p.grad.isfinite().all() for p in group["params"] if p.grad is not None]
            found |= {group["name"]: torch.stack(finite).all()} if finite else {}
        return found

    def check(self, vitals: Mapping[str, float], optimizer: torch.optim.Optimizer) -> None:
        """Raise `Skip` if the step must not be taken, by what its `vitals` turned out to be."""
        if not math.isfinite(vitals["loss"]):
            raise Skip(f"the matching loss is {vitals['loss']}")
        for group in optimizer.param_groups:
            if not vitals.get(group["name"], True):
                raise Skip(f"the gradient of the {group['name']} is not finite")

    def made(self) -> Tensor:
        """Indices of the images that this method learns, where several processes share the set."""
        return torch.arange(sum(self.counts))

    def artefact(self) -> SyntheticSet:
        """What is stored of the set at hand."""
        return self.synset.copy()

    def learn(self, step: int) -> None:
        """Carry out outer step ``step``; raises `Skip` before anything changes if there is nothing to learn from."""
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        loss = self.update(step)
        self.manual_backward(loss)
        vitals = self.vitals(loss, optimizer)
        found = numbers([*vitals.values(), *self.told.values()])  # the one time that a step waits for its device
        self.told = dict(zip(self.told, found[len(vitals) :], strict=True))
        self.check(dict(zip(vitals, found, strict=False)), optimizer)
        self.take()

    def take(self) -> None:
        """Take the step, whose gradients are there and may be taken."""
        self.optimizers().step()  # type: ignore[union-attr]

    def training_step(self, step: int) -> None:
        """One outer step: learn, or skip and count. Nothing that diverged reaches the set or the momentum."""
        reason = ""
        try:
            self.learn(int(step))
        except Skip as skip:
            reason = str(skip)
        self.tally(int(step), reason)
        if (int(step) + 1) % self.log_every == 0:
            self.log_dict({"skipped_steps": float(self.skips), "step": float(step)})
            for name, value in zip(self.told, numbers(self.told.values()), strict=True):
                super().log(name, torch.tensor(value, dtype=torch.float64))
            self.told = {}

    def log(self, name: str, value: Any, **options: Any) -> None:  # type: ignore[override]
        """Take a metric for the row of this step; all of a row are read at once, Lightning would wait for each."""
        self.told[name] = value

    def tally(self, step: int, reason: str) -> None:
        """Count outer step ``step``, skipped for ``reason`` if there is one; raises `Diverged` where too many were."""
        if not reason:
            self.skips_in_a_row = 0
            return
        self.skips, self.skips_in_a_row, self.skipped_because = self.skips + 1, self.skips_in_a_row + 1, reason
        if self.skips_in_a_row >= self.max_skips:
            raise Diverged(
                f"outer step {step}: {self.skips_in_a_row} steps in a row were skipped, at last because {reason}; "
                "lower its step sizes (method.lr_*), or raise method.max_skips"
            )

    def train_dataloader(self) -> DataLoader:
        """The numbers of the outer steps that are left."""
        return DataLoader(range(self.start_step, self.steps), batch_size=None)  # type: ignore[arg-type]
