"""What a student sees of a batch: augmented, and perhaps mixed with partners."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from distill import augment, rng
from distill.augment.families import STRATEGY, Augment, color
from distill.augment.makers import MAKERS
from distill.checks import check_ranges, setting, stated
from distill.data.preprocessing import Preprocessing
from distill.data.split import Split


@dataclass(frozen=True)
class Views(ABC):
    """Augmentation of a recipe, on whatever data set.

    Raises:
        ValueError: a value is out of range.
    """

    def __post_init__(self) -> None:
        check_ranges("recipe.views", vars(self), stated(type(self)))

    @abstractmethod
    def on(self, split: Split) -> Augment:
        """On a data set's images, with its DSA families and its preprocessing."""

    @abstractmethod
    def families(self, strategy: str) -> str:
        """What `on` depends on of DSA families: all of them, whether images are mirrored (``flip``), or nothing."""


@dataclass(frozen=True)
class Augmented(Views):
    """Views by name.

    Attributes:
        augment: ``none``, ``dsa``, ``siamese``, ``dsa-compound`` (IDC's), ``siamese-compound``, ``crop_scale_rotate`` (DC's),
            ``crop_flip`` (what comes in is mean grey), ``crop_flip_black`` or ``crop_flip_reflect`` (the image's own
            reflection).
    """

    augment: str = setting(f"one of {', '.join([*MAKERS, 'crop_flip_black'])}")

    def on(self, split: Split) -> Augment:
        if self.augment == "crop_flip_black":
            return augment.PaddedCrop("flip" in split.strategy, split.preprocessing)
        return augment.make(self.augment, split.strategy)

    def families(self, strategy: str) -> str:
        if "dsa" in self.augment or "siamese" in self.augment:
            return strategy
        return "flip" if self.augment.startswith("crop_flip") and "flip" in strategy else ""


@dataclass(frozen=True)
class CompoundOf(Views):
    """IDC's composition (`distill.augment.Compound`) of some DSA families.

    Attributes:
        strategy: the families, of which those that the data set has, too, are taken.
    """

    strategy: str = setting(STRATEGY)

    def on(self, split: Split) -> Augment:
        kept = self.families(split.strategy)
        return augment.Compound(kept) if kept else augment.none

    def families(self, strategy: str) -> str:
        return "_".join(name for name in self.strategy.split("_") if name in strategy.split("_"))


@dataclass(frozen=True)
class Cropped(Views):
    """Resized crops, half of them mirrored (`distill.augment.ResizedCrop`).

    Attributes:
        area: smallest share of an image that a crop keeps.
        shuffle: strips along each axis that change places before the crop (RDED); 1 for none.
    """

    area: float = setting("(0, 1]")
    shuffle: int = setting("whole [1, 1000]")

    def on(self, split: Split) -> Augment:
        return augment.ResizedCrop(self.area, self.shuffle, "flip" in split.strategy)

    def families(self, strategy: str) -> str:
        return "flip" if "flip" in strategy else ""


class Coloured(Cropped):
    """The same in other colours (`distill.augment.families.color`, on each image's own draw): views of a pretext."""

    def on(self, split: Split) -> Augment:
        cropped = super().on(split)

        def view(images: Tensor, draw: int) -> Tensor:
            return color(cropped(images, draw), rng.generator(draw, "colours"))

        return view


@dataclass(frozen=True)
class Noised(Cropped):
    """The same, and noise on the pixels of some images (linear gradient matching's code, arXiv:2511.16674).

    Attributes:
        noise_probability: of an image having it.
        noise_mean, noise_std: of what is added to each of its pixels, which are in [0, 1] before.
    """

    noise_probability: float = setting("[0, 1]")
    noise_mean: float = setting("[-1, 1]")
    noise_std: float = setting("[0, 1]")

    def on(self, split: Split) -> Augment:
        cropped, space = super().on(split), split.preprocessing

        def view(images: Tensor, draw: int) -> Tensor:
            g, views = rng.generator(draw, "noise"), cropped(images, draw)
            some = torch.rand(len(views), 1, 1, 1, generator=g) < self.noise_probability
            noise = some * (self.noise_mean + self.noise_std * torch.randn(views.shape, generator=g))
            return space(space.inverse(views) + noise.to(views, non_blocking=True))

        return view


@dataclass(frozen=True)
class OnPixels(Views):
    """Views of the pixels behind the preprocessing (`distill.augment.policies.OnPixels`).

    Attributes:
        whole_batch: one draw for all images of a batch; false draws for each.
        eight_bits: pixels are rounded to 256 levels first. DC-BENCH's code does both.
    """

    mirrors: ClassVar[bool] = False  # whether images are, where the data set's may be
    whole_batch: bool = setting("true or false")
    eight_bits: bool = setting("true or false")

    def on(self, split: Split) -> Augment:
        if split.shape[0] not in (1, 3):
            raise ValueError(f"{type(self).__name__} is for grey and RGB images, these have {split.shape[0]} channels")
        return self.of(split.preprocessing, "flip" in split.strategy)

    @property
    def how(self) -> dict[str, bool]:
        return {"whole_batch": self.whole_batch, "eight_bits": self.eight_bits}

    @abstractmethod
    def of(self, preprocessing: Preprocessing, mirror: bool) -> Augment:
        """On images of this preprocessing. Here kornia is imported: all else starts 0.4 s sooner without it."""

    def families(self, strategy: str) -> str:
        return "flip" if self.mirrors and "flip" in strategy else ""


@dataclass(frozen=True)
class AutoAugment(OnPixels):
    """Pairs of operations that were searched for (`distill.augment.policies.AutoAugment`).

    Attributes:
        policy: the data set that they were searched on.
    """

    policy: str = setting("one of cifar10, imagenet, svhn")

    def of(self, preprocessing: Preprocessing, mirror: bool) -> Augment:
        from distill.augment import policies

        return policies.AutoAugment(self.policy, preprocessing, **self.how)


@dataclass(frozen=True)
class RandAugment(OnPixels):
    """Random operations of one strength (`distill.augment.policies.RandAugment`).

    Attributes:
        operations: of each image, the paper's N.
        level: their strength, the paper's M; 30 is the strongest, as torchvision counts.
    """

    operations: int = setting("whole [1, 100]")
    level: int = setting("whole [0, 30]")

    def of(self, preprocessing: Preprocessing, mirror: bool) -> Augment:
        from distill.augment import policies

        return policies.RandAugment(self.operations, self.level, preprocessing, **self.how)


@dataclass(frozen=True)
class Jitter(OnPixels):
    """Shifts, mirrored images and jittered colours (`distill.augment.policies.Jitter`)."""

    mirrors: ClassVar[bool] = True

    def of(self, preprocessing: Preprocessing, mirror: bool) -> Augment:
        from distill.augment import policies

        return policies.Jitter(mirror, preprocessing, **self.how)


@dataclass(frozen=True)
class Holed(OnPixels):
    """Shifts, mirrored images and a hole in each (`distill.augment.policies.Holed`)."""

    mirrors: ClassVar[bool] = True

    def of(self, preprocessing: Preprocessing, mirror: bool) -> Augment:
        from distill.augment import policies

        return policies.Holed(mirror, preprocessing, **self.how)


@dataclass(frozen=True)
class Mix(ABC):
    """Views mixed with those of partners; one share for a batch, drawn from Beta(alpha, alpha).

    Attributes:
        mix_alpha: alpha.
    """

    mix_alpha: float = setting("(0, 1000000]")

    def __post_init__(self) -> None:
        check_ranges("recipe.mix", vars(self), stated(type(self)))

    @abstractmethod
    def __call__(self, views: Tensor, g: Generator) -> tuple[Tensor, Tensor, float]:
        """The mixed views (B, C, H, W), the partners (B,), and the share of each that is its own."""


class CutMix(Mix):
    """A box of the partner, one for a batch (arXiv:1905.04899)."""

    def __call__(self, views: Tensor, g: Generator) -> tuple[Tensor, Tensor, float]:
        return augment.cutmix(views, g, self.mix_alpha)


@dataclass(frozen=True)
class SometimesCutMix(CutMix):
    """The same of some batches; the others stay as they are.

    Attributes:
        mix_probability: of a batch being mixed.
    """

    mix_probability: float = setting("[0, 1]")

    def __call__(self, views: Tensor, g: Generator) -> tuple[Tensor, Tensor, float]:
        if float(torch.rand((), generator=g)) < self.mix_probability:
            return super().__call__(views, g)
        return views, torch.arange(len(views), device=views.device), 1.0


class MixUp(Mix):
    """A blend with the partner (arXiv:1710.09412)."""

    def __call__(self, views: Tensor, g: Generator) -> tuple[Tensor, Tensor, float]:
        return augment.mixup(views, g, self.mix_alpha)
