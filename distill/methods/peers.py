"""Peers: processes that work out one outer step together, each on its slice of the batches.

Weights, step sizes and losses are the same in all of them; what a network makes of a slice is its process's own. Two
operations lead from one kind to the other, and each is the other's derivative: `Peers.total` adds up what is own, and what it
gives back is the same for all; `Peers.shared` hands what is the same to own work, and adds up what comes back.
"""

import platform
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from distill.parallel import Crew

T = TypeVar("T")

WAIT = timedelta(days=7)  # for peers that compile, or write


@dataclass(frozen=True)
class Peers:
    """This process among those that go through a unit of work together; alone unless somebody says otherwise.

    Attributes:
        rank, size: of this process among its peers.
        group: torch.distributed's.

    >>> Peers(1, 3).rows(8), Peers().rows(8)
    (slice(2, 5, None), slice(0, 8, None))
    """

    rank: int = 0
    size: int = 1
    group: Any = None

    @classmethod
    def of(cls, crew: Crew, size: int, device: torch.device) -> "Peers":
        """Those of this process where ``size`` neighbours in ``crew``, of a torchrun, go together; all of it call this."""
        if size == 1:
            return cls()
        crew.wait()  # torch.distributed has begun
        places: list[Any] = [None] * crew.size
        dist.all_gather_object(places, (platform.node(), device.type, device.index))
        cards = device.type == "cuda" and len(set(places)) == crew.size  # one for each process, as NCCL wants it
        starts = range(0, crew.size, size)
        groups = [dist.new_group(range(a, a + size), WAIT, backend="nccl" if cards else "gloo") for a in starts]
        return cls(crew.rank % size, size, groups[crew.rank // size])

    @property
    def first(self) -> bool:
        """Whether this process writes what the peers make."""
        return self.rank == 0

    def rows(self, count: int) -> slice:
        """Of ``count`` rows those that are this process's."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def own(self, count: int) -> int:
        """How many those are."""
        rows = self.rows(count)
        return rows.stop - rows.start

    def weight(self, count: int) -> float:
        """The share of a mean over ``count`` rows that is this process's."""
        return self.own(count) / count

    def total(self, own: Tensor) -> Tensor:
        """The sum of the peers' tensors, in all of them."""
        return own if self.size == 1 else _Total.apply(own, self)

    def shared(self, tensor: Tensor) -> Tensor:
        """A tensor that all have, for own work: its gradient is the sum of what the peers find."""
        return tensor if self.size == 1 else _Shared.apply(tensor, self)

    def same(self, tensor: Tensor) -> Tensor:
        """The first's, in all of them: what each worked out for itself, on a card perhaps to other last digits."""
        if self.size > 1:
            dist.broadcast(tensor, group=self.group, group_src=0)
        return tensor

    def agree(self, decide: Callable[[], T]) -> T:
        """What the first decides, in all of them."""
        if self.size == 1:
            return decide()
        box: list[Any] = [decide() if self.first else None]
        dist.broadcast_object_list(box, group=self.group, group_src=0)
        return box[0]

    def summed(self, own: Tensor) -> Tensor:
        """`total` without derivatives.

        Raises:
            RuntimeError: a peer has ended.
        """
        found = own.detach().clone(memory_format=torch.contiguous_format)
        try:
            dist.all_reduce(found, group=self.group)
        except RuntimeError as error:
            raise RuntimeError(
                f"a process that goes along with this one has ended, its message says why ({error})"
            ) from None
        return found


class _Total(torch.autograd.Function):
    """The sum of what is each peer's own; all of them have its cotangent."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, peers: Peers) -> Tensor:
        return peers.summed(own)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None]:
        return cotangent, None


class _Shared(torch.autograd.Function):
    """What all have; each peer has a part of its cotangent."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, peers: Peers) -> Tensor:
        ctx.peers = peers
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None]:
        return ctx.peers.summed(cotangent), None


ALONE = Peers()
