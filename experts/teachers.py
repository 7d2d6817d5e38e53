"""Teachers: networks trained on the real set (squeezed, in SRe2L's word) to be asked for statistics and labels.

Recipes: SRe2L (Yin et al., NeurIPS 2023, arXiv:2306.13092) and CV-DD (arXiv:2501.07575); see ``configs/experts/teacher.yaml``.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

import distill.experts.train
from distill import rng
from distill.data.real import RealData
from distill.networks.flat import flatten
from distill.parallel import crew
from distill.progress import HowFar
from distill.teachers.store import ExpertStore
from distill.training.accuracy import accuracy
from distill.training.loop import Progress, train
from distill.training.recipe import Recipe
from distill.training.views import augmentation


def train_teachers(
    store: ExpertStore,
    real: RealData,
    student: Callable[[], nn.Module],
    recipe: Recipe,
    seed: int,
    progress: HowFar,
) -> None:
    """Train the teachers that ``store`` lacks, and keep their last weights with the running statistics.

    Args:
        student: makes a network under torch's global seed; a recipe of no epochs keeps it as it is made (published weights).
        progress: called with (text, epochs done, epochs in all).

    Raises:
        ValueError: a teacher diverged.
    """
    for teacher in crew().share(crew().agree(lambda: store.missing)):
        with rng.seeded(seed, "teacher", teacher):
            net = student().to(real.train.images.device)
        text = f"training teacher {teacher + 1} of {store.count}, {store.folder.name}"
        before, saved = None, time.monotonic()
        if (kept := store.unfinished([teacher])) is not None:
            weights, tensors = kept
            statistics = {name: tensors.pop(f"statistics.{name}") for name, _ in net.named_buffers()}
            net.load_state_dict(statistics, strict=False)
            before = Progress(int(tensors.pop("epochs")), weights[:, -1].to(real.train.images.device), tensors)

        progress(text, before.epochs if before else 0, recipe.passes)

        def keep(now: Progress, net: nn.Module = net, teacher: int = teacher, text: str = text) -> None:
            nonlocal saved
            if not now.weights.isfinite().all():
                raise ValueError(
                    f"teacher {teacher} diverged in epoch {now.epochs}: lower the recipe's lr ({recipe.lr})"
                )
            if time.monotonic() - saved > distill.experts.train.SAVE_SECONDS:
                buffers = {f"statistics.{name}": buffer for name, buffer in net.named_buffers()}
                state: dict[str, Tensor] = {**now.optimizer, **buffers, "epochs": torch.tensor(now.epochs)}
                store.keep([teacher], now.weights[:, None].cpu(), state)
                saved = time.monotonic()
            progress(text, now.epochs, recipe.passes)

        train(
            [net],
            real.train.images,
            real.train.labels,
            recipe,
            seeds=[rng.derive(seed, "teachers", teacher)],
            augment=augmentation(recipe, real.train),
            after_epoch=keep,
            progress=before,
        )
        score = accuracy(net, real.val if len(real.val) else real.train, recipe)
        store.write(teacher, flatten(net)[None].cpu(), score, dict(net.named_buffers()))
        store.forget([teacher])
