"""What a run says that it will cost, and the scale that makes it small."""

import re
from dataclasses import replace

import pytest
from conftest import composed, make_recipe, write_npz
from omegaconf import OmegaConf
from test_line import LEARN, line, toy  # noqa: F401

from distill.methods.matching.dm import DistributionMatching
from distill.methods.matching.gradient import GradientMatching
from distill.methods.matching.trajectory import TrajectoryMatching
from distill.runs.ahead import Work


def test_a_run_without_an_overlay_says_its_cost_before_anything_is_trained(line, tmp_path):  # noqa: F811
    write_npz(tmp_path / "mine.npz")
    arguments = [item for item in toy("mtt") if not item.startswith("data=")]
    mine = [*arguments, "task=experts", "data=npz", "data.path=mine.npz", "method.experts.recipe.epochs=22"]
    code, _, said = line(*mine)
    assert code == 0, said
    (cost,) = re.findall("the papers' sizes on .*", said)
    assert cost.startswith("the papers' sizes on 54 images: 2 experts of 22 epochs (2,376 images): about ")
    assert "scale=small" in cost and "GB of memory" in cost and "GB on disk" in cost
    assert said.index(cost) < said.index("training experts")
    code, _, said = line(*mine, "method.experts.count=3")
    assert code == 0 and "54 images: 1 experts of 22 epochs (1,188 images): about" in said  # what is left
    code, _, said = line(*mine)
    assert code == 0 and "the papers' sizes" not in said
    code, _, said = line(*mine, "scale=small", "out=small")
    assert code == 0 and "the papers' sizes" not in said


def test_the_cost_counts_each_teacher_once_and_the_outer_steps(line, tmp_path):  # noqa: F811
    write_npz(tmp_path / "mine.npz")
    mine = [item for item in toy("sre2l") if not item.startswith("data=")]
    code, _, said = line(*mine, "data=npz", "data.path=mine.npz")  # the protocol asks the method's teachers
    assert code == 0, said
    assert (
        "on 54 images: 2 teachers convnet of 2 epochs (216 images), 4 outer steps of 1 set of 3 images by sre2l" in said
    )
    assert "(24 images): about" in said


@pytest.mark.parametrize("recipe", [make_recipe(), None], ids=["a recipe's", "plainly"])
def test_a_step_is_timed_and_times_the_images_that_are_left(recipe, student, real):
    work = Work("", 1, 1.0, 8, student, recipe)
    assert 0 < work.seconds(real.train) < 1
    assert replace(work, images=1e6).seconds(real.train) > 1e3 * work.seconds(real.train)
    assert replace(work, images=0.0).seconds(real.train) == 0


def test_the_work_of_an_outer_step_follows_from_its_loops(method_on, matching_on):
    # 3 classes of 2 images each, 3 student steps of 4 images; 8 real images of each class.
    assert method_on(TrajectoryMatching).images_a_step() == 3 * 3 * 4
    assert matching_on(DistributionMatching).images_a_step() == 3 * 8 / 3 + 6
    assert matching_on(GradientMatching).images_a_step() == 3 * 8 + 3 * 6 + 6 * 1 / 2  # T = 2, Z = 1


@pytest.mark.parametrize("method", LEARN)
def test_small_is_smaller_for_every_method_and_published_changes_nothing(method):
    data = [f"method={method}", "data=npz", "data.path=x"]
    small, published = composed(*data, "scale=small"), composed(*data)
    assert composed(*data, "scale=published") == published
    assert small.student.convnet.width < published.student.convnet.width
    smaller = ("steps", "networks", "iterations", "pool", "pool.steps")  # a pool of images, or of bodies
    counts = [(OmegaConf.select(small.method, name), OmegaConf.select(published.method, name)) for name in smaller]
    counts = [(s, p) for s, p in counts if isinstance(s, int) and isinstance(p, int)]
    assert all(s <= p for s, p in counts) and any(s != p for s, p in counts)
    if "max_start_epoch" in small.method:
        recipe = small.method.experts.recipe
        assert small.method.max_start_epoch + small.method.expert_epochs - 1 <= recipe.epochs
