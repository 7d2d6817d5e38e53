"""Classes that take turns at one optimiser, with the gradients of all of them worked out together.

IDC's (arXiv:2205.14959) and NCFM's (arXiv:2502.20653) code steps its optimiser once for each class, on all images: a class
moves on by its momentum, and is decayed, in the turns of the others. The network stands still meanwhile, and a class's
gradient depends on its own images alone, so that where its turn finds them is known before: all gradients are those of one
batch, and the images end where the loop over classes leaves them.
"""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor

MakeOptimizer = Callable[[Tensor], torch.optim.Optimizer]


class Turns:
    """Who moves when.

    Args:
        classes: of each image, (N,).
        count: classes of one optimiser; their turns come one after another. 1: all move together.
        make: the optimiser over some images.
    """

    def __init__(self, classes: Tensor, count: int, make: MakeOptimizer):
        self.turn, self.count, self.make = (classes % count).view(-1, 1, 1, 1), count, make

    def ahead(self, images: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
        """The images (N, C, H, W) as the turn of each finds them, under the optimiser that `step` is to take them with."""
        found = images.detach().clone()
        if self.count == 1:
            return found
        twin = found.clone()
        twin.grad = torch.zeros_like(twin)
        other = self.make(twin)
        other.load_state_dict(deepcopy(optimizer.state_dict()))
        for turn in range(1, self.count):
            other.step()
            found = torch.where(self.turn == turn, twin, found)
        return found

    def step(self, images: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Every turn's step, each with the gradients of its own classes, which were taken at `ahead`."""
        gradient = images.grad
        assert gradient is not None
        for turn in range(self.count):
            images.grad = torch.where(self.turn == turn, gradient, 0)
            optimizer.step()
        images.grad = gradient
