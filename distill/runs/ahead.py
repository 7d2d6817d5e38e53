"""What lies ahead of a run: networks that are to be trained or asked, and how long a step of one takes here."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter

import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from torch import nn

from distill.data.split import Split
from distill.effort import operations
from distill.evaluation.rehearsal import check_protocol
from distill.methods.synthesis import is_finished
from distill.networks.flat import flatten
from distill.runs import judging
from distill.runs.checks import baselines
from distill.runs.entries import folders
from distill.runs.line import Line
from distill.runs.rivals import rivals
from distill.sets.coreset import Coreset
from distill.teachers.store import ExpertStore
from distill.training.batch import Batches
from distill.training.loop import train
from distill.training.recipe import Recipe

PROBE = 32  # images of a step that tells what an image costs
MOST = 256  # images of a step of a method


@dataclass(frozen=True)
class Work:
    """Images that are to go through a network, forward and back.

    Attributes:
        text: what for.
        units: parts of it, and of what is done at the same time, that processes can share.
        images: in all.
        batch: of them in a step.
        make: makes the network.
        recipe: how it is trained; None where a method does it in its own way.
        disk: bytes that it leaves.
    """

    text: str
    units: int
    images: float
    batch: int
    make: Callable[[], nn.Module]
    recipe: Recipe | None
    disk: int = 0

    def seconds(self, real: Split) -> float:
        """About how long it takes here: an image of the shorter of two small steps, times the images."""
        small = replace(self, batch=min(PROBE, len(real)))
        step = small.step(real)
        times = []
        for _ in range(2 if self.images else 0):
            began = perf_counter()
            step()
            times.append(perf_counter() - began)
        return self.images * min(times, default=0.0) / small.batch

    def step(self, real: Split) -> Callable[[], object]:
        """One step on real images, as often as it is called."""
        size = min(self.batch, len(real))
        with torch.random.fork_rng():
            net = self.make().to(real.labels.device)
        return partial(one_step, net, self.recipe, Coreset(real, torch.arange(size)), real)


def one_step(net: nn.Module, recipe: Recipe | None, data: Coreset, real: Split) -> None:
    """On some of the real images, as ``recipe`` trains, or plainly."""
    if recipe is None:
        F.cross_entropy(net(data.images[:]), data.targets).backward()
    else:
        short = recipe.with_(epochs=1, steps=None, extra_epochs=0)
        train([net], Batches(data, short, recipe.views.on(real)), seeds=[0])
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def needed_by(line: Line, works: Sequence[Work]) -> float:
    """About how many floating-point operations these are."""
    image = line.real.train.images[:2].cpu()
    return sum(work.images * operations(work.make, image) for work in works)


def experts(line: Line) -> list[Work]:
    """Experts and teachers that are not there."""
    return [*stores(line).values(), *(stores(line.judge).values() if line.judge is not line else ())]


def stores(line: Line) -> dict[str, Work]:
    """The same by the name of the store."""
    found: dict[str, Work] = {}
    store = None if line.teachers_alone else line.expert_store()
    if store is not None:
        recipe, make = instantiate(line.cfg.method.experts.recipe), line.student(line.first_student)
        rows = (recipe.passes(len(line.real.train)) + 1) * len(store.missing)
        found[store.folder.name] = replace(
            of_store("experts", store, make, recipe, len(line.real.train)), disk=4 * rows * len(flatten(make()))
        )
    for node, name, _, each in line.asked_stores():
        what = f"{'proxies' if node.get('dynamics') else 'teachers'} {name}"
        work = of_store(what, each, line.student(name), instantiate(node.recipe), len(line.real.train))
        found.setdefault(each.folder.name, work)
    return {name: work for name, work in found.items() if work.units}


def of_store(what: str, store: ExpertStore, make: Callable[[], nn.Module], recipe: Recipe, images: int) -> Work:
    count, epochs = len(store.missing), recipe.passes(images)
    return Work(f"{count} {what} of {epochs} epochs", count, count * epochs * images, recipe.batch, make, recipe)


def sets(line: Line) -> list[Work]:
    """Sets that are not finished."""
    if not line.kind.makes_sets:
        return []
    found, make = [], line.student(line.first_student)
    for ipc in line.ipcs:
        method = line.method(ipc, line.cfg.seed, line.untrained)
        left = sum(not is_finished(folder, method.steps) for folder in folders(line, ipc))
        steps, each = left * method.steps, method.images_a_step()
        units = sum(method.counts) if "share" in line.cfg.method and left else left
        found.append(Work(f"{steps:,} outer steps", units, steps * each, max(1, min(MOST, round(each))), make, None))
    if "share" in line.cfg.method:  # processes make each set together
        return found
    return [replace(work, units=sum(each.units for each in found)) for work in found if work.units]


def students(line: Line) -> list[Work]:
    """All students, as long as there is a row to be measured."""
    if not judging.left(line):
        return []
    train, named = line.real.train, baselines(line.cfg)
    found = [work for other in rivals(line) for work in experts(other)]
    sizes = [len(line.synsets[0])] if line.synsets else [sum(train.asked(ipc)) for ipc in line.ipcs]
    beside = [count for name, count in named.items() if name != "whole"]
    alike = [len(line.synsets) or line.cfg.syntheses, *beside]  # each row's students are shared
    found += pretraining(line, [(size, count) for size in sizes for count in alike])
    counted = [(size, count) for size in sizes for count in alike] + [(len(train), 1)] * ("whole" in named)
    for images, count in counted:
        images = line.protocol().trained_on(images, len(line.judge.real.train))
        protocol = check_protocol(line.protocol(), line.judge.real, images, snapshots=False)
        for name in line.students:
            tries = math.prod(map(len, protocol.candidates.values())) if protocol.candidates else 0
            units, recipe = count * protocol.students, protocol.recipe
            passes = recipe.passes(images)
            text = f"{units} students {name} of {passes} epochs"
            batch = min(recipe.batch, images)
            found.append(Work(text, units, (units + tries) * passes * images, batch, line.student(name), recipe))
    return found


def pretraining(line: Line, counted: Sequence[tuple[int, int]]) -> list[Work]:
    """What students do before they are tuned, where the protocol says so; what is found again is counted, too.

    Args:
        counted: sizes, and how many sets there are of each.
    """
    protocol = line.protocol()
    if protocol.pretraining is None:
        return []
    vectors = line.synsets[0].has_vectors if line.synsets else line.kind.has_vectors
    recipe = protocol.pretraining.vectors if vectors else protocol.pretraining.classes
    return [
        Work(
            f"{count * protocol.students} students {name} before, of {recipe.passes(size)} epochs",
            count * protocol.students,
            count * protocol.students * recipe.passes(size) * size,
            min(recipe.batch, size),
            line.student(name),
            recipe,
        )
        for size, count in counted
        for name in line.students
    ]


AHEAD: Mapping[str, Callable[[Line], list[Work]]] = {
    "experts": experts,
    "distill": sets,
    "evaluate": students,
    "judge": students,
}
