"""Pieces of the work ahead, to be tried out: steps of training, outer steps, batches that teachers label."""

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from pytorch_lightning import Callback
from torch import Tensor, nn

from distill import rng
from distill.data.split import Split
from distill.methods.base import Method
from distill.methods.synthesis import outer_loop
from distill.networks.flat import flatten
from distill.runs.rehearsed import Clock, Piece, Trial, weighed
from distill.sets.coreset import Coreset
from distill.teachers.committee import Committee
from distill.teachers.labels import Labels, Teaching, told
from distill.teachers.store import ExpertStore
from distill.training.batch import Batches
from distill.training.gradients import way_to_train
from distill.training.loop import train
from distill.training.losses import Loss
from distill.training.recipe import Recipe

MOST_STEPS = 10_000  # of a piece: it ends by the clock


@dataclass(frozen=True)
class Training:
    """Networks that are trained on a set.

    Attributes:
        real: whose images stand for the set's.
        images: of the set.
        count: networks in all, and how many of them may go as a stack.
        name: of the recipe, in settings.
        labels: a protocol's, where teachers tell them in every step; with whom they ask.
        compile: see `distill.autotune.fastest`.
    """

    make: Callable[[], nn.Module]
    recipe: Recipe
    real: Split
    images: int
    count: int
    stack: int
    name: str
    loss: Loss
    compile: bool | str
    labels: Labels | None = None
    teaching: Teaching | None = None

    @property
    def trial(self) -> Trial:
        batch = min(self.recipe.batch, self.images)
        return Trial(self.piece, batch, self.count * self.recipe.updates(self.images), self.lever)

    def lever(self, images: int) -> Mapping[str, Any]:
        """The recipe's batch; parts of one (``micro_batches``) are differentiated together, and take no less."""
        return {f"{self.name}.batch": images}

    @cached_property
    def way(self) -> tuple[bool, int]:
        """Whether to compile, and how many networks go as one stack: what the run will choose."""
        if self.labels is not None:
            return False, 1
        batches = self.batches(self.recipe, self.images)
        return way_to_train(self.make, batches, self.stack, self.count, self.compile)

    def batches(self, recipe: Recipe, images: int) -> Batches:
        size = min(images, self.images, len(self.real))
        return Batches(Coreset(self.real, torch.arange(size)), recipe, recipe.views.on(self.real), self.loss)

    def piece(self, images: int) -> Piece:
        batch = min(self.recipe.batch, self.images)
        some = min(images, batch, len(self.real))
        parts = min(self.recipe.micro_batches, some)
        recipe = self.recipe.with_(batch=some, micro_batches=parts, epochs=None, steps=1, extra_epochs=0)
        compiled, stack = self.way

        def weigh() -> None:
            self.go(recipe, stack, False, None)

        def time(seconds: float) -> float:
            clock = Clock(seconds)
            return clock.mean(partial(self.go, recipe.with_(steps=MOST_STEPS), stack, compiled, clock)) / stack

        return Piece(some / batch, partial(weighed, weigh), time)

    def go(self, recipe: Recipe, stack: int, compiled: bool, clock: Clock | None) -> None:
        batches, device = self.batches(recipe, 8 * recipe.batch), self.real.labels.device
        with torch.random.fork_rng():
            nets: list[nn.Module] = [self.make().to(device) for _ in range(stack)]
        if self.labels is not None:
            assert self.teaching is not None
            batches, _ = told(self.labels, batches, 0, self.teaching)
            nets = [self.labels.learner(net, self.teaching) for net in nets]
        train(nets, batches, seeds=list(range(stack)), compiled=compiled, after_batch=clock)


@dataclass(frozen=True)
class Labelling:
    """Views that a committee labels before students train.

    Attributes:
        steps: batches in all.
    """

    committee: Committee
    labels: Any
    recipe: Recipe
    real: Split
    images: int
    steps: float

    @property
    def trial(self) -> Trial:
        return Trial(self.piece, min(self.recipe.batch, self.images), self.steps)

    def piece(self, images: int) -> Piece:
        batch = min(self.recipe.batch, self.images)
        some = min(images, batch, len(self.real))
        recipe = self.recipe.with_(batch=some, micro_batches=min(self.recipe.micro_batches, some))
        batches = Batches(Coreset(self.real, torch.arange(some)), recipe, recipe.views.on(self.real))
        ask = self.labels.ask(Teaching(self.committee), recipe.micro_batches)

        def go(most: int, clock: Clock | None = None) -> None:
            for epoch in range(most):
                for batch in batches.epoch([0], epoch):
                    ask(batch.views[0]).cpu()
                if clock is not None:
                    clock()

        def time(seconds: float) -> float:
            clock = Clock(seconds)
            return clock.mean(partial(go, MOST_STEPS, clock))

        return Piece(some / batch, partial(weighed, partial(go, 1)), time)


class Untrained(ExpertStore):
    """Stands for experts that are not there yet: rows are fresh networks' weights, moved a little from epoch to epoch."""

    def __init__(self, store: ExpertStore, make: Callable[[], nn.Module]):
        self.__dict__.update(vars(copy(store)))
        self.make = make

    def complete(self) -> ExpertStore:
        return self

    def row(self, expert: int, epoch: int, size: int | None = None) -> Tensor:
        with rng.seeded(expert, "untrained"):
            weights = flatten(self.make())
        epoch = self.epochs if epoch < 0 else epoch
        return weights + 0.01 * epoch * torch.randn(len(weights), generator=rng.generator(expert, "untrained epochs"))


@dataclass(frozen=True)
class Synthesis:
    """Outer steps of a method.

    Attributes:
        whole: the method, which has not begun.
        values: of its configuration.
        steps: in all.
    """

    whole: Method
    values: Mapping[str, Any]
    steps: float

    @property
    def trial(self) -> Trial:
        return Trial(self.piece, self.whole.at_once, self.steps, self.lever)

    def lever(self, images: int) -> Mapping[str, Any]:
        return {f"method.{name}": value for name, value in self.whole.lighter(images).items()}

    def piece(self, images: int) -> Piece:
        own = dict(self.whole.rehearsal(images))
        ipc = own.pop("ipc", self.whole.inputs.ipc)
        small = self.method(ipc, own)
        share = small.images_a_step() / self.whole.images_a_step()

        def weigh() -> None:
            eager = {"compile": False} if "compile" in self.values else {}
            clock = Clock(0.0, 0)
            clock.until_enough(partial(self.go, self.method(ipc, own | eager), clock))

        def time(seconds: float) -> float:
            clock = Clock(seconds, small.round)
            return clock.mean(partial(self.go, small, clock))

        return Piece(min(1.0, share), partial(weighed, weigh), time)

    def method(self, ipc: Any, own: Mapping[str, Any]) -> Method:
        inputs = self.whole.inputs
        store = inputs.experts
        if store is not None and store.missing:
            inputs = replace(inputs, experts=Untrained(store, inputs.student))
        return type(self.whole).make(replace(inputs, ipc=ipc), {**self.values, **own})

    def go(self, method: Method, clock: Clock) -> None:
        device = method.real.labels.device
        if method.inputs.committee is not None:
            for net in method.inputs.committee.nets:
                net.to(device)
        method.begin()
        outer_loop(method, str(device), [], Watch(clock))


class Watch(Callback):
    """Tells a clock of every outer step."""

    def __init__(self, clock: Clock):
        self.clock = clock

    def on_train_batch_start(self, *_: Any) -> None:
        self.clock()

    def on_train_end(self, *_: Any) -> None:
        self.clock()
