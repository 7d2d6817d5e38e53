"""Sets that a project keeps as folders of pictures: SRe2L and its descendants, RDED, EDC, D4M."""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from distill.checks import setting
from distill.data.folders import pictures, visible_folders
from distill.data.pictures import picture
from distill.sets.importers.base import Fact, Found, Kind, Words, one_path
from distill.wording import listed

Named = dict[tuple[int | str, ...], Path]  # pictures of a class by the numbers in their names, and the names


@dataclass(frozen=True, kw_only=True)
class Pictures(Kind):
    """A folder for each class, whose number its name tells; the place among sorted names is never used.

    Attributes:
        folder: a regular expression of a class folder's name, whose group is the class.
        file: one of a picture's name, whose first group is the class, the others its number.
        padded: numbers of classes have leading zeros, so that all names are equally long.
        tiles: pictures may hold several, and training shuffles them: ``factor`` has to be stated.
    """

    folder: str = setting("text")
    file: str = setting("text")
    padded: bool = setting("true or false")
    tiles: bool = setting("true or false")

    @property
    def takes(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("factor",) if self.tiles else ()

    def beside(self, words: Words) -> list[str]:
        """Tiles that change places, and crops of one of them at least (RDED, arXiv:2312.03526)."""
        if not self.tiles or words.factor in (None, 1):
            return []
        return [f"protocol.recipe.views.shuffle={words.factor}", f"protocol.recipe.views.area={1 / words.factor:g}"]

    def read(self, words: Words) -> list[Found]:
        root = one_path(words, "FOLDER")
        if not root.is_dir():
            raise FileNotFoundError(f"no folder {root}")
        if self.tiles and words.factor is None:
            raise ValueError(
                "factor is in no file: state factor=1, or 2 where an image holds 2x2 that training shuffles"
            )
        classes = self.classes(root)
        files = [(cls, path) for cls in sorted(classes) for _, path in sorted(classes[cls].items())]
        images = [torch.from_numpy(picture(path).copy()).permute(2, 0, 1) for _, path in files]
        shapes = {tuple(image.shape) for image in images}
        if len(shapes) > 1:
            raise ValueError(f"the pictures of {root} are of {len(shapes)} sizes, expected one: {sorted(shapes)[:3]}")
        labels = torch.tensor([cls for cls, _ in files])
        facts = {"codec": Fact(listed(sorted({path.suffix[1:] for _, path in files})), "read", "the files' names")}
        if self.tiles:
            facts["decoding"] = Fact(f"none; training shuffles {words.factor}x{words.factor}", "stated")
        whole = torch.stack(images)
        if bool((whole[:, :1] == whole).all()):
            whole = whole[:, :1]  # grey, which pictures have in three channels
        return [Found(whole, labels, tuple(path for _, path in files), facts=facts)]

    def classes(self, root: Path) -> Mapping[int, Named]:
        """Pictures of each class by the numbers in their names.

        Raises:
            ValueError: a name is none of this kind, or two names of one class contradict each other.
        """
        found: dict[int, Named] = defaultdict(dict)
        folders = visible_folders(root)
        named = [(each, re.fullmatch(self.folder, each.name)) for each in folders]
        strange = [each.name for each, match in named if match is None]
        if strange or not named:
            raise ValueError(
                f"{root} has {f'the folder {strange[0]!r}' if strange else 'no folders'}, expected names like {self.folder}"
            )
        widths = {len(match[1]) for _, match in named if match}
        if self.padded and len(widths) > 1:
            raise ValueError(f"the class folders of {root} have numbers of {sorted(widths)} digits, expected one width")
        for folder, match in named:
            assert match is not None
            cls = int(match[1])
            for path in pictures(folder):
                inner = re.fullmatch(self.file, path.name)
                if inner is None or int(inner[1]) != cls:
                    raise ValueError(f"{path} is no picture of class {cls}: expected a name like {self.file}")
                found[cls][(*(int(number) for number in inner.groups()[1:]), path.name)] = path
        return found
