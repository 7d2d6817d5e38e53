"""One soft label for each image of any set: its own, or a committee's."""

from dataclasses import dataclass

from distill.teachers.labels import Once, Own, Teaching, Told
from distill.training.batch import Batches


@dataclass(frozen=True)
class Fixed(Once):
    """One soft label for each image: the set's own, where they are soft; else a committee's, made once."""

    name = "fixed"

    def on(self, batches: Batches, seed: int, teaching: Teaching) -> Told:
        if batches.data.label_kind == "hard":
            return super().on(batches, seed, teaching)
        return Own(twin=False).on(batches, seed, teaching)
