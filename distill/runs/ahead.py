"""What lies ahead of a run: networks that are to be trained or asked, and how long a step of one takes here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import ceil
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn

from distill.effort import operations
from distill.experts.train import STACK
from distill.methods.base import Method
from distill.methods.synthesis import is_finished
from distill.networks.flat import flatten
from distill.runs import judged
from distill.runs.entries import folders
from distill.runs.judging import left
from distill.runs.line import Line
from distill.runs.pieces import Synthesis, Training
from distill.runs.rehearsed import Work as Work
from distill.runs.rivals import rivals
from distill.teachers.store import ExpertStore
from distill.training.losses import CrossEntropy, Loss
from distill.training.recipe import Recipe

MOST = 256  # images of a step of a method


def needed_by(line: Line, works: Sequence[Work]) -> float:
    """About how many floating-point operations these are."""
    return sum(work.operations(line.real.train) for work in works)


def experts(line: Line) -> list[Work]:
    """Experts and teachers that are not there."""
    return [*stores(line).values(), *(stores(line.judge).values() if line.judge is not line else ())]


def stores(line: Line) -> dict[str, Work]:
    """The same by the name of the store."""
    found: dict[str, Work] = {}
    store = None if line.teachers_alone else line.expert_store()
    if store is not None:
        node, make = line.cfg.method.experts, line.student(line.first_student)
        rows = instantiate(node.recipe).passes(len(line.real.train)) + 1
        work = of_store(line, "experts", "method.experts", node, store, make)
        found[store.folder.name] = replace(
            work, disk=4 * rows * work.units * len(flatten(make())), less="fewer method.experts.count"
        )
    for node, name, _, each in line.asked_stores():
        what = f"{'proxies' if node.get('dynamics') else 'teachers'} {name}"
        work = of_store(line, what, place_of(line, node), node, each, line.student(name))
        found.setdefault(each.folder.name, work)
    return {name: work for name, work in found.items() if work.units}


def place_of(line: Line, node: DictConfig) -> str:
    """Where a committee's settings are."""
    if line.teachers_alone:
        return "experts"
    if node is line.judges:
        return "protocol.labels.committee"
    return "method.proxies" if node.get("dynamics") else "method.committee"


def of_store(
    line: Line, what: str, place: str, node: DictConfig, store: ExpertStore, make: Callable[[], nn.Module]
) -> Work:
    real, count = line.real.train, len(store.missing)
    recipe: Recipe = instantiate(node.recipe)
    loss: Loss = instantiate(node.loss) if "loss" in node else CrossEntropy()
    epochs, images, stack = recipe.passes(len(real)), len(real), min(STACK, ceil(store.count / line.crew.size))
    compile = line.cfg.compile if what == "experts" else False
    own = Training(
        make, recipe, real, images, count, stack if what == "experts" else 1, f"{place}.recipe", loss, compile
    )
    text = f"{count} {what} of {epochs} epochs"
    return Work(text, count, count * epochs * images, recipe.batch, make, recipe, trial=own.trial)


def sets(line: Line) -> list[Work]:
    """Sets that are not finished."""
    if not line.kind.makes_sets:
        return []
    found = []
    for ipc in line.ipcs:
        method = line.method(ipc, line.cfg.seed, line.untrained)
        lacking = sum(not is_finished(folder, method.steps) for folder in folders(line, ipc))
        found += [of_sets(line, method, lacking)] if lacking else []
    return found


def of_sets(line: Line, method: Method, left: int) -> Work:
    """So many sets of one size; processes make each set together where they can share its images."""
    steps, each, images = left * method.steps, method.images_a_step(), sum(method.counts)
    numbers = images * method.real.images[:1].numel()
    snapshots = method.steps // method.snapshot_every + 1
    committee, rounds = method.inputs.committee, left * (method.steps + method.images_before() / each if each else 0.0)
    nets = () if committee is None else committee.nets
    alone = (
        method.parts if not method.real.in_memory else 1
    )  # such sets are made part by part, and put together on disk
    kept = numbers * ((snapshots + 1) * method.depth + 4) if alone == 1 else 2 * numbers * method.depth
    values: Mapping[str, Any] = instantiate(line.cfg.method).keywords
    return Work(
        text=f"{steps:,} outer steps of {left} set{'s' * (left > 1)} of {images:,} images by {line.choices['method']}",
        units=left * method.parts,
        images=steps * each + left * method.images_before(),
        batch=max(1, min(MOST, round(each))),
        make=line.student(line.members(line.cfg.method.committee)[0] if nets else line.first_student),
        recipe=None,
        more=lambda: steps * each * unlike(list(nets), method.real.images[:2].cpu()),
        disk=left * kept,
        less="a larger method.snapshot_every",
        trial=Synthesis(method, values, rounds).trial if rounds else None,
        resident=2 * 4 * numbers // alone,
    )


def unlike(nets: Sequence[nn.Module], images: Tensor) -> float:
    """Operations of a training step on one image that networks take on average, more than the first of them; 0 for none."""
    each = [operations(partial(next, iter([net])), images) for net in nets]
    return sum(each) / len(each) - each[0] if each else 0.0


def students(line: Line) -> list[Work]:
    """All students, and what their rows need before, as long as there is a row to be measured."""
    if not left(line):
        return []
    return [*(work for other in rivals(line) for work in experts(other)), *judged.students(line)]


AHEAD: Mapping[str, Callable[[Line], list[Work]]] = {
    "experts": experts,
    "distill": sets,
    "evaluate": students,
    "judge": students,
}
