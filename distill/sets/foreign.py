"""What a file of another kind is, told by its first bytes; nothing of it is loaded."""

import zipfile
from pathlib import Path

MAGIC = {
    b"\x93NUMPY": "an array of NumPy",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "a compressed file",
    b"\x80": "a pickle",  # torch.save's before PyTorch 1.6, too
}

TORCH = "a file of torch.save"


def kind_of(path: Path) -> str:
    """In words: ``a file of torch.save ...``, ``an .npz of NumPy``; what is not known is ``a file of another kind``."""
    with path.open("rb") as file:
        begin = file.read(8)
    if begin.startswith(b"PK") and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith("data.pkl") for name in names):
            return TORCH
        return "an .npz of NumPy" if names and all(name.endswith(".npy") for name in names) else "a zip archive"
    return next((kind for magic, kind in MAGIC.items() if begin.startswith(magic)), "a file of another kind")
