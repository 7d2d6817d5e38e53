"""Synthetic sets as the page shows them: facts, pictures, curves, configuration."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from distill.page.figures import Curve, curves
from distill.sets.looks import as_uri
from distill.sets.reading import load
from distill.sets.synthetic import SyntheticSet
from distill.text import shown

MOST_PICTURES = 10  # of a class

MOST_PIXELS = 10_000_000  # of all pictures on a page


@dataclass(frozen=True)
class Made:
    """A synthetic set that rows are about, as its folder shows it.

    Attributes:
        path: of its file.
        synset: the set; None where the file cannot be read.
        wrong: why it cannot.
        pixels: that its pictures may have.
    """

    path: Path
    synset: SyntheticSet | None
    wrong: str
    pixels: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.path.parent.name

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

    @property
    def room(self) -> tuple[int, int]:
        """How many pictures of how many classes there is room for; one of one class at least."""
        if self.synset is None:
            return 0, 0
        most = max(1, self.pixels // self.synset.images[0, 0].numel())
        each = min(MOST_PICTURES, max(1, most // self.synset.num_classes))
        return each, min(self.synset.num_classes, max(1, most // each))

    @property
    def caption(self) -> str:
        """What the pictures are."""
        if self.synset is None:
            return ""
        each, classes = self.room
        some = f"The first {each} images of each class" if len(self.synset) > each * self.synset.num_classes else ""
        some = f"{some or 'All images'} of the first {classes} classes" if classes < self.synset.num_classes else some
        how = "whitening undone, clipped" if self.synset.preprocessing.space in ("zca", "kip") else "clipped"
        return f"{some}{'; ' if some else ''}{how} for display.".capitalize()

    @property
    def pictures(self) -> Iterator[tuple[str, list[str]]]:
        """(class name, its first images as data URIs); whitening undone and clipped to what a screen can show."""
        if self.synset is None:
            return
        each, classes = self.room
        pixels, of = self.synset.pixels, self.synset.classes
        for k, name in enumerate(self.synset.class_names[:classes]):
            yield shown(name), [as_uri(image) for image in pixels[of == k][:each]]

    @property
    def curves(self) -> list[Curve]:
        """What was logged of its making."""
        return curves(metrics(self.path.parent))


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
        try:
            yield Made(path, load(path), "", MOST_PIXELS // len(paths))
        except (OSError, ValueError) as error:
            yield Made(path, None, str(error), 0)
