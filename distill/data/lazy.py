"""LazyImages: images of files, decoded when they are asked for; they stand where a tensor stands."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from distill.data.pictures import check, picture
from distill.data.preprocessing import Preprocessing, to_pixels


class LazyImages:
    """Images of files, decoded by several threads when they are asked for; stands where a tensor (N, 3, H, W) stands.

    Args:
        files: N of them.
        side: of the squares, in pixels.
        crop: take the middle instead of squeezing the whole, see `distill.data.pictures.pixels`.
        prepare: from pixels to what networks see.
        device: where decoded images live.
        workers: threads.

    Raises:
        ValueError: a file is no picture; each is opened once, but not decoded.
    """

    def __init__(
        self,
        files: Sequence[Path],
        side: int,
        crop: bool,
        prepare: Preprocessing,
        device: torch.device,
        workers: int,
    ):
        self.files, self.side, self.prepare, self.device, self.workers = list(files), side, prepare, device, workers
        self.decode = partial(picture, size=(side, side), crop=crop)
        for first in range(0, len(self), 1000):
            list(pool(workers).map(check, self.files[first : first + 1000]))

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.files), 3, self.side, self.side))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """Images (*index.shape, 3, H, W)."""
        index = torch.arange(len(self))[index] if isinstance(index, slice) else index.cpu()
        files = [self.files[i] for i in index.flatten().tolist()]
        decoded = list(pool(self.workers).map(self.decode, files))
        pixels = to_pixels(np.stack(decoded)) if decoded else torch.zeros(0, *self.shape[1:])
        return self.prepare(pixels.to(self.device)).view(*index.shape, *self.shape[1:])

    def split(self, size: int) -> Iterator[Tensor]:
        """One part after the other, as `torch.Tensor.split` gives them."""
        return (self[first : first + size] for first in range(0, len(self), size))


@cache
def pool(workers: int) -> ThreadPoolExecutor:
    """The threads of this process that decode, kept between batches."""
    return ThreadPoolExecutor(workers)
