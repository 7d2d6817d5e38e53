"""KRR-ST: images with target vectors, for networks that are tuned on other data (Lee et al., ICLR 2024, arXiv:2310.06511)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from distill import rng
from distill.checks import setting
from distill.methods.base import Inputs, LoopSettings, Method, given
from distill.methods.selfsupervised.pool import Bodies, Pool
from distill.networks.base import Student, with_head
from distill.sets.synthetic import SyntheticSet
from distill.training.pretext import AT_ONCE
from distill.training.recipe import TEACHERS
from distill.training.ridge import predicted
from distill.training.views import Views


@dataclass(frozen=True, kw_only=True)
class KRRSTSettings(LoopSettings):
    """Of `KRRST`.

    Attributes:
        augment: of real images; both networks see the same view.
        batch_real: real images at an outer step, of all classes; all where there are fewer.
        ridge: of the regression onto the set (`distill.training.ridge.predicted`).
        lr_img, lr_targets: AdamW on the images and on their vectors; 0 leaves them exactly as they are.
        end_rate: share of both rates that is left at the end; they fall along a line.
        clip: largest norm of the gradient in both; null for none.
        raw_start: images start as pixels in [0, 1], and real ones come normalised, as in the released code; else alike.
        pool: of bodies under which a step regresses.
    """

    augment: Views = setting(Views)
    batch_real: int = setting("whole [1, 1000000]")
    ridge: float = setting("(0, 1]")
    lr_img: float = setting("[0, 1000000]")
    lr_targets: float = setting("[0, 1000000]")
    end_rate: float = setting("[0, 1]")
    clip: float | None = setting("null or (0, 1000000]")
    raw_start: bool = setting("true or false")
    pool: Bodies = setting(Bodies)

    def check(self) -> None:
        if self.steps and not (self.lr_img or self.lr_targets):
            raise ValueError("method.lr_img and method.lr_targets are 0: nothing would be learned; take method.steps=0")


class KRRST(Method):
    """Learn images and vectors such that a network regressed onto them says of real images what the target network says.

    Raises:
        ValueError: there is more than one target network, or raw pixels are to stand beside whitened images.
    """

    RANGES: ClassVar[Mapping[str, Any]] = {"committee": TEACHERS}
    has_vectors = True
    settings_type = KRRSTSettings
    settings: KRRSTSettings

    def __init__(self, inputs: Inputs, settings: KRRSTSettings):
        super().__init__(inputs, settings)
        self.target = Target.of(inputs)
        self.augment = settings.augment.on(self.real)
        if settings.raw_start and self.real.preprocessing.space in ("zca", "kip"):
            raise ValueError("raw pixels are like no whitened image: method.raw_start=false, or data.zca=false")

    def images_a_step(self) -> float:
        return 2 / 3 * min(self.settings.batch_real, len(self.real)) + 2.0 * sum(self.counts)

    def images_before(self) -> float:
        return self.settings.pool.count * self.settings.pool.steps / 2 * sum(self.counts)

    def rehearsal(self, images: int) -> dict[str, Any]:
        return {"pool": replace(self.settings.pool, steps=2)}

    def initial_set(self) -> SyntheticSet:
        start = super().initial_set()
        images = start.pixels if self.settings.raw_start else start.images
        return start.with_(images=images, labels=self.target(start.images), label_kind="vectors")

    def begin(self, synset: SyntheticSet | None = None) -> None:
        super().begin(synset)
        self.synset.images.requires_grad_(self.settings.lr_img > 0)
        self.synset.labels.requires_grad_(self.settings.lr_targets > 0)
        self.pool = Pool(self.body, self.settings.pool, self.seed)
        if synset is None and self.steps:
            self.pool.begin(*self.pair)

    def body(self) -> Student:
        """A fresh network with as many outputs as the target has features."""
        net = with_head(self.student(), self.synset.labels.shape[1])
        return net.to(self.real.images.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def pair(self) -> tuple[Tensor, Tensor]:
        """Images and vectors as they are, for a body's own step."""
        return self.synset.images.detach(), self.synset.labels.detach()

    def update(self, step: int) -> Tensor:
        body = self.pool.bodies[self.pool.pick(step)].net
        views = self.views(step)
        with torch.no_grad():
            rows, wanted = body.embedding(views), self.target(views)
        said = predicted(body.embedding(self.synset.images), self.synset.labels, rows, self.settings.ridge)
        loss = (said - wanted).square().mean()
        self.log("matching_loss", loss.detach())
        return loss

    def views(self, step: int) -> Tensor:
        """Of a random batch of real images."""
        order = torch.randperm(len(self.real), generator=rng.generator(self.seed, "real batch", step))
        order = order[: self.settings.batch_real].to(self.real.images.device, non_blocking=True)
        return self.augment(self.real.images[order], rng.derive(self.seed, "views", step))

    def learn(self, step: int) -> None:
        optimizer: Any = self.optimizers()
        for group in optimizer.param_groups:
            group["lr"] = group["first_lr"] * (1 - (1 - self.settings.end_rate) * step / self.steps)
        super().learn(step)
        self.pool.train(step, *self.pair)

    def take(self) -> None:
        if self.settings.clip is not None:
            nn.utils.clip_grad_norm_([self.synset.images, self.synset.labels], self.settings.clip)
        super().take()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        learned = {"images": self.synset.images, "targets": self.synset.labels}
        rates = {"images": self.settings.lr_img, "targets": self.settings.lr_targets}
        groups = [{"name": n, "params": [x], "lr": rates[n], "first_lr": rates[n]} for n, x in learned.items()]
        return torch.optim.AdamW(groups, weight_decay=0.0)

    def extra_tensors(self) -> dict[str, Tensor]:
        return self.pool.tensors if self.steps else {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self.pool.restore(tensors)


@dataclass(frozen=True)
class Target:
    """The network that is imitated, by the vectors that its classifier sees."""

    net: Student

    @classmethod
    def of(cls, inputs: Inputs) -> "Target":
        """Of a method's inputs.

        Raises:
            ValueError: there is none, or more than one.
        """
        nets = given(inputs.committee, "committee").nets
        if len(nets) != 1:
            raise ValueError(
                f"method.committee has {len(nets)} networks, and vectors are of one: name it in method.committee.networks, "
                "with method.committee.count=1"
            )
        return cls(nets[0])

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Vectors (N, D) of images (N, C, H, W)."""
        return torch.cat([self.net.embedding(part) for part in images.split(AT_ONCE)])
