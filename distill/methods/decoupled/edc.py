"""What EDC adds to recovery (Shao et al., NeurIPS 2024, arXiv:2404.13733): statistics of classes, moving averages, flatness."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distill.checks import setting
from distill.data.split import Split
from distill.methods.base import LoopSettings
from distill.methods.decoupled.moments import Moments, gathered_statistics

TOGETHER = 250  # real images that go through a teacher at once


@dataclass(frozen=True, kw_only=True)
class EDCSettings(LoopSettings):
    """Of these parts, any of which recovery may take.

    Attributes:
        class_share: 1 - alpha, of the distance to the statistics of the images' classes in the loss; the rest is that to the
            running ones. None is all of it.
        statistics_average: share of their moving average in the statistics' values; the gradient is that of the images at
            hand. None takes these.
        flatness: weight of the divergence from what the teacher says of the images' moving average; None asks nothing.
        flatness_average, flatness_temperature: share of that average in itself after a step, and tau of the divergence.
    """

    class_share: float | None = setting("null or [0, 1]")
    statistics_average: float | None = setting("null or [0, 1)")
    flatness: float | None = setting("null or [0, 1000000]")
    flatness_average: float | None = setting("null or [0, 1)")
    flatness_temperature: float | None = setting("null or (0, 1000000]")

    def check(self) -> None:
        if self.flatness is not None and None in (self.flatness_average, self.flatness_temperature):
            raise ValueError("method.flatness needs flatness_average and flatness_temperature, too")


@torch.no_grad()
def class_statistics(net: nn.Module, real: Split) -> Moments:
    """Mean and biased variance, (K, C), of every batch norm's input as all real images of each class go through ``net``.

    They are a function of the images and the network: a restart, or another process, finds the same.
    """
    classes = []
    for cls in range(real.num_classes):
        own = real.of_class(cls).split(TOGETHER)
        parts = []
        for some in own:
            with gathered_statistics(net, 1) as moments:
                net(real.images[some].contiguous(memory_format=torch.channels_last))
            parts.append(moments)
        classes.append({norm: merged([part[norm] for part in parts], [len(some) for some in own]) for norm in parts[0]})
    return {
        norm: (torch.cat([m[norm][0] for m in classes]), torch.cat([m[norm][1] for m in classes]))
        for norm in classes[0]
    }


def merged(moments: Sequence[tuple[Tensor, Tensor]], counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of parts together, of each part's (1, C) and its size.

    >>> zero, six = (torch.tensor([[0.0]]), torch.tensor([[1.0]])), (torch.tensor([[6.0]]), torch.tensor([[1.0]]))
    >>> merged([zero, six], [1, 2])  # of all three: 4, and 1 within the parts and 8 between them
    (tensor([[4.]]), tensor([[9.]]))
    """
    means, variances = (torch.cat(each) for each in zip(*moments, strict=True))
    shares = torch.tensor(counts).to(means)[:, None] / sum(counts)
    mean = (shares * means).sum(0, keepdim=True)
    return mean, (shares * (variances + (means - mean).square())).sum(0, keepdim=True)


def of_batches(statistics: Moments, labels: Tensor) -> Moments:
    """What batches with these labels (groups, B) should have, (groups, C): the mean over them of their classes' statistics."""
    return {norm: (mean[labels].mean(1), variance[labels].mean(1)) for norm, (mean, variance) in statistics.items()}


class Averages:
    """Moving averages by name, which only steps that are taken move.

    Attributes:
        kept: the averages; NaN where there is none yet.
    """

    def __init__(self, kept: Mapping[str, Tensor]):
        self.kept, self.coming = dict(kept), dict[str, Tensor]()

    def of(self, name: str, value: Tensor, share: float) -> Tensor:
        """``share`` of the average so far and the rest of ``value``; the first average is its value."""
        now, before = value.detach(), self.before(name, value)
        self.coming[name] = torch.where(before.isnan(), now, share * before + (1 - share) * now)
        return self.coming[name]

    def before(self, name: str, like: Tensor) -> Tensor:
        return self.kept[name] if name in self.kept else torch.full_like(like, torch.nan, requires_grad=False)

    def take(self, skipped: Tensor) -> None:
        """End a step: averages are what it made of them, or, where it is skipped, what they were."""
        for name, value in self.coming.items():
            self.kept[name] = torch.where(skipped, self.before(name, value), value)
        self.coming = {}


def straight_through(value: Tensor, average: Tensor) -> Tensor:
    """``average``, with the gradient of ``value``.

    >>> value = torch.tensor(2.0, requires_grad=True)
    >>> found = straight_through(value, torch.tensor(5.0)).square()
    >>> found.item(), torch.autograd.grad(found, value)[0].item()
    (25.0, 10.0)
    """
    return value + (average - value).detach()


def smoothed(moments: Moments, averages: Averages, share: float, teacher: int) -> Moments:
    """Moments whose values are moving averages and whose gradients are those of the batch."""
    found: Moments = {}
    for place, (norm, (mean, variance)) in enumerate(moments.items()):
        name = f"{teacher}.{place}"
        found[norm] = (
            straight_through(mean, averages.of(f"{name}.mean", mean, share)),
            straight_through(variance, averages.of(f"{name}.variance", variance, share)),
        )
    return found
