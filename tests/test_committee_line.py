"""The line with teachers: protocols whose labels a committee gives, work shared by processes, and what is refused."""

import json
import re

import pytest
import torch
from conftest import composed, preset
from hydra.utils import instantiate
from omegaconf import OmegaConf
from test_crew import in_two_processes
from test_faults import in_a_process
from test_line import ROOT, line, succeeds, toy  # noqa: F401  # a fixture

import distill
from distill.identity import flat_protocol, parts_of
from distill.training.views import Augmented

PROTOCOLS = ("sre2l-cifar", "sre2l-in", "cvdd", "rded", "rth-soft", "rth-hard", "rd3")


def judged_by(protocol, *more):
    """The toy line of composites under a protocol that asks a committee."""
    return toy("rded", "method.steps=10", f"protocol={protocol}", *more)


# Field by field from the tables: passes, batch, zeta, labels, tau, mix, alpha, crop, smallest crop, micro-batches, mode.
# decoupled.md section 4, evaluation.md sections 6 and 7.
TABLE = {
    "sre2l-cifar": (400, 128, 1, "on_the_fly", 30, "mixup", 0.8, "crop_flip_black", None, 1, "batch"),
    "sre2l-in": (300, 1024, 1, "stored", 20, "cutmix", 1.0, "resized_crop", 0.08, 2, "eval"),
    "cvdd": (300, 16, 1, "stored", 20, "cutmix", 1.0, "resized_crop", 0.08, 2, "batch"),
    "rded": (300, 100, 2, "on_the_fly", 20, "cutmix", 1.0, "resized_crop", 1.0, 1, "eval"),
    "rd3": (400, 50, 1, "on_the_fly", 20, "cutmix", 1.0, "resized_crop", 1.0, 1, "eval"),
    "rth-soft": (300, 128, 1, "on_the_fly", 20, "cutmix", 1.0, "resized_crop", 0.08, 1, "eval"),
    "rth-hard": (300, 128, 1, "none", None, "none", None, "resized_crop", 0.08, 1, None),
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_presets_equal_the_table(name):
    p = flat_protocol(parts_of(preset(name)))
    names = ("batch", "stretch", "soft", "temperature", "mix", "mix_alpha", "augment", "area", "micro_batches")
    passes = p["epochs"] + p["extra_epochs"]
    for ours, theirs in zip(
        (passes, *(p[each] for each in names), p["committee"].get("mode")), TABLE[name], strict=True
    ):
        assert theirs is None or ours == theirs
    shared = {"optimizer": "adam", "lr": 1e-3, "weight_decay": 0.0, "decoupled_decay": 0.01, "squared": False}
    assert p.items() >= {**shared, "vote_temperature": 10.0, "iterate": "last", "ema": None}.items()
    assert preset(name).recipe.optimizer.decay_biases == (name == "sre2l-cifar")


@pytest.mark.parametrize(
    "method, values",
    [
        ("sre2l", dict(iterations=1000, init="noise", area=None, curriculum="none", roll=4, pairs="all")),
        ("cda", dict(iterations=4000, init="noise", area=0.08, curriculum="cosine", milestone=1.0)),
        (
            "cvdd",
            dict(iterations=4000, init="composite", area=0.08, curriculum="none", pairs="rotate", vote_temperature=5.0),
        ),
        ("rded", dict(pool=300, patches=5, factor=1)),
    ],
)
def test_methods_are_configured_as_the_table_says(method, values):
    node = composed(f"method={method}", "data=cifar10").method
    shared = (
        {} if method == "rded" else dict(lr_img=0.25, bn_weight=0.01, first_bn_weight=10.0, batch=100, betas=[0.5, 0.9])
    )
    assert {name: node[name] for name in values | shared} == values | shared


@pytest.mark.parametrize("name", ["teacher", "committee"])
def test_teachers_see_crops_over_black_as_their_papers_recipes_pad_before_normalisation(name):
    views = instantiate(composed(f"experts={name}", "data=cifar10").experts.recipe.views)
    assert views == Augmented("crop_flip_black")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_soft_labels_come_with_their_hard_twin_and_random_images(line, protocol, tmp_path):  # noqa: F811
    succeeds(line(*judged_by(protocol)))
    rows = json.loads((tmp_path / "outputs" / "report.json").read_text())["rows"]
    soft = [] if protocol == "rth-hard" else [TABLE[protocol][3]]
    assert [(row["method"], row["labels"]) for row in rows] == [
        *((method, labels) for method in ("rded", "random real") for labels in (*soft, "hard")),
        *([("random real", "kd")] if soft else []),
    ]
    for row in rows:
        on_disk = list((tmp_path / "outputs" / "labels").rglob("epoch_*"))
        assert row["protocol"] == f"{protocol}+" and (row["label_bytes"] == 0) == (row["labels"] == "on_the_fly")
        assert bool(on_disk) == ("stored" in soft)
        assert set(row["committee"]) == (set() if row["labels"] == "hard" else {"convnet 0", "convnet 1"})
    assert rows[0]["image_bytes"] == 640  # a byte a pixel
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "outputs").rglob("*.safetensors")}
    succeeds(line(*judged_by(protocol)))
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "outputs").rglob("*.safetensors")}


def test_baselines_are_told_by_the_teachers_of_the_method(line, tmp_path):  # noqa: F811
    more = ["baselines=[random,herding]", "proxies.recipe.epochs=1", "protocol.labels.twin=false"]
    succeeds(line(*judged_by("rded", *more)))
    rows = json.loads((tmp_path / "outputs" / "report.json").read_text())["rows"]
    soft = {row["method"]: row for row in rows if row["labels"] == "on_the_fly"}
    assert set(soft) == {"rded", "herding", "random real"}
    assert len({(row["protocol_hash"], tuple(sorted(row["committee"].items()))) for row in soft.values()}) == 1
    assert len(list((tmp_path / "outputs" / "experts").glob("*-teacher-*"))) == 1


def test_labels_that_somebody_gave_are_the_sets_and_random_images_get_their_own(line, tmp_path):  # noqa: F811
    succeeds(line(*judged_by("cvdd")))
    synset = distill.load(tmp_path / "outputs" / "digits-rded-ipc1-seed0")
    records = {
        path.parent: json.loads(path.read_text()) for path in (tmp_path / "outputs").glob("labels/*/labels.json")
    }
    (given,) = [folder for folder, record in records.items() if record["images"] == synset.hash]
    before = {path: path.stat().st_mtime_ns for path in given.iterdir()}
    succeeds(line(*judged_by("cvdd"), "out=again", "experts_path=outputs/experts", f"labels_path={given}"))
    first, again = (json.loads((tmp_path / out / "report.json").read_text())["rows"] for out in ("outputs", "again"))
    assert [row["accuracies"] for row in first] == [row["accuracies"] for row in again]
    assert before == {path: path.stat().st_mtime_ns for path in given.iterdir()}


def test_a_line_killed_while_it_labels_ends_where_an_unbroken_one_does(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir(), broken.mkdir()
    arguments = judged_by("cvdd", "method.committee.count=1", "protocol.recipe.epochs=6", "workers=1")
    assert in_a_process(arguments, whole) == 0
    statuses = [in_a_process(arguments, broken, die_at) for die_at in (15, 9, 4, 7, 5, None)]
    assert statuses[0] < 0 and statuses[-1] == 0
    results = []
    for folder in (whole, broken):
        rows = json.loads((folder / "outputs" / "report.json").read_text())["rows"]
        results.append([(row["method"], row["labels"], row["accuracies"]) for row in rows])
    assert results[0] == results[1]


def test_teachers_are_trained_alone_when_they_are_asked_for(line, tmp_path):  # noqa: F811
    settings = ["experts.networks=[convnet]", "experts.recipe.epochs=1", "student.convnet.norm=batch"]
    code, out, message = line("task=experts", "experts=teacher", "data=digits", "device=cpu", *settings)
    assert code == 0, message
    (store,) = (tmp_path / "outputs" / "experts").iterdir()
    assert store.name.startswith("digits-teacher-") and f"wrote outputs/experts/{store.name}" in out
    assert json.loads((store / "manifest.json").read_text())["data"]["classes"] == [str(digit) for digit in range(10)]


def test_two_processes_make_the_set_of_one(tmp_path):
    arguments = [*toy("cda", "task=distill", "ipc=3", "method.together=1"), "method.steps=null", "method.iterations=3"]
    arguments.remove("method.steps=4")
    assert in_a_process([*arguments, "task=experts"], tmp_path) == 0
    assert in_a_process([*arguments, "out=one", "experts_path=outputs/experts"], tmp_path) == 0
    in_two_processes([*arguments, "out=two", "experts_path=outputs/experts"], tmp_path)
    whole, shared = (distill.load(tmp_path / out / "digits-cda-ipc3-seed0") for out in ("one", "two"))
    assert whole.hash == shared.hash and whole.record["step"] == shared.record["step"] == 9
    assert torch.equal(whole.images, shared.images)
    grids = [tmp_path / out / "digits-cda-ipc3-seed0" / "grid.png" for out in ("one", "two")]
    assert grids[0].read_bytes() == grids[1].read_bytes()


RESNET = "method.committee.networks=[resnet18_bn]"  # its last maps are one pixel here


@pytest.mark.parametrize(
    "changes, message",
    [
        (["task=distill"], "0 of 2 experts in .*: train them with `python run.py task=experts`"),
        (["method.committee.networks=[resnet19]"], "unknown network of a committee 'resnet19': did you mean resnet18"),
        (["student.convnet.norm=instance"], "teacher convnet has no batch norm, whose statistics recovery needs"),
        (
            ["method.committee.minimum=1.0"],
            r"teacher convnet 0 classifies \d+.\d% of real images correctly, expected at least",
        ),
        (["method.committee.priors=[50,60,70]"], "3 prior accuracies for the networks convnet: give one for each"),
        (["method.share=[1,2]"], "method.share is for the processes of a torchrun, which sets it: leave it out"),
        (["data.val=0", "protocol=ours"], "protocol ours.* makes choices on the validation split, which is empty"),
        (["protocol.labels.committee.networks=[vgg12]"], "unknown network of a committee 'vgg12': did you mean"),
        (["protocol.recipe.micro_batches=16"], "recipe.micro_batches is 16, expected at most the batch of 10"),
        (["labels_path=run.py"], "labels_path is run.py, which is a file: expected a folder"),
        (["method.iteration=3"], "unknown value method.iteration: did you mean iterations\\? method has"),
        (["metod.iterations=3"], "unknown value metod.iterations: did you mean method.iterations\\? the run has"),
        (
            ["protocol=rded", "protocol.recipe.micro_batches=500"],
            "recipe.micro_batches is 500, expected at most the batch",
        ),
        (["student=[]"], "no student is named"),
        (
            ["student=[convnet,resnet18_bn]", "protocol.recipe.batch=9"],
            "ResNet has batch norm and would see a single image",
        ),
        (
            ["student=[convnet,resnet18_bn]", "protocol.recipe.batch=1292", "baselines=[random,whole]"],
            r"would see a single image \(protocol.recipe.batch=1292, 1293 images",
        ),
        ([RESNET, "protocol.recipe.batch=9"], r"would see a single image \(protocol.recipe.batch=9, 10 images"),
        ([RESNET, "method.committee.recipe.batch=1292"], r"would see a single image \(committee.recipe.batch=1292"),
        (["method.batch=3"], "10 classes do not divide into blocks of method.batch=3: take 2"),
    ],
)
def test_bad_input_gets_one_line(line, changes, message, tmp_path):  # noqa: F811
    given = {change.split("=")[0] for change in changes}
    arguments = [item for item in toy("sre2l") if item.split("=")[0] not in given]
    (tmp_path / "run.py").touch()
    code, _, said = line(*arguments, *changes)
    assert code == 1
    assert said.startswith("error: ") and "\n" not in said
    assert re.search(message, said), said
    trained = list(tmp_path.rglob("*.safetensors"))
    assert bool(trained) == ("of real images correctly" in message), trained  # all else is found before
    assert not list(tmp_path.rglob("report.json"))


def asked_by(*overrides):
    """Protocol and settings of its teachers."""
    protocol = OmegaConf.to_container(composed(*overrides), resolve=True)["protocol"]
    return protocol["name"], protocol["labels"].get("committee")


def test_a_protocols_teachers_are_the_methods_unless_they_are_stated():
    settings = ["networks=[vgg11_bn]", "count=3", "minimum=0.5", "priors=[40]", "recipe.epochs=7", "recipe.lr=0.2"]
    once = ["method=sre2l", "data=cifar10", *(f"method.committee.{setting}" for setting in settings)]
    method = OmegaConf.to_container(composed(*once), resolve=True)["method"]["committee"] | {"pretext": None}
    for protocol, mode in (("sre2l-cifar", "batch"), ("rded", "eval"), ("cvdd", "batch")):
        assert asked_by(*once, f"protocol={protocol}") == (protocol, method | {"mode": mode})
    _, stated = asked_by(
        *once, "protocol=rded", "protocol.labels.committee.recipe.lr=0.3", "protocol.labels.committee.priors=null"
    )
    assert stated == method | {"priors": None, "recipe": method["recipe"] | {"lr": 0.3}}


def test_a_protocol_brings_its_own_teachers_to_a_method_that_asks_none():
    five = ["resnet18_bn", "resnet50_bn", "shufflenet_v2", "mobilenet_v2", "densenet121"]
    assert asked_by("method=dm", "protocol=cvdd")[1]["networks"] == five
    assert asked_by("method=dm", "protocol=rded", "teachers.count=2")[1]["count"] == 2


def test_decoupled_methods_are_judged_under_their_own_protocol_by_default():
    own = {"sre2l": "sre2l-cifar", "cda": "sre2l-cifar", "cvdd": "cvdd", "rded": "rded", "datm": "ours", "dm": "ours"}
    assert {method: asked_by(f"method={method}", "data=cifar10")[0] for method in own} == own
    assert asked_by("method=cvdd", "protocol=ours")[0] == "ours"
