"""Linear probes: students take the features of a teacher, which stay as they are, and learn a linear classifier on them.

Source: how sets for frozen backbones are judged, linear gradient matching, arXiv:2511.16674.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from distill.checks import setting
from distill.networks.base import Student, laid_out
from distill.teachers.labels import Hard, Teaching
from distill.training.recipe import TEACHERS


@dataclass(frozen=True)
class Probe(Hard):
    """Classes, for linear classifiers on a frozen teacher's features.

    Attributes:
        committee: configuration of the teachers (``configs/experts/teacher.yaml``); a student takes the features of the first
            that has its network.

    Raises:
        ValueError: the teachers' mode is another than ``eval``.
    """

    name = "probe"
    passes: ClassVar[int] = 1
    committee: Mapping[str, Any] = setting(TEACHERS)  # type: ignore[misc]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.committee["mode"] != "eval":
            raise ValueError(
                f"protocol.labels.committee.mode is {self.committee['mode']}, and a probe's features are those of eval mode"
            )

    def learner(self, net: nn.Module, teaching: Teaching) -> nn.Module:
        assert teaching.committee is not None and isinstance(net, Student)
        return probe(net, teaching.committee.nets)


@dataclass(frozen=True)
class Frozen(Hard):
    """Classes, for linear classifiers on the features that students come with, which stay as they are (linear probe)."""

    name = "frozen"
    passes: ClassVar[int] = 1

    def learner(self, net: nn.Module, teaching: Teaching) -> nn.Module:
        assert isinstance(net, Student)
        return Head(net)


class Head(nn.Module):
    """The logits of a student whose features are frozen, in evaluation mode; its parameters are the classifier's alone."""

    def __init__(self, net: Student):
        super().__init__()
        self.classifier = net.classifier
        self._frozen = (net.features,)  # no submodule

    def forward(self, images: Tensor) -> Tensor:
        features = self._frozen[0].eval()
        with torch.no_grad():
            found = features(laid_out(images)).flatten(1)
        return self.classifier(found)


def probe(net: Student, teachers: tuple[Student, ...]) -> Head:
    """``net`` with the features of the first teacher whose network it has, and its own classifier; what is to be trained of it.

    Raises:
        ValueError: no teacher has this network.

    >>> from distill.networks.convnet import ConvNet
    >>> how = {"depth": 2, "width": 4, "norm": "batch", "pooling": "avg", "activation": "relu"}
    >>> teacher, net, images = ConvNet((1, 8, 8), 2, **how), ConvNet((1, 8, 8), 2, **how), torch.rand(3, 1, 8, 8)
    >>> head = probe(net, (teacher,))
    >>> torch.equal(head(images), net.classifier(teacher.features.eval()(images).flatten(1)))
    True
    """
    own = net.state_dict()
    for teacher in teachers:
        state = teacher.state_dict()
        if {name: each.shape for name, each in state.items()} == {name: each.shape for name, each in own.items()}:
            net.load_state_dict(state | {name: each for name, each in own.items() if name.startswith("classifier.")})
            return Head(net)
    raise ValueError(
        f"protocol/labels is probe, whose students take a teacher's features, and no teacher has the network of a student "
        f"({type(net).__name__}): name it in committee.networks, or choose another student"
    )
