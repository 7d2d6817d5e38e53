"""AST: alignment with smooth, high-quality expert trajectories (Shen et al., arXiv:2310.10541).

The experts' part (momentum, ramped loss, gradient penalty) is ``configs/experts/ast.yaml``. The paper's equations could not
be read: what each ingredient does here is what the authors' code does, as the specification has it.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from sklearn.cluster import KMeans
from torch import Tensor

from distill import rng
from distill.checks import check_ranges
from distill.methods.matching.trajectory import TrajectoryMatching
from distill.sets.synthetic import SyntheticSet

WEIGHTS = {"none": None, "aggregate": lambda j, m: 1.0, "adaptive": lambda j, m: j / m}


def balance(epoch: int, max_start_epoch: int) -> float:
    """Factor on the inner loss for a start epoch: late starts, with their small gradients, get larger steps.

    With h = floor(T+ / 2): log5(s - h + 8) from epoch h on, 1 / log5(h - s + 8) before it.
    """
    half = max_start_epoch // 2
    return math.log(epoch - half + 8, 5) if epoch >= half else 1 / math.log(half - epoch + 8, 5)


class AST(TrajectoryMatching):
    """Trajectory matching of a momentum student, whatever its start epoch, on the way as well as at the end.

    Args:
        balanced: scale the inner loss by `balance`.
        perturbation: beta; each convolution's start w becomes w + beta * (e / |e|) * w with Gaussian e; 0 for none.
        intermediate: weight of the errors after each of the expert's epochs but the last: ``none``, ``aggregate`` (1)
            or ``adaptive`` (j / M for epoch j).
        init: ``kmeans`` (the images nearest the centroids of an expert's logits, no image twice) or ``real``.
        others: see `TrajectoryMatching`.

    Raises:
        ValueError: a value is unknown.
    """

    RANGES: ClassVar[Mapping[str, Any]] = {
        "balanced": "true or false",
        "perturbation": "[0, 1000]",
        "intermediate": f"one of {', '.join(WEIGHTS)}",
        "init": "one of kmeans, real",
    }

    def __init__(
        self,
        *,
        balanced: bool,
        perturbation: float,
        intermediate: str,
        init: str,
        **others: Any,
    ):
        check_ranges("method", locals(), AST.RANGES)
        if intermediate != "none" and (
            others["memory"] == "tesla" or others["student_steps"] < others["expert_epochs"]
        ):
            raise ValueError(
                f"method.intermediate={intermediate} needs method.memory=recompute or full and at least as many "
                "method.student_steps as method.expert_epochs"
            )
        super().__init__(**others)

    def inner_scale(self, epoch: int) -> float:
        return balance(epoch, self.hparams["max_start_epoch"]) if self.hparams["balanced"] else 1.0

    def start(self, expert: int, epoch: int, step: int) -> Tensor:
        """The expert's weights, each convolution perturbed by beta / sqrt(its size) of its norm."""
        weights = super().start(expert, epoch, step)
        if not self.hparams["perturbation"]:
            return weights
        g = rng.generator(self.seed, "perturbation", step)
        moved = []
        for part in self.net.unflatten(weights).values():
            if part.dim() == 4:
                noise = torch.randn(part.shape, generator=g).to(part)
                part = part + self.hparams["perturbation"] * noise / noise.norm() * part
            moved.append(part.flatten())
        return torch.cat(moved)

    def landings(self) -> list[tuple[int, int, float]]:
        """After k_j = j floor(N / M) steps the expert's epoch j, and after N the last one."""
        steps, epochs = self.hparams["student_steps"], self.hparams["expert_epochs"]
        weight = WEIGHTS[self.hparams["intermediate"]]
        between = [] if weight is None else [(j * (steps // epochs), j, weight(j, epochs)) for j in range(1, epochs)]
        return [*between, *super().landings()]

    def initial_set(self) -> SyntheticSet:
        if self.hparams["init"] == "real":
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
