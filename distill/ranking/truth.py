"""Truth: what the 54 networks reach when they are trained on real images; made once, and kept as a small file."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from distill.checks import check_ranges
from distill.files import digest, read_record, write_record
from distill.ranking.measures import Correlation, correlations
from distill.ranking.space import N54
from distill.text import command, shown

HELP = "make it again with `network_truth`"

RECORD = {
    **{"data": "text", "data_hash": "text", "images": "whole [1, 1e12]", "recipe": "map of text to anything"},
    **{
        "made_by": "any text",
        "torch": "text",
        "device": "any text",
        "networks": "map of text to map of text to anything",
    },
}

NETWORK = {
    **dict.fromkeys(("macs", "params"), "whole [1, 1e12]"),
    **dict.fromkeys(("val", "test"), "list of [0, 1]"),
    "seconds": "[0, 1e12]",
}


@dataclass(frozen=True)
class Measured:
    """One network.

    Attributes:
        macs: multiply-accumulates on one image, forward.
        params: numbers that it learns.
        val, test: accuracies by seed, in [0, 1].
        seconds: that all of its seeds took.
    """

    macs: int
    params: int
    val: Sequence[float]
    test: Sequence[float]
    seconds: float


@dataclass(frozen=True)
class Truth:
    """Of all 54, in the order of `distill.ranking.space.N54`.

    Attributes:
        data, data_hash: the real set, and what stands for its images and splits.
        images: how many of its training images the networks saw.
        recipe: how they were trained.
        made_by, torch, device: the command, and what it ran on.
    """

    data: str
    data_hash: str
    images: int
    recipe: Mapping[str, Any]
    made_by: str
    torch: str
    device: str
    networks: Mapping[str, Measured]

    @classmethod
    def read(cls, path: Path) -> "Truth":
        """Of a file.

        Raises:
            ValueError: it is damaged, or no such table.
        """
        record = read_record(path, HELP)
        try:
            check_ranges("", record, RECORD)
            for name in (each.name for each in N54):
                check_ranges(name, record["networks"].get(name, {}), NETWORK)
        except ValueError as error:
            raise ValueError(f"{shown(path)} is no table of true accuracies ({error}): {HELP}") from None
        networks = {each.name: Measured(**_known(record["networks"][each.name], NETWORK)) for each in N54}
        return cls(**_known(record, RECORD) | {"networks": networks})

    @classmethod
    def of(cls, data: str, path: str | None = None) -> "Truth":
        """The table in ``path``, or the one that comes with distill.

        Raises:
            FileNotFoundError: there is none of this data set.
        """
        kept = Path(str(files("distill.ranking"))) / f"n54_{data}.json" if path is None else Path(path)
        if not kept.is_file():
            raise FileNotFoundError(
                f"no table of true accuracies in {shown(kept)}: make one with `{command()} network_truth data={data} "
                "out=DIR`, and name it with truth=DIR/n54_" + f"{data}.json"
            )
        return cls.read(kept)

    def write(self, path: Path) -> None:
        write_record(path, asdict(self))

    @property
    def hash(self) -> str:
        """Twelve hex digits that stand for all of it."""
        return digest(asdict(self))

    @cached_property
    def val(self) -> np.ndarray:
        """True accuracies on the validation split, (54,): means over seeds."""
        return np.array([np.mean(each.val) for each in self.networks.values()])

    @cached_property
    def test(self) -> np.ndarray:
        """The same on the test split."""
        return np.array([np.mean(each.test) for each in self.networks.values()])

    def noise(self) -> tuple[Correlation, Correlation] | None:
        """Spearman's and Kendall's correlation between two seeds of the truth, the mean over all pairs of them.

        Over the networks that have several seeds: what a proxy that knows the truth would reach. None if none has.
        """
        several = [each.val for each in self.networks.values() if len(each.val) > 1]
        seeds = np.array([each[: min(map(len, several))] for each in several]).T
        pairs = [(seeds[i], seeds[j]) for i in range(len(seeds)) for j in range(i)]
        return correlations(pairs) if len(several) > 2 else None


def _known(record: Mapping[str, Any], ranges: Mapping[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in ranges}
