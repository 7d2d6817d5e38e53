"""Committee: finished teachers that are asked together, for labels and for the statistics of their batch norms.

CV-DD (arXiv:2501.07575) lets five networks vote; SRe2L (arXiv:2306.13092), CDA (arXiv:2311.18838) and RDED
(arXiv:2312.03526) ask one.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from distill.checks import check_ranges
from distill.data.split import Split
from distill.files import hash_tensors
from distill.networks.base import Student
from distill.teachers.store import HELP, ExpertStore
from distill.training.recipe import TEACHERS
from distill.wording import difference

SCORED = 2000  # real images that a teacher is scored on before it is asked


@dataclass(frozen=True)
class Committee:
    """Networks with frozen weights, channels last, in evaluation mode.

    Attributes:
        names: of the members, for messages.
        nets: the members.
        priors: how good each is, in percent; `votes` takes their softmax.
    """

    names: tuple[str, ...]
    nets: tuple[Student, ...]
    priors: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.nets or len(self.priors) != len(self.nets):
            raise ValueError(f"{len(self.priors)} prior accuracies for {len(self.nets)} teachers")
        for net in self.nets:
            net.eval().requires_grad_(False)
            net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def load(
        cls,
        stores: Mapping[str, ExpertStore],
        make: Callable[[str], Student],
        device: torch.device,
        priors: Sequence[float] | None = None,
    ) -> "Committee":
        """The members that ``stores`` keep, by the name of their network.

        Args:
            make: makes the network of a name.
            priors: one for each network, in percent; None takes the accuracies they were stored with.

        Raises:
            FileNotFoundError: a teacher is missing.
            ValueError: a file is altered or of another network, or there are more or fewer priors than networks.
        """
        check_priors(list(stores), priors)
        names, nets, own = [], [], []
        for place, (name, store) in enumerate(stores.items()):
            for number in range(store.complete().count):
                with torch.random.fork_rng():
                    net = make(name)
                statistics = store.statistics(number)
                weights = store.row(number, -1, sum(each.numel() for each in net.parameters()))
                if _shapes(statistics.items()) != _shapes(net.named_buffers()):
                    raise ValueError(f"expert {number} in {store.folder} has statistics of another network: {HELP}")
                net.load_state_dict(statistics, strict=False)
                nn.utils.vector_to_parameters(weights, net.parameters())
                names.append(name if store.count == 1 else f"{name} {number}")
                nets.append(net.to(device))
                own.append(100 * store.accuracy(number) if priors is None else priors[place])
        return cls(tuple(names), tuple(nets), tuple(own))

    def members(self, numbers: Sequence[int]) -> "Committee":
        """Some of them as a committee of their own."""
        chosen = [(self.names[i], self.nets[i], self.priors[i]) for i in numbers]
        names, nets, priors = zip(*chosen, strict=True)
        return Committee(names, nets, priors)

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hex digits of the members' weights and statistics."""
        states = {f"{i}.{name}": value for i, net in enumerate(self.nets) for name, value in net.state_dict().items()}
        return hash_tensors(states)[:12]

    def votes(self, temperature: float) -> Tensor:
        """Weight of each member's voice, (members,), summing to 1: softmax of the priors in percent over ``temperature``."""
        return (torch.tensor(self.priors) / temperature).softmax(0)

    @torch.no_grad()
    def logits(self, views: Tensor, temperature: float, mode: str = "eval", parts: int = 1) -> Tensor:
        """The members' logits for ``views`` (B, C, H, W), weighed by their votes, (B, K) float32.

        Args:
            mode: ``eval``, or ``batch``: every batch norm takes the statistics of the views themselves; running ones stay.
            parts: pieces of the views that ``batch`` takes apart.
        """
        total: Tensor | None = None
        for net, weight in zip(self.nets, self.votes(temperature).tolist(), strict=True):
            with batch_statistics(net, mode):
                said = torch.cat([net(part).float() for part in views.chunk(parts if mode == "batch" else 1)])
            total = weight * said if total is None else total + weight * said
        assert total is not None
        return total

    def check(self, real: Split, minimum: float) -> list[float]:
        """Score every member on real images before it is asked for anything.

        Args:
            real: never the test split; at most 2,000 images are looked at.
            minimum: accuracy in [0, 1] that each must reach.

        Returns:
            Accuracies in [0, 1].

        Raises:
            ValueError: a member is too weak, or knows the classes in another order.
        """
        every = math.ceil(len(real) / SCORED)
        places = torch.arange(len(real))[::every].split(250)
        labels = real.labels[::every]
        scores = []
        for name, net in zip(self.names, self.nets, strict=True):
            with torch.no_grad():
                guesses = torch.cat([net(real.images[part]).argmax(1) for part in places])
            counts = torch.zeros(real.num_classes, real.num_classes, device=labels.device)
            counts.index_put_((labels, guesses), torch.ones(len(labels), device=labels.device), accumulate=True)
            scores.append(float(counts.diagonal().sum() / len(labels)))
            if scores[-1] < minimum:
                raise ValueError(f"teacher {name} {_complaint(counts.cpu(), real.class_names, scores[-1], minimum)}")
        return scores


def _shapes(named: Iterable[tuple[str, Tensor]]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in named}


def _complaint(counts: Tensor, classes: Sequence[str], score: float, minimum: float) -> str:
    """What is wrong with a teacher, from how often it takes class i for class j (K, K)."""
    order = linear_sum_assignment(counts.numpy(), maximize=True)[1].tolist()
    sorted_out = float(counts[range(len(order)), order].sum() / counts.sum())
    if sorted_out >= minimum and order != list(range(len(order))):
        theirs = [classes[order.index(k)] for k in range(len(order))]
        return (
            f"knows the classes in another order (there) than the real set (here): {difference(theirs, classes)} "
            f"({score:.1%} of real images right, {sorted_out:.1%} in its own order): give data.classes in its order, or "
            "train another"
        )
    return (
        f"classifies {score:.1%} of real images correctly, expected at least {minimum:.1%}: it is too weak, or saw other "
        f"classes or another preprocessing; {HELP}, or lower its minimum"
    )


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raise ValueError if ``settings`` (``configs/experts/teacher.yaml``) describe no committee."""
    check_ranges("committee", settings, TEACHERS)
    networks, priors = settings["networks"] or ["the first student"], settings["priors"]
    if len(set(networks)) < len(networks):
        raise ValueError(
            f"committee.networks are {', '.join(networks)}: name each once, and take more of each with count"
        )
    check_priors(networks, priors)


def check_priors(networks: Sequence[str], priors: Sequence[float] | None) -> None:
    """Raise ValueError unless each network has one, or none has."""
    if priors is not None and len(priors) != len(networks):
        raise ValueError(f"{len(priors)} prior accuracies for the networks {', '.join(networks)}: give one for each")


@contextmanager
def batch_statistics(net: nn.Module, mode: str) -> Iterator[None]:
    """Within it, batch norms of ``net`` normalise with the batch at hand where ``mode`` is ``batch``; nothing is kept of it."""
    check_ranges("committee", locals(), {"mode": TEACHERS["mode"]})
    norms = batch_norms(net) if mode == "batch" else []
    kept = [(norm.running_mean, norm.running_var) for norm in norms]
    try:
        for norm in norms:
            norm.running_mean = norm.running_var = None  # then it takes the batch's, in evaluation mode too
        yield
    finally:
        for norm, (mean, variance) in zip(norms, kept, strict=True):
            norm.running_mean, norm.running_var = mean, variance


def batch_norms(net: nn.Module) -> list[nn.BatchNorm2d]:
    """The batch norms of ``net`` in the order of its modules."""
    return [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
