"""Networks trained on the real set for a store: expert trajectories, and teachers that are asked for labels and statistics.

Recipes: MTT (Cazenavette et al., CVPR 2022, arXiv:2203.11932), FTD (Du et al., CVPR 2023, arXiv:2211.11004), the experts
of DATM, and AST (Shen et al., arXiv:2310.10541); teachers (squeezed, in SRe2L's word) as SRe2L (Yin et al., NeurIPS 2023,
arXiv:2306.13092) and CV-DD (arXiv:2501.07575) train them; see ``configs/experts``.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from distill import rng
from distill.data.real import RealData
from distill.due import Due
from distill.networks.flat import FlatStudent, flatten
from distill.parallel import Unit, crew
from distill.sets.coreset import Coreset
from distill.teachers.store import ExpertStore
from distill.training.accuracy import accuracy
from distill.training.batch import Batches, Seen
from distill.training.dynamics import Dynamics
from distill.training.gradients import way_to_train
from distill.training.loop import Progress, train
from distill.training.losses import CrossEntropy, Loss
from distill.training.pretext import BarlowTwins, Twins, probed
from distill.training.recipe import Recipe

STACK = 10  # experts that may be trained as one


@dataclass(frozen=True)
class Kept:
    """What a store keeps of its networks.

    Attributes:
        name, plural: what they are called; their draws are named after the name.
        every_epoch: weights at initialisation and after each epoch; or the last ones alone, with the running statistics.
        dynamics: what each image did to them, too.
        of: the network, of what was trained.
    """

    name: str
    plural: str
    every_epoch: bool
    dynamics: bool = False
    of: Callable[[Any], nn.Module] = lambda net: net


EXPERTS, TEACHERS = Kept("expert", "experts", every_epoch=True), Kept("teacher", "teachers", every_epoch=False)
PROXIES = Kept("proxy", "proxies", every_epoch=False, dynamics=True)


def experts(
    store: ExpertStore,
    real: RealData,
    student: Callable[[], nn.Module],
    recipe: Recipe,
    loss: Loss,
    seed: int,
    compile: bool | str = False,
) -> list[Unit]:
    """`networks` whose trajectories are kept, in stacks where that is faster; none where all are there.

    Args:
        compile: see `distill.autotune.fastest`.

    Raises:
        ValueError: the network keeps batch statistics.
    """
    if not store.missing:
        return []
    FlatStudent(student())  # refuses networks whose trajectory would not be complete
    batches, most = batches_of(real, recipe, loss), min(STACK, math.ceil(store.count / crew().size))
    way = crew().agree(
        lambda: way_to_train(student, batches, most, store.count, compile), f"the way of {store.folder.name}"
    )
    return networks(store, real, student, batches, seed, EXPERTS, way)


def teachers(
    store: ExpertStore,
    real: RealData,
    student: Callable[[], nn.Module],
    recipe: Recipe,
    seed: int,
    kept: Kept = TEACHERS,
    pretext: BarlowTwins | None = None,
) -> list[Unit]:
    """`networks` of a committee; a recipe of no epochs keeps networks as they are made (published weights).

    Args:
        kept: ``PROXIES`` for those that a rule asks.
        pretext: what they learn without labels; None learns the classes.

    Raises:
        ValueError: the recipe has no batches for its pretext.
    """
    batches = batches_of(real, recipe, pretext or CrossEntropy())
    if pretext is not None:
        batches, kept = paired(batches), replace(kept, of=lambda twins: probed(twins.net, real.train, pretext.ridge))
        student = partial(Twins.of, student, pretext.widths)
    return networks(store, real, student, batches, seed, kept, (False, 1))


def paired(batches: Batches) -> Batches:
    """Batches with two views of each image, one behind the other in the channels.

    Raises:
        ValueError: a batch would be a single image, or views are mixed.
    """
    recipe, images = batches.recipe, len(batches.data)
    if recipe.mix is not None or recipe.batch // recipe.micro_batches < 2 or images % recipe.batch == 1:
        raise ValueError(
            f"a pretext compares the images of a batch; {images} images in batches of {recipe.batch}, each in "
            f"{recipe.micro_batches} parts, leave a single one, or views are mixed: choose another batch, and recipe.mix=null"
        )

    def replay(seen: Seen, images: Tensor, draw: int) -> Seen:
        second = batches.view(images, rng.derive(draw, "second view"))
        return replace(seen, views=torch.cat([seen.views, second], 1))

    return replace(batches, replay=replay)


def batches_of(real: RealData, recipe: Recipe, loss: Loss) -> Batches:
    """Of all training images."""
    return Batches(Coreset.whole(real.train), recipe, recipe.views.on(real.train), loss)


def networks(
    store: ExpertStore,
    real: RealData,
    student: Callable[[], nn.Module],
    batches: Batches,
    seed: int,
    kept: Kept,
    way: tuple[bool, int],
) -> list[Unit]:
    """The networks of ``store`` as units of work, a group each, which goes on from the last epoch that a killed run kept.

    Groups do not depend on which networks are there: a stack's last bits depend on who is in it.

    Args:
        student: makes a network under torch's global seed.
        way: whether to compile, and how many networks go as one stack.
    """
    (compiled, stack), epochs = way, batches.recipe.passes(len(batches.data))

    def train_group(group: range, tell: Callable[[int], None]) -> None:
        """Train a group, and store those of it that are missing."""
        nets, missing = [], store.missing
        for number in group:
            with rng.seeded(seed, kept.name, number):
                nets.append(student().to(real.train.images.device))
        keeper = Keeper(store, group, nets, kept, batches, tell)
        train(
            nets,
            batches,
            seeds=[rng.derive(seed, f"{kept.name}s", number) for number in group],
            compiled=compiled,
            progress=keeper.before(),
            after_batch=keeper.dynamics,
            after_epoch=keeper,
        )
        for number, net, rows in zip(group, nets, torch.stack(keeper.rows, 1), strict=True):
            if number in missing:
                net = kept.of(net)
                weights = rows if kept.every_epoch else flatten(net)[None].cpu()
                score = accuracy(net, real.val if len(real.val) else real.train, batches.recipe)
                store.write(number, weights, score, dict(net.named_buffers()), keeper.log)
        store.forget(group)

    def unit(group: range) -> Unit:
        name, text = store.folder.name, f"training {kept.plural} {store.folder.name}"
        key = f"{name}/{group[0]}-{group[-1]}"
        return Unit(key, partial(train_group, group), lambda: not set(group) & set(store.missing), text, epochs)

    return [unit(range(first, min(first + stack, store.count))) for first in range(0, store.count, stack)]


class Keeper:
    """Keeps what is asked of a group of networks after each epoch, and on disk what a killed run goes on from.

    Attributes:
        rows: weights (networks, P), at initialisation and after every epoch, or the last ones alone.
        dynamics: what each image did to the only network of the group; None where nobody asks.
    """

    def __init__(
        self,
        store: ExpertStore,
        group: Sequence[int],
        nets: Sequence[nn.Module],
        kept: Kept,
        batches: Batches,
        tell: Callable[[int], None],
    ):
        self.store, self.group, self.nets, self.kept, self.tell = store, group, nets, kept, tell
        self.recipe = batches.recipe
        self.dynamics = Dynamics(self.recipe.passes(len(batches.data)), len(batches.data)) if kept.dynamics else None
        self.rows: list[Tensor] = [torch.stack([flatten(net).cpu() for net in nets])]
        self.due = Due()

    @property
    def log(self) -> dict[str, Tensor]:
        """The dynamics by name."""
        return self.dynamics.tensors if self.dynamics else {}

    def before(self) -> Progress | None:
        """Where a killed run stood; None where none did."""
        found, progress = self.store.unfinished(self.group), None
        if found is not None:
            weights, tensors = found
            if self.dynamics:
                self.dynamics = Dynamics.of({name: tensors.pop(f"dynamics.{name}") for name in self.log})
            self.rows = list(weights.unbind(1))
            epochs = int(tensors.pop("epochs", len(self.rows) - 1))
            progress = Progress.of(epochs, self.rows[-1].to(next(self.nets[0].parameters()).device), tensors)
        self.tell(progress.epochs if progress else 0)
        return progress

    def __call__(self, now: Progress) -> None:
        row = now.weights.clone().cpu()
        finite = row.isfinite().all(1)
        if not finite.all():
            lost = self.group[int((~finite).nonzero()[0])]
            who = f"{self.kept.name} {lost}"
            raise ValueError(f"{who} diverged in epoch {now.epochs}: lower the recipe's lr ({self.recipe.lr})")
        self.rows[len(self.rows) if self.kept.every_epoch else 0 :] = [row]
        if self.due.now:
            with self.due.written():
                state = {f"dynamics.{name}": tensor for name, tensor in self.log.items()}
                if not self.kept.every_epoch:
                    state["epochs"] = torch.tensor(now.epochs)
                self.store.keep(self.group, torch.stack(self.rows, 1), {**now.tensors, **state})
        self.tell(now.epochs)
