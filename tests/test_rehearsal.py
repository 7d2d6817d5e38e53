"""What is impossible is told before anything is trained, and found by the function that would find it later."""

from dataclasses import replace

import pytest
import torch
from conftest import batches_of, make_recipe, preset

from distill.evaluation.protocol import Last, OnVal
from distill.evaluation.rehearsal import check_protocol, rehearse, rehearse_labels
from distill.networks.resnet import ResNet
from distill.sets.coreset import Coreset
from distill.teachers.committee import Committee
from distill.training.loop import train


@pytest.mark.parametrize("name, changes", [("ours", {}), ("ours", {"choice": Last()}), ("mtt", {"choice": OnVal()})])
def test_choices_need_a_validation_split(real, name, changes):
    empty = real.__class__(
        **{**vars(real), "val": real.val.__class__(**{**vars(real.val), "labels": real.val.labels[:0]})}
    )
    protocol = preset(name, **changes)
    assert check_protocol(protocol, real, 3, snapshots=True) == protocol.trained(batch=3)
    with pytest.raises(ValueError, match="makes choices on the validation split, which is empty: set data.val=0.1"):
        check_protocol(protocol, empty, 3, snapshots=True)


def test_a_combination_of_choices_that_no_protocol_can_have_is_found(real):
    possible = preset("sre2l-in", candidates={"micro_batches": [1, 2], "batch": [2, 4]})
    check_protocol(possible, real, 3, snapshots=False)
    with pytest.raises(ValueError, match="micro_batches is 3, expected at most the batch of 2"):
        check_protocol(possible.with_(candidates={"micro_batches": [1, 3], "batch": [2, 4]}), real, 3, snapshots=False)
    with pytest.raises(ValueError, match="micro_batches is 8, expected at most the batch of 3"):  # three images
        check_protocol(preset("sre2l-in", micro_batches=8), real, 3, snapshots=False)


def deep(norm):
    """A network whose last maps are one pixel."""
    torch.manual_seed(0)
    return ResNet((3, 8, 8), 3, depth=18, norm=norm)


@pytest.mark.parametrize(
    "images, batch, alone", [(9, 4, True), (8, 4, False), (3, 1, True), (1, 4, True), (5, 8, False)]
)
def test_a_single_image_under_batch_norm_is_refused_exactly_where_training_would_break(real, images, batch, alone):
    recipe = make_recipe(epochs=1, batch=batch)
    rehearse(deep("group"), recipe, real.train, images, "recipe")
    net, data = deep("batch"), Coreset(real.train, torch.arange(images))

    def trained():
        train([net], replace(batches_of(real.train, recipe), data=data), seeds=[0])

    if not alone:
        rehearse(net, recipe, real.train, images, "recipe")
        trained()
        return
    with pytest.raises(ValueError, match="ResNet has batch norm and would see a single image"):
        rehearse(net, recipe, real.train, images, "recipe")
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        trained()


def test_teachers_in_batch_mode_are_not_asked_about_a_single_image(real):
    committee = Committee(("deep",), (deep("batch"),), (50.0,))
    protocol = preset("cvdd", batch=4)  # in two parts
    for images, alone in ((8, False), (6, True), (5, True), (7, True)):  # last batches of 4, 2, 1 and 3
        sized = protocol.sized(images, 3, 48).recipe
        views = real.train.images[: images % 4 or 4]
        if alone:
            with pytest.raises(ValueError, match="would see a single image"):
                rehearse_labels(committee, sized, real.train, images)
            with pytest.raises(ValueError, match="more than 1 value per channel"):
                committee.logits(views, 1.0, "batch", sized.micro_batches)
        else:
            rehearse_labels(committee, sized, real.train, images)
            committee.logits(views, 1.0, "batch", sized.micro_batches)


def test_more_strips_than_pixels_are_refused(real, student):
    for shuffle in (1, 3, 8):
        rehearse(student(), preset("rth-hard", shuffle=shuffle).recipe, real.train, 9, "protocol.recipe")
    with pytest.raises(ValueError, match=r"protocol.recipe.views make no views of 8x8 images \(Cropped"):
        rehearse(student(), preset("rth-hard", shuffle=9).recipe, real.train, 9, "protocol.recipe")
