"""StoredSet: a synthetic set whose images stay in their file, for sets that are larger than memory."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from distill.data.preprocessing import Preprocessing
from distill.sets.soundness import check_labels, check_names, check_tiles
from distill.sets.synthetic import SyntheticSet


class StoredImages:
    """Images of eight bits, brought into a space when they are asked for; stands where a tensor (N, C, H, W) stands.

    Args:
        stored: uint8 (N, C, H, W), or what stands where it stands (`distill.filed.Filed`).
        prepare: from pixels to what networks see.
        device: where images go.
    """

    _version = 0  # as of a tensor that nobody writes to

    def __init__(self, stored: Any, prepare: Preprocessing, device: torch.device):
        self.stored, self.prepare, self.device, self.shape = stored, prepare, device, stored.shape

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, index: Tensor | slice | int) -> Tensor:
        """Images (*index.shape, C, H, W)."""
        places = torch.arange(len(self))[index.cpu() if isinstance(index, Tensor) else index]
        pixels = self.stored[places.flatten()].to(self.device, non_blocking=True).float() / 255
        return self.prepare(pixels).view(*places.shape, *self.shape[1:])

    def to(self, device: torch.device) -> "StoredImages":
        return StoredImages(self.stored, self.prepare, device)

    def numel(self) -> int:
        return self.shape.numel()

    def detach(self) -> "StoredImages":
        """Itself, which has no graph."""
        return self


@dataclass(repr=False)
class StoredSet(SyntheticSet):
    """A `SyntheticSet` of eight bits whose images are `StoredImages`: read when they are asked for, and never all of them.

    Another set that is made of it with `with_` has tensors.
    """

    images: Any

    def __post_init__(self) -> None:
        check_names(self.class_names)
        self.preprocessing.check_shape(tuple(self.images.shape[1:]))
        check_labels(self.labels, self.classes, self.label_kind, len(self.images), self.num_classes)
        check_tiles(self.images, self.tiles)

    @property
    def pixels(self) -> Any:
        """Images for viewing, read when they are asked for."""
        return StoredImages(self.images.stored, Preprocessing("pixel01"), torch.device("cpu"))

    @property
    def stored(self) -> dict[str, Any]:
        return self.tensors | {"images": self.images.stored}

    def quantised(self) -> SyntheticSet:
        return self

    def with_(self, **fields: Any) -> SyntheticSet:
        if "images" not in fields:
            return super().with_(**fields)
        own = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        return SyntheticSet(**{**own, "path": None, **fields})

    def copy(self) -> SyntheticSet:
        return self._but(record=dict(self.record))
