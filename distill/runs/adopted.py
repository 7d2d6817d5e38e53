"""Networks that other projects trained, put where a run with the same words looks for its own: experts and teachers.

Nothing says which images they saw, so each is scored on the user's real ones before it is kept: one that saw others,
in another space or with its classes in another order, knows nothing there.
"""

import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.nn.utils import vector_to_parameters

from distill.data.split import Split
from distill.files import write_record
from distill.networks.flat import FlatStudent, flatten
from distill.progress import heard_by
from distill.runs.composed import compose
from distill.runs.explained import words_explained
from distill.runs.line import Line
from distill.runs.progress import shown
from distill.sets.importers.base import Importer
from distill.sets.importers.safe import read_torch, sha256
from distill.teachers.store import ExpertStore
from distill.training.accuracy import accuracy
from distill.training.recipe import Recipe

SCORED = 2000  # real images that tell whether a network knows them
KNOWS = 2.0  # times chance that it must classify correctly


@dataclass(frozen=True)
class Networks(Importer):
    """Files of networks, one file of ``configs/kind``."""

    brings, needs = "networks", ("path", "data")

    @abstractmethod
    def bring(self, line: Line, path: Path, large: bool) -> ExpertStore:
        """Convert the files at ``path`` into the store where ``line`` would look for its own.

        Raises:
            FileNotFoundError: there are none.
            ValueError: they are of another network, do not know the real images, or the store has some.
        """


@dataclass(frozen=True)
class Buffers(Networks):
    """``replay_buffer_<n>.pt``: a list of experts, each a list of epochs + 1 snapshots, each a list of parameters in order.

    Source: MTT (arXiv:2203.11932) and its descendants; snapshots after the last epoch of the method's recipe are left out.
    """

    def bring(self, line: Line, path: Path, large: bool) -> ExpertStore:
        store = line.expert_store()
        if store is None:
            raise ValueError(f"method={line.choices['method']} learns from no trajectories: method=mtt")
        if "_NO_ZCA" in str(path) and line.cfg.data.zca:
            raise ValueError(f"{path} is of images that are not whitened by its name: data.zca=false")
        files = sorted(path.glob("replay_buffer_*.pt"), key=numbers) if path.is_dir() else [path]
        check_free(store, files, path)
        net, recipe = line.student(line.first_student)(), instantiate(line.cfg.method.experts.recipe, _convert_="all")
        real, used = some(line.real.train), dict[str, str]()
        for number, (file, expert) in zip(range(store.count), each_of(files, large), strict=False):
            used[file.name] = sha256(file) if file.name not in used else used[file.name]
            weights = rows(expert, net, store.epochs, f"expert {number} in {file}")
            vector_to_parameters(weights[-1], net.parameters())
            store.write(number, weights, known(net, real, recipe, f"expert {number} in {file}"))
        write_record(store.folder / "imported.json", {"kind": "experts", "files": used})
        return store


@dataclass(frozen=True)
class States(Networks):
    """State dicts of teachers, bare or under ``state_dict``, ``model`` or ``net``, with or without ``module.`` before names.

    Names of another code are passed over: tensors are taken in order, and must have the shapes of the network here.
    """

    def bring(self, line: Line, path: Path, large: bool) -> ExpertStore:
        if not line.teachers_alone:
            raise ValueError("experts is missing: experts=teacher experts.networks=[resnet18_bn]")
        node, name, _, store = next(line.asked_stores())
        files = (
            sorted(each for each in path.iterdir() if each.suffix in (".pt", ".pth", ".tar"))
            if path.is_dir()
            else [path]
        )
        check_free(store, files, path)
        recipe, real = instantiate(node.recipe, _convert_="all"), some(line.real.train)
        for number, file in zip(range(store.count), files, strict=False):
            net = line.student(name)()
            net.load_state_dict(matched(state_in(read_torch(file, large), file), net.state_dict(), file))
            score = known(net, real, recipe, str(file), node.minimum)
            store.write(number, flatten(net)[None], score, dict(net.named_buffers()))
        used = {file.name: sha256(file) for file in files[: store.count]}
        write_record(store.folder / "imported.json", {"kind": "teacher", "files": used})
        return store


def adopt(kind: Networks, path: Path, large: bool, words: Sequence[str]) -> ExpertStore:
    """Convert networks for the run of ``words``, which are those of a command line: ``method=mtt data=cifar10 data.zca=true``.

    Raises:
        FileNotFoundError, ValueError: see `Networks.bring`.
    """
    with words_explained(words), shown() as progress, heard_by(progress):
        return kind.bring(Line(compose("task=experts", "device=cpu", *words), progress), path, large)


def numbers(path: Path) -> list[int]:
    """The numbers in a file's name, by which ``replay_buffer_10.pt`` comes after ``replay_buffer_9.pt``."""
    return [int(each) for each in re.findall(r"\d+", path.name)]


def check_free(store: ExpertStore, files: list[Path], path: Path) -> None:
    """Raise FileNotFoundError where there are no files, ValueError where the store has networks already."""
    if not files:
        raise FileNotFoundError(f"no networks in {path}: expected replay_buffer_*.pt, or state dicts for kind=teacher")
    if len(store.missing) < store.count:
        raise ValueError(f"{store.folder} has networks already: name another experts_path")


def each_of(files: list[Path], large: bool) -> Iterator[tuple[Path, Any]]:
    """The experts of all files, one file in memory at a time."""
    for file in files:
        held = read_torch(file, large)
        if not isinstance(held, list) or not all(isinstance(each, list) for each in held):
            raise ValueError(f"{file} is no replay buffer: expected a list of experts, each a list of snapshots")
        yield from ((file, expert) for expert in held)


def rows(expert: list[Any], net: nn.Module, epochs: int, who: str) -> Tensor:
    """An expert's weights at initialisation and after each of so many epochs, (epochs + 1, P).

    Raises:
        ValueError: it is of another network, shorter, not finite, or its snapshots are all one.
    """
    if len(expert) < epochs + 1:
        raise ValueError(
            f"{who} has {len(expert) - 1} epochs, the recipe {epochs}: method.experts.recipe.epochs={len(expert) - 1}"
        )
    shapes = [tuple(each.shape) for each in expert[0]]
    expected = [tuple(shape) for shape in FlatStudent(net).shapes]
    if shapes != expected:
        count = sum(each.numel() for each in expert[0])
        raise ValueError(
            f"{who} has {len(shapes)} tensors of {count:,} weights, the network here {len(expected)} of {len(flatten(net)):,}: "
            "name the network that they are of with student=[...]"
        )
    weights = torch.stack(
        [torch.cat([each.detach().flatten() for each in snapshot]) for snapshot in expert[: epochs + 1]]
    )
    if not weights.isfinite().all():
        raise ValueError(f"{who} holds weights that are NaN or infinite")
    if bool((weights[1:] == weights[:-1]).all(1).any()):
        raise ValueError(f"{who} has the same weights after two epochs: its snapshots are one tensor, saved many times")
    return weights.float()


def some(split: Split) -> Split:
    """At most `SCORED` images of a split, spread over it."""
    index = torch.linspace(0, len(split) - 1, min(len(split), SCORED)).long()
    return replace(split, images=split.images[index], labels=split.labels[index])


def known(net: nn.Module, real: Split, recipe: Recipe, who: str, least: float = 0.0) -> float:
    """The share of real images that a network knows.

    Raises:
        ValueError: it is near chance, or below ``least``.
    """
    score, least = accuracy(net, real, recipe), max(least, KNOWS / real.num_classes)
    if score < least:
        raise ValueError(
            f"{who} knows {score:.0%} of the real images, expected {least:.0%} or more: did it see another space "
            "(data.zca, data.mean, data.std), other data or another order of classes?"
        )
    return score


def state_in(held: Any, file: Path) -> dict[str, Tensor]:
    """The tensors of a state dict, wherever in a checkpoint it lies."""
    for name in ("state_dict", "model", "net"):
        if isinstance(held, dict) and isinstance(held.get(name), dict):
            held = held[name]
    tensors = {str(name).removeprefix("module."): each for name, each in held.items()} if isinstance(held, dict) else {}
    if not tensors or not all(isinstance(each, Tensor) for each in tensors.values()):
        raise ValueError(f"{file} is no state dict: expected tensors by name, or a checkpoint that holds them")
    return tensors


def matched(state: dict[str, Tensor], own: dict[str, Tensor], file: Path) -> dict[str, Tensor]:
    """The tensors under our names, by name or in order.

    Raises:
        ValueError: they are of another network.
    """
    found = state if state.keys() == own.keys() else dict(zip(own, state.values(), strict=False))
    shapes = [{name: tuple(each.shape) for name, each in part.items()} for part in (found, own)]
    if len(state) != len(own) or shapes[0] != shapes[1]:
        wrong = next((name for name in own if shapes[0].get(name) != shapes[1][name]), "none")
        raise ValueError(
            f"{file} has {len(state)} tensors, the network here {len(own)}; the first that differs is {wrong}: name the "
            "network with experts.networks=[...]"
        )
    return found
