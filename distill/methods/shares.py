"""Shares of a synthetic set: each is distilled in a folder of its own, and what they give is put together."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from distill.filed import Joined
from distill.files import load_tensors
from distill.methods.synthesis import save_grid
from distill.parallel import crew
from distill.sets.reading import SUFFIX, load
from distill.sets.stored import StoredImages, StoredSet


def forget(folder: Path) -> None:
    """Delete what a finished share no longer needs: it is 20 times as large as its images."""
    shutil.rmtree(folder / "snapshots", ignore_errors=True)
    (folder / f"state{SUFFIX}").unlink(missing_ok=True)


def join(places: Sequence[Tensor], shares: Sequence[Path], folder: Path) -> Path:
    """Put the shares of a set, each distilled in a folder of its own, together as the set that is made at once.

    Images go from file to file, so that the set may be larger than memory; the shares are then deleted.

    Args:
        places: of each share's images in the whole set, (n,).
        shares: the folders they were distilled in; every n-th by one of the n processes of the crew.
    """
    path, count = folder / f"synset{SUFFIX}", crew().size
    files = [load_tensors(share / f"synset{SUFFIX}", filed=["images"]) for share in shares]
    joined = {name: Joined([each[name] for each, _ in files], places) for name in ("images", "labels", "classes")}
    first = load(shares[0])
    images = StoredImages(joined["images"], first.preprocessing, first.labels.device)
    own = {name: getattr(first, name) for name in ("class_names", "preprocessing", "data", "label_kind", "record")}
    whole = StoredSet(images, joined["labels"][:], joined["classes"][:], eight_bit=True, **own)
    records = [record for _, record in files]
    took = [sum(each["seconds"] for each in records[rank::count]) for rank in range(count)]
    steps, most = (how(each[key] for each in records) for how, key in ((sum, "step"), (max, "peak_bytes")))
    whole.save(path, {"step": steps, "steps": steps, "seconds": max(took), "peak_bytes": most})
    save_grid(folder, whole)
    for share in shares:
        shutil.rmtree(share)
    return path
