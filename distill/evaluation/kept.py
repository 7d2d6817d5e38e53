"""Trained students that are kept: a file each, with all that builds the network again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from distill.checks import check_ranges, check_tree, owner_of
from distill.data.preprocessing import Preprocessing, loaded
from distill.data.split import Split
from distill.files import load_tensors, save_tensors
from distill.networks.base import Student
from distill.report.rows import Report, Row

RECORD = {
    "network": "map of text to anything",
    "shape": "list of whole [1, 100000]",
    "class_names": "list of any text",
    "space": "text",
    "accuracy": "[0, 1]",
    "row": "map of text to anything",
    **dict.fromkeys(("seed", "synthesis_seed", "number"), "whole [0, 1e20]"),
}
HELP = "name a file that an evaluation with keep_students=true left below students/ of its out"
NETWORKS = "distill.networks."  # where classes of a file's network may live


@dataclass(frozen=True)
class Kept:
    """The files of a row's students, ``<folder>/<i>-<j>.safetensors``: student j of synthesis i, in the row's order.

    Attributes:
        folder: the row's own.
        row: keys of the row (`Report.KEY`), and the name of its protocol.
        network: the students' configuration.
        real: any split of the real set: its shape, classes and preprocessing are kept.
    """

    folder: Path
    row: Mapping[str, Any]
    network: Mapping[str, Any]
    real: Split

    @classmethod
    def of(cls, folder: Path, row: Row, network: Mapping[str, Any] | None, real: Split) -> Kept:
        """Below ``folder``, under the row's name.

        Raises:
            ValueError: the network has no configuration, so no file could say how to build it.
        """
        if network is None:
            raise ValueError(
                f"the students {row['student']} cannot be kept: they are a function without a configuration"
            )
        return cls(folder / Report.name(row), {key: row[key] for key in (*Report.KEY, "protocol")}, network, real)

    def path(self, synthesis: int, number: int) -> Path:
        return self.folder / f"{synthesis}-{number}.safetensors"

    def paths(self, syntheses: int, students: int) -> list[Path]:
        """Of all students, in the order of the row's accuracies."""
        return [self.path(i, j) for i in range(syntheses) for j in range(students)]

    def load(self, synthesis: int, number: int) -> nn.Module:
        """One student again."""
        return load_student(self.path(synthesis, number)).network

    def keep(self, net: nn.Module, synthesis: int, number: int, synthesis_seed: int, accuracy: float) -> None:
        """Write one student, whole or not at all.

        Args:
            accuracy: on the test split, in [0, 1].
        """
        record = {
            "network": dict(self.network),
            "shape": list(self.real.shape),
            "class_names": list(self.real.class_names),
            "space": self.real.preprocessing.space,
            "accuracy": accuracy,
            "row": dict(self.row),
            "seed": self.row["seed"],
            "synthesis_seed": synthesis_seed,
            "number": number,
        }
        tensors = {f"network.{name}": tensor for name, tensor in net.state_dict().items()}
        tensors |= {f"preprocessing.{name}": tensor for name, tensor in self.real.preprocessing.tensors.items()}
        save_tensors(self.path(synthesis, number), tensors, record)


class PixelStudent(nn.Module):
    """A trained student that takes images as pixels in [0, 1]: preprocessing, which may whiten, and network as one module.

    Attributes:
        record: ``network`` (its configuration), ``class_names``, ``shape``, ``accuracy`` on the test split in [0, 1], ``row``
            (what it was trained on, and how: the keys of its row), ``seed``, ``synthesis_seed`` and ``number``, of which its
            start and its batches are a function.
    """

    def __init__(self, preprocessing: Preprocessing, network: nn.Module, record: Mapping[str, Any]):
        super().__init__()
        self.preprocessing, self.network, self.record = preprocessing, network, record

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W) in [0, 1]."""
        logits: Tensor = self.network(self.preprocessing(pixels))
        return logits


def load_student(path: str | Path) -> PixelStudent:
    """A student that an evaluation with ``keep_students=true`` trained, in evaluation mode.

    Args:
        path: a file ``students/<row>/<synthesis>-<student>.safetensors`` below the evaluation's ``out``.

    Returns:
        A module from images (B, C, H, W) in [0, 1] to logits (B, K). Its preprocessing is part of it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or holds no student.

    Examples:
        >>> import tempfile
        >>> from distill.api import evaluate, load_data, make
        >>> real, out = load_data(), tempfile.mkdtemp()
        >>> settings = {"baselines": [], "epochs": 1, "protocol.students": 1, "convnet.width": 4, "keep_students": True}
        >>> synset = make("random", real, ipc=1, out=out)
        >>> report = evaluate(synset, real, protocol="dsa", out=out, **settings)  # doctest: +ELLIPSIS +NORMALIZE_WHITESPACE
        Accuracy on the test split, % ...
        >>> (path,) = Path(out).glob("students/*/0-0.safetensors")
        >>> student = load_student(path)
        >>> student(real.test.preprocessing.inverse(real.test.images[:2])).shape
        torch.Size([2, 10])
        >>> student.record["accuracy"] == report.rows[0]["accuracies"][0]
        True
    """
    path = Path(path)
    tensors, record = load_tensors(path)
    try:
        check_ranges("", record, RECORD)
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "preprocessing": {}}
        for name, tensor in tensors.items():
            part, _, own = name.partition(".")
            parts[part][own] = tensor
        shape = tuple(record["shape"])
        preprocessing = loaded(record["space"], parts["preprocessing"])
        preprocessing.check_shape(shape)
        network = build(record["network"], shape, len(record["class_names"]))
        network.load_state_dict(parts["network"])
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{path} holds no student ({' '.join(str(error).split())}): {HELP}") from None
    return PixelStudent(preprocessing, network, record).eval()


def build(network: Mapping[str, Any], shape: tuple[int, ...], classes: int) -> Student:
    """The network of a configuration, which may be a stranger's: it names a class of ours, and fetches nothing.

    Raises:
        ValueError: it names another class, or a value is none that the class takes.
    """
    if not str(network.get("_target_")).startswith(NETWORKS):
        raise ValueError(f"network._target_ is {network.get('_target_')!r}, expected a class of {NETWORKS}*")
    check_tree("network", network, Student)
    own = {name: value for name, value in network.items() if not name.startswith("_")}
    own |= {"weights": None} if "weights" in own else {}
    made: Student = owner_of("network", network["_target_"], Student)(shape, classes, **own)
    return made
