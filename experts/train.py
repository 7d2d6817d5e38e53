"""Expert trajectories: networks trained on the real set, their weights kept after every epoch.

Recipes: MTT (Cazenavette et al., CVPR 2022, arXiv:2203.11932) and FTD (Du et al., CVPR 2023, arXiv:2211.11004), the
experts of DATM; see ``configs/experts``.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from distill import rng
from distill.data import RealData, Split
from distill.students import FlatStudent, flatten
from distill.training import Recipe, accuracy, augmentation, train
from distill.trajectory import ExpertStore


def train_experts(
    store: ExpertStore,
    real: RealData,
    student: Callable[[], nn.Module],
    recipe: Recipe,
    seed: int,
    progress: Callable[[str, int, int], None],
) -> None:
    """Train the experts that ``store`` lacks; expert i is the same whichever others exist.

    Args:
        student: makes a network under torch's global seed.
        progress: called with (text, epochs done, epochs in all).

    Raises:
        ValueError: the network keeps batch statistics, or an expert diverged.
    """
    missing = store.missing
    for number, expert in enumerate(missing):
        with rng.seeded(seed, "expert", expert):
            net = student()
        FlatStudent(student())  # refuses networks whose trajectory would not be complete
        done = partial(_advance, progress, number * recipe.passes, len(missing) * recipe.passes)
        weights = trajectory(
            net.to(real.train.images.device), real.train, recipe, rng.derive(seed, "experts", expert), done
        )
        if not weights[-1].isfinite().all():
            raise ValueError(
                f"expert {expert} diverged, its weights are not finite: lower the recipe's lr ({recipe.lr})"
            )
        store.write(expert, weights, accuracy(net, real.val if len(real.val) else real.train))


def trajectory(net: nn.Module, train_split: Split, recipe: Recipe, seed: int, done: Callable[[int], None]) -> Tensor:
    """Weights (epochs + 1, P) of ``net`` at initialisation and after every epoch; ``net`` is left trained."""
    rows = [flatten(net).cpu()]

    def keep(epoch: int) -> None:
        rows.append(flatten(net).cpu())
        done(epoch)

    augment = augmentation(recipe, train_split.strategy)
    train(net, train_split.images, train_split.labels, recipe, seed=seed, augment=augment, after_epoch=keep)
    return torch.stack(rows)


def _advance(progress: Callable[[str, int, int], None], before: int, total: int, epoch: int) -> None:
    progress("experts", before + epoch + 1, total)
