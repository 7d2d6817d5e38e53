"""The inner loop's derivatives by peers, each of whom sends its slice of a batch through the network.

The loss of a step is a mean over its batch, so that its gradient, and what pulls through it, is a weighted sum over slices.
Weights come out alike in all peers; cotangents of views and labels stay with whose slice they are of, and are zero elsewhere.
"""

import torch
from torch import Tensor

from distill.methods.matching.unroll import Derivatives
from distill.methods.peers import Peers


class Sliced(Derivatives):
    """Those of a whole batch, from the derivatives of ``own``, of one slice."""

    def __init__(self, own: Derivatives, peers: Peers):
        super().__init__(own.loss)
        self.own, self.peers = own, peers

    def gradient(self, theta: Tensor, views: Tensor, labels: Tensor, graph: bool) -> Tensor:
        rows, weight = self.peers.rows(len(views)), self.peers.weight(len(views))
        own = self.own.gradient(self.peers.shared(theta), views[rows], labels[rows], graph)
        return self.peers.total(weight * own)

    def products(
        self, theta: Tensor, views: Tensor, labels: Tensor, pull: Tensor, exact: bool
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        rows, weight = self.peers.rows(len(views)), self.peers.weight(len(views))
        g, in_views, in_labels, in_theta = self.own.products(theta, views[rows], labels[rows], weight * pull, exact)
        sums = self.peers.total(torch.stack([weight * g] if in_theta is None else [weight * g, in_theta]))
        wider = None if in_labels is None else padded(in_labels, labels, rows)
        return sums[0], padded(in_views, views, rows), wider, sums[1] if exact else None


def padded(own: Tensor, like: Tensor, rows: slice) -> Tensor:
    """``own`` rows among zeros."""
    whole = torch.zeros_like(like)
    whole[rows] = own
    return whole
