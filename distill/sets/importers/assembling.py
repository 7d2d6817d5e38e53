"""From what files hold, what a user says and the real images at hand to a SyntheticSet with its record."""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill.data.split import Split
from distill.sets.formation import WHOLE
from distill.sets.importers.base import Fact, Found, Kind, Words
from distill.sets.importers.evidence import check_seams, check_space
from distill.sets.importers.safe import sha256
from distill.sets.importers.tensors import rate_in
from distill.sets.synthetic import SyntheticSet
from distill.wording import difference, listed

PUBLISHED = (
    "cifar10",
    "cifar100",
    "mnist",
    "fashion_mnist",
    "svhn",
    "digits",
)  # their labels are numbers, the same everywhere
AGREE = 0.9  # share of soft labels whose largest entry must be their image's class


@dataclass(frozen=True)
class Imported:
    """A set, and what is known of it by what it is about."""

    synset: SyntheticSet
    facts: dict[str, Fact]
    checks: dict[str, str]


@dataclass(frozen=True)
class Source:
    """Where a set comes from: the kind by its name, what the user said, and the real images with what is known of them.

    Attributes:
        train: the user's real training images, preprocessed as students will see them.
        pixels: some of them in [0, 1].
        spaces: that images may be in, by name.
        constants: what is known of ``train``'s.
        classify: from images (N, C, H, W) to what speaks for their classes and order, by a network; None where nobody asks.
    """

    name: str
    kind: Kind
    words: Words
    train: Split
    pixels: Tensor
    spaces: dict[str, Any]
    constants: Fact
    classify: Callable[[Tensor], Callable[[Tensor, Tensor], str]] | None = None


def space_of(kind: Kind, name: str, words: Words, found: Found) -> Fact:
    """The space of the images in a file.

    Raises:
        ValueError: nobody says it, or the user says another than the format.
    """
    own, fixed = words.own_space, found.facts.get("space")
    fixed = fixed or (None if kind.space == "stated" else Fact(kind.space, "read", f"the format of {name}"))
    if fixed is not None:
        if own not in (None, fixed.value):
            raise ValueError(
                f"space is {own} as stated, but {fixed.value} by {fixed.source}: leave it out, or name another file"
            )
        return fixed
    if own is None:
        raise ValueError(
            f"the space of {found.files[0]} is in no file of {name}'s: state zca=true (whitened) or zca=false"
        )
    return Fact(own, "stated")


def assemble(found: Found, source: Source, space: Fact) -> Imported:
    """The set that one synthesis of the files is, every fact of it read or stated.

    Raises:
        ValueError: something is missing, does not fit the real images, or its numbers contradict what is said.
    """
    words, train = source.words, source.train
    check_names(found, train)
    check_shape(found, train)
    facts: dict[str, Fact] = {"space": space, "constants": source.constants}
    order, facts["class order"] = class_order(words.class_order, train, source.name)
    facts["decoding"] = found.facts.get("decoding", Fact("none", "read", f"the format of {source.name}"))
    labels, classes, label_kind, told = labelled(found, source.kind, order)
    facts["labels"] = found.facts.get("labels", told)
    check_counts(classes, train, words, found)
    rate, facts["rate"] = rate_of(found, source.kind, words)
    images = as_floats(found.images)
    if not images.isfinite().all():
        raise ValueError(f"{found.files[0]} holds pixels that are NaN or infinite")
    checks = {"space": check_space(images, space.value, space.how, source.pixels, source.spaces)}
    if found.factors is not None:
        checks["decoding"] = check_seams(found.images, max(found.factors), source.pixels)
    images = train.preprocessing(images) if space.value == "pixel01" else images
    place = classes.argsort(stable=True)
    synset = SyntheticSet(
        images[place], labels[place], classes[place], train.class_names, train.preprocessing, train.name, label_kind,
        None if rate is None else torch.tensor(rate), eight_bit=found.images.dtype == torch.uint8,
        factors=found.factors or WHOLE,
    )  # fmt: skip
    if source.classify is not None:
        checks["class order"] = source.classify(synset.images)(synset.classes, order)
    return Imported(synset.with_(record=record(found, source, facts, checks)), facts, checks)


def as_floats(images: Tensor) -> Tensor:
    """Bytes as pixels in [0, 1]; floats as they are.

    >>> as_floats(torch.tensor([0, 255], dtype=torch.uint8))
    tensor([0., 1.])
    """
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def check_names(found: Found, train: Split) -> None:
    """Raise ValueError if a file's name says that it is of other data."""
    said = found.facts.get("data")
    if said is not None and _plain(said.value) != _plain(train.name) and _plain(train.name) in map(_plain, PUBLISHED):
        raise ValueError(f"{found.files[0].name} is of {said.value} by its name, data is {train.name}")


def _plain(name: str) -> str:
    return re.sub(r"\W|_", "", name).lower().removeprefix("fashion")


def check_shape(found: Found, train: Split) -> None:
    """Raise ValueError unless the images are as large as the real ones."""
    shape = tuple(found.images.shape)
    if len(shape) != 4 or not found.images.numel():
        raise ValueError(f"{found.files[0]} holds images {shape}, expected (N, C, H, W)")
    if shape[1:] != train.shape:
        theirs, ours = ("x".join(map(str, each)) for each in (shape[1:], train.shape))
        raise ValueError(
            f"the images are {theirs}, those of {train.name} {ours}: name the data that they were made from, or bring "
            "yours to their size with data.size"
        )


def class_order(said: str | Sequence[str] | None, train: Split, name: str) -> tuple[Tensor, Fact]:
    """Our class of each of the file's, (K,).

    Raises:
        ValueError: nothing says it, or other classes are named.
    """
    ours = list(train.class_names)
    if said is None:
        if train.name not in PUBLISHED:
            raise ValueError(
                f"the order of {train.name}'s classes is in no file of {name}'s: state class_order=sorted or a list"
            )
        return torch.arange(len(ours)), Fact("as published", "read", f"the labels of {train.name}")
    if said == "sorted":
        theirs = sorted(ours)
    else:
        theirs = Path(said).read_text().split("\n") if isinstance(said, str) else list(said)
        theirs = [each.strip() for each in theirs if each.strip()]
    if sorted(theirs) != sorted(ours):
        raise ValueError(
            f"class_order names other classes than {train.name} has: {difference(theirs, ours) or listed(ours)}"
        )
    return torch.tensor([ours.index(each) for each in theirs]), Fact(said, "stated")


def labelled(found: Found, kind: Kind, order: Tensor) -> tuple[Tensor, Tensor, str, Fact]:
    """Labels, classes (N,) and kind of labels, in our order of classes.

    Raises:
        ValueError: they are of another kind than the format's, of other classes, or of other images.
    """
    labels, images, count = found.labels, len(found.images), len(order)
    file = found.files[-1]
    if labels is None:
        raise ValueError(f"{file} tells no classes")
    if len(labels) != images:
        raise ValueError(f"{images} images and {len(labels)} labels: they are of different sets, or of another ipc")
    soft = labels.is_floating_point()
    if kind.labels != "any" and soft != (kind.labels == "soft"):
        raise ValueError(f"the labels in {file} are {'soft' if soft else 'hard'}, this kind's are {kind.labels}")
    if not soft:
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= count:
            raise ValueError(
                f"labels span {low} to {high}, the data have {count} classes: name those that it was made from"
            )
        own = order[labels]
        return own, own.clone(), "hard", Fact("hard", "read")
    if labels.shape[1] != count:
        raise ValueError(f"soft labels have {labels.shape[1]} columns, the data {count} classes")
    if not labels.isfinite().all() or bool((labels.std(1) == 0).any()):
        raise ValueError(f"{file} has soft labels that are NaN or all equal: they were never learned")
    if images % count:
        raise ValueError(f"{images} images do not divide into {count} classes")
    classes = torch.arange(count).repeat_interleave(
        images // count
    )  # soft labels tell no class: the format sorts by it
    agree = float((labels.argmax(1) == classes).float().mean())
    if agree < AGREE:
        raise ValueError(
            f"{agree:.0%} of the soft labels are largest at their class, expected {AGREE:.0%} or more: other images?"
        )
    ours = torch.empty_like(labels).index_copy_(1, order, labels)
    sums = bool(((labels.sum(1) - 1).abs() < 1e-3).all()) and float(labels.min()) >= 0
    name = "probabilities" if sums else "logits"
    return ours, order[classes], name, Fact(name, "read", f"{agree:.0%} largest at their class")


def check_counts(classes: Tensor, train: Split, words: Words, found: Found) -> None:
    """Raise ValueError unless every class has images, as many as the others and as was said."""
    counts = torch.bincount(classes, minlength=train.num_classes).tolist()
    missing = [name for name, count in zip(train.class_names, counts, strict=True) if not count]
    if missing:
        raise ValueError(
            f"no images of {listed(missing)}: expected all classes of {train.name}; data.classes=[...] keeps some"
        )
    if len(set(counts)) > 1 and not words.uneven:
        fewest = counts.index(min(counts))
        raise ValueError(
            f"class {train.class_names[fewest]!r} has {min(counts)} images, others up to {max(counts)}: a file may be missing; "
            "uneven=true takes them as they are"
        )
    said = found.facts.get("ipc")
    for ipc, source in ((words.ipc, "as stated"), (said.value if said else None, f"by {said.source}" if said else "")):
        if ipc is not None and max(counts) != ipc:
            raise ValueError(f"each class has {max(counts)} images, ipc is {ipc} {source}: it is another file, or cut")


def rate_of(found: Found, kind: Kind, words: Words) -> tuple[float | None, Fact]:
    """The student's step size.

    Raises:
        ValueError: the method learns one, and it is neither in a file nor stated.
    """
    if found.lr is not None:
        return found.lr, Fact(found.lr, "read", found.files[-1].name)
    if kind.rate == "none":
        return None, Fact("none: the protocol's", "read", "the method learns none")
    if words.lr is None:
        raise ValueError(
            f"the rate learned with {found.files[0].name} is in no file: state lr=NUMBER (Synthetic_LR of its run), or lr=none "
            "where students are to take the protocol's"
        )
    if words.lr == "none":
        return None, Fact("none: the protocol's", "stated")
    rate = rate_in(Path(words.lr)) if isinstance(words.lr, str) else float(words.lr)
    return rate, Fact(rate, "stated")


def record(found: Found, source: Source, facts: dict[str, Fact], checks: dict[str, str]) -> dict[str, Any]:
    """What the set's file says of where it comes from."""
    return {
        "method": source.name,
        "picked_on": found.picked_on,
        "imported": {
            "kind": source.name,
            "protocol": source.kind.protocol,
            "files": {path.name: sha256(path) for path in found.files},
            "facts": {name: asdict(fact) for name, fact in facts.items()},
            "checks": checks,
            "notes": list(found.notes),
            "licence": source.words.licence,
        },
    }
