"""Synthetic sets as other tools read them: pictures, arrays, and the formats of the papers' own scripts.

``png``: folders of pictures, clipped to eight bits, to look at. ``npz``: NumPy's arrays with constants. ``pt``: ``images.pt``
and ``labels.pt``; ``ddranking``: with ``lr.pt``. ``mtt``: ``images_best.pt`` and ``labels_best.pt``; ``datm``: with
``lr_best.pt`` and logits; ``dc``: a ``res_*.pt`` with one synthesis, and no accuracies. ``sre2l`` and ``rded``: folders of
pictures by the number of their class.
"""

import json
import re
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.presets import unknown
from distill.sets.looks import eight_bit

Synset = Any  # a `distill.sets.synthetic.SyntheticSet`, which calls `export` itself


def export(synset: Synset, folder: Path, kind: str) -> Path:
    """Write ``folder``, whole or not at all.

    Raises:
        FileExistsError: it is there already.
        ValueError: the kind is unknown, or cannot hold this set.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists: name a new folder")
    if kind not in WRITERS:
        raise ValueError(unknown("export", kind, list(WRITERS)))
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    part.mkdir()  # unlike a temporary folder's, its mode is as the umask has it
    try:
        WRITERS[kind](synset, part)
        (part / "README.md").write_text(readme(synset, kind))
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def png(synset: Synset, folder: Path) -> None:
    for i, (image, cls) in enumerate(zip(synset.pixels, synset.classes.tolist(), strict=True)):
        name = "".join(c if c.isalnum() else "_" for c in synset.class_names[cls])
        path = folder / f"{cls:04d}_{name}" / f"{i:06d}.png"
        path.parent.mkdir(exist_ok=True)
        eight_bit(image).save(path)


def npz(synset: Synset, folder: Path) -> None:
    arrays = {
        name: tensor.detach().cpu().numpy() for name, tensor in {**synset.tensors, "images": synset.images[:]}.items()
    }
    about = {"class_names": np.array(synset.class_names), "space": np.array(synset.preprocessing.space)}
    np.savez(folder / "synset.npz", **arrays, **about, label_kind=np.array(synset.label_kind))  # type: ignore[arg-type]


def pt(synset: Synset, folder: Path, names: tuple[str, str] = ("images.pt", "labels.pt")) -> None:
    for name, tensor in zip(names, (synset.images[:], synset.labels), strict=True):
        torch.save(tensor.detach().cpu().clone(), folder / name)


def mtt(synset: Synset, folder: Path) -> None:
    hard_alone(synset, "mtt")
    pt(synset, folder, ("images_best.pt", "labels_best.pt"))


def datm(synset: Synset, folder: Path) -> None:
    if synset.label_kind != "logits" or synset.lr is None:
        raise ValueError(
            f"export=datm holds logits and a learned rate, this set has {synset.label_kind} labels: use mtt or npz"
        )
    pt(synset, folder, ("images_best.pt", "labels_best.pt"))
    torch.save(synset.lr.detach().cpu().clone(), folder / "lr_best.pt")


def ddranking(synset: Synset, folder: Path) -> None:
    if synset.label_kind not in ("hard", "logits") or len(set(synset.counts)) > 1:
        counts = f"{min(synset.counts)} to {max(synset.counts)}"
        raise ValueError(
            "ddranking holds as many images of each class, with classes or logits; this set has "
            f"{counts} of a class and {synset.label_kind} labels: use pt or npz"
        )
    pt(synset, folder)
    if synset.lr is not None:
        torch.save(synset.lr.detach().cpu().clone(), folder / "lr.pt")


def dc(synset: Synset, folder: Path) -> None:
    hard_alone(synset, "dc")
    data, ipc = re.sub(r"\W|_", "", synset.data).upper(), max(synset.counts)
    images, labels = (each.detach().cpu().clone() for each in (synset.images[:], synset.labels))
    torch.save({"data": [[images, labels]], "accs_all_exps": {}}, folder / f"res_DC_{data}_ConvNet_{ipc}ipc.pt")


def sre2l(synset: Synset, folder: Path) -> None:
    numbered(synset, folder, "new{:03d}", "class{:03d}_id{:03d}.png")


def rded(synset: Synset, folder: Path) -> None:
    numbered(synset, folder, "{:05d}", "class{:05d}_id{:05d}.png")


def numbered(synset: Synset, folder: Path, name: str, file: str) -> None:
    """Pictures by the numbers of their class and in it."""
    hard_alone(synset, "a folder of pictures")
    pixels = synset.pixels
    for cls in range(synset.num_classes):
        own = folder / name.format(cls)
        own.mkdir()
        for i, place in enumerate((synset.classes == cls).nonzero()[:, 0].tolist()):
            eight_bit(pixels[place]).save(own / file.format(cls, i))


def hard_alone(synset: Synset, what: str) -> None:
    """Raise ValueError unless the labels are classes."""
    if synset.label_kind != "hard":
        raise ValueError(f"{what} holds hard labels, this set has {synset.label_kind}: use datm, pt or npz")


WRITERS: dict[str, Callable[[Synset, Path], None]] = {
    "png": png, "npz": npz, "pt": pt, "mtt": mtt, "datm": datm, "dc": dc, "ddranking": ddranking, "sre2l": sre2l, "rded": rded,
}  # fmt: skip
CLIPPED = ("png", "sre2l", "rded")


def readme(synset: Synset, kind: str) -> str:
    """What a stranger needs to know of an exported folder."""
    facts = {key: value for key, value in synset.record.items() if not isinstance(value, dict)}
    lines = [
        f"# {len(synset)} synthetic images of {synset.data}",
        "",
        f"- space: {synset.preprocessing.space}",
        f"- labels: {synset.label_kind}",
        f"- learned student rate: {'none' if synset.lr is None else f'{float(synset.lr):.6g}'}",
        f"- classes, in order: {', '.join(synset.class_names)}",
        f"- made by: {json.dumps(facts)}",
        "",
    ]
    if synset.tiles > 1:
        lines.append(
            f"Each image is {synset.tiles}x{synset.tiles} tiles; students are shown one of them at a time, at random."
        )
    if kind in CLIPPED:
        lines.append("The pictures are clipped to 8 bits, to be looked at; students train on the .safetensors file.")
    return "\n".join(lines) + "\n"
