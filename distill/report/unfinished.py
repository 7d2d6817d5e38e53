"""Students of a row that is being made, kept in files of the row's own, so that a restart trains none twice."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.checks import check_ranges
from distill.files import digest, read_record, write_record

DELETE_STUDENTS = "delete it to have the students of its row trained again"

UNFINISHED = {
    **{"hits": "{} or map of text to any number of whole [0, inf)", "spent": "[-1e12, 1e12]"},
    "took": "absent or {} or map of text to two of whole [0, inf)",
    **{"device": "absent or text", "peak_bytes": "absent or whole [0, inf)"},
}


class Unfinished:
    """The students of one row; those that are trained together have a file, which nobody else writes.

    Args:
        path: what the files are named after.

    Attributes:
        hits: by student and class.
        took: optimiser steps and images seen in them, by student; files of before have none.
        spent: seconds on the row, by runs before this one too.
        devices, peak_bytes: where students were trained, and the most that one of these processes held; of before, nothing.
    """

    def __init__(self, path: Path):
        self.path, self.spent, self.peak_bytes = path, 0.0, 0
        self.hits: dict[str, list[int]] = {}
        self.took: dict[str, list[int]] = {}
        self.devices: set[str] = set()
        self.read()

    def read(self) -> None:
        """Take all students that somebody trained."""
        for path in sorted(self.path.parent.glob(f"{self.path.stem}*.json")):
            self._take(path)

    def has(self, students: Sequence[str]) -> bool:
        """Whether somebody trained these, which are trained together."""
        path = self._path(students[0])
        if not set(students) <= self.hits.keys() and path.exists():
            self._take(path)
        return set(students) <= self.hits.keys()

    def keep(self, hits: Mapping[str, list[int]], took: Mapping[str, list[int]], spent: float, **about: Any) -> None:
        """Keep students that were trained together.

        Args:
            spent: seconds on the row so far.
            about: ``device`` and ``peak_bytes``.
        """
        path = self._path(next(iter(hits)))
        write_record(path, {"hits": hits, "took": took, "spent": spent, **about})
        self._take(path)

    def state_path(self, students: Sequence[str]) -> Path:
        """Where students that are trained together leave what a killed run goes on from, while they train."""
        return self._path(students[0]).with_suffix(".safetensors")

    def _take(self, path: Path) -> None:
        record = read_record(path, DELETE_STUDENTS)
        try:
            check_ranges("", record, UNFINISHED)
        except ValueError as error:
            raise ValueError(f"{path} holds no students of a row ({error}): {DELETE_STUDENTS}") from None
        self.hits.update(record["hits"])
        self.took.update(record.get("took", {}))
        self.spent = max(self.spent, record["spent"])
        self.devices |= {record["device"]} if "device" in record else set()
        self.peak_bytes = max(self.peak_bytes, record.get("peak_bytes", 0))

    def _path(self, first: str) -> Path:
        return self.path.with_stem(f"{self.path.stem}_{digest(first)}")
