"""Linear probes: the teacher's features, which nothing changes, and a classifier that is all that learns."""

import json

import pytest
import torch
from test_line import line, succeeds  # noqa: F401

from distill.effort import operations
from distill.evaluation.kept import load_student
from distill.networks.convnet import ConvNet
from distill.teachers.probe import probe

WORDS = [
    "data=digits", "ipc=1", "method=random", "student.convnet.width=4", "student.convnet.norm=batch", "draws=2", "device=cpu",
    "workers=1", "protocol=lgm", "protocol.recipe.epochs=4", "protocol.students=2", "keep_students=true",
]  # fmt: skip
TEACHER = ["networks=[convnet]", "count=1", "minimum=0", "recipe.epochs=2"]


def probing(*more):
    """A run whose students are probes."""
    return [*WORDS, *(f"protocol.labels.committee.{each}" for each in TEACHER), *more]


def test_only_the_classifier_learns(real, teacher, committee):
    torch.manual_seed(5)
    net, body = teacher(), committee.nets[0]
    own = {name: each.clone() for name, each in net.classifier.state_dict().items()}
    head = probe(net, committee.nets)
    assert [name for name, _ in head.named_parameters()] == ["classifier.weight", "classifier.bias"]
    assert all(torch.equal(each, own[name]) for name, each in net.classifier.state_dict().items())  # its own, as it was
    images = real.train.images[:7]
    said = head.train()(images)  # statistics stay those of the teacher, in training too
    assert torch.equal(said, net.classifier(body.features.eval()(images).flatten(1)))
    assert all(torch.equal(each, net.features.state_dict()[name]) for name, each in body.features.state_dict().items())


def test_a_student_takes_the_features_of_the_teacher_that_has_its_network(teacher):
    wide = ConvNet((3, 8, 8), 3, depth=2, width=9, norm="batch", pooling="avg", activation="relu")
    net = teacher()
    probe(net, (wide, other := teacher()))
    assert torch.equal(net.features[0].weight, other.features[0].weight)
    with pytest.raises(ValueError, match=r"no teacher has the network of a student \(ConvNet\): name it in committee"):
        probe(wide, (other,))


def test_a_trained_probe_is_a_student_with_the_teachers_body(line, tmp_path):  # noqa: F811
    succeeds(line(*probing()))
    rows = json.loads((tmp_path / "outputs" / "report.json").read_text())["rows"]
    assert [(row["method"], row["labels"]) for row in rows] == [
        ("random", "probe"),
        ("random real", "probe"),
    ]  # and no kd
    kept = sorted((tmp_path / "outputs" / "students").rglob("*.safetensors"))
    first, second = (load_student(path).network for path in kept[:2])
    states = [each.state_dict() for each in (first, second)]
    same = {name for name in states[0] if torch.equal(states[0][name], states[1][name])}
    assert same == {name for name in states[0] if name.startswith("features")}
    # A step of a probe is one forward pass of the student, of an ordinary student three.
    assert rows[0]["operations"] == pytest.approx(
        rows[0]["seen"] * operations(lambda: first, torch.zeros(2, 1, 8, 8)) / 3
    )


def test_what_no_teacher_can_do_is_told_before_anything_is_trained(line, tmp_path):  # noqa: F811
    code, _, said = line(*[each for each in probing("student=mlp") if "convnet." not in each])
    assert code == 1 and "no teacher has the network of a student (MLP): name it in committee.networks" in said
    assert not (tmp_path / "outputs" / "experts").exists()
