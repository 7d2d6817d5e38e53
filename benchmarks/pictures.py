"""A folder of pictures like ImageNet's, in small: many classes, few images of each, JPEGs of photographs' sizes.

A class is a shape of a size in two colours; place, turn of the ground's colour and noise are an image's own. There is
something to learn, but accuracies on it say nothing: it is there to see what a run of so many classes at 224 px takes.

    python benchmarks/pictures.py pictures                     # 1,000 classes x 2 to train, 1 to test: 40 MB
    python benchmarks/pictures.py pictures --classes 20
"""

import argparse
import colorsys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIDES = (240, 400)  # pixels, shortest and longest


def drawn(cls: int, classes: int, number: int, seed: int) -> Image.Image:
    """Picture ``number`` of a class; a function of its arguments alone.

    >>> drawn(3, 10, 0, seed=0).size == drawn(3, 10, 0, seed=0).size
    True
    """
    kind, own = np.random.default_rng([seed, cls]), np.random.default_rng([seed, cls, number])
    width, height = (int(side) for side in own.integers(*SIDES, 2))
    hue, corners, share = cls / classes, int(kind.integers(3, 9)), float(kind.uniform(0.2, 0.45))
    ground = np.array(colorsys.hsv_to_rgb(float(kind.random()), 0.4, float(own.uniform(0.4, 0.9))))
    coarse = Image.fromarray((255 * (ground + own.normal(0, 0.08, (12, 12, 3))).clip(0, 1)).astype(np.uint8))
    image = coarse.resize((width, height), Image.Resampling.BILINEAR)
    radius = share * min(width, height)
    middle = own.uniform(radius, width - radius), own.uniform(radius, height - radius)
    colour = tuple(int(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.9, 0.9))
    ImageDraw.Draw(image).regular_polygon((*middle, radius), corners, int(own.integers(360)), fill=colour)
    return image


def write(folder: Path, classes: int, train: int, test: int, seed: int) -> None:
    """``train`` and ``test`` pictures of each class into ``folder``/train/<class>/ and ``folder``/test/<class>/."""
    for part, first, count in (("train", 0, train), ("test", train, test)):
        for cls in range(classes):
            own = folder / part / f"n{cls:08d}"
            own.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                drawn(cls, classes, first + number, seed).save(own / f"{number:05d}.jpg", quality=85)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    for name, usual in (("classes", 1000), ("train", 2), ("test", 1), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    found = parser.parse_args()
    write(found.folder, found.classes, found.train, found.test, found.seed)


if __name__ == "__main__":
    main()
