"""ExpertStore: expert trajectories on disk, one safetensors file for each expert, read row by row.

A folder holds ``manifest.json`` (what the experts are) and ``expert_0000.safetensors`` ...: tensor ``weights``
(epochs + 1, P) float32, row e the weights after e epochs. Rows are memory-mapped: an outer step reads two of them,
never a whole expert, and checks each against its CRC; the header with the CRCs has a hash.
"""

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from distill.checks import check_ranges
from distill.files import (
    Newer,
    check_format,
    hash_tensors,
    load_tensors,
    read_record,
    replacing,
    save_tensors,
    sealed,
    unsealed,
    write_record,
    write_safetensors,
)
from distill.identity import canonical, digits, former_digits, pathless
from distill.text import command
from distill.wording import differing

MANIFEST = {
    "data": "map of text to anything",
    "preprocessing": "text",
    "shape": "list of whole [1, inf)",
    "recipe": "map of text to anything",
}

EPOCHS = dict.fromkeys(("epochs", "extra_epochs"), "whole [0, inf)")

HELP = f"train them with `{command()} task=experts` and the same data, student and method"

KEPT = ("data", "preprocessing", "shape", "student")  # what experts must share with the run that learns from them


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
        self.folder = root if named else _folder(root, identity)
        check_ranges("recipe", identity["recipe"], EPOCHS)
        self.identity = _manifest(root) if named else identity
        theirs, ours = (canonical({key: each.get(key) for key in KEPT}) for each in (self.identity, identity))
        if theirs != ours:
            raise ValueError(
                f"experts in {str(root)!r} were trained with other {'; '.join(differing(theirs, ours))}: {HELP}"
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
        beside = []
        for path in sorted(self.folder.parent.glob("*/manifest.json")):
            try:
                beside.append((path.parent.name, differing(_manifest(path.parent), self.identity)))
            except ValueError:
                continue  # damaged, and another's
        name, found = min(beside, key=lambda each: len(each[1]), default=("", []))
        return f"; {name} differs in {', '.join(found)}" if 0 < len(found) <= 3 else ""

    def write(
        self,
        expert: int,
        weights: Tensor,
        accuracy: float,
        statistics: Mapping[str, Tensor] | None = None,
        dynamics: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Store a finished expert, whole or not at all.

        Args:
            weights: (epochs + 1, P) float32; of a teacher the last row alone.
            accuracy: of the last row on the validation split (the training split where there is none), in [0, 1].
            statistics: a teacher's buffers by name, the running statistics of batch norm.
            dynamics: a proxy's, by name.
        """
        if not (self.folder / "manifest.json").exists():
            write_record(self.folder / "manifest.json", pathless(self.identity))
        buffers = {f"statistics.{name}": tensor.cpu().contiguous() for name, tensor in (statistics or {}).items()}
        log = {f"dynamics.{name}": tensor.contiguous() for name, tensor in (dynamics or {}).items()}
        header = {
            "crc32": json.dumps([_crc(row) for row in weights]),
            "accuracy": str(accuracy),
            "statistics": hash_tensors(buffers),
            **({"dynamics": hash_tensors(log)} if log else {}),
        }
        with replacing(self._path(expert)) as part:
            write_safetensors(part, {"weights": weights.contiguous(), **buffers, **log}, sealed(header))

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
        weights = tensors.pop("weights", torch.empty(0))
        if weights.ndim != 3 or len(weights) != len(group):
            raise ValueError(f"{self._unfinished(group)} holds weights {tuple(weights.shape)}: delete it to start anew")
        return weights, {name.removeprefix("optimizer."): tensor for name, tensor in tensors.items()}

    def forget(self, group: Sequence[int]) -> None:
        """Remove what `keep` stored: these experts are finished."""
        self._unfinished(group).unlink(missing_ok=True)

    def row(self, expert: int, epoch: int, size: int | None = None) -> Tensor:
        """Weights (P,) of one expert after ``epoch`` epochs; -1 is the last. Only this row is read.

        Args:
            size: P, where the caller knows it.

        Raises:
            FileNotFoundError: the expert is missing.
            ValueError: the file is truncated or altered, ends before ``epoch``, or is of another network.
        """
        with self._opened(expert) as (file, header):
            rows, checks = file.get_slice("weights"), json.loads(header["crc32"])
            if rows.get_dtype() != "F32" or len(rows.get_shape()) != 2 or rows.get_shape()[0] != len(checks):
                raise ValueError(f"its weights are {rows.get_dtype()} {rows.get_shape()}, with {len(checks)} checksums")
            epoch = len(checks) - 1 if epoch == -1 else epoch
            if epoch >= len(checks):
                raise ValueError(f"it ends at epoch {len(checks) - 1}, epoch {epoch} is asked for")
            weights = rows[epoch : epoch + 1][0]
            if _crc(weights) != checks[epoch]:
                raise ValueError(f"it was altered: row {epoch} does not fit its checksum")
            if size not in (None, len(weights)) or not weights.isfinite().all():
                raise ValueError(f"row {epoch} holds {len(weights)} weights, expected {size or 'some'} that are finite")
        return weights

    def accuracy(self, expert: int) -> float:
        """At its last epoch, in [0, 1]: of the validation images, or of the training images where there are none.

        Raises:
            FileNotFoundError: the expert is missing.
            ValueError: the file is altered.
        """
        with self._opened(expert) as (_, header):
            accuracy = float(header["accuracy"])
            if not 0 <= accuracy <= 1:
                raise ValueError(f"its accuracy is {accuracy}")
        return accuracy

    def statistics(self, expert: int) -> dict[str, Tensor]:
        """A teacher's buffers by name.

        Raises:
            FileNotFoundError: the expert is missing.
            ValueError: the file is altered.
        """
        with self._opened(expert) as (file, header):
            names = [name for name in file.keys() if name.startswith("statistics.")]  # noqa: SIM118  # not a dict
            buffers = {name: file.get_tensor(name) for name in names}
            # The first format had no hash where there was nothing.
            if header.get("statistics", hash_tensors({})) != hash_tensors(buffers):
                raise ValueError("it was altered: its statistics do not fit their hash")
            if not all(buffer.isfinite().all() for buffer in buffers.values()):
                raise ValueError("its statistics hold values that are not finite")
        return {name.removeprefix("statistics."): tensor for name, tensor in buffers.items()}

    def dynamics(self, expert: int, images: int) -> dict[str, Tensor]:
        """A proxy's dynamics by name, each (epochs, images).

        Raises:
            FileNotFoundError: the proxy is missing.
            ValueError: the file is altered, has none, or those of another number of images.
        """
        with self._opened(expert) as (file, header):
            names = [name for name in file.keys() if name.startswith("dynamics.")]  # noqa: SIM118  # not a dict
            log = {name: file.get_tensor(name) for name in names}
            if header.get("dynamics", hash_tensors({})) != hash_tensors(log):
                raise ValueError("it was altered: its dynamics do not fit their hash")
        expected = {f"dynamics.{name}": (self.epochs, images) for name in ("margins", "errors")}
        if {name: tuple(tensor.shape) for name, tensor in log.items()} != expected:
            raise ValueError(
                f"{self._path(expert)} is no proxy's of these images: expected a log of {self.epochs} epochs of {images} of "
                "them, which `task=experts experts=proxy` keeps; name another experts_path"
            )
        return {name.removeprefix("dynamics."): tensor for name, tensor in log.items()}

    @contextmanager
    def _opened(self, expert: int) -> Iterator[tuple[safe_open, dict[str, str]]]:
        """An expert's file and its header, as far as that is what was written; what fails in the block names the file."""
        path = self._path(expert)
        if not path.exists():
            raise FileNotFoundError(f"no file {path}: {HELP}")
        try:
            with safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
                check_format(path, header)
                first_format = header.keys() - {"statistics"} == {"crc32", "accuracy"}
                yield file, header if first_format else unsealed(header)
        except Newer:
            raise
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{path} cannot be used as an expert ({error}): delete it and {HELP}") from None

    def _unfinished(self, group: Sequence[int]) -> Path:
        return self.folder / f"unfinished_{group[0]:04d}-{group[-1]:04d}.safetensors"

    def _path(self, expert: int) -> Path:
        return self.folder / f"expert_{expert:04d}.safetensors"


def _folder(root: Path, identity: Mapping[str, Any]) -> Path:
    """Where a store of this identity is or will be."""
    own, former = (
        root / f"{identity['data']['name']}-{identity['recipe']['name']}-{known(identity)}"
        for known in (digits, former_digits)
    )
    return former if (former / "manifest.json").exists() and not own.exists() else own


def _manifest(folder: Path) -> dict[str, Any]:
    """What the experts of a store are, its own manifest says; one of the first format has no hash."""
    path, help = folder / "manifest.json", f"delete {folder} and {HELP}"
    manifest = read_record(path, help)
    try:
        check_ranges("", manifest, MANIFEST)
        check_ranges("recipe", manifest["recipe"], {"name": "text", **EPOCHS})
    except ValueError as error:
        raise ValueError(f"{path} is no manifest of experts ({error}): {help}") from None
    return manifest


def _crc(row: Tensor) -> int:
    return zlib.crc32(row.contiguous().view(torch.uint8).numpy().data)
