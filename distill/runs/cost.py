"""What a run is going to cost, said before anything is trained."""

import resource
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from torch import nn

from distill.data.split import Split
from distill.networks.flat import flatten
from distill.presets import options
from distill.runs.line import Line
from distill.runs.progress import duration
from distill.sets.coreset import Coreset
from distill.training.batch import Batches
from distill.training.loop import train
from distill.training.recipe import Recipe

PROBE = 32  # images of a measured step


def is_chosen(line: Line) -> bool:
    """Whether somebody chose the sizes of this run: a published cell, an overlay for the data, or a scale."""
    choices = line.choices
    known = choices.get("experiment") in options("experiment") or choices["scale"] != "published"
    return known or line.cfg.task == "evaluate" or choices["data"] == "digits"


def cost(line: Line) -> str:
    """Work, time on this machine (from two steps of each network, measured here) and memory, in one line."""
    real, parts, seconds, disk = line.real.train, [], 0.0, 0
    own = seconds_an_image(line.student(line.first_student), None, real)
    store = None if line.teachers_alone else line.expert_store()
    if store is not None:
        recipe = instantiate(line.cfg.method.experts.recipe)
        epochs = store.count * recipe.passes
        parts.append(f"{store.count} experts of {recipe.passes} epochs ({millions(epochs * len(real))} images)")
        seconds += epochs * len(real) * seconds_an_image(line.student(line.first_student), recipe, real)
        disk += 4 * (epochs + store.count) * len(flatten(line.student(line.first_student)()))
    teachers = {}
    for node in [line.cfg.experts] if line.teachers_alone else line.committees():
        for name, each in line.teacher_stores(node).items():
            teachers[each.folder] = (name, each.count, instantiate(node.recipe))
    for name, count, recipe in teachers.values():
        images = count * recipe.passes * len(real)
        parts.append(f"{count} teachers {name} of {recipe.passes} epochs ({millions(images)} images)")
        seconds += images * seconds_an_image(line.student(name), recipe, real)
    if line.cfg.task in ("distill", "all"):
        for ipc in line.ipcs:
            method = line.method(ipc, line.cfg.seed, line.untrained)
            steps = line.cfg.syntheses * method.steps
            images = round(steps * method.images_a_step())
            parts.append(f"{steps:,} outer steps ({millions(images)} images)")
            seconds += images * own
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    kept = f", {disk / 1e9:.1f} GB on disk" if disk else ""
    return (
        f"the papers' sizes on {len(real):,} images: {', '.join(parts)}: about {duration(seconds)} on this machine, and the "
        f"students; {peak / 1e9:.1f} GB of memory or more{kept}. scale=small takes minutes (docs/own_data.md); "
        "scale=published is this run"
    )


def seconds_an_image(make: Callable[[], nn.Module], recipe: Recipe | None, real: Split) -> float:
    """Of one image's way forward and back here, as ``recipe`` trains or plainly: the shorter of two small steps."""
    size = min(PROBE, len(real))
    images, labels = real.images[:size], real.labels[:size]
    with torch.random.fork_rng():
        net = make().to(labels.device)
    times = []
    for _ in range(2):
        began = time.perf_counter()
        if recipe is None:
            F.cross_entropy(net(images), labels).backward()
        else:
            short = recipe.with_(epochs=1, extra_epochs=0)
            train([net], Batches(Coreset(real, torch.arange(size)), short, recipe.views.on(real)), seeds=[0])
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return min(times) / size


def millions(count: int) -> str:
    return f"{count / 1e6:,.1f} M" if count >= 1e5 else f"{count:,}"
