"""Foreseen: what a method says of its work before it begins, for plans."""

import math
from typing import Any, ClassVar


class Foreseen:
    """What an outer step is, and how a smaller one is tried out. A method says what is not as here."""

    depth: ClassVar[int] = 4  # bytes of a number of its images on disk

    def images_a_step(self) -> float:
        """About how many images go through a network, forward and back, at an outer step; tells what a run will cost."""
        return 0.0

    def images_before(self) -> float:
        """The same before the first outer step."""
        return 0.0

    @property
    def at_once(self) -> int:
        """The most of them that are in a network at once."""
        return math.ceil(self.images_a_step())

    @property
    def is_soft(self) -> bool:
        """Whether the labels of its sets are probabilities or logits."""
        return False

    @property
    def is_rated(self) -> bool:
        """Whether its sets come with a step size."""
        return False

    @property
    def copies(self) -> int:
        """Images that students see of each stored one."""
        return 1

    @property
    def round(self) -> int:
        """Outer steps after which the same work comes again."""
        return 1

    def lighter(self, images: int) -> dict[str, Any]:
        """Settings under which an outer step takes at most about so many images at once; empty where none does."""
        return {}

    def rehearsal(self, images: int) -> dict[str, Any]:
        """Settings, and perhaps an ``ipc``, under which an outer step is tried out, with about so many images at once.

        It is like the method's own, but smaller, and its first set asks nothing of networks that are not trained yet.
        """
        return self.lighter(images)
