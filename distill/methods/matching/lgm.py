"""Linear gradient matching on a frozen backbone (Cazenavette, Torralba & Sitzmann, NeurIPS 2025, arXiv:2511.16674).

As its code has it, for small images.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from distill import rng
from distill.checks import setting
from distill.methods.base import Inputs, LoopSettings, Method, given
from distill.methods.matching import pyramid
from distill.networks.base import Student
from distill.sets.synthetic import SyntheticSet
from distill.training.recipe import PRECISIONS, TEACHERS
from distill.training.views import Views

MOST = 5000  # real images whose colours are looked at
HEAD = 0.01  # standard deviation of a fresh classifier's weights; its biases are zero


@dataclass(frozen=True, kw_only=True)
class LGMSettings(LoopSettings):
    """Of `LinearGradientMatching`.

    Attributes:
        augment: of real and synthetic images, each with a draw of its own.
        views: of each synthetic image at an outer step.
        batch_real: real images at an outer step, of all classes; null: as many as there are views. All where there are fewer.
        grow_every: outer steps between a level of the pyramid and the next, finer one.
        colours: that channels without correlation become: ``imagenet``'s, of sets with three channels, or those ``measured``.
        lr_img, betas: Adam on the levels.
        precision: of the real images' forward pass, ``fp32`` or ``bf16`` (autocast); the synthetic images' is fp32.
    """

    augment: Views = setting(Views)
    views: int = setting("whole [1, 10000]")
    batch_real: int | None = setting("null or whole [1, 1000000]")
    grow_every: int = setting("whole [1, 100000000]")
    colours: str = setting("one of imagenet, measured")
    lr_img: float = setting("(0, 1000000]")
    betas: tuple[float, float] = setting("two of [0, 1)")
    precision: str = setting(f"one of {', '.join(PRECISIONS)}")


class LinearGradientMatching(Method):
    """Make the gradient of a fresh linear classifier on synthetic images' features that on real images'.

    The features are those of a frozen teacher; of several, each has a classifier, and the loss is their mean. Images are
    pyramids (`distill.methods.matching.pyramid`), whose levels come in one after another; each time Adam starts afresh.
    """

    RANGES: ClassVar[Mapping[str, Any]] = {"committee": TEACHERS}
    settings_type = LGMSettings
    settings: LGMSettings

    def __init__(self, inputs: Inputs, settings: LGMSettings):
        super().__init__(inputs, settings)
        self.nets = given(inputs.committee, "committee").nets
        self.augment = settings.augment.on(self.real)
        shown = settings.views * sum(self.counts)
        self.batch_real = min(settings.batch_real or shown, len(self.real))

    @property
    def real_each(self) -> int:
        return 0

    def images_a_step(self) -> float:
        return self.batch_real / 3 + self.settings.views * sum(self.counts)

    def begin(self, synset: SyntheticSet | None = None) -> None:
        super().begin(synset)
        self.levels = [level.requires_grad_() for level in self.first_levels()]
        levels = {"name": "images", "params": self.levels}
        self.optimizer = torch.optim.Adam([levels], self.settings.lr_img, self.settings.betas)

    def initial_set(self) -> SyntheticSet:
        return SyntheticSet.blank(self.real, self.inputs.ipc).with_(images=self.images(self.first_levels()[:1]))

    def first_levels(self) -> list[Tensor]:
        """Where the pyramids start."""
        levels = pyramid.start(sum(self.counts), self.real.shape, rng.generator(self.seed, "initial levels"))
        return [level.to(self.real.images.device) for level in levels]

    @cached_property
    def colours(self) -> Tensor:
        """From uncorrelated channels to those of images, (C, C)."""
        if self.settings.colours == "imagenet" and self.real.shape[0] == 3:
            return pyramid.scaled(torch.tensor(pyramid.IMAGENET)).to(self.real.images)
        every = torch.arange(0, len(self.real), -(-len(self.real) // MOST))
        return pyramid.colours_of(self.real.preprocessing.inverse(self.real.images[every]))

    def images(self, levels: list[Tensor]) -> Tensor:
        """The synthetic images (N, C, H, W) that these levels are, in the real images' space."""
        return self.real.preprocessing(pyramid.pixels(levels, self.real.shape, self.colours))

    def there(self, step: int) -> list[Tensor]:
        """The levels that have come in by outer step ``step``."""
        return self.levels[: 1 + max(step - 1, 0) // self.settings.grow_every]

    def update(self, step: int) -> Tensor:
        labels = self.synset.classes.repeat(self.settings.views)
        order = torch.randperm(len(self.real), generator=rng.generator(self.seed, "real batch", step))
        order = order[: self.batch_real].to(labels.device, non_blocking=True)
        real = self.augment(self.real.images[order], rng.derive(self.seed, "real views", step))
        images = self.images(self.there(step)).repeat(self.settings.views, 1, 1, 1)
        views = self.augment(images, rng.derive(self.seed, "views", step))
        parts = []
        for net, head in zip(self.nets, self.heads(step), strict=True):
            target = head_gradient(self.of_real(net, real), self.real.labels[order], head)
            own = head_gradient(features(net, views), labels, head)
            parts.append(1 - F.cosine_similarity(own.flatten(), target.flatten(), dim=0))
        loss = torch.stack(parts).mean()
        self.log("matching_loss", loss.detach())
        return loss

    def heads(self, step: int) -> list[Tensor]:
        """Weights (K, F) of a linear classifier for each teacher."""
        g, sizes = rng.generator(self.seed, "head", step), [net.classifier.in_features for net in self.nets]
        fresh = [HEAD * torch.randn(self.real.num_classes, size, generator=g) for size in sizes]
        return [weight.to(self.real.images.device) for weight in fresh]

    @torch.no_grad()
    def of_real(self, net: Student, images: Tensor) -> Tensor:
        """Features of real images."""
        dtype = PRECISIONS[self.settings.precision]
        with torch.autocast(images.device.type, dtype, enabled=dtype is not None):
            return features(net, images)

    def learn(self, step: int) -> None:
        if len(self.there(step)) > len(self.there(step - 1)):
            pyramid.grow(self.there(step))
            self.optimizer.state.clear()
        super().learn(step)
        with torch.no_grad():
            self.synset.images.copy_(self.images(self.there(step)))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer

    def extra_tensors(self) -> dict[str, Tensor]:
        return {f"level {place}": level.detach() for place, level in enumerate(self.levels)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for place, level in enumerate(self.levels):
                level.copy_(tensors[f"level {place}"])


def features(net: Student, images: Tensor) -> Tensor:
    """(B, F) float32 of images (B, C, H, W)."""
    return net.embedding(images).float()


def head_gradient(features: Tensor, labels: Tensor, head: Tensor) -> Tensor:
    """Gradient (K, F + 1) of the mean cross-entropy of a linear classifier, of zero biases: in its weights and its biases.

    Differentiable in the features.

    Args:
        features: (B, F).
        labels: (B,) classes.
        head: weights (K, F).
    """
    said = (features @ head.T).softmax(1)
    wrong = said - F.one_hot(labels, len(head)).to(said)
    return wrong.T @ torch.cat([features, torch.ones_like(features[:, :1])], 1) / len(features)
