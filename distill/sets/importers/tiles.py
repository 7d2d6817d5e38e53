"""Sets whose stored images hold several: IDC (arXiv:2205.14959), DREAM and NCFM; students train on what they decode to."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from distill.sets.formation import images_in_one
from distill.sets.importers.base import Fact, Found, Kind, Words, one_path
from distill.sets.importers.safe import read_torch
from distill.sets.importers.tensors import pair


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
        factors = tuple(range(1, factor.value + 1)) if decode.value == "multi" else (factor.value,)
        each = images_in_one(factors)
        fact = Fact(
            "none" if factor.value == 1 else f"{decode.value}, factor {factor.value}", factor.how, factor.source
        )
        note = f"{len(images)} stored images are {len(images) * each} decoded ones"
        return [
            Found(
                images,
                labels,
                tuple(files),
                facts={"decoding": fact},
                factors=factors,
                notes=() if each == 1 else (note,),
            )
        ]


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
