"""Kind: a project's way of keeping its sets; what the format fixes, what a user must state, what the files say."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from distill.checks import check_ranges, setting, stated
from distill.presets import unknown

PATHS = "absent or null or path or list of path"


@dataclass(frozen=True, kw_only=True)
class Words:
    """What a user says of somebody's files; None where nothing is said.

    Attributes:
        path: a file or a folder, as the project leaves it.
        images, labels: files, where ``path`` does not tell them; several are put one after the other.
        lr: the student's step size: a number, a file that holds it, or ``none``: students take the protocol's.
        space: of the images in the file.
        zca: true is ``space=zca``, false ``space=normalised``.
        mean, std: constants of ``space=normalised``; of pixels, those that students will see.
        class_order: names of the classes in the order of the file's labels, a text file of them, or ``sorted``.
        factor: an image holds factor x factor smaller ones.
        decode: ``single`` or ``multi`` (those of all factors up to it).
        ipc: images per class that there should be.
        uneven: classes may differ in their number of images.
        large: read files however large.
        classifier: train a small network on the real images and ask it for the classes.
        licence: of the files, for the record.
    """

    path: str | None = setting("absent or null or path", None)
    images: str | Sequence[str] | None = setting(PATHS, None)
    labels: str | Sequence[str] | None = setting(PATHS, None)
    lr: float | str | None = setting("absent or null or (0, 10] or path", None)
    space: str | None = setting("absent or null or one of pixel01, normalised, zca", None)
    zca: bool | None = setting("absent or null or true or false", None)
    mean: Sequence[float] | None = setting("absent or null or list of [0, 1]", None)
    std: Sequence[float] | None = setting("absent or null or list of (0, 1]", None)
    class_order: str | Sequence[str] | None = setting(PATHS, None)
    factor: int | None = setting("absent or null or whole [1, 100]", None)
    decode: str | None = setting("absent or null or one of single, multi, bound", None)
    ipc: int | None = setting("absent or null or whole [1, 1000000]", None)
    uneven: bool = setting("absent or true or false", False)
    large: bool = setting("absent or true or false", False)
    classifier: bool = setting("absent or true or false", False)
    licence: str | None = setting("absent or null or text", None)

    def __post_init__(self) -> None:
        check_ranges("", vars(self), stated(type(self)))
        if (self.mean is None) != (self.std is None):
            raise ValueError(f"mean is {self.mean}, std {self.std}: give both, one value for each channel")
        if self.zca is not None and self.space not in (None, "zca" if self.zca else "normalised"):
            raise ValueError(f"zca={str(self.zca).lower()} and space={self.space} contradict each other: give one")

    @classmethod
    def of(cls, **values: Any) -> "Words":
        """Words by their names; raises a ValueError for one that there is not."""
        names = [each.name for each in fields(cls)]
        for name in values:
            if name not in names:
                raise ValueError(unknown("word of an import", name, names))
        return cls(**values)

    @property
    def own_space(self) -> str | None:
        """The space that is stated, in either way."""
        return self.space if self.zca is None else "zca" if self.zca else "normalised"

    def files(self, name: str) -> list[Path]:
        """The files that ``images`` or ``labels`` names."""
        given = vars(self)[name]
        return [] if given is None else [Path(each) for each in ([given] if isinstance(given, str) else given)]


@dataclass(frozen=True)
class Fact:
    """What is known of a set, and how: ``read`` from files (or fixed by their format), or ``stated`` by the user."""

    value: Any
    how: str
    source: str = ""


@dataclass(frozen=True)
class Found:
    """What files hold of one synthesis.

    Attributes:
        images: (N, C, H, W), float32 in the space of the file, or uint8 pixels.
        labels: classes (N,) int64 or soft labels (N, K); None: each class has as many, one after the other.
        files: that were read.
        lr: the rate in them.
        picked_on: which iterate it is, as a record says it.
        facts: what they say beyond tensors, by what it is about.
        factors: tiles on a side of an image (`distill.sets.formation`), where the format has some.
        notes: what a user should be told.
    """

    images: Tensor
    labels: Tensor | None
    files: tuple[Path, ...]
    lr: float | None = None
    picked_on: str = "last"
    facts: Mapping[str, Fact] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    factors: tuple[int, ...] | None = None


class Importer(ABC):  # noqa: B024  # what it asks for is its subclasses'
    """What a file of ``configs/kind`` names."""

    brings: ClassVar[str] = "sets"  # or networks, or labels
    needs: ClassVar[tuple[str, ...]] = ("data",)  # words without which nothing can be told


@dataclass(frozen=True, kw_only=True)
class Kind(Importer):
    """A project's way of keeping its sets, one file of ``configs/kind``.

    Attributes:
        protocol: that its sets were made for.
        space: of the images in its files, or ``stated`` where a user has to say.
        labels: what its labels are.
        rate: whether files hold the learned rate, a user has to state it, or there is none.
        constants: by data set, ``mean`` and ``std`` where the project's code has others than ``configs/data``.
    """

    protocol: str = setting("text")
    space: str = setting("one of stated, pixel01, normalised, zca, kip")
    labels: str = setting("one of hard, soft, any")
    rate: str = setting("one of read, stated, none")
    constants: Mapping[str, Any] = setting("{} or map of text to anything")

    takes: ClassVar[tuple[str, ...]] = ()  # words beside those that every kind takes
    COMMON: ClassVar[tuple[str, ...]] = (
        "path", "space", "zca", "mean", "std", "class_order", "ipc", "uneven", "large", "classifier", "licence",
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_ranges("kind", vars(self), stated(type(self)))

    def check(self, name: str, words: Words) -> None:
        """Raise ValueError if a word says nothing about this kind."""
        known = (*self.takes, *self.COMMON)
        for each, value in vars(words).items():
            if value not in (None, False) and each not in known:
                raise ValueError(f"kind={name} takes no {each}: it has {', '.join(known)}")

    def beside(self, words: Words) -> list[str]:
        """What the protocol is told when such a set is judged, as a command line states it."""
        return []

    @abstractmethod
    def read(self, words: Words) -> list[Found]:
        """The syntheses that the user's files hold.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is none of this kind.
        """


def one_path(words: Words, what: str) -> Path:
    """The file or folder of ``path``, or of ``images``; raises ValueError where neither is said."""
    given = [Path(words.path)] if words.path else words.files("images")
    if len(given) != 1:
        raise ValueError(f"path is missing: path={what}")
    return given[0]
