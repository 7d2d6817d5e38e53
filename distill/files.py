"""Files that are written whole or not at all, and read back only if they are what was written.

A safetensors file carries a JSON record in its header, with a hash of the tensors; nothing is ever unpickled.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well and vanishes when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.chmod(0o644)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold ``folder`` against other runs, until the block or the process ends, and clear what a killed one left half written.

    Raises:
        RuntimeError: another run holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise RuntimeError(
            f"another run is writing to {folder}: wait until it ends, or choose another folder with out=DIR"
        ) from None
    with lock:
        for part in [*folder.glob(".*.part"), *folder.glob("snapshots/.*.part")]:
            part.unlink(missing_ok=True)
        yield


def write_json(path: Path, record: Any) -> None:
    """Write ``record`` as indented JSON, whole or not at all."""
    with replacing(path) as part:
        part.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n")


def digest(record: Any) -> str:
    """Twelve hex digits that stand for the content of a JSON-like record, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(record, sort_keys=True, default=str).encode()).hexdigest()[:12]


def flat(record: Any, prefix: str = "") -> dict[str, Any]:
    """The values of nested dictionaries by their dotted names."""
    if not isinstance(record, dict):
        return {prefix: record}
    return {
        key: value
        for name, part in record.items()
        for key, value in flat(part, f"{prefix}.{name}" if prefix else name).items()
    }


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def save_tensors(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any] | None = None) -> None:
    """Write tensors and a JSON record into one safetensors file."""
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {"record": json.dumps(record or {}), "sha256": hash_tensors(stored)}
    with replacing(path) as part:
        write_safetensors(part, stored, header)


def write_safetensors(path: Path, tensors: dict[str, Tensor], header: dict[str, str]) -> None:
    """`safetensors.torch.save_file`, with an OSError where the disk fails."""
    try:
        save_file(tensors, path, metadata=header)
    except SafetensorError as error:
        raise OSError(f"{path.parent}: {error}") from None


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the record of `save_tensors`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, altered or of another kind.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is truncated or not a safetensors file ({error}): make or fetch it again") from None
    if "record" not in header or header.get("sha256") != hash_tensors(tensors):
        raise ValueError(
            f"{path} was altered or not written by distill (its hash does not fit): make or fetch it again"
        )
    return tensors, json.loads(header["record"])
