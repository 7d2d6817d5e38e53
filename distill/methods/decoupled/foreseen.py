"""What recovery says of its work before it begins."""

import math
from collections.abc import Sequence
from typing import Any

from distill.data.split import Split
from distill.methods.foreseen import Foreseen
from distill.teachers.committee import Committee


class RecoveryForeseen(Foreseen):
    """A step takes a stack of units through its teachers."""

    real: Split
    committee: Committee
    counts: tuple[int, ...]
    stacks: Sequence[Any]
    settings: Any
    depth = 1

    def images_a_step(self) -> float:
        teachers = {"all": len(self.committee.nets), "in_turn": 1}.get(self.settings.pairs, 2)
        forward = 0 if self.settings.flatness is None else 1 / 3  # once more, without a way back
        images = sum(len(unit.classes) for stack in self.stacks for unit in stack)
        return teachers * (1 + forward) * images / max(1, len(self.stacks))

    def images_before(self) -> float:
        own, classes = self.settings, self.real.num_classes
        made = classes * own.pool * own.patches if own.init == "composite" else 0
        return (made + (0 if own.class_share is None else len(self.real) * len(self.committee.nets))) / 3

    @property
    def at_once(self) -> int:
        return min(self.settings.batch, self.real.num_classes) * max(map(len, self.stacks), default=1)

    @property
    def round(self) -> int:
        return len(self.committee.nets) if self.settings.pairs == "in_turn" else 1

    def lighter(self, images: int) -> dict[str, Any]:
        classes = self.real.num_classes
        block = min(self.settings.batch, classes)
        if images < block:
            block = max(size for size in range(1, images + 1) if classes % size == 0)
        return {"batch": block, "together": max(1, min(self.settings.together, images // block))}

    def rehearsal(self, images: int) -> dict[str, Any]:
        """Of as many images of each class as fill a stack, from noise; two teachers of many are all in their turns."""
        own = self.lighter(images)
        own["together"] = min(own["together"], max(map(len, self.stacks), default=1))
        ipc = min(max(self.counts), math.ceil(own["batch"] * own["together"] / self.real.num_classes))
        start = {"init": "noise", "steps": None, "class_share": None}
        turns = {"pairs": "in_turn"} if len(self.committee.nets) > 2 and self.settings.pairs != "all" else {}
        return {"ipc": ipc, **own, **start, **turns}
