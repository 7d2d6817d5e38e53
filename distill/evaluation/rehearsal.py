"""What training would find impossible, tried on two empty images before anything is trained."""

import itertools
import math
from collections.abc import Iterable

import torch
from torch import nn

from distill.data.real import RealData
from distill.data.split import Split
from distill.evaluation.pretraining import Pretraining
from distill.evaluation.protocol import Protocol
from distill.teachers.committee import Committee, batch_norms
from distill.teachers.labels import Teaching
from distill.text import command
from distill.training.recipe import Recipe


def check_protocol(protocol: Protocol, real: RealData, images: int, snapshots: bool) -> Protocol:
    """``protocol`` as a set of so many images is judged under it.

    Args:
        snapshots: whether the set has several to choose from.

    Raises:
        ValueError: there is no validation split to choose on, or a combination of choices or sizes is impossible.
    """
    if (protocol.candidates or (snapshots and protocol.choice.val)) and not len(real.val):
        raise ValueError(
            f"protocol {protocol.name} makes choices on the validation split, which is empty: set data.val=0.1, or name "
            f"a protocol without choices (`{command()} task=list` shows them)"
        )
    protocol = protocol.sized(images, real.train.num_classes, len(real.train))
    for values in itertools.product(*protocol.candidates.values()):
        protocol.trained(**dict(zip(protocol.candidates, values, strict=True)))
    return protocol


def rehearse(net: nn.Module, recipe: Recipe, split: Split, images: int, name: str) -> None:
    """Raise ValueError if ``net`` could not be trained under ``recipe`` on so many images that are like the split's.

    Args:
        name: of the recipe, for the message.
    """
    empty = torch.zeros(2, *split.shape, device=split.labels.device)
    try:
        sound = bool(recipe.views.on(split)(empty, 0).isfinite().all())
    except (RuntimeError, IndexError, ZeroDivisionError):
        sound = False
    if not sound:
        raise ValueError(
            f"{name}.views make no views of {split.shape[1]}x{split.shape[2]} images ({recipe.views}): images of more pixels, "
            "or fewer strips (shuffle), may help"
        )
    part = math.ceil(recipe.batch / recipe.micro_batches)
    if recipe.passes(images) and any((size - 1) % part == 0 for size in batches(images, recipe.batch)):
        _check_one_image(net.to(empty.device), empty, f"{name}.batch={recipe.batch}, {images} images")


def rehearse_student(
    net: nn.Module, committee: Committee | None, protocol: Protocol, split: Split, images: int
) -> None:
    """Raise ValueError if ``net`` could not be trained on so many images under a protocol, by the teachers that it asks."""
    rehearse(net, protocol.recipe, split, images, "protocol.recipe")
    protocol.labels.learner(net, Teaching(committee))
    if committee is not None and protocol.labels.committee["mode"] == "batch":
        rehearse_labels(committee, protocol.recipe, split, images)


def rehearse_pretraining(net: nn.Module, pretraining: Pretraining, split: Split, images: int) -> None:
    """Raise ValueError if ``net`` could not be pre-trained on so many images that are like the split's."""
    for name, recipe in (("vectors", pretraining.vectors), ("classes", pretraining.classes)):
        rehearse(net, recipe, split, images, f"protocol.pretraining.{name}")


def check_shape(name: str, shape: tuple[int, ...], own: tuple[int, ...]) -> None:
    """Raise ValueError if images of the real set ``name``, which students are tuned on, are of another shape than a set's."""
    if shape != own:
        raise ValueError(
            f"images of {name}, which students are tuned on, are {shape}, those of the set {own}: onto.size={own[1]} makes "
            "squares of that side"
        )


def rehearse_labels(committee: Committee, recipe: Recipe, split: Split, images: int) -> None:
    """Raise ValueError if teachers that normalise with the batch at hand would be asked about a single image."""
    if any((size - 1) % math.ceil(size / recipe.micro_batches) == 0 for size in batches(images, recipe.batch)):
        empty = torch.zeros(2, *split.shape, device=split.labels.device)
        for net in committee.nets:
            _check_one_image(net.to(empty.device), empty, f"protocol.recipe.batch={recipe.batch}, {images} images")


def batches(images: int, batch: int) -> Iterable[int]:
    """Sizes of the batches of an epoch, each once: the full one, and the last one where that is smaller."""
    return sorted({min(batch, images), images % batch} - {0})


def _check_one_image(net: nn.Module, images: torch.Tensor, where: str) -> None:
    if not batch_norms(net):
        return
    training = net.training
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            net.train()(images[:1])
    except ValueError as error:
        raise ValueError(
            f"{type(net).__name__} has batch norm and would see a single image ({where}): {error}; take a batch that leaves "
            "at least 2"
        ) from None
    finally:
        net.train(training)
