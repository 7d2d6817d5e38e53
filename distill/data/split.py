"""Split: preprocessed images and their classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from distill import sizes
from distill.data.preprocessing import Preprocessing
from distill.networks.base import Shape
from distill.sizes import Size


@dataclass(frozen=True)
class Split:
    """Preprocessed images (N, C, H, W) float32 and their classes (N,) int64 in 0..K-1; images of files may be `LazyImages`.

    Attributes:
        class_names: K names, in order.
        name: of the real set, as in ``configs/data``.
        preprocessing: how pixels in [0, 1] became these images.
        strategy: the DSA families that keep this set's classes apart, joined by ``_``.
        held_out: how many images of each class validation took from this split; empty if none.
        in_memory: False where the images stay in their files.
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    name: str
    preprocessing: Preprocessing
    strategy: str
    held_out: tuple[int, ...] = ()
    in_memory: bool = True

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def shape(self) -> Shape:
        _, channels, height, width = self.images.shape
        return channels, height, width

    def of_class(self, cls: int) -> Tensor:
        """Indices (n,) of one class, ascending."""
        return (self.labels == cls).nonzero()[:, 0]

    @property
    def counts(self) -> tuple[int, ...]:
        """Images of each class."""
        return tuple(torch.bincount(self.labels, minlength=self.num_classes).tolist())

    def asked(self, ipc: Size) -> tuple[int, ...]:
        """Synthetic images of each class that ``ipc`` stands for; raises a ValueError if it stands for none."""
        return sizes.counts(ipc, self.class_names, self.counts)

    def drawn(self, ipc: Size, g: Generator) -> Tensor:
        """Indices of so many different images of every class, drawn at random; raises a ValueError where a class has fewer."""
        self.check_counts(self.asked(ipc))
        return torch.cat([self.draw(cls, count, g) for cls, count in enumerate(self.asked(ipc))])

    def check_counts(self, counts: Sequence[int], each: int = 1) -> None:
        """Raise a ValueError unless every class has ``each`` images for each of its synthetic ones."""
        fits = [own // each for own in self.counts]
        short = [cls for cls in range(self.num_classes) if counts[cls] > fits[cls]]
        if short:
            cls = min(short, key=lambda cls: fits[cls])
            takes = f", a synthetic one takes {each}" if each > 1 else ""
            raise ValueError(
                f"ipc is {sizes.spread(counts)}, expected at most {fits[cls]} here: {self.size_of(cls)}{takes}"
                f"{'' if takes else f'; ipc=upto{max(counts)} takes what there is'}"
            )

    def size_of(self, cls: int) -> str:
        """How many images a class has, in words, and how many more it would have without a validation split."""
        taken = self.held_out[cls] if self.held_out else 0
        more = f" ({taken} more are for validation: data.val=0 keeps them)" if taken else ""
        return f"class {self.class_names[cls]!r} has {len(self.of_class(cls))} training images{more}"

    def sample(self, cls: int, n: int, g: Generator) -> Tensor:
        """``n`` different images of one class, (n, C, H, W)."""
        return self.images[self.draw(cls, n, g)]

    def draw(self, cls: int, n: int, g: Generator) -> Tensor:
        """Indices (n,) of ``n`` different images of one class, in random order."""
        members = self.of_class(cls)
        return members[torch.randperm(len(members), generator=g)[:n].to(members.device)]
