"""Synthetic sets as the page shows them: facts, pictures, labels, curves, configuration."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml

from distill.methods.synthesis import iterates
from distill.page.figures import MOST_POINTS, Curve, curves
from distill.page.pictures import MOST_IMAGES, Picture, columns, first_images, room, small_enough
from distill.sets.reading import load
from distill.sets.synthetic import SyntheticSet
from distill.text import shown

MOST_STAGES = 6

LIKELY = 3  # classes of a soft label that are told


@dataclass(frozen=True)
class Share:
    """What each of the sets on a page may take of it, so that the page stays small however many there are.

    Attributes:
        picture: bytes of its images.
        stages: bytes of its snapshots.
        points: of a curve.
    """

    picture: int
    stages: int
    points: int

    @classmethod
    def of(cls, count: int) -> "Share":
        """With ``count`` sets."""
        return cls(
            min(400_000, 4_000_000 // count), min(200_000, 1_500_000 // count), min(MOST_POINTS, 60_000 // count)
        )


@dataclass(frozen=True)
class Image:
    """An image of a class.

    Attributes:
        left, top: its place in the set's picture, in pixels.
        label: the largest entries of a soft label, by class, in [0, 1]; empty for a hard one.
    """

    left: int
    top: int
    label: dict[str, float]


@dataclass(frozen=True)
class Stages:
    """Snapshots: the first image of classes, a row for each outer step."""

    steps: list[int]
    picture: Picture


@dataclass(frozen=True)
class Made:
    """A synthetic set that rows are about, as its folder shows it.

    Attributes:
        path: of its file.
        synset: the set; None where the file cannot be read.
        wrong: why it cannot.
        share: of the page.
    """

    path: Path
    synset: SyntheticSet | None
    wrong: str
    share: Share

    @property
    def name(self) -> str:
        """Of its folder."""
        return shown(self.path.parent.name)

    @property
    def config(self) -> str:
        """What it was made with, as YAML; empty if the file does not tell."""
        config = self.synset and self.synset.record.get("config")
        return yaml.dump(config, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True) if config else ""

    @property
    def facts(self) -> dict[str, Any]:
        """What a reader wants to know first."""
        if self.synset is None:
            return {"not readable": shown(self.wrong)}
        record, rate = self.synset.record, self.synset.lr
        steps = record.get("step", "unknown"), record.get("steps", "unknown"), record.get("skipped_steps", 0)
        learned = (
            {"outer steps": shown("{} of {}, of which {} skipped".format(*steps))} if record.get("steps", 1) else {}
        )
        return {
            "method": shown(record.get("method", "unknown")),
            **learned,
            "labels": self.synset.label_kind,
            **({} if rate is None else {"learned student rate": f"{float(rate):.4g}"}),
            "space": self.synset.preprocessing.space,
            "seed": shown(record.get("seed", "unknown")),
            "hash": self.synset.hash,
        }

    @cached_property
    def index(self) -> torch.Tensor:
        """The images that are shown (n,)."""
        assert self.synset is not None
        return first_images(self.synset.classes, self.synset.images[0].numel(), self.share.picture)

    @cached_property
    def picture(self) -> Picture | None:
        """The first images of each class; whitening undone and clipped to what a screen can show."""
        if self.synset is None:
            return None
        each = int(self.synset.classes[self.index].bincount().max())
        return Picture.of(self._pixels(self.synset, self.index), columns(len(self.index), each), self.share.picture)

    @property
    def caption(self) -> str:
        """What the picture is."""
        if self.synset is None:
            return ""
        classes = self.synset.classes[self.index].unique().numel()
        some = f"{len(self.index)} of {len(self.synset)} images" if len(self.index) < len(self.synset) else "All images"
        some += f", of {classes} of {self.synset.num_classes} classes" if classes < self.synset.num_classes else ""
        how = "whitening undone, clipped" if self.synset.preprocessing.space in ("zca", "kip") else "clipped"
        return f"{some}; {how} for display."

    @property
    def classes(self) -> Iterator[tuple[str, list[Image]]]:
        """(class name, its images that are shown)."""
        if self.synset is None or self.picture is None:
            return
        names, of = [shown(name) for name in self.synset.class_names], self.synset.classes[self.index]
        targets = self.synset.targets[self.index] if self.synset.is_soft else None
        images: dict[str, list[Image]] = {}
        for place, cls in enumerate(of.tolist()):
            row, column = divmod(place, self.picture.columns)
            label = {} if targets is None else _likely(targets[place], names)
            images.setdefault(names[cls], []).append(
                Image(column * self.picture.width, row * self.picture.height, label)
            )
        yield from images.items()

    @property
    def stages(self) -> Stages | None:
        """How the first image of each class evolved; None where no snapshots were kept, or none that can be read."""
        if self.synset is None:
            return None
        try:
            found = iterates(self.path, MOST_STAGES)
        except (OSError, ValueError):
            return None
        if len(found) < 2 or any(len(each) != len(self.synset) for each in found.values()):
            return None
        of, values = self.synset.classes[self.index], self.synset.images[0].numel()
        most = min(MOST_IMAGES, room(values, self.share.stages // len(found)))
        firsts = torch.stack([self.index[(of == cls).nonzero()[0, 0]] for cls in of.unique()[:most]])
        images = torch.cat([self._pixels(each, firsts) for each in found.values()])
        return Stages(list(found), Picture.of(images, len(firsts), self.share.stages))

    @property
    def curves(self) -> list[Curve]:
        """What was logged of its making."""
        return curves(metrics(self.path.parent), self.share.points)

    def _pixels(self, synset: SyntheticSet, index: torch.Tensor) -> torch.Tensor:
        parts = (synset.preprocessing.inverse(synset.images[part].detach()).clamp(0, 1) for part in index.split(100))
        return torch.cat([small_enough(part, len(index)) for part in parts])


def _likely(target: torch.Tensor, names: Sequence[str]) -> dict[str, float]:
    """The largest entries of a distribution (K,), by class."""
    largest = target.topk(min(LIKELY, len(names)))
    return {names[k]: value for k, value in zip(largest.indices.tolist(), largest.values.tolist(), strict=True)}


def metrics(folder: Path) -> list[dict[str, float]]:
    """What was logged, by outer step; of a step that a continued run repeated, the later."""
    steps: dict[int, dict[str, float]] = {}
    for file in sorted(folder.glob("metrics/version_*/metrics.csv"), key=lambda f: int(f.parent.name[8:])):
        whole = file.read_text().rpartition("\n")[0]  # a kill may leave half a line
        for line in csv.DictReader(whole.splitlines()):
            found = {name: float(value) for name, value in line.items() if value}
            steps.setdefault(int(found["step"]), {}).update(found)
    return [steps[step] for step in sorted(steps)]


def sets(paths: Sequence[Path]) -> Iterator[Made]:
    """One set after the other, so that a page of many holds one at a time."""
    for path in paths:
        share = Share.of(len(paths))
        try:
            yield Made(path, load(path), "", share)
        except (OSError, ValueError) as error:
            yield Made(path, None, str(error), share)
