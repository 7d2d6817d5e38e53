"""Folders of pictures: which file is of which class, and which files are for testing.

A class is a folder in ``train`` (or in the given folder itself, where there is no ``train``); its pictures lie anywhere
below it. ``test`` or ``val`` has the same classes; where neither has any, a part of every class is cut off for testing.
Other files are passed over and counted: those of other suffixes, and all that is hidden or that systems leave behind.
"""

import hashlib
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from distill.text import harmless

# Some of them Pillow may not read here: such a file is refused, where passing it over would lose a picture.
SUFFIXES = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".gif", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm",
    ".pbm", ".pnm", ".pfm", ".tga", ".ico", ".jp2", ".j2k", ".jpx", ".qoi", ".avif", ".heic", ".heif", ".jxl",
)  # fmt: skip

LEFT_BEHIND = ("__MACOSX", "__pycache__", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")

PARTS = {"train": ("train", "training"), "test": ("test", "testing"), "val": ("val", "valid", "validation")}

TEST_SHARE = 0.2  # of every class, where a folder has no test part

Files = list[tuple[Path, int]]

Classes = dict[str, list[Path]]  # the files of each class, in the order of their paths


@dataclass(frozen=True)
class Tree:
    """Training and test files with their class, the names of the classes, and what a user should be told."""

    train: Files
    test: Files
    classes: list[str]
    notes: tuple[str, ...]


def tree(path: Path) -> Tree:
    """The layout of an image folder; no file is opened.

    Names are in Unicode's composed form (NFC), whichever form the disk has; classes are sorted as text, which is the order
    of torchvision's ``ImageFolder`` (``1``, ``10``, ``2``).

    Raises:
        FileNotFoundError: there is no such folder, or fewer than two classes with pictures in it.
        ValueError: there are no pictures for testing, test images have classes that the training images have not, or there
            is a ``test`` but no ``train``.
    """
    if not path.is_dir():
        raise FileNotFoundError(
            f"{str(path)!r} is {'a file' if path.exists() else 'not there'}: data.path names an .npz file or an image folder"
        )
    parts = _parts(path)
    root, passed = parts.get("train", path), Counter[str]()
    train = _classes(root, passed)
    filled = [name for name, files in train.items() if files]
    if len(filled) < 2:
        inner = f"; if the classes are in {filled[0]!r}, name that" if len(train) == len(filled) == 1 else ""
        seen = f" ({_told(passed)} passed over)" if passed else ""
        raise FileNotFoundError(
            f"{str(root)!r} has {len(filled)} class folders with pictures, expected at least 2{seen}{inner}"
        )
    test, notes = _test_part(parts, train, passed)
    if parts:
        _count_rest(path, list(parts.values()), passed)
    classes = sorted(train)
    if not test:
        train, test = _cut(root, train)
        number = sum(map(len, test.values()))
        if not number:
            raise ValueError(f"no test part in {str(path)!r}, and no class with two images to take one from")
        share = f"{TEST_SHARE:.0%} of every class, always the same"
        notes.append(f"no test part in {str(path)!r}: {number} images ({share}) are kept for it")
    if passed:
        notes.append(f"passed over in {str(path)!r}: {_told(passed)}")
    return Tree(_numbered(train, classes), _numbered(test, classes), classes, tuple(notes))


def _told(passed: Counter[str]) -> str:
    return ", ".join([f"{count} {kind}" for kind, count in passed.most_common(4)] + ["..."] * (len(passed) > 4))


def _parts(path: Path) -> dict[str, Path]:
    """The folders of the training, test and validation images; none if the folder itself has those of the classes."""
    parts = {
        part: found for part, names in PARTS.items() for found in visible_folders(path) if found.name.lower() in names
    }
    whole = "train" in parts and bool(visible_folders(parts["train"]))
    if whole or parts.keys() <= {"train"}:  # train may be a class beside bus and car
        return parts if whole else {}
    names = ", ".join(f"{found.name}/" for found in parts.values())
    raise ValueError(f"{str(path)!r} has {names} but no class folders in train/: expected train/<class>/*.png")


def _test_part(parts: dict[str, Path], train: Classes, passed: Counter[str]) -> tuple[Classes, list[str]]:
    """The test files, none if there are no labelled ones, and notes."""
    test: Classes = {}
    notes = []
    for folder in (parts[part] for part in ("test", "val") if part in parts):
        if test:
            notes.append(
                f"{folder.name}/ is passed over: data.val says how much of {parts['train'].name}/ is for validation"
            )
            continue
        ignored = Counter[str]()
        found = {name: files for name, files in _classes(folder, ignored).items() if files}
        strangers = sorted(set(found) - set(train))
        if strangers and len(found) > 1:
            raise ValueError(
                f"{len(strangers)} of {len(found)} classes in {str(folder)!r} are not in {str(parts['train'])!r}, "
                f"the first is {strangers[0]!r}"
            )
        if not found or strangers:  # one folder of another name holds pictures without labels
            notes.append(f"{folder.name}/ is passed over: it has no folders of the classes")
            continue
        test = found
        passed.update(ignored)
    return test, notes


def _classes(folder: Path, passed: Counter[str]) -> Classes:
    """Files by class; two folders whose names differ in their Unicode form alone are one class."""
    found: Classes = defaultdict(list)
    folders = visible_folders(folder)
    for each in folders:
        name = unicodedata.normalize("NFC", each.name)
        if harmless(name) != name:
            raise ValueError(
                f"the name of the class folder {str(each)!r} has characters that cannot be printed: rename it"
            )
        found[name] += pictures(each, passed)
    _count_rest(folder, folders, passed)
    return dict(found)


def _count_rest(folder: Path, used: list[Path], passed: Counter[str]) -> None:
    passed.update(_kind(each) for each in folder.iterdir() if each not in used)


def visible_folders(path: Path) -> list[Path]:
    return sorted(each for each in path.iterdir() if each.is_dir() and not _hidden(each.name))


def pictures(folder: Path, passed: Counter[str] | None = None, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """Every picture below a folder, by name; a link back to a folder that we are in is not followed.

    Args:
        passed: counts what is passed over.
        above: real paths of the folders that we are in.
    """
    passed = Counter() if passed is None else passed
    here = os.path.realpath(folder)
    if here in above:
        return
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: unicodedata.normalize("NFC", entry.name))
    for entry in ordered:
        path = Path(entry.path)
        if not _hidden(entry.name) and entry.is_dir():
            yield from pictures(path, passed, (*above, here))
        elif _is_picture(entry.name) and (
            entry.is_file() or not path.exists()
        ):  # a broken link is told when it is opened
            yield path
        else:
            passed[_kind(path)] += 1


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in LEFT_BEHIND


def _is_picture(name: str) -> bool:
    return not _hidden(name) and os.path.splitext(name)[1].lower() in SUFFIXES


def _kind(path: Path) -> str:
    """What a file or folder that is passed over is called in the count."""
    if _is_picture(path.name) and not path.is_dir():
        return "pictures in no class folder" if path.is_file() else "pipes or devices"
    if path.name.startswith("._"):
        return "._*"  # macOS keeps one beside every file
    return harmless(
        path.name if _hidden(path.name) else f"{path.name}/" if path.is_dir() else path.suffix or "without suffix"
    )


def _cut(root: Path, classes: Classes) -> tuple[Classes, Classes]:
    """Training and test files. The test files are those whose names hash lowest, so that more images change little."""
    train, test = {}, {}
    for name, files in classes.items():
        order = sorted(
            files, key=lambda file: hashlib.sha256(_name(file, root).encode(errors="surrogateescape")).digest()
        )
        count = max(round(TEST_SHARE * len(files)), 1) if len(files) > 1 else 0
        kept = set(order[:count])
        train[name] = [file for file in files if file not in kept]
        test[name] = [file for file in files if file in kept]
    return train, test


def _name(file: Path, root: Path) -> str:
    return unicodedata.normalize("NFC", file.relative_to(root).as_posix())


def _numbered(files: Classes, classes: list[str]) -> Files:
    return [(file, number) for number, name in enumerate(classes) for file in files.get(name, ())]
