"""What is impossible is told before anything is trained, and found by the function that would find it later."""

import pytest
import torch
from conftest import composed, make_recipe
from hydra.utils import instantiate

from distill.evaluation.rehearsal import check_protocol, rehearse, rehearse_labels
from distill.networks.resnet import ResNet
from distill.teachers.committee import Committee
from distill.training.loop import train
from distill.training.protocol import Protocol


def preset(name, **changes) -> Protocol:
    return instantiate(composed(f"protocol={name}", "data=cifar10").protocol).with_(**changes)


@pytest.mark.parametrize("name, changes", [("ours", {}), ("ours", {"iterate": "last"}), ("mtt", {"iterate": "val"})])
def test_choices_need_a_validation_split(real, name, changes):
    empty = real.__class__(
        **{**vars(real), "val": real.val.__class__(**{**vars(real.val), "labels": real.val.labels[:0]})}
    )
    protocol = preset(name, **changes)
    assert check_protocol(protocol, real, 3, snapshots=True) == protocol
    with pytest.raises(ValueError, match="makes choices on the validation split, which is empty: set data.val=0.1"):
        check_protocol(protocol, empty, 3, snapshots=True)


def test_a_combination_of_choices_that_no_protocol_can_have_is_found(real):
    possible = preset("sre2l-in", choices={"micro_batches": [1, 2], "batch": [2, 4]})
    check_protocol(possible, real, 3, snapshots=False)
    with pytest.raises(ValueError, match="micro_batches is 3, expected at most the batch of 2"):
        check_protocol(possible.with_(choices={"micro_batches": [1, 3], "batch": [2, 4]}), real, 3, snapshots=False)
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
    rehearse(deep("group"), recipe, real.train, images)
    net, x = deep("batch"), real.train.images[:images]

    def trained():
        train([net], x, real.train.labels[:images], recipe, seeds=[0], augment=lambda images, draw: images)

    if not alone:
        rehearse(net, recipe, real.train, images)
        trained()
        return
    with pytest.raises(ValueError, match="ResNet has batch norm and would see a single image"):
        rehearse(net, recipe, real.train, images)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        trained()


def test_teachers_in_batch_mode_are_not_asked_about_a_single_image(real):
    committee = Committee(("deep",), (deep("batch"),), (50.0,))
    protocol = preset("cvdd", batch=4)  # in two parts
    for images, alone in ((8, False), (6, True), (5, True), (7, True)):  # last batches of 4, 2, 1 and 3
        sized = protocol.sized(images, 3)
        views = real.train.images[: images % 4 or 4]
        if alone:
            with pytest.raises(ValueError, match="would see a single image"):
                rehearse_labels(committee, sized, real.train, images)
            with pytest.raises(ValueError, match="more than 1 value per channel"):
                committee.logits(views, 1.0, "batch", sized.parts)
        else:
            rehearse_labels(committee, sized, real.train, images)
            committee.logits(views, 1.0, "batch", sized.parts)


def test_more_strips_than_pixels_are_refused(real, student):
    for shuffle in (1, 3, 8):
        rehearse(student(), preset("rth-hard", shuffle=shuffle), real.train, 9)
    with pytest.raises(ValueError, match="protocol.augment=resized_crop makes no views of 8x8 images"):
        rehearse(student(), preset("rth-hard", shuffle=9), real.train, 9)
