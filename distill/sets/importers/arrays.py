"""Sets that a project keeps as NumPy's arrays: KIP."""

from dataclasses import dataclass

import torch

from distill.sets.importers.base import Fact, Found, Kind, Words, one_path
from distill.sets.importers.safe import read_npz


@dataclass(frozen=True, kw_only=True)
class Arrays(Kind):
    """``images`` (N, H, W, C) in KIP's own whitening and ``labels`` (N, K), one-hot less their mean, or learned.

    Students take the largest as the class, as DC-BENCH's loader does; learned labels are targets of a regression.

    Source: KIP (Nguyen et al., NeurIPS 2021, arXiv:2107.13034).
    """

    def read(self, words: Words) -> list[Found]:
        path = one_path(words, "kip_cifar10_..._ckpt1000.npz")
        arrays = read_npz(path, words.large)
        if not {"images", "labels"} <= arrays.keys():
            raise ValueError(f"{path} holds {', '.join(sorted(arrays))}, expected images and labels")
        images, labels = (torch.from_numpy(arrays[name]).float() for name in ("images", "labels"))
        if images.ndim != 4 or labels.ndim != 2:
            raise ValueError(
                f"{path} holds images {tuple(images.shape)} and labels {tuple(labels.shape)}, expected (N, H, W, C) and (N, K)"
            )
        fact = {"labels": Fact("hard, the largest of each row", "read", "students of DC-BENCH take these")}
        return [Found(images.permute(0, 3, 1, 2).contiguous(), labels.argmax(1), (path,), facts=fact)]
