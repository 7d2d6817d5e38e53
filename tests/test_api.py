"""What a notebook calls."""

import doctest
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_line import line  # noqa: F401  # a fixture

import distill as dd
from distill import api
from distill.evaluation import kept
from distill.methods.synthesis import iterates
from distill.runs import comparing, composed

QUICK = {"student.width": 4, "compile": False}
JUDGED = {
    "convnet.width": 4,
    "compile": False,
    "student_epochs": [2],
    "student_rates": [0.1],
    "protocol.students": 2,
    "draws": 1,
}


@pytest.fixture(scope="module")
def real():
    return dd.load_data("digits", device="cpu")


def test_a_set_is_made_judged_and_shown(real, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    synset = dd.make("dm", real, ipc=1, steps=2, snapshot_every=1, **QUICK)
    assert repr(synset) == "<SyntheticSet of digits, 1 per class: 10 images 1x8x8 of 10 classes, hard labels, by dm>"
    assert synset.path == Path("outputs/digits-dm-ipc1-seed0/synset.safetensors") and len(iterates(synset.path)) == 3
    assert "data:image/png;base64," in synset._repr_html_() and synset.show().size == (342, 36)
    report = dd.evaluate(synset, real, **JUDGED)
    assert [(row["method"], row["protocol"]) for row in report.rows] == [("dm", "ours+"), ("random real", "ours+")]
    assert dd.evaluate(synset, real, **JUDGED).rows == report.rows


def test_python_and_the_command_line_find_each_others_files(line, real, tmp_path):  # noqa: F811
    synset = dd.make("mtt", real, ipc=1, steps=2, **QUICK, **TRAJECTORIES)
    dd.evaluate(synset, real, **JUDGED)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    rows = json.loads(Path("outputs/report.json").read_text())["rows"]
    settings = [f"method.{name}={value}" for name, value in {"steps": 2, **TRAJECTORIES}.items()]
    judged = ["student_epochs=[2]", "student_rates=[0.1]", "protocol.students=2", "draws=1"]
    code, _, message = line(
        "data=digits",
        "device=cpu",
        "ipc=1",
        "method=mtt",
        "student.convnet.width=4",
        "compile=false",
        *settings,
        *judged,
    )
    assert code == 0, message
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == before
    assert json.loads(Path("outputs/report.json").read_text())["rows"] == rows


TRAJECTORIES = {
    "student_steps": 2, "expert_epochs": 1, "max_start_epoch": 1, "experts.count": 1, "experts.recipe.epochs": 1,
}  # fmt: skip


def test_experts_of_one_call_are_those_of_another(real, tmp_path):
    store = dd.train_experts("mtt", real, count=1, epochs=1, out=tmp_path, **{"student.width": 4})
    written = {path: path.stat().st_mtime_ns for path in store.folder.rglob("*.safetensors")}
    synset = dd.make("mtt", real, ipc=1, steps=1, experts=store, out=tmp_path / "other", **QUICK, **TRAJECTORIES)
    assert synset.record["experts"] == store.folder.name
    assert {path: path.stat().st_mtime_ns for path in store.folder.rglob("*.safetensors")} == written


def test_given_experts_are_all_that_a_set_learns_from(real, tmp_path):
    store = dd.train_experts("mtt", real, count=2, epochs=2, out=tmp_path, **{"student.width": 4})
    settings = {name: value for name, value in TRAJECTORIES.items() if "." not in name}
    dd.make("mtt", real, ipc=1, steps=1, experts=store, out=tmp_path / "other", **QUICK, **settings)
    assert len(list(store.folder.glob("expert_*"))) == 2


def test_teachers_are_trained_by_network(real, tmp_path):
    settings = {"count": 1, "minimum": 0, "recipe.epochs": 1}
    stores = dd.train_teachers(
        real, ["convnet"], out=tmp_path, **settings, **{"convnet.width": 4, "convnet.norm": "batch"}
    )
    assert list(stores) == ["convnet"] and stores["convnet"].missing == []


def test_a_set_in_memory_is_judged_too(real, tmp_path):
    index = torch.cat([real.train.of_class(cls)[:1] for cls in range(10)])
    picked = dd.SyntheticSet.of_images(real.train, index)
    report = dd.evaluate(picked, real, out=tmp_path, **JUDGED)
    assert [row["method"] for row in report.rows] == ["unknown", "random real"]


def test_a_changed_set_is_judged_as_it_is_not_as_its_file(real, tmp_path):
    made = dd.make("dm", real, ipc=1, steps=0, out=tmp_path, **QUICK)
    changed = made.with_(images=-made.images)
    assert changed.path is None and changed.to(torch.device("cpu")).path is None and made.to(torch.device("cpu")).path
    rows = dd.evaluate([made, changed], real, out=tmp_path, **{**JUDGED, "baselines": []}).rows
    assert [row["synset_hash"] for row in rows] == [made.hash, changed.hash] and made.hash != changed.hash


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda real: dd.make("mt", real), "unknown method 'mt': did you mean mtt"),
        (lambda real: dd.make("dm", real, lr_imgs=1), "unknown value method.lr_imgs: did you mean lr_img?"),
        (lambda real: dd.make("dm", real, lr_img="abc"), "method.lr_img is 'abc', expected a number"),
        (lambda real: dd.make("dm", real, student="convnets"), "unknown student 'convnets': did you mean convnet"),
        (lambda real: dd.make("dm", replace(real, stated=())), "take those of distill.load_data"),
        (lambda real: dd.load_data("digit"), "unknown data 'digit': did you mean digits"),
        (lambda real: dd.load_data("digits", val=2), "data.val is 2, expected a number in \\[0, 1\\)"),
        (lambda real: dd.evaluate([], real, protocol="our"), "unknown protocol 'our': did you mean ours"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(real, call, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=said) as error:
        call(real)
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_what_one_changes_of_a_composed_run_nobody_else_sees():
    first = composed.compose("method=dm")
    first.cfg.ipc, first.choices["method"] = 99, "none"
    again = composed.compose("method=dm")
    assert (again.cfg.ipc, again.choices["method"]) == (10, "dm")


def test_another_use_of_hydra_is_left_alone(tmp_path):
    from hydra import compose, initialize_config_dir

    (tmp_path / "own.yaml").write_text("theirs: 1\n")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        assert composed.compose("method=dm").cfg.ipc == 10
        assert compose("own").theirs == 1


def test_names_are_those_of_the_configurations():
    assert {"mtt", "dm", "rded"} <= set(dd.methods()) and "ours" in dd.protocols()
    assert "datm_cifar10_ipc10" in dd.experiments()


@pytest.mark.parametrize("module", [api, comparing, composed, kept])
def test_examples_hold(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(module)
    assert found.attempted and not found.failed
