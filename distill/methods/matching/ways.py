"""Which of the inner loop's ways is fastest on this machine, among those whose memory it has."""

import math
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from distill.autotune import EAGER, fastest, memory_of
from distill.methods.matching.sliced import Sliced
from distill.methods.matching.unroll import CompiledDerivatives, Derivatives, InnerLoss
from distill.methods.peers import ALONE, Peers
from distill.parallel import crew

SHARE = 0.5  # of the machine's memory that graphs may take


class Way(NamedTuple):
    """How an unroll is differentiated: by these derivatives, in this memory mode."""

    derivatives: Derivatives
    mode: str


class Case(NamedTuple):
    """A step of an inner loop, and how many there are.

    Attributes:
        loss: of one batch.
        theta: weights (P,).
        images: one batch (B, C, H, W), or this process's slice of one; labels with it.
        steps: of an inner loop.
        loops: inner loops ahead.
        about: what tells this case from others on this machine: network, shapes, kind of labels.
    """

    loss: InnerLoss
    theta: Tensor
    images: Tensor
    labels: Tensor
    steps: int
    loops: int
    about: Mapping[str, object]


def choose(case: Case, memory: str, compile: bool | str, peers: Peers = ALONE) -> Way:
    """The fastest way here; of peers, all take that of their first.

    Args:
        memory: a mode of `distill.methods.matching.unroll`, or ``auto``: ``recompute``, or one that is faster and fits.
        compile: see `distill.autotune.fastest`.
    """
    modes = peers.agree(lambda: fitting(case)) if memory == "auto" else [memory]
    made = {EAGER: Derivatives(case.loss), "compiled": CompiledDerivatives(case.loss, len(case.images))}
    ways = {_name(kind, mode, modes[0]): Way(each, mode) for kind, each in made.items() for mode in modes}
    about = {**case.about, "memory": memory}
    todo = {name: partial(step, case, way) for name, way in ways.items()}
    name = fastest(todo, about, case.loops * case.steps, case.images.device, compile)
    way = ways[peers.agree(lambda: name)]
    return way if peers.size == 1 else Way(Sliced(way.derivatives, peers), way.mode)


def fitting(case: Case) -> list[str]:
    """The exact modes whose graphs fit into the memory of their device, that with the smallest first."""
    device = case.images.device
    beside = crew().size if device.type == "cpu" else 1  # processes with graphs of their own
    one, most = graph_bytes(case), SHARE * memory_of(device) / beside
    kept = {"segments": math.isqrt(case.steps - 1) + 1, "full": case.steps}
    return ["recompute", *(mode for mode, steps in kept.items() if steps > 1 and steps * one < most)]


def graph_bytes(case: Case) -> int:
    """What autograd keeps of one step until it is differentiated again."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        theta = case.theta.detach().clone().requires_grad_()
        gradient = Derivatives(case.loss).gradient(theta, case.images, case.labels, graph=True)
    del gradient
    return sum(kept.values())


def step(case: Case, way: Way) -> None:
    """The work of one step of the unroll, forward and backward."""
    loss, theta, images, labels = way.derivatives, case.theta, case.images, case.labels
    if way.mode in ("full", "segments"):
        if way.mode == "segments":
            loss.gradient(theta, images, labels, graph=False)
        pixels = images.detach().clone().requires_grad_()
        loss.gradient(theta.clone().requires_grad_(), pixels, labels, graph=True).sum().backward()
    else:
        loss.gradient(theta, images, labels, graph=False)
        loss.products(theta, images, labels, theta, way.mode == "recompute")


def _name(kind: str, mode: str, first: str) -> str:
    """``eager`` and ``compiled`` for the first mode, ``full`` and ``compiled full`` for others."""
    return kind if mode == first else mode if kind == EAGER else f"{kind} {mode}"
