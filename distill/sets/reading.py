"""Synthetic sets read back from their files."""

import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from distill.data.preprocessing import loaded
from distill.files import load_tensors
from distill.sets.foreign import kind_of
from distill.sets.formation import WHOLE
from distill.sets.hub import SCHEME, fetched
from distill.sets.soundness import check_framing, check_record, check_types
from distill.sets.stored import StoredImages, StoredSet
from distill.sets.synthetic import SyntheticSet
from distill.text import command

SUFFIX = ".safetensors"


def file_of(path: str | Path) -> Path:
    """The ``.safetensors`` file meant by its own path, that of its ``.json``, its folder's, or its address on a hub."""
    if str(path).startswith(SCHEME):
        return fetched(str(path))
    path = Path(path)
    return path / f"synset{SUFFIX}" if path.is_dir() else path.with_suffix(SUFFIX)


def is_of_files(record: Mapping[str, Any]) -> bool:
    """Whether a set's real images stay in their files, so that its own do."""
    return (
        bool(record.get("config", {}).get("data", {}).get("lazy", False))
        and tuple(record.get("factors", WHOLE)) == WHOLE
    )


def load(path: str | Path) -> SyntheticSet:
    """A synthetic set from its ``.safetensors`` file, its ``.json``, or the folder that holds ``synset.safetensors``;
    or from a hub, ``hf://owner/name`` (`distill.sets.hub.fetched`).

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is truncated, altered, or no synthetic set.

    Images of eight bits stay in the file where the real ones did (``data.lazy=true``): a `distill.sets.stored.StoredSet`.
    """
    file, named = file_of(path), Path(path)
    if named.is_file() and named.suffix not in (SUFFIX, ".json"):
        raise ValueError(
            f"{path} is {kind_of(named)}, no synthetic set of distill: one of another project is read, tensors alone, by "
            f"`{command()} import kind=... data=...`, or load(PATH, kind=..., data=...)"
        )
    if not file.is_file():
        raise FileNotFoundError(
            f"no synthetic set at {path}: name a .safetensors file or the folder with synset.safetensors"
        )
    tensors, record = load_tensors(file, filed=["images"])
    try:
        check_record(record)
        prefix = "preprocessing."
        constants = {name[len(prefix) :]: tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}
        check_types(tensors)
        preprocessing, eight_bit = loaded(record["space"], constants), tensors["images"].dtype == torch.uint8
        images: Any = StoredImages(tensors["images"], preprocessing, torch.device("cpu"))
        stays = eight_bit and is_of_files(record)
        if not stays:
            images = images[:] if eight_bit else tensors["images"][:]
        synset = (StoredSet if stays else SyntheticSet)(
            images,
            tensors["labels"],
            tensors["classes"],
            tuple(unicodedata.normalize("NFC", name) for name in record["class_names"]),  # as real sets have them
            preprocessing,
            record["data"],
            record["label_kind"],
            tensors.get("lr"),
            record,
            eight_bit,
            record.get("tiles", 1),
            tuple(record.get("factors", WHOLE)),
            path=file,
        )
        check_framing(record, min(synset.images.shape[2:]))
        return synset
    except ValueError as error:
        raise ValueError(f"{file} is not a usable synthetic set: {error}") from None
