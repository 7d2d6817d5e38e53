"""Sets of disjoint classes of one real set are judged as one set of them all."""

import json

import pytest
import torch
from conftest import load_npz, write_npz
from test_line import line, succeeds  # noqa: F401  # a fixture

from distill.data.preprocessing import Preprocessing
from distill.sets.synthetic import SyntheticSet
from distill.sets.union import united

NAMES = ("c0", "c1", "c2", "c3")


@pytest.fixture
def part(tmp_path):
    """Makes a set of some classes: ``part(["c2", "c0"], seed=1)``."""
    path = write_npz(tmp_path / "four.npz", classes=4)

    def make(classes, ipc=2, seed=0):
        real = load_npz(path, classes=classes, val=0, mean=[0.5] * 3, std=[0.2] * 3).train
        synset = SyntheticSet.from_real(real, ipc, torch.Generator().manual_seed(seed))
        return synset.with_(record={"method": "dm", "seed": seed, "step": 3, "steps": 4})

    return make


def test_images_keep_their_classes_in_the_order_of_the_data(part):
    first, second = part(["c2", "c0"]), part(["c3", "c1"], ipc={"c3": 1, "c1": 3})
    whole = united([first, second], NAMES)
    assert whole.class_names == NAMES and whole.counts == (2, 3, 2, 1)
    assert whole.classes.tolist() == sorted(whole.classes.tolist()) and torch.equal(whole.labels, whole.classes)
    for synset in (first, second):
        for image, cls in zip(synset.images, synset.classes.tolist(), strict=True):
            (place,) = (whole.images == image).flatten(1).all(1).nonzero()[:, 0].tolist()
            assert whole.class_names[int(whole.classes[place])] == synset.class_names[cls]
    assert (whole.record["method"], whole.record["step"], whole.record["steps"]) == ("union of dm", 6, 8)
    assert whole.record["parts"] == [first.hash, second.hash] and whole.record["seed"] == 0


def test_soft_labels_say_nothing_of_the_other_parts_classes(part):
    first, second = part(["c2", "c0"]), part(["c3", "c1"])
    soft = [
        synset.with_(labels=torch.randn(4, 2), label_kind="logits", lr=torch.tensor(0.02)) for synset in (first, second)
    ]
    whole = united(soft, NAMES)
    assert whole.label_kind == "probabilities" and whole.lr is None
    assert torch.allclose(whole.labels.sum(1), torch.ones(8))
    (own,) = (whole.images == soft[0].images[0]).flatten(1).all(1).nonzero()[:, 0]
    assert torch.allclose(whole.labels[own][[2, 0]], soft[0].targets[0]) and whole.labels[own][[1, 3]].tolist() == [
        0,
        0,
    ]


def test_what_is_no_union_is_refused(part):
    first, second = part(["c0", "c1"]), part(["c2", "c3"])
    soft = second.with_(labels=torch.randn(4, 2), label_kind="logits")
    raw = second.with_(images=torch.rand_like(second.images), preprocessing=Preprocessing("pixel01"))
    for parts, message in [
        ([first], "union is a list of 1, expected two sets of different classes or more"),
        ([first, part(["c1", "c2"])], "more than one part of the union has class c1"),
        ([first, soft], "a union is with labels that are hard, logits: expected one"),
        ([first, raw], "a union is in space normalised:.*, pixel01:.*: expected one"),
        (
            [each.with_(labels=torch.zeros(4, 7), label_kind="vectors") for each in (first, second)],
            "the parts have vectors",
        ),
        ([first, second.with_(data="other")], "a union is of the data toy, other: expected one"),
        ([first, part(["c2", "c3"]).with_(images=torch.zeros(4, 3, 4, 4))], "a union is of images 3x8x8, 3x4x4"),
    ]:
        with pytest.raises(ValueError, match=message):
            united(parts, NAMES)
    with pytest.raises(
        ValueError, match=r"the union has no images of c4: name its classes with data.classes=\[c0,c1,c2,c3\]"
    ):
        united([first, second], (*NAMES, "c4"))
    with pytest.raises(ValueError, match="the union has images of c3, which the data leave out"):
        united([first, second], NAMES[:3])


def test_a_union_goes_the_whole_line(line, tmp_path):  # noqa: F811
    write_npz(tmp_path / "four.npz", classes=4)
    shared = ["data.path=four.npz", "student.convnet.width=6", "data.val=0", "protocol=dsa", "protocol.recipe.epochs=1"]
    one = ["protocol.students=1", "baselines=[]", "device=cpu", "method.steps=1", "method.batch_real=4"]
    for classes in ("c2,c0", "c3,c1"):
        made = ["data=npz", "method=dm", "ipc=1", f"data.classes=[{classes}]", f"out={classes[:2]}", "task=distill"]
        succeeds(line(*made, *shared, *one))
    sets = "union=[c2/npz-dm-ipc1-seed0,c3/npz-dm-ipc1-seed0]"
    code, _, message = line("task=evaluate", sets, *shared, *one, "data.classes=[c0,c1,c2]")
    assert code and "the union has images of c3, which the data leave out" in message
    succeeds(line("task=evaluate", sets, *shared, "protocol.students=1", "draws=1", "device=cpu"))
    rows = json.loads((tmp_path / "outputs" / "report.json").read_text())["rows"]
    assert [(row["method"], row["ipc"], row["data"]) for row in rows] == [
        ("union of dm", 1, "npz"), ("random real", 1, "npz")
    ]  # fmt: skip
    assert rows[0]["synsets"] == [
        "../c2/npz-dm-ipc1-seed0/synset.safetensors",
        "../c3/npz-dm-ipc1-seed0/synset.safetensors",
    ]
    code, _, message = line("task=evaluate", sets, "synset=c2/npz-dm-ipc1-seed0")
    assert code and "synset and union are both given" in message
