"""One soft label for each image: a committee's, or the set's own where it has some."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from distill.progress import stage
from distill.teachers.labels import Matched, Own, Teaching, Told
from distill.teachers.shelf import ASKING
from distill.training.batch import Batches, Seen


@dataclass(frozen=True)
class Once(Matched):
    """Made once for each image, as it is; refused for images of tiles, of which a view shows one."""

    name = "once"

    def takes(self, images: int, classes: int, passes: int, own: int) -> int:
        return 4 * images * classes

    def check(self, has_vectors: bool, is_shown_whole: bool) -> None:
        if not is_shown_whole:
            raise ValueError(
                f"protocol/labels is {self.name}, one label for each image, and students are shown one tile of an image: "
                "protocol/labels=on_the_fly, or hard"
            )

    def on(self, batches: Batches, seed: int, teaching: Teaching) -> Told:
        self.check(batches.data.has_vectors, batches.data.is_shown_whole)
        data, ask = batches.data, self.ask(teaching, batches.recipe.micro_batches)
        known = _Known(lambda: ask(data.images[:]), self.temperature)
        return self.told(known, lambda: self.takes(len(data.labels), data.num_classes, 0, 0), teaching)


class _Known:
    """Logits (N, K) of images; of mixed views, what has the mixture of the two labels as its softmax at the temperature."""

    def __init__(self, ask: Callable[[], Tensor], temperature: float):
        self.ask, self.temperature = ask, temperature

    @cached_property
    def logits(self) -> Tensor:
        with stage(ASKING):
            return self.ask()

    def __call__(self, seen: Seen) -> Tensor:
        own, tau = self.logits[seen.index], self.temperature
        if seen.partner is None:
            return own
        both = torch.stack([own, self.logits[seen.partner]]).div(tau).log_softmax(2)
        weights = torch.tensor([seen.share, 1 - seen.share]).log().view(2, 1, 1).to(both, non_blocking=True)
        return tau * (both + weights).logsumexp(0)


@dataclass(frozen=True)
class Fixed(Once):
    """One soft label for each image: the set's own, where they are soft; else a committee's, made once."""

    name = "fixed"

    def on(self, batches: Batches, seed: int, teaching: Teaching) -> Told:
        if batches.data.is_soft:
            return Own(twin=False).on(batches, seed, teaching)
        return super().on(batches, seed, teaching)
