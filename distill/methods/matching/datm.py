"""Difficulty-aligned trajectory matching (Guo et al., ICLR 2024, arXiv:2310.05773)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from distill import rng
from distill.checks import setting
from distill.methods.matching.trajectory import TrajectoryMatching, TrajectorySettings
from distill.sets.synthetic import SyntheticSet


def mean_correct_logits(logits: Tensor, classes: Tensor) -> Tensor:
    """Logits averaged over the experts that classify an image correctly.

    Args:
        logits: (experts, N, K).
        classes: (N,).

    Returns:
        (N, K).

    Raises:
        ValueError: no expert classifies some image correctly; its mean would be 0 / 0.
    """
    correct = logits.argmax(2) == classes
    lost = (~correct.any(0)).nonzero()[:, 0]
    if len(lost):
        raise ValueError(
            f"no expert classifies image {int(lost[0])} as class {int(classes[lost[0]])}: choose images with init=correct"
        )
    return (logits * correct[..., None]).sum(0) / correct.sum(0)[:, None]


@dataclass(frozen=True, kw_only=True)
class DATMSettings(TrajectorySettings):
    """Of `DATM`.

    Attributes:
        initial_max_start_epoch: T, bound of the start epochs at outer step 0; None keeps it at max_start_epoch.
        expansion_steps: outer steps until the bound reaches max_start_epoch.
        init: ``correct`` (images that experts classify correctly, mean logits of those experts) or ``real`` (random
            images, logits of one expert, right or wrong).
        lr_label, momentum_label: SGD on the label logits.
    """

    initial_max_start_epoch: int | None = setting("null or whole [1, 100000]")
    expansion_steps: int | None = setting("null or whole [1, 100000000]")
    init: str = setting("one of correct, real")
    lr_label: float = setting("[0, 1000000]")
    momentum_label: float = setting("[0, 1)")

    def check(self) -> None:
        super().check()
        first = self.initial_max_start_epoch
        if (first is None) != (self.expansion_steps is None):
            raise ValueError("method.initial_max_start_epoch and method.expansion_steps: give both, or null for both")
        low, high = self.min_start_epoch, self.max_start_epoch
        if first is not None and not low < first <= high:
            raise ValueError(f"method.initial_max_start_epoch is {first}, expected {low + 1} to {high}")


class DATM(TrajectoryMatching):
    """Trajectory matching that opens from easy to hard epochs, on images experts understand, with learned soft labels.

    Raises:
        ValueError: a class has too few images that any expert classifies correctly.
    """

    settings_type = DATMSettings
    settings: DATMSettings

    @property
    def is_soft(self) -> bool:
        return True

    def rehearsal(self, images: int) -> dict[str, Any]:
        return {**self.lighter(images), "init": "real"}

    def begin(self, synset: SyntheticSet | None = None) -> None:
        super().begin(synset)
        self.synset.labels.requires_grad_()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimizer = super().configure_optimizers()
        rates = {"lr": self.settings.lr_label, "momentum": self.settings.momentum_label}
        optimizer.add_param_group({"name": "labels", "params": [self.synset.labels], **rates})
        return optimizer

    def start_bound(self, step: int) -> int:
        """U(t) = min(T + floor((T+ - T) t / t_end), T+): the range opens to harder epochs as the set matures."""
        first, last = self.settings.initial_max_start_epoch, self.settings.max_start_epoch
        until = self.settings.expansion_steps
        if first is None or until is None:
            return last
        return min(first + (last - first) * step // until, last)

    def initial_set(self) -> SyntheticSet:
        if self.settings.init == "real":
            synset = super().initial_set()
            labels = self.logits(0, synset.images)
        else:
            synset = SyntheticSet.of_images(self.real, self.correct_images())
            logits = torch.stack([self.logits(expert, synset.images) for expert in range(self.experts.count)])
            labels = mean_correct_logits(logits, synset.classes)
        return synset.with_(labels=labels, label_kind="logits")

    def correct_images(self) -> Tensor:
        """Indices (N,), by class, of images that an expert's last epoch classifies correctly.

        Each class is shuffled and read in batches of 256 until enough are found; when one expert finds too few, the next
        one looks for more, and the next class goes on with that expert.
        """
        chosen, expert = [], 0
        for cls, count in enumerate(self.counts):
            members = self.real.draw(cls, len(self.real.of_class(cls)), rng.generator(self.seed, "correct images", cls))
            found = self.newly_correct(expert, cls, members, members[:0])
            while len(found) < count:
                expert += 1
                if expert == self.experts.count:
                    raise ValueError(
                        f"experts classify {len(found)} images of class {self.real.class_names[cls]!r} correctly, "
                        f"{count} are needed: "
                        "train more or longer experts, or use method.init=real"
                    )
                found = self.newly_correct(expert, cls, members, found)
            chosen.append(found[:count])
        return torch.cat(chosen)

    def newly_correct(self, expert: int, cls: int, members: Tensor, found: Tensor) -> Tensor:
        """``found`` and, until there are enough, further ``members`` (indices) that this expert takes for ``cls``."""
        for batch in members.split(256):
            if len(found) >= self.counts[cls]:
                break
            correct = batch[self.logits(expert, self.real.images[batch]).argmax(1) == cls]
            found = torch.cat([found, correct[~torch.isin(correct, found)]])
        return found
