"""What a set's maker chose, and what a stranger's record may choose."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from test_lazy import write_folder
from test_line import line, succeeds  # noqa: F401  # a fixture

from distill.data.preprocessing import normalised
from distill.files import load_tensors
from distill.runs.checks import check_values, plain
from distill.runs.composed import compose
from distill.runs.line import Line
from distill.runs.recorded import _chosen, _values, complete_overrides, take_values
from distill.sets.synthetic import SyntheticSet

ODD = ["a b", "c,d", "${oc.env:HOME}", r"\${x}", "é=[1]", "'", "null"]
DATA = dict(
    name="pets", root="data", path="pets", size=16, crop=True, lazy=True, workers=2, classes=ODD, val=0.2, download=True,
    strategy="color_crop", mean=[0.5], std=[0.25], zca=False,
)  # fmt: skip
MADE = {
    "choices": {"data": "folder", "method": "dm", "student": ["mlp", "convnet"]},
    "config": {"data": DATA, "student": {"convnet": {"width": 32, "norm": "batch"}}, "method": {"lr_img": 3.0}},
}


@pytest.fixture
def evaluated(tmp_path, monkeypatch):
    """``evaluated(record, "data.val=0")``: the configuration of task=evaluate for a set with this record, or for several."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pets").mkdir()

    def compose_for(record, *arguments, also=(), name="set"):
        ones = torch.ones(2, dtype=torch.long)
        synset = SyntheticSet(torch.zeros(2, 1, 8, 8), ones, ones.clone(), ("0", "1"), normalised([0.5], [0.5]), "toy")
        synset.save(tmp_path / f"{name}.safetensors", record)
        given = complete_overrides(["task=evaluate", f"synset='{name}.safetensors'", *arguments])
        run = compose(*given)
        take_values(run, [load_tensors(tmp_path / f"{name}.safetensors")[1], *also])
        return run.cfg

    return compose_for


def test_values_of_the_maker_are_taken_as_they_are_and_the_command_line_wins_key_by_key(evaluated):
    cfg = evaluated(MADE)
    assert {key: plain(cfg.data)[key] for key in DATA} == DATA | {"download": False}
    assert list(cfg.student) == ["mlp", "convnet"]
    assert (cfg.student.convnet.width, cfg.student.convnet.norm, cfg.method.lr_img) == (32, "batch", 3.0)
    cfg = evaluated(MADE, "data.strategy=flip", "student=convnet", "student.convnet.width=8", "data.classes=null")
    assert (cfg.data.strategy, cfg.data.classes, cfg.data.size) == ("flip", None, 16)
    assert list(cfg.student) == ["convnet"] and (cfg.student.convnet.width, cfg.student.convnet.norm) == (8, "batch")


def test_naming_the_makers_data_keeps_its_values_and_other_data_have_their_own(evaluated):
    assert evaluated(MADE, "data=folder", "data.path=.").data.strategy == "color_crop"
    cfg = evaluated(MADE, "data=mnist", "method=datm")
    assert (cfg.data.name, cfg.data.size, cfg.data.path) == ("mnist", None, None)
    assert cfg.student.convnet.width == 32 and "expansion_steps" in cfg.method


@pytest.mark.parametrize("name", ["a,b", "a b", "a=b", "[a]"])
def test_a_quoted_path_keeps_the_makers_choices(evaluated, name):
    cfg = evaluated(MADE, name=name)
    assert cfg.data.strategy == "color_crop" and list(cfg.student) == ["mlp", "convnet"]


def test_the_first_of_several_sets_tells_and_the_others_must_agree(evaluated):
    other = {**MADE, "config": {"data": {**DATA, "strategy": "flip", "path": "elsewhere"}}}
    with pytest.raises(ValueError, match="with data.strategy color_crop and flip: .* or state data.strategy"):
        evaluated(MADE, also=[other])
    assert evaluated(MADE, "data.strategy=flip", also=[other]).data.path == "pets"


def test_data_that_are_not_here_are_asked_for(evaluated, tmp_path):
    (tmp_path / "pets").rename(tmp_path / "moved")
    with pytest.raises(ValueError, match="made from data.path=pets, which is not here: give data.path=PATH"):
        evaluated(MADE)
    assert evaluated(MADE, "data.path=moved").data.size == 16


def test_sets_of_earlier_versions_tell_by_their_command_line_and_configuration(evaluated):
    old = {"overrides": ["data=folder", "method=dm", "student=mlp"], "config": {"data": {"lazy": True, "path": "pets"}}}
    cfg = evaluated(old)
    assert (cfg.data.lazy, cfg.data.crop, list(cfg.student)) == (True, True, ["mlp"])
    assert evaluated({"overrides": ["data=mnist"]}).data.name == "mnist"
    assert evaluated({}).data.name == "digits"


def test_a_record_names_no_code_no_place_and_nothing_that_is_fetched(evaluated, tmp_path):
    expected = evaluated({"choices": {"data": "mnist", "student": ["resnet18_imagenet"]}})
    (tmp_path / "theirs").mkdir()
    record = {
        "choices": {
            "data": "mnist", "method": "../../x", "student": ["resnet18_imagenet"], "experiment": "no such", "out": "/x",
        },
        "config": {
            "out": "/x",
            "data": {"download": True, "val": {"_target_": "os.abort"}, "mean": [["x"]], "new": 1},
            "student": {
                "resnet18_imagenet": {"_target_": "os.abort", "weights": "IMAGENET1K_V1", "new": 1},
                "evil": {"_target_": "os.abort"},
            },
            "method": 5,
        },
    }  # fmt: skip
    cfg = evaluated(record)
    assert all(cfg[key] == expected[key] for key in ("data", "student", "method", "out"))
    record["config"]["data"]["root"] = "a folder of theirs alone"
    assert evaluated(record).data.root == expected.data.root
    record["config"]["data"]["root"] = "theirs"
    assert (cfg := evaluated(record)).data.root == "theirs" and not cfg.data.download
    assert _chosen({"choices": {"student": ["convnet"] * 10**5}}) == _chosen({"choices": {"student": []}}) == {}
    for broken in (5, None, ["x", 5], "x"):
        assert _chosen({"choices": broken, "overrides": broken}) == {}
        assert _values({"config": broken}) == _values({"config": {"data": broken}}) == {"data": {}}


def test_values_of_a_record_are_checked_as_those_of_a_command_line(evaluated):
    for group, values in (("student", {"convnet": {"width": 999999999}}), ("data", {"size": 99999, "path": "pets"})):
        record = {"choices": {"data": "folder"}, "config": {"data": {"path": "pets"}, group: values}}
        with pytest.raises(ValueError, match=r"(student.convnet.width|data.size) is 99999+, expected"):
            check_values(plain(evaluated(record)))


def test_a_set_is_judged_elsewhere_as_its_maker_judged_it(line, tmp_path):  # noqa: F811
    write_folder(tmp_path / "pets", train=10, test=8)
    judging = [
        "protocol=dcb-dsa",
        "protocol.recipe.epochs=3",
        "protocol.students=2",
        "draws=1",
        "device=cpu",
    ]
    data = [
        "data=folder", "data.path=pets", "data.size=16", "data.crop=true", "data.lazy=true", "data.mean=[.5,.5,.5]",
        "data.std=[.25,.25,.25]", "data.strategy=color_crop", "data.classes=[c2,c0,c1]", "data.val=0.2",
    ]  # fmt: skip
    succeeds(
        line(*data, "method=dm", "method.steps=1", "method.batch_real=4", "ipc=2", "student.convnet.width=8", *judging)
    )
    (tmp_path / "pets").rename(tmp_path / "cats, [dogs]")
    place = ["synset=outputs/folder-dm-ipc2-seed0", "data.path='cats, [dogs]'", "out=judged"]
    succeeds(line("task=evaluate", *place, *judging))
    makers, ours = (json.loads(Path(f"{out}/report.json").read_text())["rows"] for out in ("outputs", "judged"))
    for key in ("accuracies", "data_hash", "student_hash", "synset_hash"):
        assert [row[key] for row in makers] == [row[key] for row in ours]
    # Another folder with the same classes is told.
    (tmp_path / "cats, [dogs]" / "train" / "c0" / "0.png").unlink()
    code, _, message = line("task=evaluate", *place, *judging)
    assert code == 0 and "are not those that the set was made from" in message


def test_experts_that_saw_other_families_are_another_store(real):
    def folder(strategy, *overrides, images=real.train.images):
        run = compose("data=digits", "method=mtt", *overrides)
        cfg = run.cfg
        train = replace(real.train, strategy=strategy or cfg.data.strategy, images=images)
        own = SimpleNamespace(cfg=cfg, choices=run.choices, real=replace(real, train=train), network=lambda name: name)
        return Line.store(own, cfg.method.experts, "convnet")

    assert "families" not in folder(None).identity  # as in stores of before
    assert folder("color_crop").folder != folder(None).folder
    plain = "method.experts.recipe.views.augment=none"
    assert folder("color_crop", plain).folder == folder(None, plain).folder
    mirrors = "method.experts.recipe.views.augment=crop_flip"
    assert folder("color", mirrors).folder == folder(None, mirrors).folder != folder("flip", mirrors).folder
    wide = folder(None, images=real.train.images[..., :6]).identity  # experts of before saw those sheared
    assert wide["geometry"] == "exact" and "geometry" not in folder(None).identity
