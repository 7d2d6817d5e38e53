"""Sets that a project keeps as files of torch.save: MTT and its descendants, DC and its, LGM."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill.checks import setting
from distill.sets.importers.base import Fact, Found, Kind, Words, one_path
from distill.sets.importers.safe import read_torch, tensor
from distill.wording import listed

RESULT = re.compile(r"res_([A-Za-z]+)_(\w+)_([A-Za-z]\w*?)_(\d+)ipc\.pt")


@dataclass(frozen=True, kw_only=True)
class Pairs(Kind):
    """``images_<iterate>.pt`` with ``labels_<iterate>.pt`` beside it, and ``lr_<iterate>.pt`` where rates are kept.

    Source: MTT (arXiv:2203.11932), FTD, TESLA, AST, PAD, DATM (arXiv:2310.05773) write these names.
    """

    takes = ("images", "labels", "lr")

    def read(self, words: Words) -> list[Found]:
        images = words.files("images") or [iterate(one_path(words, "FOLDER"))]
        labels = words.files("labels") or [beside(each, "labels") for each in images]
        files = [*images, *labels]
        rate, facts = None, {}
        if self.rate == "read" and words.lr is None:
            files.append(beside(images[0], "lr"))
            rate = rate_in(files[-1])
        if "images_zca_" in images[0].name:
            facts["space"] = Fact("pixel01", "read", f"{images[0].name} is the set brought back to pixels")
        whole, own = joined(images, "images", words.large), joined(labels, "labels", words.large)
        picked = "test" if re.search(r"_best(_\d+)?$", images[0].stem) else "last"
        return [Found(whole, as_labels(own, labels[0]), tuple(files), rate, picked, facts)]


def iterate(folder: Path) -> Path:
    """The images file of a folder: the best iterate, or the only one.

    Raises:
        ValueError: there is none, or several.
    """
    if folder.is_file():
        return folder
    found = [path for path in sorted(folder.glob("*images_*.pt")) if "images_zca_" not in path.name]
    best = [path for path in found if path.stem.endswith("images_best")]
    if len(best or found) != 1:
        told = listed([path.name for path in found]) if found else "no images_*.pt"
        raise ValueError(f"{folder} has {told}: name one with images=PATH")
    return (best or found)[0]


def beside(images: Path, name: str) -> Path:
    """The file of labels or of the rate that belongs to an images file."""
    return images.with_name(images.name.replace("images_zca_", "images_").replace("images", name))


def joined(paths: Sequence[Path], what: str, large: bool) -> Tensor:
    """The tensors of several files, one after the other."""
    return torch.cat([tensor(read_torch(path, large), what, path) for path in paths])


def as_labels(labels: Tensor, path: Path) -> Tensor:
    """Classes (N,) as int64, whatever their type in the file; soft labels (N, K) as float32.

    Raises:
        ValueError: they are neither.
    """
    if labels.ndim == 2 and labels.is_floating_point():
        return labels.float()
    if labels.ndim != 1 or not torch.equal(labels, labels.long().to(labels.dtype)):
        raise ValueError(
            f"{path} holds labels {labels.dtype} {tuple(labels.shape)}, expected classes (N,) or soft labels (N, K)"
        )
    return labels.long()


def rate_in(path: Path) -> float:
    """The one number that a file holds."""
    value = tensor(read_torch(path), "rate", path)
    if value.numel() != 1:
        raise ValueError(f"{path} holds {tuple(value.shape)} for the rate, expected one number")
    return float(value)


def pair(value: Any, path: Path) -> tuple[Tensor, Tensor]:
    """Images and labels of ``[images, labels]``."""
    if not (isinstance(value, list | tuple) and len(value) == 2):
        raise ValueError(f"{path} holds {type(value).__name__} where a pair [images, labels] is expected")
    return tensor(value[0], "images", path), as_labels(tensor(value[1], "labels", path), path)


@dataclass(frozen=True, kw_only=True)
class Results(Kind):
    """``res_<METHOD>_<DATASET>_<MODEL>_<ipc>ipc.pt``: a dictionary whose ``data`` is a pair for each synthesis.

    Attributes:
        project: METHOD, as the file's name has it.

    Source: DC (arXiv:2006.05929), DSA and DM write it; its accuracies are left out.
    """

    project: str = setting("text")

    def read(self, words: Words) -> list[Found]:
        path = one_path(words, f"res_{self.project}_..._10ipc.pt")
        if path.name.startswith("cl_"):
            raise ValueError(f"{path} is a continual learner's, a pair for each step: expected res_*.pt")
        facts = facts_of_name(path)
        project = facts.pop("project", None)
        if project is not None and project.value.lower() != self.project.lower():
            raise ValueError(
                f"{path.name} is {project.value}'s by its name, kind says {self.project}: name another kind"
            )
        pairs = pairs_in(path, words.large)
        return [Found(images, labels, (path,), facts=facts) for images, labels in pairs]


def facts_of_name(path: Path) -> dict[str, Fact]:
    """What ``res_DM_CIFAR10_ConvNet_10ipc.pt`` says of itself.

    >>> {name: fact.value for name, fact in facts_of_name(Path("res_DM_CIFAR10_ConvNet_10ipc.pt")).items()}
    {'project': 'DM', 'data': 'CIFAR10', 'ipc': 10}
    """
    named = RESULT.fullmatch(path.name)
    if named is None:
        return {}
    project, data, _, ipc = named.groups()
    said = {"project": project, "data": data, "ipc": int(ipc)}
    return {name: Fact(value, "read", "the file's name") for name, value in said.items()}


def pairs_in(path: Path, large: bool) -> list[tuple[Tensor, Tensor]]:
    """Images and labels of each synthesis of a ``res_*.pt``."""
    value = read_torch(path, large)
    if not isinstance(value, dict) or not isinstance(value.get("data"), list) or not value["data"]:
        raise ValueError(f"{path} is no result of DC's family: expected a dictionary whose 'data' is a list of pairs")
    return [pair(each, path) for each in value["data"]]


@dataclass(frozen=True, kw_only=True)
class Tree(Kind):
    """A folder ``<METHOD>/<SET>/IPC<i>`` of DC-BENCH's release (arXiv:2207.09639): its own copies of many projects' files.

    Of DC's family it takes the last synthesis, as its loader does.
    """

    def read(self, words: Words) -> list[Found]:
        folder = one_path(words, "distilled_results/DM/CIFAR10/IPC10")
        if not folder.is_dir():
            raise FileNotFoundError(f"no folder {folder}: expected one like distilled_results/DM/CIFAR10/IPC10")
        facts = {"method": Fact(folder.resolve().parts[-3], "read", "the folders' names")}
        named = re.fullmatch(r"IPC(\d+)", folder.resolve().name)
        facts |= {"ipc": Fact(int(named[1]), "read", "the folder's name")} if named else {}
        results, listed_pairs = sorted(folder.glob("res_*.pt")), sorted(folder.glob("results.pth"))
        for path in results[:1]:
            images, labels = pairs_in(path, words.large)[-1]
            return [Found(images, labels, (path,), facts=facts, notes=("the last of its syntheses",))]
        for path in listed_pairs:
            value = read_torch(path, words.large)
            images, labels = pair(list(value[-1]) if isinstance(value, list) and value else value, path)
            return [Found(images, labels, (path,), facts=facts)]
        parts = sorted(
            folder.glob("*images*.pt"), key=lambda path: [int(n) for n in re.findall(r"_(\d+)\.pt", path.name)]
        )
        if not parts:
            raise ValueError(f"{folder} has neither res_*.pt nor *images*.pt: expected a folder of DC-BENCH's release")
        own = [beside(path, "labels") for path in parts]
        images, labels = joined(parts, "images", words.large), as_labels(joined(own, "labels", words.large), own[0])
        picked = "test" if "best" in parts[0].name else "last"
        return [Found(images, labels, (*parts, *own), picked_on=picked, facts=facts)]


@dataclass(frozen=True, kw_only=True)
class Dictionary(Kind):
    """A dictionary of ``images`` in [0, 1] and ``labels``: ``data.pth`` of LGM (linear gradient matching).

    Its ``cfg.pth`` is a pickled class and is not read.
    """

    def read(self, words: Words) -> list[Found]:
        path = one_path(words, "data.pth")
        value = read_torch(path, words.large)
        if not isinstance(value, dict) or not {"images", "labels"} <= value.keys():
            raise ValueError(f"{path} is no dictionary of images and labels")
        images, labels = pair([value["images"], value["labels"]], path)
        return [Found(images, labels, (path,))]
