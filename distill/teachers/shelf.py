"""Shelf: numbered files of what a committee said, in a folder that is found by what they are labels of."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from distill.files import digest, load_tensors, read_record, save_tensors, write_record
from distill.parallel import Unit, crew
from distill.progress import tell

ASKING = "asking the committee for labels"


class Shelf(ABC):
    """Files that are made once, whole or not at all, by any number of processes; who finds one missing makes it.

    Args:
        folder: of these files, or of many shelves, where their own is found by content.
        identity: what they are labels of, and who is asked.

    Raises:
        ValueError: the folder holds labels of something else.
    """

    kind: ClassVar[str]  # of the files, for their names

    def __init__(self, folder: Path, identity: Mapping[str, Any]):
        named = (folder / "labels.json").exists()
        self.identity, self.folder = dict(identity), folder if named else folder / digest(identity)
        if named:
            theirs = read_record(folder / "labels.json", f"delete {folder} to have its labels made anew")
            for key, value in identity.items():
                if theirs.get(key) != value:
                    raise ValueError(
                        f"labels in {folder} were made for {key} {theirs.get(key)}, this run has {value}: "
                        "name another labels_path, or leave it out to have them made"
                    )

    @property
    @abstractmethod
    def count(self) -> int:
        """Files that a training reads, numbered from 0."""

    @abstractmethod
    def asked(self, number: int) -> dict[str, Tensor]:
        """What file ``number`` holds: ask the committee."""

    def path(self, number: int) -> Path:
        return self.folder / f"{self.kind}_{number:05d}.safetensors"

    def fill(self) -> None:
        """Make the files that are not there, before students ask for them; each is a unit of work."""
        crew().make([self.unit(number) for number in range(self.count)], tell)

    def unit(self, number: int) -> Unit:
        """The making of one file."""
        path = self.path(number)

        def make(tell: Callable[[int], None]) -> None:
            tell(0)
            self.write(number)

        return Unit(f"{self.folder.name}/{path.stem}", make, path.exists, ASKING)

    def write(self, number: int) -> None:
        """Ask the committee for one file."""
        if not (self.folder / "labels.json").exists():
            write_record(self.folder / "labels.json", self.identity)
        save_tensors(self.path(number), self.asked(number))

    def load(self, number: int) -> dict[str, Tensor]:
        """What is in one file, which is made if it is not there."""
        if not self.path(number).exists():
            self.write(number)
        return load_tensors(self.path(number))[0]

    @property
    def bytes(self) -> int:
        """Of what is on disk, of the files that a training reads."""
        paths = [self.path(number) for number in range(self.count)]
        return sum(path.stat().st_size for path in paths if path.exists())
