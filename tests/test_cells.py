"""A published number belongs to exactly its cell, and a row tells what its protocol's plus changed."""

from types import SimpleNamespace

import pytest
from conftest import composed
from omegaconf import OmegaConf

from distill.runs import cells
from distill.runs.checks import plain
from distill.runs.composed import compose

CELL = "experiment=datm_cifar10_ipc10"


@pytest.fixture
def run():
    """``run(overrides, ...)``: (the configuration, a set that it made); options are as a run of it chose them."""

    def make(*overrides, made=None):
        config = OmegaConf.to_container(composed(*(made or overrides)), resolve=True)
        return compose(*overrides), SimpleNamespace(record={"config": config})

    return make


def differing(run, *overrides, ipc=10, made=None):
    own, synset = run(CELL, *overrides, made=made and [CELL, *made])
    return [told.split()[0] for told in cells.published(own, [synset], ipc).changes]


def test_the_cell_itself_differs_in_nothing(run):
    own, synset = run(CELL)
    number = cells.published(own, [synset], 10)
    assert (number.number, number.cell, number.changes) == ("66.8 ± 0.2", "datm_cifar10_ipc10", [])


def test_what_moves_no_number_keeps_it(run):
    silent = [
        "out=x", "experts_path=x", "labels_path=x", "data.root=x", "data.download=false", "device=cpu", "threads=1",
        "workers=2", "compile=false", "logger=wandb", "seed=7", "syntheses=3", "baselines=[whole]",
    ]  # fmt: skip
    assert differing(run, *silent) == []


@pytest.mark.parametrize(
    "change, name",
    [
        ("method.steps=100", "method.steps"), ("method.experts.count=2", "method.experts.count"),
        ("data.zca=false", "data.zca"), ("data.val=0.1", "data.val"), ("data.classes=[1,2]", "data.classes"),
        ("data.path=mine.npz", "data.path"), ("protocol.recipe.epochs=2", "protocol.epochs"),
        ("precision=bf16", "protocol.precision"), ("protocol=dsa", "protocol.name"),
        ("student.convnet.width=8", "student.width"), ("student=[mlp]", "student.name"),
        ("student=[mlp,convnet]", "student.name"), ("data=cifar100", "data.name"),
    ],
)  # fmt: skip
def test_what_moves_the_number_is_told(run, change, name):
    assert name in differing(run, change)


@pytest.mark.parametrize("cell, twin", [(CELL, "true"), ("experiment=rded_cifar10_ipc10", "false")])
def test_a_second_row_with_hard_labels_moves_no_number_of_the_first(run, cell, twin):
    own, synset = run(cell, f"protocol.labels.twin={twin}", made=[cell])
    assert cells.published(own, [synset], 10).changes == [] and cells.protocol_changes(own) == {}


def test_a_cell_whose_data_lie_anywhere_is_the_same_wherever_they_lie(run):
    own, synset = run("experiment=tesla_imagenet64_ipc1", "data.path=somewhere")
    assert cells.published(own, [synset], 1).changes == []


def test_more_students_beside_the_papers_own_change_nothing(run):
    assert differing(run, "student=[convnet,mlp]") == []


def test_another_size_is_another_cell(run):
    assert differing(run, "ipc=[10,1]", ipc=10) == []
    assert differing(run, "ipc=[10,1]", ipc=1) == ["ipc"]


def test_what_counts_is_how_the_set_was_made_not_how_it_would_be(run):
    assert differing(run, made=["method.steps=100", "data.val=0.1"]) == ["data.val", "method.steps"]
    own, _ = run(CELL)
    assert cells.published(own, [SimpleNamespace(record={})], 10).changes == ['method "the cell\'s" -> "not recorded"']


def test_a_number_of_ones_own_is_for_the_run_that_states_it(run):
    own, synset = run("data=cifar10", "method=dm", "ipc=[10,1]", "published=50.0")
    assert cells.published(own, [synset], 10).changes == []
    assert cells.published(own, [synset], 1).changes == ["ipc 10 -> 1"]
    assert cells.published(run("data=cifar10")[0], [synset], 10) is None


def test_a_plus_tells_what_it_changed(run):
    own, _ = run("data=cifar10", "protocol=datm", "protocol.recipe.epochs=2", "protocol.students=1", "precision=bf16")
    assert cells.protocol_changes(own) == {"epochs": (1000, 2), "students": (5, 1)}
    own, _ = run("protocol=ours", "data=cifar10", "student_rates=[0.1]")  # a choice of the run, not of the preset
    assert cells.protocol_changes(own) == {}


@pytest.mark.parametrize(
    "generation, stated, precision",
    [
        (None, [], "fp32"),
        (8, [], "bf16"),
        (7, [], "fp32"),
        (9, ["device=cpu"], "fp32"),
        (9, ["precision=fp32"], "fp32"),
        (None, ["precision=bf16"], "bf16"),
    ],
)
def test_precision_is_bf16_on_a_gpu_that_has_it_unless_it_is_stated(monkeypatch, generation, stated, precision):
    monkeypatch.setattr("torch.cuda.is_available", lambda: generation is not None)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: (generation, 0))
    own = compose(*stated).cfg
    assert own.precision == own.protocol.recipe.precision == own.method.experts.recipe.precision == precision
    monkeypatch.undo()
    asked = [item for item in stated if item.startswith("device")]
    assert plain(own) == plain(compose(f"precision={precision}", *asked).cfg)  # stores, sets and rows know no other


def test_a_number_of_a_gpu_stands_beside_one_in_fp32(run, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: (9, 0))
    assert {"protocol.precision", "method.experts.recipe.precision"} & set(differing(run))
    assert differing(run, "precision=fp32") == []
