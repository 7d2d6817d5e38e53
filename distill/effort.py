"""What training takes: floating-point operations of a network, and memory, of tensors and of this process."""

import resource
import sys
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.weak import WeakIdKeyDictionary

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


class Allocations(TorchDispatchMode):
    """Counts the bytes of tensors that are made within it, after each operation; on any device alike.

    What kernels need for themselves while they run, and what was there before, is not in it.

    Attributes:
        levels: bytes after each operation.

    >>> with Allocations() as held:
    ...     x = torch.zeros(1000)
    ...     y = x + 1
    ...     del x
    ...     z = y.view(10, 100) * 2
    >>> held.levels
    [4000, 8000, 4000, 8000]
    """

    def __init__(self) -> None:
        super().__init__()
        self.levels: list[int] = []
        self.now = 0
        self.known = WeakIdKeyDictionary()  # storages, also those that were there before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, Tensor):
                self.known.setdefault(tensor.untyped_storage(), 0)
        found = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, Tensor):
                self.count(tensor.untyped_storage())
        self.levels.append(self.now)
        return found

    def count(self, storage: torch.UntypedStorage) -> None:
        if storage not in self.known:
            size = storage.nbytes()
            self.known[storage] = size
            self.now += size
            weakref.finalize(storage, self.forget, size)

    def forget(self, size: int) -> None:
        self.now -= size


def peak_at(size: float, first: tuple[float, Sequence[int]], second: tuple[float, Sequence[int]]) -> int:
    """The most bytes that the same work would hold at another size, of what it held at two sizes (`Allocations.levels`).

    Where it is the same operations at both, each moment is taken along its own line, as the moment of the most memory may be
    another one at a larger size; else the largest alone.

    >>> peak_at(4, (1, [100, 30]), (2, [100, 60])), peak_at(4, (1, [100]), (2, [50, 150]))
    (120, 250)
    """
    (small, low), (large, high) = first, second
    if small == large:
        return max(low)
    if len(low) != len(high):
        low, high = [max(low)], [max(high)]
    return round(max(a + (b - a) * (size - small) / (large - small) for a, b in zip(low, high, strict=True)))


def peak_bytes(device: torch.device | None = None) -> int:
    """The most memory that this process has had: of the card where ``device`` is one, else of the machine."""
    if device is not None and device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def held_bytes() -> int:
    """The memory of the machine that this process has now; where that is not told, the most that it has had."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return peak_bytes()
