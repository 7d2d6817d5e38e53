"""A committee's logits as numbers to be met, and a little of the class beside them (EDC, arXiv:2404.13733)."""

from dataclasses import dataclass

from distill.checks import setting
from distill.teachers.labels import Asked, Teaching, Told, both
from distill.training.batch import Batches
from distill.training.losses import Regression


@dataclass(frozen=True)
class Regressed(Asked):
    """Made for the very view that a student sees (`distill.training.losses.Regression`).

    Attributes:
        hard: weight of the cross-entropy with the class; of mixed views, with both classes' shares.
    """

    name = "regressed"
    hard: float = setting("[0, 1000000]")

    def on(self, batches: Batches, seed: int, teaching: Teaching) -> Told:
        loss, ask = Regression(self.hard), self.ask(teaching, batches.recipe.micro_batches)
        asked = Told(lambda seen: ask(seen.views), loss, lambda: 0, self.votes(teaching))
        return both(asked, batches, loss)
