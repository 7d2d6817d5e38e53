"""What matching gradients and matching features share: real and synthetic batches of every class, moved alike.

DC (arXiv:2006.05929), DSA (arXiv:2102.08259), DCC (arXiv:2202.02916) and DM (arXiv:2110.04181) all compare, class by
class and under one network, many real images with the few synthetic ones. Classes may differ in the number of the latter.
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, TypeVar

import torch
from torch import Tensor

from distill import rng
from distill.augment.families import Augment
from distill.augment.makers import make
from distill.autotune import EAGER, fastest
from distill.checks import setting
from distill.methods.base import Inputs, LoopSettings, Method
from distill.networks.base import restart, stateless
from distill.sets.reading import load
from distill.sets.synthetic import SyntheticSet

Way = TypeVar("Way")

STARTS = ("real", "noise")  # what `init` is where it names no set

# Compiled or not, and how many images go through the network in one call: few stay in a CPU's cache, many fill a GPU.
WAYS = {EAGER: (False, 64), "wide": (False, 1024), "compiled": (True, 64), "compiled wide": (True, 1024)}


def stacks(rows: Tensor, counts: Sequence[int]) -> list[Tensor]:
    """``rows`` (N, ...), class after class, as (k, n, ...) for k classes in a row with n each: one where all have as many."""
    runs = [(len(list(run)), size) for size, run in groupby(counts)]
    parts = rows.split([classes * size for classes, size in runs])
    return [part.unflatten(0, run) for part, run in zip(parts, runs, strict=True)]


@dataclass(frozen=True, kw_only=True)
class ClassSettings(LoopSettings):
    """Of every `ClassMatching`.

    Attributes:
        augment: of the matched batches: ``siamese`` (a class's real and synthetic images alike) or ``none``.
        batch_real: real images of each class at an outer step; all classes get the smallest class's number if that is less.
        init: ``real`` (random real images), ``noise`` (standard normal), or the path of a set, whose first images of each class
            are where this one's start: those that a rule picked (``method=kmeans``), or that another method learned.
        lr_img, momentum_img: SGD on the images.
        compile: torch.compile for the matching: True, False or ``auto``.
    """

    augment: Augment = setting(make)
    batch_real: int = setting("whole [1, 1000000]")
    init: str = setting("path")
    lr_img: float = setting("[0, 1000000]")
    momentum_img: float = setting("[0, 1)")
    compile: bool | str = setting("one of true, false, auto")

    @classmethod
    def by_content(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        init = values["init"]
        return {**values, "init": init if init in STARTS else load(init).hash}


class ClassMatching(Method):
    """Learns images; their labels stay as they are."""

    settings_type = ClassSettings
    settings: ClassSettings

    def __init__(self, inputs: Inputs, settings: ClassSettings):
        super().__init__(inputs, settings)
        self.start = None if settings.init in STARTS else self.given_start(settings.init)
        self.notes: list[str] = []  # warnings, told when the distillation begins
        self.members = [self.real.of_class(cls) for cls in range(self.real.num_classes)]
        smallest = min(range(self.real.num_classes), key=lambda cls: len(self.members[cls]))
        self.most = len(self.members[smallest])  # images that every class can give
        self.batch_real = min(settings.batch_real, self.most)
        if self.batch_real < settings.batch_real:
            self.notes.append(
                f"{self.real.size_of(smallest)}, "
                f"method.batch_real is {settings.batch_real}: every class gives {self.batch_real} at a step"
            )
        self.shown = list(self.counts)  # synthetic images of each class that a network sees at a step
        self.net = self.student().to(self.real.images.device)
        with torch.random.fork_rng():
            restart(deepcopy(self.net))  # every step's network is a fresh one: what cannot be made anew is told here

    @property
    def start_each(self) -> int:
        """Images that one of `initial_set` is made of."""
        return 1

    @property
    def real_each(self) -> int:
        return self.start_each if self.settings.init == "real" else 0

    @property
    def most_peers(self) -> tuple[int, str]:
        if not stateless(self.net):
            return 1, "the network's batch norm or dropout wants whole batches, norm=instance does not"
        least = min(self.batch_real, *self.shown)
        return least, f"a step sees {least} images of a class, more with another ipc or method.batch_real"

    def images_a_step(self) -> float:
        return self.batch_real * self.real.num_classes + 3.0 * sum(self.shown)

    @property
    def at_once(self) -> int:
        return self.batch_real * self.real.num_classes

    def lighter(self, images: int) -> dict[str, Any]:
        return {"batch_real": max(1, min(images // self.real.num_classes, self.batch_real))}

    def on_fit_start(self) -> None:
        for note in self.notes:
            print(f"warning: {note}", file=sys.stderr)

    def initial_set(self) -> SyntheticSet:
        if self.settings.init == "real":
            return super().initial_set()
        synset = SyntheticSet.blank(self.real, self.inputs.ipc)
        if self.start is not None:
            return synset.with_(images=self.start)
        noise = torch.randn(synset.images.shape, generator=rng.generator(self.seed, "initial noise"))
        return synset.with_(images=noise.to(synset.images))

    def given_start(self, path: str) -> Tensor:
        """The first images of each class of a set, (N x `start_each`, C, H, W), in the space of the real ones.

        Raises:
            ValueError: there is no such set, or not of this shape, or a class has too few.
        """
        try:
            given = load(path)
        except FileNotFoundError:
            raise ValueError(
                f"method.init is {path}, expected one of {', '.join(STARTS)}, or the path of a set"
            ) from None
        came, asked = (
            [*of, *names]
            for of, names in ((given.images.shape[1:], given.class_names), (self.real.shape, self.real.class_names))
        )
        if came != asked:
            raise ValueError(
                f"method.init is {path}, a set of {given.data}, expected one of the run's classes and shape"
            )
        own = dict(zip(given.class_names, (count * self.start_each for count in self.counts), strict=True))
        return self.real.preprocessing(given.preprocessing.inverse(given.decoded.subset(own).images))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        images = {"name": "images", "params": [self.synset.images]}
        return torch.optim.SGD([images], self.settings.lr_img, self.settings.momentum_img)

    def real_images(self, step: int, count: int, purpose: str = "real batch") -> Tensor:
        """``count`` different images of every class, (K, count, C, H, W), or as many as the smallest has."""
        batches = []
        for cls, members in enumerate(self.members):
            order = torch.randperm(len(members), generator=rng.generator(self.seed, purpose, step, cls))
            batches.append(
                self.real.images[members[order[: min(count, self.most)].to(members.device, non_blocking=True)]]
            )
        return torch.stack(batches)

    def batches(self, step: int) -> tuple[Tensor, Tensor]:
        """Views of real (K, batch_real, C, H, W) and of synthetic images (N, C, H, W), ``shown``: a class's share one draw.

        Of each class a slice, where there are peers.
        """
        real = torch.stack(self.views(self.real_images(step, self.batch_real), step))
        return real[:, self.peers.rows(self.batch_real)], self.seen(step)

    def seen(self, step: int) -> Tensor:
        """The synthetic ones of `batches`."""
        views = self.peers.shared(torch.cat(self.views(self.synthetic(step), step))).split(self.shown)
        return torch.cat([images[self.peers.rows(len(images))] for images in views])

    def here(self, counts: Sequence[int]) -> list[int]:
        """Of so many images of each class those that `batches` gives."""
        return [self.peers.own(count) for count in counts]

    def views(self, images: Iterable[Tensor], step: int) -> list[Tensor]:
        """Views of images (n, C, H, W) of each class, by its draw."""
        draws = [rng.derive(self.seed, "siamese", step, cls) for cls in range(self.real.num_classes)]
        return [self.settings.augment(part, draw) for part, draw in zip(images, draws, strict=True)]

    def synthetic(self, step: int) -> Sequence[Tensor]:
        """What a network sees of the synthetic images, class by class."""
        return self.synset.images.split(self.counts)

    def fastest(
        self, ways: Mapping[str, Way], work: Callable[[Way, Tensor, Tensor], object], about: Any, compile: bool | str
    ) -> Way:
        """The one whose ``work`` on the batches of step 0 takes least time on this machine."""
        real, synthetic = (images.detach() for images in self.batches(0))
        todo = {name: partial(work, way, real, synthetic) for name, way in ways.items()}
        runs = [length for stack in stacks(synthetic, self.here(self.shown)) for length in stack.shape[:2]]
        shapes = [list(real.shape), [*runs, *self.real.shape]]
        case = {"matching": about, "network": repr(self.net), "images": shapes}
        name = fastest(todo, case, self.steps, real.device, compile)
        return ways[self.peers.agree(lambda: name)]
