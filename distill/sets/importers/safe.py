"""Files of tensors that a stranger made, read without running anything that they ask for."""

import hashlib
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

LARGEST = 2 * 10**9  # bytes of a file that is read unasked
# What makes a number of NumPy; versions 1 and 2 spell its place differently.
SCALAR: Any = np.float64(0).__reduce__()[0]
NUMBERS: list[Any] = [  # they build numbers only
    (SCALAR, "numpy._core.multiarray.scalar"),
    (SCALAR, "numpy.core.multiarray.scalar"),
    np.dtype,
    type(np.dtype(np.float64)),
    type(np.dtype(np.int64)),
]
CONVERT = (
    "where you trust it, open it in a Python of your own and keep its tensors: torch.save([images, labels], 'clean.pt')"
)


def read_torch(path: Path, large: bool = False) -> Any:
    """What ``torch.save`` wrote: tensors, numbers and text in lists and dictionaries, on the CPU.

    Args:
        large: read it even above `LARGEST` bytes.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, no file of torch.save, or asks for more than tensors and numbers: that is not run.
    """
    check_file(path, large)
    try:
        return _loaded(path)
    except pickle.UnpicklingError:
        pass
    with torch.serialization.safe_globals(NUMBERS):
        try:
            return _loaded(path)
        except pickle.UnpicklingError as error:
            raise ValueError(f"{path} {_asks_for(path, error)}: {CONVERT}") from None


def _loaded(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is truncated or no file of torch.save ({str(error).splitlines()[0]})") from None


def _asks_for(path: Path, error: Exception) -> str:
    """What a refused file wants besides tensors."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (RuntimeError, ValueError, pickle.UnpicklingError):  # none of torch.save's zip archives
        names = []
    if names:
        return f"asks for {', '.join(sorted(names)[:5])}, which is no tensor; nothing of it was run"
    return f"is a pickle that is none of tensors alone ({str(error).splitlines()[0][:80]}); nothing of it was run"


def read_npz(path: Path, large: bool = False) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` of NumPy; arrays of objects are refused, for they are pickles.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or holds more than numbers.
    """
    check_file(path, large)
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise ValueError(f"{path} is truncated or no .npz of numbers ({str(error).splitlines()[0]})") from None


def check_file(path: Path, large: bool) -> None:
    """Raise FileNotFoundError or ValueError unless ``path`` is a file that may be read whole."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    size = path.stat().st_size
    if size > LARGEST and not large:
        raise ValueError(f"{path} has {size:,} bytes, expected at most {LARGEST:,}: large=true reads it all the same")


def tensor(value: Any, what: str, path: Path) -> Tensor:
    """``value`` without graph, in memory of its own: a view would keep all of its storage.

    Raises:
        ValueError: it is no tensor.
    """
    if not isinstance(value, Tensor):
        raise ValueError(f"{path} holds {type(value).__name__} for its {what}, expected a tensor")
    return value.detach().clone()


def sha256(path: Path) -> str:
    """Of a file's bytes."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            sha.update(part)
    return sha.hexdigest()
