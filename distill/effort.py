"""What training takes: floating-point operations of a network, and memory of this process."""

import resource
import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

BACK = 3  # a training step is about as much as three forward passes


def operations(make: Callable[[], nn.Module], images: Tensor, passes: int = BACK) -> float:
    """Floating-point operations of a training step on one image: so many forward passes, a multiply-add counted as two.

    Args:
        make: makes the network; torch's global seed is left as it is.
        images: two or more, (B, C, H, W), as the network takes them.

    >>> operations(lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 10)), torch.zeros(5, 3, 2, 2))
    720.0
    """
    with torch.random.fork_rng():
        net = make().to(images.device)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net(images[:2])  # of one image, batch norm has no statistics
    return passes * counter.get_total_flops() / 2


def peak_bytes(device: torch.device | None = None) -> int:
    """The most memory that this process has had: of the card where ``device`` is one, else of the machine."""
    if device is not None and device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
