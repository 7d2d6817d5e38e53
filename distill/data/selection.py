"""Which classes of a real set are kept, and which of its images are held out for validation."""

import unicodedata
from collections.abc import Sequence
from difflib import get_close_matches

import numpy as np

from distill.wording import listed


def kept_classes(classes: Sequence[int | str] | None, class_names: list[str]) -> list[int]:
    """Indices of the classes asked for; numbers are names where some class is called by one of them."""
    if len(class_names) < 2:
        raise ValueError(f"the only class is {class_names[0]!r}, expected at least 2")
    if classes is None:
        return list(range(len(class_names)))
    names = {_normal(name): k for k, name in enumerate(class_names)}
    by_number = {str(int(name)): k for name, k in names.items() if name.isdecimal()} | names
    asked = [_normal(str(cls)) for cls in classes]
    if not any(name in by_number for cls, name in zip(classes, asked, strict=True) if isinstance(cls, int)):
        by_number = {str(k): k for k in range(len(class_names))} | by_number
    unknown = [cls for cls, name in zip(classes, asked, strict=True) if name not in by_number]
    if unknown:
        close = ", ".join(map(repr, get_close_matches(_normal(str(unknown[0])), names, 3)))
        raise ValueError(
            f"unknown class {unknown[0]!r}{f', near it are {close}' if close else ''}: one of {listed(class_names)}, "
            f"or 0 to {len(class_names) - 1} where no class is called by a number"
        )
    kept = [by_number[name] for name in asked]
    if len(set(kept)) < max(len(kept), 2):
        raise ValueError(
            f"data.classes is {listed([str(cls) for cls in classes])}, expected two different classes or more"
        )
    return kept


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def stratified(labels: np.ndarray, val: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices, ascending, of the images to train on and of a fraction ``val`` of every class: always the same."""
    if val == 0:
        return np.arange(len(labels)), np.arange(0)
    from sklearn.model_selection import train_test_split

    try:
        train, held_out = train_test_split(np.arange(len(labels)), test_size=val, stratify=labels, random_state=0)
    except ValueError as error:
        raise ValueError(
            f"cannot cut a validation split of {val} ({error}): set data.val=0 or bring more images"
        ) from None
    return np.sort(train), np.sort(held_out)
