"""Pretexts: what a network learns from images without labels; it is stored as any teacher.

Source: Barlow Twins (Zbontar et al., ICML 2021, arXiv:2103.03230).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.checks import check_ranges, setting, stated
from distill.data.split import Split
from distill.networks.base import Student
from distill.training.losses import Loss, Net
from distill.training.ridge import fitted

AT_ONCE = 500  # images whose features are taken in one call


@dataclass(frozen=True)
class BarlowTwins(Loss):
    """Two views of an image agree in every feature of a projector, and its features tell different things.

    Attributes:
        weight: lambda, of the correlations between different features.
        widths: of the projector's layers, the last one's are the features.
        ridge: of the classifier that is fitted to what was learned (`distill.training.ridge.fitted`).
    """

    weight: float = setting("[0, 1000000]")
    widths: Sequence[int] = setting("list of whole [1, 65536]")
    ridge: float = setting("(0, 1]")

    def __post_init__(self) -> None:
        check_ranges("pretext", vars(self), stated(type(self)))

    def __call__(self, net: Net, images: Tensor, logits: Tensor, targets: Tensor, epoch: Tensor) -> Tensor:
        """The same loss for all images (B,): it is the batch's. ``logits`` are those of `Twins`; no label is looked at."""
        one, other = logits.chunk(2, 1)
        return redundancy(one, other, self.weight).expand(len(logits))


class Twins(nn.Module):
    """A network's features and a projector on them, for two views of each image."""

    def __init__(self, net: Student, widths: Sequence[int]):
        super().__init__()
        self.net = net
        layers: list[nn.Module] = []
        for before, after in pairwise([net.classifier.in_features, *widths]):
            layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU()]
        self.projector = nn.Sequential(*layers[:-2])

    @classmethod
    def of(cls, make: Callable[[], Any], widths: Sequence[int]) -> "Twins":
        """Of a fresh network, under torch's global seed."""
        return cls(make(), widths)

    def forward(self, views: Tensor) -> Tensor:
        """Features (B, 2 P) of two views (B, 2 C, H, W); batch statistics are each view's own."""
        return torch.cat([self.projector(self.net.embedding(view)) for view in views.chunk(2, 1)], 1)


def probed(net: Student, real: Split, ridge: float) -> Student:
    """``net`` itself, its classifier fitted in closed form to the classes of ``real``; features stay as they are."""
    net.eval()
    classes = F.one_hot(real.labels, real.num_classes).float()
    with torch.no_grad():
        found = torch.cat([net.embedding(part).float() for part in real.images.split(AT_ONCE)])
        weight, bias = fitted(found, classes, ridge)
        net.classifier.weight.copy_(weight)
        net.classifier.bias.copy_(bias)
    return net


def redundancy(one: Tensor, other: Tensor, weight: float) -> Tensor:
    """Squared distance of the correlations (P, P) between two views' features to the identity, ``weight`` beside the diagonal.

    Args:
        one, other: (B, P), of the same images.

    >>> z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> round(redundancy(z, 3 * z + 5, 1.0).item(), 4), round(redundancy(z, -z, 1.0).item(), 3)
    (0.0, 8.0)
    """
    one, other = (F.batch_norm(each, None, None, training=True) for each in (one, other))
    correlation = one.T @ other / len(one)
    own = correlation.diagonal()
    return (1 - own).square().sum() + weight * (correlation - own.diag()).square().sum()
