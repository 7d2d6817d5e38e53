"""Write tables and pictures of README and docs from results/: `make results`. A test compares them with what is committed."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.utils import make_grid

import distill
from distill.comparison import results
from distill.comparison.forms import Form
from distill.comparison.markup import below, lines
from distill.comparison.results import RESULTS, Result
from distill.sets.looks import eight_bit

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "docs/index.md", "docs/results.md", "docs/gallery.md")
PICTURES = ROOT / "docs" / "images" / "learned"
PART = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end of results -->)", re.DOTALL)
CLASSES, SIDE, GAP = 10, 96, 4  # of a picture: classes in a row, pixels that an image is shown at, and between two
RECIPES = (  # on Fashion-MNIST, one stored image per class: each has one ingredient more
    "random_fashion_mnist_ipc1", "ncfm_whole_fashion_mnist_ipc1", "ncfm_four_fashion_mnist_ipc1", "ncfm_picked_fashion_mnist",
    "ncfm_picked_soft_fashion_mnist",
)  # fmt: skip


def table(form: Form) -> str:
    """With its notes; a sentence where it has no row."""
    return f"{lines(form)}\n{below(form)}".rstrip() if form.rows else "None yet."


def shown(result: Result, folder: str) -> str:
    """The picture of a result, for a page from which the site's pictures are in ``folder``."""
    row = result.row
    return f"![An image of each of the first classes of {row['data']}, by {row['method']}]({folder}/{result.cell}.png)"


def overview(found: Sequence[Result]) -> str:
    """The table of published cells, and the images of the one that is the most accurate."""
    best = max((each for each in found if each.kept and each.verdict), key=lambda each: each.row["mean"], default=None)
    return "\n\n".join([table(results.overview(found)), *([shown(best, "docs/images/learned")] if best else [])])


def commands(found: Sequence[Result]) -> str:
    return "\n".join(["```bash", *(each.command for each in found), "```"])


def gallery(found: Sequence[Result]) -> str:
    """A heading, a picture, what it reaches and its command for each cell."""
    parts = []
    for each, told in results.gallery(found):
        own = shown(each, "images/learned")
        parts.append(f"## {each.cell}\n\n{own}\n\n{told}\n\n```bash\ndistill reproduce {each.cell}\n```")
    return "\n\n".join(parts) or "None yet."


PARTS: dict[str, Callable[[Sequence[Result]], str]] = {
    "overview": overview,
    "leaderboard": lambda found: table(results.leaderboard(found)),
    "summary": lambda found: table(results.summary(found)),
    "details": lambda found: table(results.details(found)),
    "gallery": gallery,
    "commands": commands,
    "ablation": lambda found: table(
        results.ablation([each for name in RECIPES for each in found if each.cell == name])
    ),
    "golden": lambda _: table(results.golden(results.results(results.GOLDEN))),
}


def filled(text: str, found: Sequence[Result]) -> str:
    """A page with its parts made anew."""
    return PART.sub(lambda part: f"{part[1]}\n{PARTS[part[2]](found)}\n\n{part[3]}", text)


def picture(result: Result) -> Image.Image:
    """The first image of each of the first ten classes, of the first synthesis that is kept, side by side."""
    synset = distill.load(RESULTS / str(result.kept))
    first = [int((synset.classes == cls).nonzero()[0]) for cls in synset.classes.unique()[:CLASSES]]
    times = max(1, SIDE // synset.images.shape[2])
    large = synset.pixels[first].repeat_interleave(times, 2).repeat_interleave(times, 3)
    return eight_bit(make_grid(large, nrow=CLASSES, padding=GAP, pad_value=1.0))


def pictures(found: Sequence[Result]) -> dict[Path, Image.Image]:
    """By the file that holds them."""
    return {PICTURES / f"{each.cell}.png": picture(each) for each in found if each.kept}


def alike(one: Image.Image, other: Image.Image) -> bool:
    """Whether two pictures differ by at most a level of 255 anywhere, as rounding on another machine may."""
    if (one.size, one.mode) != (other.size, other.mode):
        return False
    return bool(np.abs(np.asarray(one, int) - np.asarray(other, int)).max() <= 1)


def main() -> None:
    found = results.results()
    for name in PAGES:
        path = ROOT / name
        path.write_text(filled(path.read_text(), found))
    made = pictures(found)
    PICTURES.mkdir(exist_ok=True)
    for path in set(PICTURES.glob("*.png")) - made.keys():
        path.unlink()
    for path, image in made.items():
        if not (path.exists() and alike(Image.open(path), image)):
            image.save(path, optimize=True)


if __name__ == "__main__":
    main()
