"""Proxies: networks that were trained on the very images that a rule chooses among, and what these did to them."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from distill.data.split import Split
from distill.networks.base import Student
from distill.teachers.committee import Committee
from distill.training.dynamics import Dynamics

BATCH = 250  # images that go through a network at once


@dataclass(frozen=True)
class Proxies:
    """One or more, each with a log of its training; networks are asked in evaluation mode, about images as they are.

    Attributes:
        committee: the networks.
        logs: of each, over all images of the split.
    """

    committee: Committee
    logs: tuple[Dynamics, ...]

    def features(self, real: Split, index: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """What the first network's classifier sees of the images at ``index`` (n,), (n, d) on the CPU.

        Raises:
            ValueError: it sees nothing, or numbers that are not finite.
        """
        net = self.committee.nets[0]
        found = torch.cat([_features(net, part).to("cpu", dtype) for part in _parts(real, index)])
        if not found.shape[1] or not found.isfinite().all():
            raise ValueError(
                f"the proxy {self.committee.names[0]} makes {found.shape[1]} features of an image, expected some that are "
                "finite: take other proxies.networks, or a rule that asks for none"
            )
        return found

    def answers(self, real: Split, index: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Features (n, d) and logits (n, K) of every network, on the CPU."""
        found = []
        for net in self.committee.nets:
            said = [(seen := _features(net, part), net.classifier(seen)) for part in _parts(real, index)]
            features, logits = (torch.cat([part.float().cpu() for part in parts]) for parts in zip(*said, strict=True))
            found.append((features, logits))
        return found


@torch.no_grad()
def _features(net: Student, images: Tensor) -> Tensor:
    return net.embedding(images)


def _parts(real: Split, index: Tensor) -> Iterator[Tensor]:
    return (real.images[part] for part in index.split(BATCH))
