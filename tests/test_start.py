"""Where a set starts that matching learns: at the images of another one, as many as each of its own is made of."""

import re

import pytest
import torch
from test_line import line, succeeds, toy  # noqa: F401  # a fixture

import distill
from distill.data.preprocessing import normalised
from distill.methods.matching.dm import DistributionMatching
from distill.methods.matching.idc import IDC
from distill.sets.formation import tiled
from distill.sets.synthetic import SyntheticSet


@pytest.fixture
def picked(real, tmp_path):
    """The path of a set of four images of each class, whose space is another one, and their pixels, class by class."""
    places = torch.cat([real.train.of_class(cls)[4:8] for cls in range(3)])
    pixels, space = real.train.preprocessing.inverse(real.train.images[places]), normalised([0.1] * 3, [2.0] * 3)
    own = SyntheticSet.of_images(real.train, places).with_(images=space(pixels), preprocessing=space)
    own.save(tmp_path / "picked.safetensors")
    return str(tmp_path / "picked.safetensors"), pixels


def test_a_set_starts_at_the_first_images_of_each_class_of_another(matching_on, real, picked):
    path, pixels = picked
    method = matching_on(DistributionMatching, init=path, ipc={"c0": 1, "c1": 4, "c2": 2})
    asked = pixels[[0, *range(4, 8), 8, 9]]
    assert torch.allclose(method.synset.images, real.train.preprocessing(asked), atol=1e-5)
    assert method.synset.preprocessing == real.train.preprocessing and method.synset.counts == (1, 4, 2)


def test_images_that_hold_several_start_at_as_many_of_the_other_sets(matching_on, real, picked):
    path, pixels = picked
    method = matching_on(IDC, init=path, ipc=1, factors=[2])
    assert torch.allclose(method.pixels, tiled(pixels, 2).clamp(0, 1), atol=1e-5)
    with pytest.raises(ValueError, match=re.escape("ipc is 8, but class 'c0' of the set has 4 images")):
        matching_on(IDC, init=path, ipc=2, factors=[2])


def test_what_is_no_start_is_told_before_anything_is_trained(matching_on, picked, tmp_path):
    with pytest.raises(ValueError, match="method.init is nois, expected one of real, noise, or the path of a set"):
        matching_on(DistributionMatching, init="nois")
    path = tmp_path / "others.safetensors"
    distill.load(picked[0]).with_(class_names=("x", "y", "z")).save(path)
    with pytest.raises(
        ValueError, match="others.safetensors, a set of .*, expected one of the run's classes and shape"
    ):
        matching_on(DistributionMatching, init=str(path))


def test_a_set_is_known_by_what_its_start_holds_not_by_where_it_lies(line, tmp_path):  # noqa: F811
    succeeds(line("data=digits", "method=random", "ipc=1", "task=distill", "out=picked"))
    (picked,) = tmp_path.glob("picked/*/synset.safetensors")
    succeeds(line(*toy("dm", "task=distill", f"method.init={picked}")))
    (made,) = tmp_path.glob("outputs/digits-dm-*/synset.safetensors")
    moved, before = picked.rename(tmp_path / "moved.safetensors"), made.stat().st_mtime_ns
    succeeds(line(*toy("dm", "task=distill", f"method.init={moved}")))
    assert made.stat().st_mtime_ns == before

    synset = distill.load(moved)
    synset.with_(images=synset.images.flip(0)).save(moved)
    code, _, message = line(*toy("dm", "task=distill", f"method.init={moved}"))
    assert code == 1 and "belongs to another configuration: method.init was" in message
    assert made.stat().st_mtime_ns == before
