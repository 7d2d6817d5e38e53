"""DataSettings: which real set, and how it is read, split and preprocessed; ``configs/data``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.augment.families import STRATEGY
from distill.checks import check_ranges, setting, stated
from distill.data import preprocessing
from distill.data.preprocessing import Preprocessing
from distill.text import check_name


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Which real set, and how it is read, split and preprocessed.

    Attributes:
        name: a key of `distill.data.readers.READERS`, or any name for the set that ``path`` holds.
        root: folder of data sets and of the ZCA cache; ``<root>/<name>.npz`` is read when it is there.
        strategy: DSA families that keep this set's classes apart.
        mean, std: per-channel constants; None fits them on the training images.
        zca: whiten instead.
        val: fraction of the training set kept back for choices, in [0, 1); 0 trains on everything, as papers do.
        download: fetch a missing set.
        classes: keep these classes only, in this order: names, or indices where no class is called by a number; constants
            stay those of the whole set.
        path: an ``.npz`` file or an image folder (see `distill.data.folders`) instead of a named set.
        size: make squares of this side, in pixels, into which images are squeezed,
        crop: or from which, their shorter edge at 8/7 of ``size``, the middle is taken.
        test_resize: bring the shorter edge of test images to this and take the middle, as large as they were (RDED: 72 at 64).
        lazy: keep an image folder's files on disk and decode them when they are asked for; needs ``size``, ``mean``, ``std``.
        workers: threads that decode.

    Raises:
        ValueError: a value is out of its range, or values do not go together.
    """

    name: str = setting("text")
    root: str | Path = setting("path")
    strategy: str = setting(STRATEGY)
    mean: Sequence[float] | None = setting("null or list of [0, 1]")
    std: Sequence[float] | None = setting("null or list of (0, 1]")
    zca: bool = setting("true or false")
    val: float = setting("[0, 1)")
    download: bool = setting("true or false")
    classes: Sequence[int | str] | None = setting("absent or null or list of text or whole [0, 1000000]", None)
    path: str | Path | None = setting("absent or null or path", None)
    size: int | None = setting("absent or null or whole [1, 4096]", None)
    crop: bool = setting("absent or true or false", False)
    test_resize: int | None = setting("absent or null or whole [1, 4096]", None)
    lazy: bool = setting("absent or true or false", False)
    workers: int = setting("absent or whole [1, 256]", 4)

    def __post_init__(self) -> None:
        given = {"path": None if self.path is None else str(self.path), "root": str(self.root)}
        check_ranges("data", vars(self) | given, stated(type(self)))
        check_name("data.name", self.name)
        mean, std = self.mean, self.std
        if (mean is None) != (std is None) or (mean is not None and std is not None and len(mean) != len(std)):
            raise ValueError(
                f"data.mean is {mean}, data.std {std}: give one of each for every channel, or null for both"
            )
        if self.crop and self.size is None:
            raise ValueError("data.crop=true takes the middle of images brought to data.size, which is null")
        if self.lazy and self.test_resize is not None:
            raise ValueError("data.test_resize needs images that are held in memory: data.lazy=false")

    @property
    def folder(self) -> Path:
        """Of data sets."""
        return Path(self.root).expanduser()

    @property
    def place(self) -> Path | None:
        """The file or image folder that somebody named."""
        return None if self.path is None else Path(self.path).expanduser()

    @property
    def constants(self) -> Preprocessing | None:
        """Normalisation by ``mean`` and ``std``, where they are given."""
        given = self.mean is not None and self.std is not None
        return preprocessing.normalised(list(self.mean), list(self.std)) if given else None  # type: ignore[arg-type]

    def check_channels(self, channels: int) -> None:
        """Raise ValueError unless there are constants for so many channels, or none."""
        if self.mean is not None and len(self.mean) != channels:
            raise ValueError(
                f"data.mean and data.std have {len(self.mean)} values, {self.name} has {channels} channels: "
                "give one for each"
            )
