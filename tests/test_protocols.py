"""Protocols are made of parts, and every value of every preset changes what is trained, planned or measured."""

import itertools
from dataclasses import fields, is_dataclass, replace

import pytest
import torch
from conftest import ROOT, changed, composed, preset
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch.nn.utils import parameters_to_vector

from distill.evaluation.entry import Entry, Network
from distill.evaluation.evaluate import evaluate
from distill.evaluation.pretraining import Source
from distill.evaluation.trial import Trial
from distill.identity import digits, flat_experts, flat_teachers, pathless
from distill.presets import options
from distill.report.rows import Report
from distill.runs.checks import check_values, plain
from distill.runs.composed import compose
from distill.sets.coreset import Coreset
from distill.sets.synthetic import SyntheticSet
from distill.teachers.labels import Teaching
from distill.teachers.lwf import continued
from distill.training.loop import train
from distill.training.schedules import Steps

PRESETS = sorted(path.stem for path in (ROOT / "configs" / "protocol").glob("*.yaml"))
MEASURED = {
    "name",
    "validate",
    "version",
    "students",
    "artefact_lr",
    "batch_of_ipc",
    "candidates",
    "test_every",
    "twin",
    "assumed",
}
OTHER = {  # than what stands there
    "name": "x", "version": 3, "students": 3, "batch_of_ipc": {1: 2}, "candidates": {"lr": [0.1, 0.2]}, "test_every": 3,
    "epochs": 4, "extra_epochs": 2, "lr": 0.3, "batch": 5, "micro_batches": 3, "ema": 0.5, "precision": "bf16",
    "momentum": 0.2, "weight_decay": 0.3, "decoupled_decay": 0.3, "decay": 0.7, "decay_epoch": 0, "decay_momentum": 0.3,
    "stretch": 3.0, "augment": "siamese", "area": 0.3, "shuffle": 2, "mix_alpha": 0.2, "temperature": 3.0,
    "vote_temperature": 0.5, "top_k": 1, "policy": "svhn", "operations": 3, "level": 25, "steps": 5, "floor": 0.04,
    "trust": 0.3, "decay_every": 2, "assumed": ["lr"],
    "pct_start": 0.6, "div_factor": 2.0, "final_div_factor": 2.0, "smoothing": 0.4,
    "decay_at": [0.3], "mix_probability": 1.0, "beta": 4.0, "hard": 0.5, "strategy": "color_crop", "kept": 0.4, "alpha": 0.3,
}  # fmt: skip


def toy(name, **changes):
    """A preset of few epochs, or steps, for a dozen images."""
    counted = "epochs" if preset(name).recipe.steps is None else "steps"
    values = {counted: 3, "batch": 8, "students": 2, "lr": 0.05, "batch_of_ipc": None, "candidates": {}}
    made = preset(name, **values, **changes)
    if made.pretraining is None:
        return made
    made = changed(made, temperature=2.0) if made.pretraining.data_free else made  # at 1 its square tells nothing
    first = {part: getattr(made.pretraining, part).with_(epochs=3, batch=8) for part in ("vectors", "classes")}
    return made.with_(pretraining=replace(made.pretraining, **first))


def leaves(settings, path=()):
    """Places of the values, part by part; a committee's are those of its teachers, but for how they are asked."""
    for each in fields(settings):
        value = getattr(settings, each.name)
        if is_dataclass(value):
            yield from leaves(value, (*path, each.name))
        elif each.name not in ("mix", "pretraining"):  # None: no part
            yield (*path, each.name)


def with_other(settings, path):
    value = value_at(settings, path)
    if path[-1] in ("epochs", "steps") and value is None:  # one of them is counted
        recipe = value_at(settings, path[:-1])
        other = recipe.with_(**{"epochs": None, "steps": None, "extra_epochs": 0, path[-1]: OTHER[path[-1]]})
        return set_at(settings, path[:-1], other)
    if path[-1] == "committee":
        other = {**value, "mode": "batch" if value["mode"] == "eval" else "eval"}
    else:
        other = not value if isinstance(value, bool) else OTHER[path[-1]]
    assert other != value, path
    return set_at(settings, path, other)


def value_at(settings, path):
    return value_at(getattr(settings, path[0]), path[1:]) if path else settings


def set_at(settings, path, value):
    inner = value if len(path) == 1 else set_at(getattr(settings, path[0]), path[1:], value)
    return replace(settings, **{path[0]: inner})


@pytest.fixture
def synset(real):
    made = SyntheticSet.from_real(real.train, 4, torch.Generator().manual_seed(0))
    logits = torch.randn(12, 3, generator=torch.Generator().manual_seed(1))
    images = 0.97 * made.images  # between the levels of eight bits, as learned ones are
    return made.with_(images=images, labels=logits, label_kind="logits", lr=torch.tensor(0.02))


@pytest.fixture
def weights(real, teacher, synset, committee, tmp_path):
    """Of a student that was trained under a protocol."""
    asked = replace(committee, priors=(60.0, 58.0))

    def trained(protocol, vectors=False):
        teaching, data = Teaching(asked, tmp_path), synset.with_(lr=None)  # a learned rate would take the place of lr
        data = data.with_(labels=4 * data.labels, label_kind="vectors") if vectors else data
        tuned = Coreset.whole(real.train) if protocol.tunes else data
        first = (data, Source(real.train, tmp_path / "pretrained")) if protocol.pretraining else None
        trial = Trial(tuned, data.hash, protocol, real.val, 0, "student", 0, (0,), False, False, teaching, first=first)
        torch.manual_seed(0)
        net = teacher()
        learner = continued(net, teacher()) if protocol.labels.continues else trial.learner(net, 0)
        train([learner], trial.told()[0], seeds=trial.seeds)
        return parameters_to_vector(net.parameters())

    return trained


@pytest.fixture
def rows(real, teacher, synset, tmp_path):
    """What is told of a protocol's rows, and the bytes of its students' accuracies."""
    snapshots = [{0: synset.with_(images=synset.images.flip(0)), 1: synset}]
    told = ("protocol", "protocol_hash", "labels", "selection", "students", "lr", "students_for_choices", "accuracies")
    told += ("validation_accuracies", "assumed")

    def measured(protocol):
        report = Report(tmp_path / str(len(list(tmp_path.iterdir()))) / "report.json")
        evaluate(Entry([synset], "m", 4, snapshots), real, {"net": Network(teacher)}, protocol, report)
        skipped = set() if protocol.version == 3 else {"protocol_hash"}  # else every change would show in it
        return [{name: row.get(name) for name in told if name not in skipped} for row in report.rows]

    return measured


@pytest.mark.parametrize("name", PRESETS)
def test_every_value_of_a_preset_changes_something(name, weights, rows, real):
    base = toy(name)
    trained, measured = weights(base), None
    for path in leaves(base):
        if path[-1] == "extra_epochs" and value_at(base, path[:-1]).steps is not None:
            with pytest.raises(ValueError, match="expected epochs with steps=null, or steps with"):
                with_other(base, path)
            continue
        if path[-1] == "committee" and base.labels.name == "probe":
            with pytest.raises(ValueError, match="mode is batch, and a probe's features are those of eval mode"):
                with_other(base, path)
            continue
        other = with_other(base, path)
        if path[:2] == ("pretraining", "vectors"):
            assert not torch.equal(weights(other, vectors=True), weights(base, vectors=True)), path
        elif path[-1] not in MEASURED:
            assert not torch.equal(weights(other), trained), path
        elif path[-1] == "test_every":
            assert (
                [other.choice.tests(epoch) for epoch in (2, 3)]
                == [False, True]
                != [base.choice.tests(e) for e in (2, 3)]
            )
        elif path[-1] == "batch_of_ipc":
            assert other.sized(12, 3, 48).recipe.batch != base.sized(12, 3, 48).recipe.batch
        elif base.labels.committee is None and base.pretraining is None:
            measured = measured or rows(base)
            assert rows(other) != measured, path


@pytest.mark.parametrize("recipe", ["autoaugment", "randaugment"])
def test_every_value_of_a_policys_views_changes_what_is_trained_and_its_hash(recipe, weights):
    views = instantiate(
        composed("protocol=dcb-dsa", f"protocol/recipe={recipe}").protocol, _convert_="all"
    ).recipe.views
    base = toy("dcb-dsa")
    policy = base.with_(recipe=base.recipe.with_(views=views))
    assert policy.hash != base.hash
    trained = weights(policy)
    for path in leaves(policy):
        if path[:2] == ("recipe", "views"):
            other = with_other(policy, path)
            assert other.hash != policy.hash and not torch.equal(weights(other), trained), path


def test_students_are_trained_alike_however_many_there_are_and_whatever_their_protocol_is_called():
    dsa = preset("dsa")
    assert dsa.with_(name="dsa+").training_hash == dsa.training_hash == preset("dm").training_hash
    assert dsa.with_(name="dsa+").hash != dsa.hash
    assert (
        preset("dsa", students=3, validate=True).training_hash
        == dsa.training_hash
        != preset("dsa", lr=0.02).training_hash
    )
    assert preset("dsa", students=3).hash != dsa.hash


def test_ddrankings_rates_drop_halfway_and_are_chosen():
    ddr, real = preset("ddr"), preset("ddr-real")
    assert (ddr.recipe.schedule, ddr.recipe.passes(10), ddr.recipe.batch) == (Steps(0.1, None), 1000, 256)
    assert [ddr.recipe.rate(epoch, 1000) for epoch in (0, 499, 500, 999)] == pytest.approx([0.01, 0.01, 0.001, 0.001])
    assert ddr.candidates == {"lr": [0.001, 0.005, 0.01, 0.05, 0.1]} and not real.candidates
    assert real.recipe == ddr.recipe.with_(epochs=200, batch=512) and real.recipe.rate(100, 200) == pytest.approx(0.001)


def test_idcs_students_are_those_of_its_code():
    idc, stream, ncfm = (preset(name).recipe for name in ("idc", "cl-lwf", "ncfm"))
    assert [idc.rate(e, 1000) for e in (665, 666, 833)] == pytest.approx([0.01, 0.002, 0.0004])
    assert stream == idc.with_(schedule=replace(idc.schedule, decay_at=[0.6, 0.8]))
    assert (idc.batch, idc.optimizer.momentum, idc.optimizer.weight_decay, idc.passes(10)) == (64, 0.9, 5e-4, 1000)
    assert [ncfm.rate(e, 2000) for e in (0, 399, 400, 1600)] == pytest.approx([1e-3, 1e-3, 5e-4, 1e-3 / 16])
    assert (ncfm.views, ncfm.mix, preset("ncfm").students, preset("idc").students) == (idc.views, idc.mix, 10, 3)
    digits = instantiate(composed("protocol=idc", "data=digits").protocol, _convert_="all").recipe.views
    assert digits.families("color_crop_cutout_scale_rotate") == "color_crop_scale_rotate"  # no mirror, no hole


def test_parts_that_came_later_leave_what_is_known_of_other_protocols():
    hashes = {
        "ast": "f0a376c2a1ff", "cvdd": "646afb853c60", "datm": "c8b7267c8f39", "dc": "02f9d75ee94b", "dc_mnist": "693ef5a5dfe8",
        "dcb-dsa": "d4a205104b89", "dcb-none": "f9ec44bfb396", "dm": "7e37d2eb6ba3", "dsa": "8a50e5f71c1e",
        "mtt": "2d3a07041dbc", "ours": "631ee092ae0b", "rded": "305a7daee2f8", "rth-hard": "67a389d8b0a7",
        "rth-soft": "4d02d06fefab", "sre2l-cifar": "8645fe1c320e", "sre2l-in": "90f5844bddb6", "tesla": "06f4a5c3338b",
    }  # fmt: skip
    assert {name: preset(name).hash for name in hashes} == hashes
    assert preset("mtt").with_(version=2).hash != hashes["mtt"]


def test_experts_are_known_by_what_they_were_known_by_before_recipes_had_parts():
    hashes = {
        "ast": "ae66af8424cb", "committee": "2a9ebe12cef8", "ftd": "0596c46b6d73", "mtt": "89faea407189",
        "teacher": "20d6df48410e",
    }  # fmt: skip
    nodes = {name: pathless(plain(composed(f"experts={name}").experts)) for name in hashes}
    known = {name: flat_experts(node) if "loss" in node else flat_teachers(node) for name, node in nodes.items()}
    assert {name: digits({"recipe": recipe}) for name, recipe in known.items()} == hashes


@pytest.mark.parametrize("part", ["labels", "choice"])
def test_any_labels_and_any_choice_go_with_any_preset(part):
    """What the preset says of its own ones is dropped where the others have no such setting; what a user says is not."""
    with_own = [
        name for name in options("protocol") if part in OmegaConf.load(ROOT / "configs/protocol" / f"{name}.yaml")
    ]
    assert with_own
    for name, other in itertools.product(with_own, options(f"protocol/{part}")):
        check_values(plain(compose(f"protocol={name}", f"protocol/{part}={other}", "data=digits").cfg))
    with pytest.raises(ValueError, match=r"unknown setting protocol\.choice\.test_every"):
        check_values(plain(compose("protocol=rs2", "protocol/choice=last", "protocol.choice.test_every=3").cfg))
