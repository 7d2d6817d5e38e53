"""Expert trajectories: networks trained on the real set, their weights kept after every epoch.

Recipes: MTT (Cazenavette et al., CVPR 2022, arXiv:2203.11932), FTD (Du et al., CVPR 2023, arXiv:2211.11004), the experts
of DATM, and AST (Shen et al., arXiv:2310.10541); see ``configs/experts``.
"""

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from distill import rng
from distill.data.real import RealData
from distill.data.split import Split
from distill.networks.flat import FlatStudent, flatten
from distill.parallel import crew
from distill.progress import HowFar
from distill.teachers.store import ExpertStore
from distill.training.accuracy import accuracy
from distill.training.expert_recipe import ExpertRecipe
from distill.training.gradients import way_to_train
from distill.training.loop import Progress, train
from distill.training.views import augmentation

STACK = 10  # experts that may be trained as one
SAVE_SECONDS = 30.0  # between two states of unfinished experts on disk


def train_experts(
    store: ExpertStore,
    real: RealData,
    student: Callable[[], nn.Module],
    recipe: ExpertRecipe,
    seed: int,
    progress: HowFar,
    compile: bool | str = False,
) -> None:
    """Train the experts that ``store`` lacks; go on from the last epoch that a killed run kept.

    Args:
        student: makes a network under torch's global seed.
        progress: called with (text, epochs done, epochs in all).
        compile: see `distill.autotune.fastest`.

    Raises:
        ValueError: the network keeps batch statistics, or an expert diverged.
    """
    missing = crew().agree(lambda: store.missing)
    if not missing:
        return
    FlatStudent(student())  # refuses networks whose trajectory would not be complete
    images, labels = real.train.images, real.train.labels
    compiled, stack = crew().agree(
        lambda: way_to_train(student, images, labels, recipe, min(STACK, store.count), store.count, compile)
    )
    # The groups depend on the count alone: a stack's last bits depend on who is in it.
    groups = [list(range(first, min(first + stack, store.count))) for first in range(0, store.count, stack)]
    todo = crew().share([group for group in groups if set(group) & set(missing)])
    for number, group in enumerate(todo):
        nets = []
        for expert in group:
            with rng.seeded(seed, "expert", expert):
                nets.append(student().to(images.device))

        def done(epoch: int, number: int = number) -> None:
            progress(f"training experts {store.folder.name}", number * recipe.passes + epoch, len(todo) * recipe.passes)

        seeds = [rng.derive(seed, "experts", expert) for expert in group]
        weights = trajectories(nets, real.train, recipe, seeds, store, group, compiled, done)
        for expert, net, rows in zip(group, nets, weights, strict=True):
            if expert in missing:
                store.write(expert, rows, accuracy(net, real.val if len(real.val) else real.train, recipe))
        store.forget(group)


def trajectories(
    nets: Sequence[nn.Module],
    real: Split,
    recipe: ExpertRecipe,
    seeds: Sequence[int],
    store: ExpertStore,
    group: Sequence[int],
    compiled: bool,
    done: Callable[[int], None],
) -> Tensor:
    """Weights (experts, epochs + 1, P) of networks at initialisation and after every epoch; the networks end up trained."""
    rows, progress, saved = [torch.stack([flatten(net).cpu() for net in nets])], None, time.monotonic()
    if (kept := store.unfinished(group)) is not None:
        earlier, optimizer = kept
        rows = list(earlier.unbind(1))
        progress = Progress(len(rows) - 1, rows[-1].to(real.images.device), optimizer)
    done(len(rows) - 1)

    def keep(now: Progress) -> None:
        nonlocal saved
        rows.append(now.weights.cpu())
        if not rows[-1].isfinite().all():
            lost = group[int((~rows[-1].isfinite()).any(1).nonzero()[0])]
            raise ValueError(f"expert {lost} diverged in epoch {now.epochs}: lower the recipe's lr ({recipe.lr})")
        if time.monotonic() - saved > SAVE_SECONDS:
            store.keep(group, torch.stack(rows, 1), now.optimizer)
            saved = time.monotonic()
        done(now.epochs)

    train(
        nets,
        real.images,
        real.labels,
        recipe,
        seeds=seeds,
        augment=augmentation(recipe, real),
        compiled=compiled,
        after_epoch=keep,
        progress=progress,
    )
    return torch.stack(rows, 1)
