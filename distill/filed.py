"""Filed: a tensor that stays in its file, is read item by item, and may be larger than memory."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class Filed:
    """A tensor (N, ...) of a safetensors file, read item by item when it is asked for; stands where one on the CPU stands.

    Nothing is mapped, and the file is open only while it is read.

    Args:
        begin: place of the first item in the file, in bytes.

    Attributes:
        dtype, shape: of the tensor.
    """

    def __init__(self, path: Path, dtype: torch.dtype, shape: Sequence[int], begin: int):
        self.path, self.dtype, self.shape, self.begin = path, dtype, torch.Size(shape), begin

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """Items (*index.shape, ...), in memory of their own.

        Raises:
            IndexError: there are fewer.
            ValueError: the file became shorter since it was opened first.
        """
        index = torch.arange(len(self))[index]
        found = torch.empty(index.numel(), *self.shape[1:], dtype=self.dtype)
        size = math.prod(self.shape[1:]) * self.dtype.itemsize
        room = found.view(torch.uint8).view(len(found), size).numpy()
        with self.path.open("rb", buffering=0) as file:
            for into, item in zip(room, index.flatten().tolist(), strict=True):
                file.seek(self.begin + item * size)
                if file.readinto(into.data) != size:
                    raise ValueError(f"{self.path} became shorter while it was read: make or fetch it again")
        return found.view(*index.shape, *self.shape[1:])

    def split(self, size: int) -> Iterator[Tensor]:
        """One part after the other, as `torch.Tensor.split` gives them."""
        return (self[first : first + size] for first in range(0, len(self), size))


class Joined:
    """Items of several tensors, or of what stands where they stand, as those of one.

    Args:
        parts: (n, ...) each.
        places: of each part's items in the whole, (n,).

    >>> halves = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0]])
    >>> Joined(halves, [torch.tensor([0, 2]), torch.tensor([1])])[:].flatten()
    tensor([0., 1., 2.])
    """

    def __init__(self, parts: Sequence[Any], places: Sequence[Tensor]):
        self.parts, self.dtype = parts, parts[0].dtype
        self.shape = torch.Size((sum(map(len, places)), *parts[0].shape[1:]))
        self.part, self.item = torch.empty(2, len(self), dtype=torch.long)
        for number, own in enumerate(places):
            self.part[own], self.item[own] = number, torch.arange(len(own))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice) -> Tensor:
        part, item = self.part[index], self.item[index]
        found = torch.empty(len(part), *self.shape[1:], dtype=self.dtype)
        for number in part.unique().tolist():
            found[part == number] = self.parts[number][item[part == number]]
        return found

    split = Filed.split
