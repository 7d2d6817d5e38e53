"""ExpertStore: expert trajectories on disk, one safetensors file for each expert, read row by row.

A folder holds ``manifest.json`` (what the experts are) and ``expert_0000.safetensors`` ...: tensor ``weights``
(epochs + 1, P) float32, row e the weights after e epochs. Rows are memory-mapped: an outer step reads two of them,
never a whole expert, and checks each against its CRC.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from distill.files import (
    digest,
    flat,
    hash_tensors,
    load_tensors,
    replacing,
    save_tensors,
    write_json,
    write_safetensors,
)

HELP = "train them with `python run.py task=experts` and the same data, student and method"


class ExpertStore:
    """The experts of one identity.

    Args:
        root: a folder of stores, where the identity's own is found by content, or one store that somebody names.
        identity: what the experts are: ``data`` (name, fingerprint, classes), ``preprocessing``, ``shape``, ``student``
            (the network's config), ``recipe``, ``seed``.
        count: how many of them are wanted, numbers 0 to count - 1.

    Raises:
        ValueError: the named store holds experts of another data set, preprocessing, image shape or network.
    """

    def __init__(self, root: Path, identity: Mapping[str, Any], count: int):
        if count < 1:
            raise ValueError(f"{count} experts, expected at least 1")
        self.count = count
        named = (root / "manifest.json").exists()
        self.folder = (
            root if named else root / f"{identity['data']['name']}-{identity['recipe']['name']}-{digest(identity)}"
        )
        self.identity = _manifest(root) if named else identity
        for key in ("data", "preprocessing", "shape", "student"):
            if self.identity.get(key) != identity[key]:
                raise ValueError(
                    f"experts in {root} were trained with {key} {self.identity.get(key)}, this run has {identity[key]}: {HELP}"
                )

    @property
    def missing(self) -> list[int]:
        """The wanted experts that are not on disk."""
        return [expert for expert in range(self.count) if not self._path(expert).exists()]

    @property
    def epochs(self) -> int:
        """Index of the last row."""
        return self.identity["recipe"]["epochs"] + self.identity["recipe"]["extra_epochs"]

    def complete(self) -> "ExpertStore":
        """This store, if nothing is missing.

        Raises:
            FileNotFoundError: experts are missing; the message names the command that makes them.
        """
        if self.missing:
            raise FileNotFoundError(
                f"{self.count - len(self.missing)} of {self.count} experts in {self.folder}: {HELP}{self._nearest()}"
            )
        return self

    def _nearest(self) -> str:
        """What tells this store from the most similar one beside it; empty if none differs in few values."""
        own, beside = flat(dict(self.identity)), []
        for path in sorted(self.folder.parent.glob("*/manifest.json")):
            try:
                theirs = flat(_manifest(path.parent))
            except ValueError:
                continue  # damaged, and another's
            beside.append((path.parent.name, [key for key in own | theirs if own.get(key) != theirs.get(key)], theirs))
        name, differing, theirs = min(beside, key=lambda each: len(each[1]), default=("", [], {}))
        if not 0 < len(differing) <= 3:
            return ""
        values = ", ".join(f"{key} ({theirs.get(key)} there, {own.get(key)} here)" for key in differing)
        return f"; {name} differs in {values}"

    def write(
        self, expert: int, weights: Tensor, accuracy: float, statistics: Mapping[str, Tensor] | None = None
    ) -> None:
        """Store a finished expert, whole or not at all.

        Args:
            weights: (epochs + 1, P) float32; of a teacher the last row alone.
            accuracy: of the last row on the validation split (the training split where there is none), in [0, 1].
            statistics: a teacher's buffers by name, the running statistics of batch norm.
        """
        if not (self.folder / "manifest.json").exists():
            write_json(self.folder / "manifest.json", dict(self.identity))
        header = {"crc32": json.dumps([_crc(row) for row in weights]), "accuracy": str(accuracy)}
        buffers = {f"statistics.{name}": tensor.cpu().contiguous() for name, tensor in (statistics or {}).items()}
        header |= {"statistics": hash_tensors(buffers)} if buffers else {}
        with replacing(self._path(expert)) as part:
            write_safetensors(part, {"weights": weights.contiguous(), **buffers}, header)

    def keep(self, group: Sequence[int], weights: Tensor, optimizer: Mapping[str, Tensor]) -> None:
        """Store where the training of some experts stands, for a run that is killed: weights (experts, epochs + 1, P)."""
        save_tensors(
            self._unfinished(group), {"weights": weights, **{f"optimizer.{k}": v for k, v in optimizer.items()}}
        )

    def unfinished(self, group: Sequence[int]) -> tuple[Tensor, dict[str, Tensor]] | None:
        """What `keep` stored of these experts, if anything."""
        if not self._unfinished(group).exists():
            return None
        tensors, _ = load_tensors(self._unfinished(group))
        weights = tensors.pop("weights")
        return weights, {name.removeprefix("optimizer."): tensor for name, tensor in tensors.items()}

    def forget(self, group: Sequence[int]) -> None:
        """Remove what `keep` stored: these experts are finished."""
        self._unfinished(group).unlink(missing_ok=True)

    def row(self, expert: int, epoch: int) -> Tensor:
        """Weights (P,) of one expert after ``epoch`` epochs; -1 is the last. Only this row is read.

        Raises:
            FileNotFoundError: the expert is missing.
            ValueError: the file is truncated or altered, or ends before ``epoch``.
        """
        path = self._path(expert)
        if not path.exists():
            raise FileNotFoundError(f"no file {path}: {HELP}")
        try:
            with safe_open(path, framework="pt") as file:
                rows = file.get_slice("weights")
                length = rows.get_shape()[0]
                epoch = length - 1 if epoch == -1 else epoch
                if epoch >= length:
                    raise ValueError(f"{path} ends at epoch {length - 1}, epoch {epoch} is asked for: {HELP}")
                weights = rows[epoch : epoch + 1][0]
                checks = json.loads((file.metadata() or {})["crc32"])
        except (SafetensorError, OSError, KeyError) as error:
            raise ValueError(f"{path} is truncated or not an expert ({error}): delete it and {HELP}") from None
        if _crc(weights) != checks[epoch]:
            raise ValueError(f"{path} was altered (row {epoch} does not fit its checksum): delete it and {HELP}")
        return weights

    def statistics(self, expert: int) -> tuple[dict[str, Tensor], float]:
        """A teacher's buffers by name, and the accuracy it was stored with, in [0, 1].

        Raises:
            ValueError: the file is altered.
        """
        path = self._path(expert)
        try:
            with safe_open(path, framework="pt") as file:
                names = [name for name in file.keys() if name.startswith("statistics.")]  # noqa: SIM118  # not a dict
                header, buffers = file.metadata() or {}, {name: file.get_tensor(name) for name in names}
            accuracy = float(header["accuracy"])
        except (SafetensorError, OSError, KeyError) as error:
            raise ValueError(f"{path} is truncated or not an expert ({error}): delete it and {HELP}") from None
        if buffers and header.get("statistics") != hash_tensors(buffers):
            raise ValueError(f"{path} was altered (its statistics do not fit their hash): delete it and {HELP}")
        return {name.removeprefix("statistics."): tensor for name, tensor in buffers.items()}, accuracy

    def _unfinished(self, group: Sequence[int]) -> Path:
        return self.folder / f"unfinished_{group[0]:04d}-{group[-1]:04d}.safetensors"

    def _path(self, expert: int) -> Path:
        return self.folder / f"expert_{expert:04d}.safetensors"


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "manifest.json").read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{folder / 'manifest.json'} is not readable ({error}): delete the folder and {HELP}"
        ) from None


def _crc(row: Tensor) -> int:
    return zlib.crc32(row.contiguous().view(torch.uint8).numpy().data)
