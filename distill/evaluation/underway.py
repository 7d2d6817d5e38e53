"""Underway: what students that are trained together have behind them, in memory and in the file of a killed run."""

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from distill.checks import check_ranges
from distill.due import Due
from distill.files import Newer, load_tensors, save_tensors
from distill.training.batch import Batch
from distill.training.gradients import Outputs
from distill.training.loop import Progress

STATE = {
    "students": "list of text",
    "epochs": "whole [0, inf)",
    "found": "list of any number of whole [0, inf)",
    **dict.fromkeys(("steps", "seen"), "whole [0, inf)"),
    "spent": "[0, 1e12]",
}


class Underway:
    """What students that are trained together have behind them.

    Args:
        path: of the file that a killed run goes on from; it is of use to the very same students alone.
        students: a key for each.
        began: when their row did, by `time.monotonic`; earlier, once a killed run turns out to have gone further.

    Attributes:
        found: of each student, how many images of each class it classified correctly when that were most of all.
        steps: optimiser steps.
        seen: images in all of them.
    """

    def __init__(self, path: Path, students: Sequence[str], began: float):
        self.path, self.students, self.began, self.due = path, list(students), began, Due()
        self.found: list[list[int]] = [[0] for _ in students]
        self.steps, self.seen = 0, 0

    def before(self, device: torch.device) -> Progress | None:
        """Where a killed run left them; None where none did, or others were trained together.

        Raises:
            ValueError: the file is damaged.
        """
        if not self.path.exists():
            return None
        try:
            tensors, state = load_tensors(self.path)
            check_ranges("", state, STATE)
            weights = tensors.pop("weights", torch.empty(0))
            if weights.ndim != 2 or len(weights) != len(state["students"]):
                raise ValueError(f"its weights are {tuple(weights.shape)}, of {len(state['students'])} students")
        except Newer:
            raise
        except ValueError as error:
            raise ValueError(
                f"{self.path} cannot be gone on from ({error}): delete it to start its students anew"
            ) from None
        if state["students"] != self.students:
            return None
        self.found, self.steps, self.seen = state["found"], state["steps"], state["seen"]
        self.began = min(self.began, time.monotonic() - state["spent"])
        return Progress.of(state["epochs"], weights.to(device), tensors)

    @property
    def spent(self) -> float:
        """Seconds on their row."""
        return time.monotonic() - self.began

    def count(self, batch: Batch, _: Outputs) -> None:
        """A step on ``batch``."""
        self.steps, self.seen = self.steps + 1, self.seen + batch.index.shape[1]

    def score(self, place: int, hits: list[int]) -> None:
        """What the student at ``place`` classifies correctly now; the best counts."""
        self.found[place] = max(hits, self.found[place], key=sum)

    def keep(self, now: Progress) -> None:
        """Write where they stand, where that is due."""
        if self.due.now:
            with self.due.written():
                state = {"students": self.students, "epochs": now.epochs, "found": self.found, "spent": self.spent}
                tensors = {"weights": now.weights, **now.tensors}
                save_tensors(self.path, tensors, {**state, "steps": self.steps, "seen": self.seen})

    def forget(self) -> None:
        """They are trained."""
        self.path.unlink(missing_ok=True)
