"""What a network classifies correctly."""

from functools import partial

import torch
from torch import nn

from distill.autotune import fuse
from distill.data.split import Split
from distill.networks.base import stateless
from distill.networks.flat import FlatStudent, flatten
from distill.training.gradients import COMPILED
from distill.training.recipe import Recipe


@torch.no_grad()
def hits(net: nn.Module, split: Split, recipe: Recipe, compiled: bool = False, batch: int = 250) -> list[int]:
    """Images of each of K classes that are classified correctly at the recipe's precision; ``net`` stays in evaluation mode.

    With ``compiled``, whole batches of a network without state go through torch.compile.
    """
    net.eval()
    plain = whole = partial(recipe.logits, net)
    if compiled and stateless(net):
        flat, key = FlatStudent(net), ("logits", repr(net), recipe.precision)
        own = fuse(lambda theta, x: recipe.logits(partial(flat, theta), x))
        whole = partial(COMPILED.setdefault(key, own), flatten(net))
    correct = torch.zeros(split.num_classes, dtype=torch.long, device=split.labels.device)
    for images, labels in zip(split.images.split(batch), split.labels.split(batch), strict=True):
        logits = (whole if len(images) == batch else plain)(images)
        correct.index_add_(0, labels, (logits.argmax(1) == labels).long())
    return correct.tolist()


def accuracy(net: nn.Module, split: Split, recipe: Recipe) -> float:
    """Fraction of ``split`` classified correctly, in [0, 1]; see `hits`."""
    return sum(hits(net, split, recipe)) / len(split)
