"""SyntheticSet: the artefact, with all that a stranger needs to train on it a year later."""

import copy
import html
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torchvision
from PIL import Image
from torch import Generator, Tensor
from torch.utils.data import Dataset

from distill import rng
from distill.augment.tiles import one_tile
from distill.data.pictures import Reader
from distill.data.preprocessing import Preprocessing
from distill.data.split import Split
from distill.files import hash_tensors, save_tensors, write_json
from distill.report.rows import Report
from distill.sets.base import TrainingSet
from distill.sets.export import export
from distill.sets.formation import WHOLE, check_factors, decoded, images_in_one
from distill.sets.hub import push
from distill.sets.looks import as_uri, eight_bit, firsts, grid, rows_of
from distill.sets.soundness import MOST_CLASSES, check_images, check_labels, check_names, check_rate, check_tiles
from distill.sizes import Size, spread

MOST_SHOWN = 20  # classes whose images a notebook shows unasked
WRITTEN = ("factors", "format", "hash", "ipc", "lr", "shape", "tiles", "versions")  # what `save` says of the very set


@dataclass(repr=False)
class SyntheticSet(TrainingSet, Dataset):
    """A synthetic set, ordered by class; as a torch ``Dataset`` it gives (image (C, H, W), target).

    Attributes:
        images: (N, C, H, W) float32 in the space of ``preprocessing``.
        labels: classes (N,) int64, soft labels (N, K): logits or probabilities, or vectors (N, D), as ``label_kind`` says.
        classes: the class each image was made for, (N,) int64.
        class_names: K names, in the order of the labels.
        preprocessing: how real test images get into the same space.
        data: name of the real set.
        label_kind: ``hard``, ``logits``, ``probabilities`` or ``vectors``.
        lr: the student's step size learned with the images, scalar; None if there is none.
        record: how it was made: method, ipc, seed, step, picked_on, config, protocol, hashes, versions.
        tiles: along each side of an image; a view is made of one of them, at random. 1 for whole images.
        factors: an image holds factor x factor smaller ones for each of these (`distill.sets.formation`), and students
            train on all of them, `decoded`. ``(1,)``: on the image.
        copies: images that came of each stored one, of a set that was decoded.
        eight_bit: the images are those of `quantised`, and stored as bytes.
        path: the file that it was read from; None for one that was made or changed since.

    Raises:
        ValueError: anything is out of range, NaN or inconsistent.
    """

    images: Tensor
    labels: Tensor
    classes: Tensor
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    data: str
    label_kind: str = "hard"
    lr: Tensor | None = None
    record: dict[str, Any] = field(default_factory=dict)
    eight_bit: bool = False
    tiles: int = 1
    factors: tuple[int, ...] = WHOLE
    copies: int = 1
    path: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        check_names(self.class_names)
        check_images(self.images, self.preprocessing)
        check_labels(self.labels, self.classes, self.label_kind, len(self.images), self.num_classes)
        check_tiles(self.images, self.tiles)
        check_factors(self.factors, min(self.images.shape[2:]))
        if self.lr is not None:
            check_rate(self.lr)

    @classmethod
    def from_real(cls, real: Split, ipc: Size, g: Generator) -> "SyntheticSet":
        """So many different training images of every class with hard labels, see `distill.data.split.Split.drawn`."""
        return cls.of_images(real, real.drawn(ipc, g))

    @classmethod
    def blank(cls, real: Split, ipc: Size, own: Tensor | slice = slice(None)) -> "SyntheticSet":
        """So many images of zeros of every class, with hard labels, or ``own`` of these; no real image is looked at."""
        classes = torch.arange(real.num_classes).repeat_interleave(torch.tensor(real.asked(ipc)))
        labels = classes[own].to(real.labels.device)
        images = torch.zeros(len(labels), *real.shape, device=labels.device)
        return cls(images, labels, labels.clone(), real.class_names, real.preprocessing, real.name)

    @classmethod
    def of_images(cls, real: Split, index: Tensor) -> "SyntheticSet":
        """The real images at ``index`` (n,) as they are, with hard labels."""
        labels = real.labels[index]
        return cls(real.images[index], labels, labels.clone(), real.class_names, real.preprocessing, real.name)

    def __repr__(self) -> str:
        shape, told = "x".join(map(str, self.images.shape[1:])), self.record.get("method")
        of = f"{self.data}, {spread(self.counts)} per class: {len(self)} images {shape} of {self.num_classes} classes"
        of += "" if self.factors == WHOLE else f", {images_in_one(self.factors)} in each"
        return f"<SyntheticSet of {of}, {self.label_kind} labels{f', by {told}' if told else ''}>"

    def _repr_html_(self) -> str:
        return f'<div>{html.escape(repr(self)[1:-1])}<br><img src="{as_uri(self.picture(MOST_SHOWN))}"></div>'

    def show(self) -> Image.Image:
        """At most ten images of each class, a row for each class or ten of one image; a notebook shows what this returns."""
        return eight_bit(self.picture())

    def picture(self, most: int = MOST_CLASSES) -> Tensor:
        """The same of the first classes, at most so many, (3, H', W') in [0, 1]; no other image is looked at."""
        some = firsts(self.classes, min(most, rows_of(self.images.shape[2])))
        return grid(self.preprocessing.inverse(self.images[some].detach()).clamp(0, 1), self.classes[some])

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        label = self.labels[i]
        return self.images[i], label.softmax(-1) if self.label_kind == "logits" else label

    @property
    def transform(self) -> Callable[[Any], Tensor]:
        """The test transform: a PIL image, or uint8 (H, W, C), to (C, H, W) in this set's space and of its size.

        It reads a picture as the set's maker did, see `distill.data.pictures`.
        """
        choices = self.record.get("config", {}).get("data", {})
        crop = choices.get("crop", choices.get("lazy", False))  # before there was a choice, lazy folders were cropped
        channels, height, width = self.images.shape[1:]
        return Reader(self.preprocessing, (channels, height, width), crop, choices.get("test_resize"))

    @property
    def pixels(self) -> Tensor:
        """Images for viewing, (N, C, H, W) clipped to [0, 1]."""
        return self.preprocessing.inverse(self.images.detach()).clamp(0, 1)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Everything with a shape, by name."""
        tensors = {"images": self.images, "labels": self.labels, "classes": self.classes}
        tensors |= {} if self.lr is None else {"lr": self.lr}
        return tensors | {f"preprocessing.{name}": tensor for name, tensor in self.preprocessing.tensors.items()}

    @property
    def stored(self) -> dict[str, Tensor]:
        """What a file holds: `tensors`, images of eight bits as bytes."""
        return self.tensors | ({"images": self._bytes} if self.eight_bit else {})

    @property
    def _bytes(self) -> Tensor:
        return self.pixels.mul(255).round().to(torch.uint8)

    def quantised(self) -> "SyntheticSet":
        """The same set with pixels in eight bits, rounded once; it is judged as it is stored."""
        return self._but(images=self.preprocessing(self._bytes.float() / 255), eight_bit=True)

    @property
    def hash(self) -> str:
        """Twelve hex digits of the stored tensors and how they are shown; computed once for as long as none of them changes."""
        own = [tensor for tensor in (self.images, self.labels, self.classes, self.lr) if tensor is not None]
        now = [self.eight_bit, self.tiles, self.factors, *((id(tensor), tensor._version) for tensor in own)]
        known = vars(self).get("_hashed")
        if known is None or known[0] != now:
            tiled = {"tiles": torch.tensor(self.tiles)} if self.tiles > 1 else {}
            tiled |= {} if self.factors == WHOLE else {"factors": torch.tensor(self.factors)}
            known = vars(self)["_hashed"] = (
                now,
                own,
                hash_tensors(self.stored | tiled)[:12],
            )  # own: no other tensor gets its id
        return known[2]

    @property
    def image_bytes(self) -> int:
        return self.images.numel() * (1 if self.eight_bit else self.images.element_size()) // self.copies

    @property
    def label_bytes(self) -> int:
        return super().label_bytes // self.copies

    @property
    def class_bytes(self) -> int:
        return super().class_bytes // self.copies

    @property
    def decoded(self) -> "SyntheticSet":
        """The images that students train on, ordered by class, each with its stored image's label; made of its pixels."""
        if self.factors == WHOLE:
            return self
        copies = images_in_one(self.factors)
        images = self.preprocessing(decoded(self.preprocessing.inverse(self.images.detach()), self.factors))
        place = torch.arange(len(self), device=images.device).repeat(copies)
        order = self.classes[place].argsort(stable=True)
        own = {name: tensor[place][order] for name, tensor in (("labels", self.labels), ("classes", self.classes))}
        return self._but(images=images[order], **own, factors=WHOLE, copies=copies)

    @property
    def is_shown_whole(self) -> bool:
        return self.tiles == 1

    def shown(self, images: Tensor, draw: int) -> Tensor:
        if self.is_shown_whole:
            return images
        return one_tile(images, self.tiles, rng.generator(draw, "tile"))

    def with_(self, **fields: Any) -> "SyntheticSet":
        """A copy with other values, which are checked."""
        return replace(self, **{"path": None, **fields})

    def _but(self, **fields: Any) -> "SyntheticSet":
        """A copy with the same values in another form."""
        other = copy.copy(self)
        vars(other).update({"path": None, **fields})
        return other

    def with_probabilities(self, labels: Tensor) -> "SyntheticSet":
        """The same set with a softmax (N, K) as its labels; unlike `with_` it looks at no value, which may lie on a GPU."""
        return self._but(labels=labels, label_kind="probabilities")

    @property
    def detached(self) -> "SyntheticSet":
        """The same set, its images without their graph; nothing is copied."""
        return self._but(images=self.images.detach())

    def to(self, device: torch.device) -> "SyntheticSet":
        """The same set on another device."""
        moved = {name: tensor.to(device) for name, tensor in self.tensors.items() if "." not in name}
        return self._but(**moved, path=self.path)

    def copy(self) -> "SyntheticSet":
        """Its own tensors, on the CPU, without gradients."""
        own = {name: tensor.detach().cpu().clone() for name, tensor in self.tensors.items() if "." not in name}
        return self._but(**own, record=dict(self.record))

    def save(self, path: Path, record: Mapping[str, Any] | None = None) -> None:
        """Write ``path`` (.safetensors, self-contained) and the same record beside it as .json, for people to read."""
        about = {
            "data": self.data,
            "ipc": self.ipc,
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "torchvision": torchvision.__version__,
            },
            **self.record,
            **(record or {}),
            "format": "distill synthetic set 1",
            "class_names": list(self.class_names),
            "space": self.preprocessing.space,
            "label_kind": self.label_kind,
            "lr": None if self.lr is None else float(self.lr),
            "shape": list(self.images.shape[1:]),
            "hash": self.hash,
            "tiles": self.tiles,
            "factors": list(self.factors),
        }
        save_tensors(path, self.stored, about)
        write_json(path.with_suffix(".json"), about)

    def subset(self, ipc: Size) -> "SyntheticSet":
        """The first ``ipc`` images of each class, which the record tells; a learned rate stays that of the whole set.

        Raises:
            ValueError: a class has fewer, or ``ipc`` is no size (see `distill.sizes`).
        """
        kept = self.first(ipc)
        about = {name: value for name, value in self.record.items() if name not in WRITTEN}
        about |= {"method": f"{self.record.get('method', 'unknown')} subset", "subset_of": self.hash}
        return self.with_(images=self.images[kept], labels=self.labels[kept], classes=self.classes[kept], record=about)

    def export(self, folder: str | Path, kind: str) -> Path:
        """Write the set, decoded, for other tools into a new folder; see `distill.sets.export` for the kinds.

        Args:
            kind: ``png`` (8 bits, clipped: to look at, not to train on), ``npz`` (numpy arrays and constants), ``pt``
                (``images.pt`` and ``labels.pt``), or a project's own format: ``mtt``, ``datm``, ``dc``, ``sre2l``, ``rded``.

        Raises:
            FileExistsError: the folder is there already.
            ValueError: the kind is unknown, or cannot hold this set.
        """
        return export(self.decoded, Path(folder), kind)

    def push(self, address: str, report: Report | None = None, licence: str | None = None) -> str:
        """Give the set to a hub, with a page that tells of it; see `distill.sets.hub.push`.

        Args:
            address: ``hf://owner/name``; a public repository is made where there is none.
            report: whose rows of this set the page shows; None: that of the run which made it, if it is there.
            licence: of the source images, as ``cc-by-4.0``; None: not known.
        """
        return push(self, address, report, licence)
