"""AST: alignment with smooth, high-quality expert trajectories (Shen et al., arXiv:2310.10541).

The experts' part (momentum, ramped loss, gradient penalty) is ``configs/experts/ast.yaml``. The paper's equations could not
be read: what each ingredient does here is what the authors' code does, as the specification has it.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from sklearn.cluster import KMeans
from torch import Tensor

from distill import rng
from distill.checks import setting
from distill.methods.matching.trajectory import TrajectoryMatching, TrajectorySettings
from distill.sets.synthetic import SyntheticSet

WEIGHTS = {"none": None, "aggregate": lambda j, m: 1.0, "adaptive": lambda j, m: j / m}


def balance(epoch: int, max_start_epoch: int) -> float:
    """Factor on the inner loss for a start epoch: late starts, with their small gradients, get larger steps.

    With h = floor(T+ / 2): log5(s - h + 8) from epoch h on, 1 / log5(h - s + 8) before it.
    """
    half = max_start_epoch // 2
    return math.log(epoch - half + 8, 5) if epoch >= half else 1 / math.log(half - epoch + 8, 5)


@dataclass(frozen=True, kw_only=True)
class ASTSettings(TrajectorySettings):
    """Of `AST`.

    Attributes:
        balanced: scale the inner loss by `balance`.
        perturbation: beta; each convolution's start w becomes w + beta * (e / |e|) * w with Gaussian e; 0 for none.
        intermediate: weight of the errors after each of the expert's epochs but the last: ``none``, ``aggregate`` (1)
            or ``adaptive`` (j / M for epoch j).
        init: ``kmeans`` (the images nearest the centroids of an expert's logits, no image twice) or ``real``.
    """

    balanced: bool = setting("true or false")
    perturbation: float = setting("[0, 1000]")
    intermediate: str = setting(f"one of {', '.join(WEIGHTS)}")
    init: str = setting("one of kmeans, real")

    def check(self) -> None:
        if self.intermediate != "none" and (self.memory == "tesla" or self.student_steps < self.expert_epochs):
            raise ValueError(
                f"method.intermediate={self.intermediate} needs method.memory=recompute or full and at least as many "
                "method.student_steps as method.expert_epochs"
            )
        super().check()


class AST(TrajectoryMatching):
    """Trajectory matching of a momentum student, whatever its start epoch, on the way as well as at the end."""

    settings_type = ASTSettings
    settings: ASTSettings

    def inner_scale(self, epoch: int) -> float:
        return balance(epoch, self.settings.max_start_epoch) if self.settings.balanced else 1.0

    def start(self, expert: int, epoch: int, step: int) -> Tensor:
        """The expert's weights, each convolution perturbed by beta / sqrt(its size) of its norm."""
        weights = super().start(expert, epoch, step)
        if not self.settings.perturbation:
            return weights
        g = rng.generator(self.seed, "perturbation", step)
        moved = []
        for part in self.net.unflatten(weights).values():
            if part.dim() == 4:
                noise = torch.randn(part.shape, generator=g).to(part, non_blocking=True)
                part = part + self.settings.perturbation * noise / noise.norm() * part
            moved.append(part.flatten())
        return torch.cat(moved)

    def landings(self) -> list[tuple[int, int, float]]:
        """After k_j = j floor(N / M) steps the expert's epoch j, and after N the last one."""
        steps, epochs = self.settings.student_steps, self.settings.expert_epochs
        weight = WEIGHTS[self.settings.intermediate]
        between = [] if weight is None else [(j * (steps // epochs), j, weight(j, epochs)) for j in range(1, epochs)]
        return [*between, *super().landings()]

    def rehearsal(self, images: int) -> dict[str, Any]:
        return {**self.lighter(images), "init": "real"}

    def initial_set(self) -> SyntheticSet:
        if self.settings.init == "real":
            return super().initial_set()
        chosen = [self.representatives(self.real.of_class(cls), cls) for cls in range(self.real.num_classes)]
        return SyntheticSet.of_images(self.real, torch.cat(chosen))

    def representatives(self, members: Tensor, cls: int) -> Tensor:
        """Of ``members`` (indices of one class) those nearest to centroids of the first expert's logits."""
        logits = self.logits(0, self.real.images[members]).double().cpu()
        seed = rng.derive(self.seed, "representatives", cls) % 2**32
        centroids = KMeans(self.counts[cls], n_init=1, random_state=seed).fit(logits.numpy()).cluster_centers_
        distance = torch.cdist(torch.from_numpy(centroids), logits)
        chosen: list[int] = []
        for row in distance:
            row[chosen] = torch.inf
            chosen.append(int(row.argmin()))
        return members[chosen]
