"""Selection: a set of real images that a rule picks, class by class or among all."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from distill.checks import setting
from distill.data.split import Split
from distill.methods.base import Inputs, Settings
from distill.methods.picked import RealPixels
from distill.methods.selection.rules import Pool, Rule
from distill.sets.synthetic import SyntheticSet
from distill.training.recipe import TEACHERS


@dataclass(frozen=True, kw_only=True)
class SelectionSettings(Settings):
    """Of `Selection`.

    Attributes:
        rule: which images are picked.
        balanced: of every class as many as asked for; or as many in all, whatever their classes.
    """

    rule: Rule = setting(Rule)
    balanced: bool = setting("true or false")

    @property
    def pace(self) -> tuple[int, int, int]:
        """A step for every further variant of the rule, each a snapshot."""
        return len(self.rule.variants) - 1, 1, 1


class Selection(RealPixels):
    """Real images as they are, by one rule; the set of each of the rule's variants is a snapshot.

    Raises:
        ValueError: a class has fewer images than are asked for.
    """

    RANGES: ClassVar[Mapping[str, Any]] = {"proxies": ("absent", TEACHERS)}
    learns = False
    settings_type = SelectionSettings
    settings: SelectionSettings

    def __init__(self, inputs: Inputs, settings: SelectionSettings):
        super().__init__(inputs, settings)
        self.rule = type(settings.rule).__name__
        try:
            self.real.check_counts(self.counts)
        except ValueError as error:
            raise ValueError(f"{self.rule}: {error}") from None
        for index, count in self.pools:
            with self.told_of(index, count):
                settings.rule.check(len(index), count)

    @property
    def pools(self) -> list[tuple[Tensor, int]]:
        """Places in the split (n,), and how many of them are picked: class by class, or of all at once."""
        if self.settings.balanced:
            return [(self.real.of_class(cls).cpu(), count) for cls, count in enumerate(self.counts)]
        return [(torch.arange(len(self.real)), sum(self.counts))]

    @contextmanager
    def told_of(self, index: Tensor, count: int) -> Iterator[None]:
        """A rule's refusal, with what it was to pick of."""
        try:
            yield
        except ValueError as error:
            cls = int(self.real.labels[index[0]])
            own = f" of class {self.real.class_names[cls]!r}" if self.settings.balanced else ""
            raise ValueError(f"{self.rule} cannot pick {count} of {len(index)} images{own}: {error}") from None

    @property
    def real_each(self) -> int:
        return 0  # __init__ checks, and names the rule

    def initial_set(self) -> SyntheticSet:
        return self.by(self.settings.rule.variants[0])

    def by(self, rule: Rule) -> SyntheticSet:
        """The set that a rule picks, ordered by class, with the places of its images in its record."""
        labels = self.real.labels.cpu()
        picked = torch.cat([each.sort().values for each in self.ranks(rule)])
        index = picked[labels[picked].argsort(stable=True)]
        check_classes(self.rule, self.real, labels[index])
        return SyntheticSet.of_images(self.real, index.to(self.real.labels.device)).with_(
            record={"selected": index.tolist()}
        )

    def ranks(self, rule: Rule) -> list[Tensor]:
        """Of each pool the places in the split, in the order in which the rule picks them."""
        found = []
        for index, count in self.pools:
            with self.told_of(index, count):
                found.append(index[rule.pick(Pool(self.real, index, self.inputs.proxies, self.seed), count)])
        return found

    def check_choice(self, val: bool) -> None:
        if self.steps and not val:
            raise ValueError(
                f"{self.rule} has {self.steps + 1} variants to choose among on validation, this protocol chooses none: take "
                "protocol/choice=val, or state one variant (method.rule.cutoffs=[0.3])"
            )

    def learn(self, step: int) -> None:
        """Take the set of the next variant."""
        self.synset = self.by(self.settings.rule.variants[step + 1])


def check_classes(rule: str, real: Split, labels: Tensor) -> None:
    """Raise ValueError if a class has no image among those of ``labels`` (n,)."""
    empty = [name for cls, name in enumerate(real.class_names) if cls not in labels]
    if empty:
        raise ValueError(
            f"{rule} picks no image of class {empty[0]!r} among {len(labels)} of all classes: method.balanced=true picks of "
            "each, or ask for more"
        )
