"""Files that are written whole or not at all, and read back only if they are what was written.

A JSON file carries a hash of its content, a safetensors file a JSON record in its header and a hash of that and of the
tensors; nothing is ever unpickled. Every file says its format, ``distill 2``, one number for all kinds; docs/outputs.md tells
what changed at each, and tests/formats has files of all. Files of the first say none: their hash was of the tensors alone, and
their JSON had none. What was written in a later one does not pass for such a file when it loses its hash.
"""

import hashlib
import json
import math
import os
import re
import reprlib
import shutil
import stat
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open

from distill.filed import Filed

FORMAT = 2  # that is written; this one and all before it are read
MOST_NESTED = 50  # lists and objects within each other; a record of ours has ten
DAMAGED = "make or fetch it again"
ABANDONED_SECONDS = 3600.0
PART = 2**24  # bytes that are hashed or written at once, at least an item
CODES = {  # of safetensors
    **{torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.bool: "BOOL"},
    torch.complex64: "C64",
    **{torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8"},
}


class Newer(ValueError):
    """A file of a format that a later version writes: sound, and not to be deleted."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well and vanishes when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    part.touch(exist_ok=False)
    mode = stat.S_IMODE(
        part.stat().st_mode
    )  # as the umask has it; safetensors' writer makes a file that is its user's alone
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.chmod(mode)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def alone_in(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold ``folder`` against other runs, until the block or the process ends, and clear what killed ones left half written.

    Args:
        patience: seconds to wait for it; below 0 until it is free.

    Raises:
        RuntimeError: another run holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=patience)
    try:
        lock.acquire()
    except Timeout:
        raise RuntimeError(
            f"another run is writing to {folder}: wait until it ends, or choose another folder with out=DIR"
        ) from None
    with lock:
        clear_parts(folder)
        try:
            yield
        finally:
            clear_parts(folder)  # of workers that were killed meanwhile


def clear_parts(folder: Path) -> None:
    for pattern in (".*.part", ".tmp??????"):  # ours, and that of safetensors' writer, which versions before used
        for part in [*folder.glob(pattern), *folder.glob(f"snapshots/{pattern}")]:
            part.unlink(missing_ok=True)


def cache_folder() -> Path:
    """Where this user's machine keeps what can be made again: ``XDG_CACHE_HOME``, or ``~/.cache``, and ``distill``.

    Raises:
        RuntimeError: the user has no home.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "distill"


def clear_abandoned(folder: Path, pattern: str) -> None:
    """Clear what killed processes left half written in a folder that nobody holds: what did not change for an hour."""
    for part in folder.glob(pattern):
        with suppress(FileNotFoundError):  # another process clears it, too
            if time.time() - part.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(part) if part.is_dir() else part.unlink()


def write_json(path: Path, record: Any) -> None:
    """Write ``record`` as indented JSON, whole or not at all; for people, who may change it."""
    with replacing(path) as part:
        part.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n")


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """`write_json` with a hash, for `read_record`."""
    write_json(path, sealed(json.loads(json.dumps(record))))


def read_record(path: Path, help: str) -> dict[str, Any]:
    """What `write_record` was given; the content of a file of the first format, which has no hash, as it is.

    Args:
        help: what the error advises.

    Raises:
        ValueError: the file is damaged, was altered, or is of a later format (`Newer`).
    """
    try:
        record = parsed(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not readable ({error}): {help}") from None
    check_format(path, record)
    if not {"format", "sha256"} & record.keys():
        return record
    try:
        return unsealed(record)
    except ValueError as error:
        raise ValueError(f"{path} was altered ({error}): {help}") from None


def parsed(text: str) -> dict[str, Any]:
    """The JSON object that ``text`` is.

    Raises:
        ValueError: it is none, or one that no program of ours writes.
    """
    try:
        record = json.loads(text)
    except RecursionError:
        raise ValueError(f"nested more than {MOST_NESTED} deep") from None
    if not isinstance(record, dict):
        raise ValueError(f"{reprlib.repr(record)} where an object is expected")
    level: list[Any] = [record]
    for _ in range(MOST_NESTED):
        level = [part for each in level for part in (each.values() if isinstance(each, dict) else each)]
        level = [part for part in level if isinstance(part, dict | list)]
        if not level:
            return record
    raise ValueError(f"nested more than {MOST_NESTED} deep")


def sealed(record: Mapping[str, Any], *more: str) -> dict[str, Any]:
    """``record`` with its format, and a hash over all of it and over what ``more`` stands for."""
    whole = {"format": f"distill {FORMAT}", **record}
    return {**whole, "sha256": _seal(whole, more)}


def unsealed(record: Mapping[str, Any], *more: str) -> dict[str, Any]:
    """What `sealed` was given.

    Raises:
        ValueError: it is not what was sealed.
    """
    whole = {key: value for key, value in record.items() if key != "sha256"}
    if whole.get("format") not in [f"distill {number}" for number in range(2, FORMAT + 1)]:
        raise ValueError(f"its format is {reprlib.repr(whole.get('format'))}, expected 'distill {FORMAT}'")
    if record.get("sha256") != _seal(whole, more):
        raise ValueError("its content does not fit its hash")
    return {key: value for key, value in whole.items() if key != "format"}


def check_format(path: Path, header: Mapping[str, Any]) -> None:
    """Raise `Newer` if the file of this header, or record, is of a later format."""
    found = re.fullmatch(r"distill (\d{1,9})", str(header.get("format")))
    if found and int(found[1]) > FORMAT:
        raise Newer(f"{path} is of format {int(found[1])}, this distill reads up to {FORMAT}: upgrade distill")


def _seal(record: Mapping[str, Any], more: tuple[str, ...]) -> str:
    return hashlib.sha256(json.dumps([record, more], sort_keys=True).encode()).hexdigest()


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


def hash_tensors(tensors: Mapping[str, Any]) -> str:
    """SHA-256 over names, types, shapes and bytes of tensors, or of what stands where they stand (`distill.filed.Filed`)."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        sha.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)} ".encode())
        for part in _parts(tensors[name]):
            sha.update(part)
    return sha.hexdigest()


def save_tensors(path: Path, tensors: Mapping[str, Any], record: Mapping[str, Any] | None = None) -> None:
    """Write tensors, or what stands where they stand, and a JSON record into one safetensors file."""
    header = sealed({"record": json.dumps(record or {})}, hash_tensors(tensors))
    with replacing(path) as part:
        write_safetensors(part, tensors, header)


def write_safetensors(path: Path, tensors: Mapping[str, Any], header: Mapping[str, str]) -> None:
    """A safetensors file, part by part, so that no tensor is copied whole; its content is laid out as safetensors' own does."""
    about: dict[str, Any] = {"__metadata__": dict(header)}
    names, end = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name)), 0
    for name in names:
        dtype, shape = tensors[name].dtype, tuple(tensors[name].shape)
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        about[name] = {"dtype": CODES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(about).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of their size
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            for part in _parts(tensors[name]):
                file.write(part)


def _parts(tensor: Any) -> Iterator[memoryview]:
    """The bytes of a tensor (N, ...), or of what stands where it stands, so many items at once."""
    each = math.prod(tensor.shape[1:]) * tensor.dtype.itemsize
    for part in tensor.split(max(1, PART // max(1, each))) if len(tensor.shape) else [tensor]:
        yield part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def load_tensors(path: Path, filed: Collection[str] = ()) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tensors and the record of `save_tensors`.

    Args:
        filed: names of tensors that stay in the file (`distill.filed.Filed`).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, altered, of another kind, or of a later format (`Newer`).
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is truncated or not a safetensors file ({error}): {DAMAGED}") from None
    check_format(path, header)
    begins = _begins(path) if filed else {}
    for name in tensors.keys() & set(filed):
        tensors[name] = Filed(path, tensors[name].dtype, tensors[name].shape, begins[name])
    try:
        return tensors, parsed(record_of(header, hash_tensors(tensors)))
    except ValueError as error:
        raise ValueError(f"{path} was altered or not written by distill ({error}): {DAMAGED}") from None


def _begins(path: Path) -> dict[str, int]:
    """Where the bytes of each tensor begin in a safetensors file that is sound."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        about = json.loads(file.read(size))
    return {name: 8 + size + each["data_offsets"][0] for name, each in about.items() if name != "__metadata__"}


def record_of(header: Mapping[str, str], tensors: str) -> str:
    """The record in a header; raises a ValueError unless it fits the hash of the tensors."""
    if header.keys() != {"record", "sha256"}:
        return unsealed(header, tensors).get("record", "")
    if header["sha256"] != tensors:
        raise ValueError("its tensors do not fit their hash")
    return header["record"]
