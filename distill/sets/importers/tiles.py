"""Sets whose stored images hold several: IDC (arXiv:2205.14959), DREAM and NCFM, decoded once, as their students see them."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.sets.importers.base import Fact, Found, Kind, Words, one_path
from distill.sets.importers.safe import read_torch
from distill.sets.importers.tensors import pair

GREY = 0.5  # of what is added at the right and below, where a side is no multiple of the factor


@dataclass(frozen=True, kw_only=True)
class Tiles(Kind):
    """``data*.pt``: ``[images, labels]`` in [0, 1], each image factor x factor smaller ones.

    IDC's folder tells the factor; several files, its ImageNet phases, go one after the other.
    """

    takes = ("images", "factor", "decode")

    def read(self, words: Words) -> list[Found]:
        given = one_path(words, "data.pt") if len(words.files("images")) < 2 else None
        files = words.files("images") if given is None else [given / "data.pt" if given.is_dir() else given]
        parts = [pair(read_torch(path, words.large), path) for path in files]
        images, labels = (torch.cat(each) for each in zip(*parts, strict=True))
        factor, decode = decoding(words, files[0])
        if decode.value == "bound":
            raise ValueError("decode=bound is not supported: expected single or multi")
        each = stacks(factor.value, decode.value)
        fact = Fact(
            "none" if factor.value == 1 else f"{decode.value}, factor {factor.value}", factor.how, factor.source
        )
        note = f"{len(images)} stored images are {len(images) * each} decoded ones"
        whole = decoded(images, factor.value, decode.value)
        return [
            Found(
                whole, labels.repeat(each), tuple(files), facts={"decoding": fact}, stored=images, factor=factor.value,
                notes=() if each == 1 else (note,),
            )
        ]  # fmt: skip


def decoding(words: Words, file: Path) -> tuple[Fact, Fact]:
    """Factor and kind of decoding: as the folder's name says them, or the user.

    Raises:
        ValueError: neither does, or they contradict each other.
    """
    name, facts = file.resolve().parent.name, []
    named = re.search(r"_factor(\d+)", name)
    read: dict[str, Any] = {
        "factor": int(named[1]) if named else None,
        "decode": next((each for each in ("multi", "bound") if f"_{each}" in name), "single"),
    }
    for each, own in (("factor", words.factor), ("decode", words.decode)):
        if named and own not in (None, read[each]):
            raise ValueError(f"{each} is {own}, but the folder {name} says {read[each]}: leave it out")
        if not named and own is None and (each == "factor" or words.factor != 1):
            raise ValueError(
                f"{each} is neither in the folder's name nor stated: factor=1 for whole images, factor=2 decode=single for 2x2"
            )
        facts.append(Fact(read[each], "read", "the folder's name") if named else Fact(own or "single", "stated"))
    return facts[0], facts[1]


def stacks(factor: int, decode: str) -> int:
    """How many images each stored one becomes.

    >>> stacks(2, "single"), stacks(3, "multi")
    (4, 14)
    """
    return factor**2 if decode == "single" else sum(f**2 for f in range(1, factor + 1))


def decoded(images: Tensor, factor: int, decode: str = "single") -> Tensor:
    """Images of all cells, those of the upper left cell first, each as large as the whole (n, C, H, W).

    Args:
        images: (N, C, H, W) in [0, 1]; a side that is no multiple of the factor is filled up with grey at the right and below.
        decode: ``single``, or ``multi``: those of factors 1 to ``factor``, one after the other.

    Source: IDC (Kim et al., ICML 2022, arXiv:2205.14959): bilinear, corners not aligned.

    >>> decoded(torch.rand(3, 1, 8, 8), 2).shape
    torch.Size([12, 1, 8, 8])
    """
    if decode == "multi":
        return torch.cat([decoded(images, f) for f in range(1, factor + 1)])
    height, width = images.shape[2:]
    images = F.pad(images, (0, -width % factor, 0, -height % factor), value=GREY)
    cells = [cell for row in images.chunk(factor, dim=2) for cell in row.chunk(factor, dim=3)]
    if factor == 1:
        return images
    return torch.cat([F.interpolate(cell, (height, width), mode="bilinear", align_corners=False) for cell in cells])
