"""RDED: which crops are kept, and where they lie in an image."""

import pytest
import torch

from distill.methods.decoupled.rded import RDED, composites
from distill.methods.synthesis import distill
from distill.sets.reading import load
from distill.teachers.committee import Committee


@pytest.mark.parametrize("factor", [1, 2])
def test_kept_crops_are_ranked_by_their_error_and_better_than_others(real, committee, factor):
    images, errors = composites(real.train, committee, (2, 1, 2), 0, 16, 5, factor)
    assert images.shape == (5, 3, 8, 8) and [len(each) for each in errors] == [count * factor**2 for count in (2, 1, 2)]
    assert all((each.diff() >= 0).all() for each in errors)
    _, single = composites(real.train, committee, (16 // factor**2,) * 3, 0, 16, 1, factor)
    assert torch.cat(errors).mean() < torch.cat(single).mean()


def test_a_tile_holds_the_crop_of_its_rank(real, monkeypatch):
    # Every crop is one colour that tells its place in the pool; the teacher likes the last ones best.
    places = torch.arange(16.0)
    monkeypatch.setattr(
        "distill.methods.decoupled.rded.resize_boxes",
        lambda own, boxes, size: places.view(-1, 1, 1, 1).expand(-1, 3, *size),
    )
    seen = {}

    class Teacher(torch.nn.Module):
        def forward(self, views):
            seen["border"] = views[:, :, 0].abs().max()
            return torch.stack([views[:, 0, 4, 4], torch.zeros(len(views)), torch.zeros(len(views))], 1)

    images, _ = composites(real.train, Committee(("toy",), (Teacher(),), (1.0,)), (2, 2, 2), 0, 16, 1, 2, {0: [0, 1]})
    assert images[0, 0, [0, 0, 7, 7], [0, 7, 0, 7]].tolist() == [15, 13, 11, 9]
    assert images[1, 0, [0, 0, 7, 7], [0, 7, 0, 7]].tolist() == [14, 12, 10, 8]
    assert seen["border"] == 0  # the mean colour around the crop


def test_one_class_a_step_and_the_same_set_for_a_seed(asked_on, tmp_path):
    one, two, other = (
        load(distill(asked_on(RDED, seed=seed), tmp_path / str(i), {}, [], "cpu", lambda *a: None))
        for i, seed in enumerate((0, 0, 1))
    )
    assert one.record["step"] == 3 and one.hash == two.hash != other.hash and one.eight_bit


def test_what_cannot_be_put_together_is_refused(asked_on):
    with pytest.raises(ValueError, match="method.factor is 3: images of 8x8 do not divide by it"):
        asked_on(RDED, factor=3)
    with pytest.raises(ValueError, match="method.steps is 4, a step is one of the 3 classes: leave it null"):
        asked_on(RDED, steps=4)
    with pytest.raises(ValueError, match="method.pool is 4, expected at least ipc x factor.2 = 8"):
        asked_on(RDED, pool=4, factor=2)
    with pytest.raises(
        ValueError, match="ipc is 5, expected at most 4 here: class 'c0' has 16 .* a synthetic one takes 4"
    ):
        asked_on(RDED, ipc=5, factor=2, pool=20)
