"""How many images a class gets: by class, as many as there are, or more than there are where none of them is needed."""

import doctest
import json
import re

import numpy as np
import pytest
import torch
from test_line import line, succeeds, toy  # noqa: F401  # a fixture

from distill import sizes
from distill.methods.decoupled.rded import RDED
from distill.methods.decoupled.recovery import Recovery
from distill.methods.decoupled.units import stacks_of
from distill.methods.matching.ast import AST
from distill.methods.matching.datm import DATM
from distill.methods.matching.dm import DistributionMatching
from distill.methods.matching.gradient import GradientMatching
from distill.methods.matching.trajectory import TrajectoryMatching
from distill.methods.synthesis import distill
from distill.sets.looks import grid
from distill.sets.reading import load
from distill.sets.synthetic import SyntheticSet
from distill.sizes import check_size, counts, shares, short

BY_CLASS = {"c0": 3, "c1": 1, "c2": 2}


@pytest.mark.parametrize(
    "size, expected",
    [(4, (4, 4, 4)), ("upto5", (2, 5, 5)), ({"b": 7, "a": 1, "c": 2}, (1, 7, 2)), ("upto1", (1, 1, 1))],
)
def test_a_size_is_a_number_for_each_class(size, expected):
    assert counts(size, ["a", "b", "c"], [2, 9, 5]) == expected


@pytest.mark.parametrize(
    "size", [0, -1, 1.5, True, None, "ten", "upto0", "upto", "0%", "101%", "%", {}, {"a": 0}, {"a": "1"}, [1]]
)
def test_what_is_no_size_is_refused(size):
    with pytest.raises(
        ValueError, match=rf"ipc is {re.escape(repr(size))}, expected a whole number in .1, 1000000.; upto50"
    ):
        check_size(size)


def test_every_class_is_given_a_number_and_no_stranger_is():
    with pytest.raises(ValueError, match="ipc has no number for b: give one for each of a, b"):
        counts({"a": 1}, ["a", "b"], [5, 5])
    with pytest.raises(ValueError, match="ipc has a number for unknown d"):
        counts({"a": 1, "b": 1, "d": 1}, ["a", "b"], [5, 5])
    assert counts({1: 2, 0: 3}, ["0", "1"], [5, 5]) == (3, 2)  # names as YAML reads them


def test_a_files_name_tells_sizes_apart():
    named = [short(size) for size in (10, "upto10", {"a": 1, "b": 5}, {"a": 5, "b": 1}, "10%", "1.0%")]
    assert named[:2] == ["10", "upto10"] and named[2].startswith("1-5-") and len(set(named)) == 6
    assert named[4:] == ["10percent", "1.0percent"]  # a file's name needs no quotes


@pytest.mark.parametrize("share", ["0.7%", "1%", "12.5%", "33.3%", "50%", "99.9%", "100%"])
def test_a_share_of_every_class_is_the_share_of_all_to_the_image(share):
    available = [173, 150, 997, 400, 312]
    given = counts(share, list("abcde"), available)
    assert sum(given) == round(float(share[:-1]) / 100 * sum(available))
    quotas = [sum(given) * each / sum(available) for each in available]
    assert all(abs(count - quota) < 1 for count, quota in zip(given, quotas, strict=True))


def test_what_whole_parts_leave_goes_to_the_largest_remainders_and_of_equal_ones_to_the_first():
    assert shares(10, [14, 35, 51]) == (1, 4, 5)  # 1.4, 3.5, 5.1
    assert shares(7, [10, 10, 10]) == (3, 2, 2) and shares(8, [10, 10, 10]) == (3, 3, 2)
    assert shares(0, [3, 4]) == (0, 0) and shares(7, [3, 4]) == (3, 4)
    assert counts("29%", ["a"], [100]) == (29,)  # .29 times 100 is 28.999999999999996
    with pytest.raises(ValueError, match="8 images asked of 2 classes, expected at most the 7 that they have"):
        shares(8, [3, 4])


def test_the_examples_are_true():
    found = doctest.testmod(sizes)
    assert found.failed == 0 < found.attempted


def test_a_share_that_gives_a_class_nothing_names_it():
    with pytest.raises(
        ValueError, match=r"ipc is '1%', which gives no image of rare .*the smallest class has 3.*ipc=1"
    ):
        counts("1%", ["rare", "common"], [3, 1000])


@pytest.mark.parametrize("method", [TrajectoryMatching, DATM, AST])
def test_trajectories_are_matched_with_any_number_of_images_a_class(method_on, method):
    made = method_on(method, ipc=BY_CLASS, batch_syn=None)
    assert made.synset.counts == (3, 1, 2) and made.synset.ipc == 2.0
    assert made.update(0).isfinite()


def test_composites_and_recovered_images_come_in_any_number(asked_on, tmp_path):
    for name, method in (("rded", asked_on(RDED, ipc=BY_CLASS)), ("cda", asked_on(Recovery, ipc=BY_CLASS))):
        made = load(distill(method, tmp_path / name, {}, [], "cpu", lambda *a: None))
        assert made.counts == (3, 1, 2) and made.record["ipc"] == 2.0
    start = asked_on(Recovery, ipc=BY_CLASS)
    start.begin()
    assert not torch.isclose(made.images, start.synset.images).flatten(1).all(1).any()  # every image was learned


def test_an_image_of_a_class_is_the_same_however_many_the_others_have(asked_on):
    even, uneven = (asked_on(Recovery, ipc=size) for size in (2, {"c0": 2, "c1": 2, "c2": 4}))
    for method in (even, uneven):
        method.begin()
    assert torch.equal(even.synset.images, uneven.synset.images[:6])  # the noise they start from
    assert even.stacks[0] == uneven.stacks[0][:2]  # and what they are recovered with


def test_every_image_is_in_one_unit_and_a_stack_holds_units_of_one_kind(committee):
    stacks = stacks_of((3, 1, 2, 3), committee, "all", 0, 2, 2)
    images = [(cls, unit.ipc_index) for stack in stacks for unit in stack for cls in unit.classes]
    assert sorted(images) == [(cls, index) for cls, count in enumerate((3, 1, 2, 3)) for index in range(count)]
    assert all(len({len(unit.classes) for unit in stack}) == 1 and len(stack) <= 2 for stack in stacks)


def test_processes_share_classes_of_any_sizes(asked_on):
    shares = [asked_on(Recovery, ipc=BY_CLASS, share=(rank, 2), together=1).made() for rank in (0, 1)]
    assert all(len(share) for share in shares) and sorted(torch.cat(shares).tolist()) == list(range(6))


@pytest.mark.parametrize("method", [Recovery, GradientMatching, DistributionMatching])
def test_from_noise_a_class_may_get_more_images_than_it_has(asked_on, matching_on, method):
    build = asked_on if method is Recovery else matching_on
    loops = {"loops": {17: (1, 1)}} if method is GradientMatching else {}
    made = build(method, ipc=17, init="noise", **loops)
    made.begin()
    assert made.synset.counts == (17, 17, 17)
    with pytest.raises(ValueError, match="ipc is 17, expected at most 16 here.*ipc=upto17 takes what there is"):
        build(method, ipc=17, init="real", **loops)


def trained(method):
    """The images and the losses of three steps."""
    optimizer, losses = method.configure_optimizers(), []
    for step in range(3):
        optimizer.zero_grad()
        losses.append(method.update(step))
        losses[-1].backward()
        optimizer.step()
    return method.synset.images.detach(), torch.stack(losses).detach()


MATCHINGS = [
    (GradientMatching, {"loops": {2: (2, 1), 3: (2, 1)}}),
    (GradientMatching, {"loops": {2: (2, 1), 3: (2, 1)}, "collective": True, "init": "noise"}),  # with a warm-up
    (DistributionMatching, {}),
]  # fmt: skip


@pytest.mark.parametrize("method, own", MATCHINGS)
def test_equal_numbers_by_class_are_the_one_number_to_the_bit(matching_on, method, own):
    plain, named = (trained(matching_on(method, ipc=size, **own)) for size in (2, {"c0": 2, "c1": 2, "c2": 2}))
    assert torch.equal(plain[0], named[0]) and torch.equal(plain[1], named[1])


@pytest.mark.parametrize("method, own", MATCHINGS)
def test_gradients_and_features_are_matched_with_any_number_of_images_a_class(matching_on, method, own):
    made = matching_on(method, ipc=BY_CLASS, **own)
    start = made.synset.images.detach().clone()
    images, losses = trained(made)
    assert made.synset.counts == (3, 1, 2) and losses.isfinite().all()
    assert (images != start).flatten(1).any(1).all()  # every image is learned


def test_where_unequal_classes_are_not_compiled_it_is_said(matching_on):
    made = matching_on(GradientMatching, ipc=BY_CLASS, loops={3: (2, 1)}, compile=True)
    assert made.notes == ["ipc is 1-3: the matching of unequal classes goes without torch.compile"]
    assert matching_on(GradientMatching, compile=True).notes == []


def test_a_picture_shows_a_row_for_each_class(real):
    synset = SyntheticSet.from_real(real.train, BY_CLASS, torch.Generator().manual_seed(0))
    picture = grid(synset.pixels, synset.classes)
    assert picture.shape == (3, 3 * 34 + 2, 3 * 34 + 2)
    shown = [picture[:, 34 * i + 2 : 34 * i + 34, 34 * j + 2 : 34 * j + 34] for i in range(3) for j in range(3)]
    assert [bool((each == 1).all()) for each in shown] == [False, False, False, False, True, True, False, False, True]


def test_a_picture_of_an_image_a_class_has_ten_in_a_row():
    shade = torch.arange(12)[:, None, None, None] / 20
    picture = grid(shade.expand(-1, 1, 32, 32), torch.arange(12))
    assert picture.shape == (3, 2 * 34 + 2, 10 * 34 + 2)
    shown = [picture[0, 34 * (cls // 10) + 9, 34 * (cls % 10) + 9] for cls in range(12)]
    assert torch.equal(torch.stack(shown), shade.flatten())


def test_a_long_tailed_set_goes_the_whole_line(line, tmp_path):  # noqa: F811
    labels = np.repeat([0, 1, 2], [2, 9, 4])
    images = np.random.default_rng(0).integers(0, 256, (15, 8, 8, 1), dtype=np.uint8)
    names = ["rare", "common", "some"]
    np.savez(tmp_path / "tail.npz", x_train=images, y_train=labels, x_test=images, y_test=labels, class_names=names)
    shared = ["data.path=tail.npz", "data.val=0", "protocol=dsa", "protocol.students=1", "draws=1"]
    own = {"data=digits": "data=npz", "ipc=1": "ipc=[upto3,{rare: 5, common: 1, some: 2}]"}
    settings = [own.get(item, item) for item in toy("cda", "method.iterations=1", *shared) if item != "method.steps=4"]
    succeeds(line(*settings))
    rows = json.loads((tmp_path / "outputs" / "report.json").read_text())["rows"]
    assert [(row["method"], row["ipc"], row["ipc_range"]) for row in rows] == [
        ("cda", 8 / 3, "2-3"), ("random real", 8 / 3, "2-3"), ("cda", 8 / 3, "1-5"), ("random real", 5 / 3, "1-2")
    ]  # fmt: skip
    succeeds(line(*["data=npz" if item == "data=digits" else item for item in toy("dm", *shared, "ipc=upto3")]))
    rows = json.loads((tmp_path / "outputs" / "report.json").read_text())["rows"]
    assert [(row["ipc"], row["ipc_range"]) for row in rows if row["method"] == "dm"] == [(8 / 3, "2-3")]
    made = sorted(folder.name for folder in (tmp_path / "outputs").glob("npz-cda-*"))
    assert len(made) == 2 and made[0].startswith("npz-cda-ipc1-5-") and made[1] == "npz-cda-ipcupto3-seed0"
