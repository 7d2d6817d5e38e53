"""A network called with its parameters as one vector (P,), the form in which trajectories are stored."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parameters_to_vector


class FlatStudent:
    """A network called with its parameters as one vector (P,), the form in which trajectories are stored.

    Args:
        net: its own parameters stay as they are.
        with_state: take networks with batch statistics too; a call updates them.

    Raises:
        ValueError: the network carries statistics beside its parameters (batch norm), which no vector holds.
    """

    def __init__(self, net: nn.Module, with_state: bool = False):
        if list(net.buffers()) and not with_state:
            raise ValueError(
                f"{type(net).__name__} keeps batch statistics, trajectories hold parameters only: norm=instance"
            )
        self.net = net.requires_grad_(False)
        self.names = [name for name, _ in net.named_parameters()]
        self.shapes = [parameter.shape for parameter in net.parameters()]
        self.sizes = [shape.numel() for shape in self.shapes]

    def __call__(self, theta: Tensor, images: Tensor) -> Tensor:
        """Logits (B, K) under weights ``theta`` (P,), differentiable in both to any order."""
        return functional_call(self.net, self.unflatten(theta), (images,))

    def __len__(self) -> int:
        return sum(self.sizes)

    def matrices(self) -> Tensor:
        """(P,): 1 where an entry belongs to a tensor of two dimensions or more, 0 on biases and norms."""
        return torch.cat(
            [torch.full((size,), float(len(shape) > 1)) for size, shape in zip(self.sizes, self.shapes, strict=True)]
        )

    def unflatten(self, theta: Tensor) -> dict[str, Tensor]:
        """Views into ``theta`` under the parameters' names."""
        parts = theta.split(self.sizes)
        return {name: part.view(shape) for name, part, shape in zip(self.names, parts, self.shapes, strict=True)}


def flatten(net: nn.Module) -> Tensor:
    """A copy of all parameters as one vector (P,), in module order; later training of ``net`` leaves it alone."""
    return parameters_to_vector(net.parameters()).detach().clone()


@torch.no_grad()
def put(nets: Sequence[nn.Module], weights: Tensor) -> None:
    """Copy ``weights`` (S, P) into S networks: what `flatten` gives of each."""
    for net, row in zip(nets, weights, strict=True):
        parts = row.split([parameter.numel() for parameter in net.parameters()])
        for parameter, part in zip(net.parameters(), parts, strict=True):
            parameter.copy_(part.view_as(parameter))
