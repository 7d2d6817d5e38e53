"""Small real sets, networks, experts and settings that the tests share; settings are those of the configs, made smaller."""

import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import fields, is_dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from hypothesis import settings

from distill import augment
from distill.data import real as data
from distill.data.real import RealData
from distill.evaluation.underway import Underway
from distill.identity import flat_experts, parts_of
from distill.networks.convnet import ConvNet
from distill.progress import heard_by
from distill.sets.coreset import Coreset
from distill.teachers.store import ExpertStore
from distill.training.batch import Batches
from distill.training.losses import CrossEntropy
from distill.training.recipe import Recipe

ROOT = Path(__file__).parent.parent
torch.set_num_threads(1)  # the tensors are tiny: a second thread only waits
settings.register_profile("untimed", deadline=None)  # a busy machine is no falsification
settings.load_profile("untimed")
STRATEGY = "color_crop_cutout_flip_scale_rotate"


def composed(*overrides):
    """The configuration of ``python run.py`` with these overrides, on a CPU."""
    return deepcopy(_composed(*overrides))


@cache
def _composed(*overrides):
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("config", ["precision=fp32", *overrides])


def changed(settings, **values):
    """Frozen settings with other values, wherever among their parts the names are."""
    own = [each.name for each in fields(settings)]
    new = {name: value for name, value in values.items() if name in own}
    inner = {each: new.get(each, getattr(settings, each)) for each in own}
    inner = {each: value for each, value in inner.items() if is_dataclass(value)}
    left = {name: value for name, value in values.items() if name not in own}
    for part, value in inner.items():
        below = {name: left.pop(name) for name in list(left) if name in names_in(value)}
        new |= {part: changed(value, **below)} if below else {}
    assert not left, f"no setting {left}"
    return replace(settings, **new)


def names_in(settings) -> set[str]:
    values = {each.name: getattr(settings, each.name) for each in fields(settings)}
    return set(values).union(*(names_in(value) for value in values.values() if is_dataclass(value)))


def make_recipe(**values) -> Recipe:
    """A short recipe of experts, without augmentation."""
    recipe = instantiate(composed("experts=mtt").experts.recipe)
    return changed(recipe, **{"epochs": 4, "lr": 0.1, "batch": 16, "augment": "none", **values})


def preset(name, **values):
    """A protocol of the configs, with other values."""
    return changed(instantiate(composed(f"protocol={name}", "data=cifar10").protocol, _convert_="all"), **values)


def batches_of(split, recipe, loss=None, **more) -> Batches:
    """Those of a whole split."""
    return Batches(Coreset.whole(split), recipe, recipe.views.on(split), loss or CrossEntropy(), **more)


def write_npz(path: Path, classes: int = 3, per_class: int = 20, side: int = 8, channels: int = 3, **changes) -> Path:
    """Bright squares at a place that tells the class, with noise: learnable in a few steps."""
    g = np.random.default_rng(0)
    y = np.arange(classes).repeat(per_class)
    x = g.integers(0, 80, (len(y), side, side, channels), dtype=np.uint8)
    for i, cls in enumerate(y):
        x[i, 2 * cls : 2 * cls + 2, :4] += 150
    arrays = {
        "x_train": x,
        "y_train": y,
        "x_test": x[::2],
        "y_test": y[::2],
        "class_names": np.array([f"c{k}" for k in range(classes)]),
    }
    np.savez(path, **{**arrays, **changes})
    return path


def load_npz(path: Path, **settings) -> RealData:
    values = dict(path=path, strategy=STRATEGY, mean=None, std=None, zca=False, val=0.2, download=False)
    return data.load("toy", **{"root": path.parent, **values, **settings})


@pytest.fixture(autouse=True, scope="session")
def cache_folder(tmp_path_factory):
    """A cache folder of the tests' own: what was measured or whitened elsewhere has no say."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def taking(monkeypatch):
    """``taking(eager=1.0, stacked=0.5)``: ways of work that take these seconds by the clock, and those measured since."""
    now, measured = [0.0], []
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def work(seconds):
        now[0] += seconds

    def listen(text, done, total):
        what, _, way = text.partition("measuring which way is fastest: ")
        if not done and not what:
            measured[-1].append(way)

    def ways(**seconds):
        measured.append([])
        return {name: partial(work, each) for name, each in seconds.items()}, measured[-1]

    with heard_by(listen):
        yield ways


@pytest.fixture
def ran(tmp_path):
    """``ran(trial, make)`` gives what its students classify correctly, by name."""
    return lambda trial, make: trial.run(make, Underway(tmp_path / "underway.safetensors", trial.keys, 0.0))


@pytest.fixture
def always_due(monkeypatch):
    """Whoever keeps where it stands does so whenever it can."""
    monkeypatch.setattr("distill.due.SECONDS", -1.0)
    monkeypatch.setattr("distill.due.SHARE", float("inf"))


@pytest.fixture
def npz(tmp_path) -> Path:
    return write_npz(tmp_path / "toy.npz")


@pytest.fixture
def real(npz) -> RealData:
    return load_npz(npz)


@pytest.fixture
def student() -> Callable:
    return partial(ConvNet, (3, 8, 8), 3, depth=2, width=6, norm="instance", pooling="avg", activation="relu")


@pytest.fixture
def experts(real, student, tmp_path) -> ExpertStore:
    """Two experts of four epochs."""
    from distill.experts.train import experts as units
    from distill.parallel import crew

    store = ExpertStore(tmp_path / "experts", identity(real), 2)
    crew().make(units(store, real, student, make_recipe(), CrossEntropy(), 0))
    return store


def identity(real: RealData, **changes) -> dict:
    toy = {"name": "toy", "recipe": parts_of(make_recipe()), "loss": parts_of(CrossEntropy())}
    parts = {
        "data": {"name": "toy", "fingerprint": real.fingerprint},
        "preprocessing": str(real.train.preprocessing),
        "shape": [3, 8, 8],
        "student": "convnet",
        "recipe": flat_experts(toy),
        "seed": 0,
    }
    return {**parts, **changes}


SHORT = ["steps=4", "snapshot_every=2", "max_skips=3"]
TRAJECTORY = [
    *SHORT, "student_steps=3", "expert_epochs=1", "max_start_epoch=3", "batch_syn=4", "lr_student=0.05", "lr_img=1.0",
    "lr_lr=1e-4", "max_error=null", "compile=false",
]  # fmt: skip
CLASSES = [*SHORT, "batch_real=8", "lr_img=0.1", "init=real", "compile=false", "augment.name=siamese"]
RECOVERY = [
    *SHORT, "steps=null", "iterations=4", "area=0.08", "roll=1", "curriculum=cosine", "patches=3", "pool=16", "log_every=1",
]  # fmt: skip
TOYS: Mapping[str, list[str]] = {  # what makes a method of the configs a matter of seconds
    "TrajectoryMatching": ["mtt", *TRAJECTORY],
    "AST": ["ast", *TRAJECTORY],
    "DATM": ["datm", *TRAJECTORY, "initial_max_start_epoch=2", "expansion_steps=3", "lr_label=1.0"],
    "GradientMatching": ["dsa", *CLASSES, "~loops", "+loops={2:[2,1]}", "warmup_networks=1", "warmup_updates=1"],
    "DistributionMatching": ["dm", *CLASSES],
    "NCFM": [
        "ncfm",
        *SHORT,
        "batch_real=8",
        "frequencies=16",
        "lr_img=0.01",
        "compile=false",
    ],
    "IDC": ["idc", *CLASSES, "sweeps=2", "augment.name=siamese-compound", "network.steps=2", "network.batch=8"],
    "Recovery": ["sre2l", *RECOVERY],
    "LinearGradientMatching": ["lgm", *SHORT, "views=2", "batch_real=8", "grow_every=2"],
    "KRRST": ["krrst", *SHORT, "batch_real=8", "lr_img=0.01", "lr_targets=0.01", "pool.count=2", "pool.steps=3"],
    "NRR": ["nrr", *RECOVERY, "area=null", "curriculum=none", "critical=12"],
    "RDED": ["rded", *SHORT[1:], "pool=16", "patches=3"],
}


def toy_settings(cls) -> dict:
    """The values of a method, or of a test's variant of it, made small, as its configuration gives them."""
    name, *values = next(TOYS[each.__name__] for each in cls.__mro__ if each.__name__ in TOYS)
    stated = [re.sub(r"^([~+]?)", r"\1method.", each) for each in values]
    cfg = composed(f"method={name}", "data=cifar10", *stated)
    return dict(instantiate(cfg.method, _convert_="all").keywords)


def made(cls, **values):
    """A method of inputs and settings that stand in one dictionary."""
    from distill.methods.base import Inputs

    names = {each.name for each in fields(Inputs)} & values.keys()
    return cls.make(Inputs(**{name: values[name] for name in names}), values)


@pytest.fixture
def method_on(real, student, experts):
    """A method class on the toy set: ``method_on(DATM, lr_img=1.0)``, ready to update."""

    def build(cls, **changes):
        torch.manual_seed(0)
        shared = dict(seed=0, real=real.train, student=student, experts=experts, ipc=2, augment=augment.DSA(STRATEGY))
        method = made(cls, **{**toy_settings(cls), **shared, **changes})
        method.begin()
        return method

    return build


@pytest.fixture
def matching_on(real, student):
    """A method without experts on the toy set: ``matching_on(GradientMatching, init="noise")``, ready to update."""

    def build(cls, **changes):
        torch.manual_seed(0)
        shared = dict(seed=0, real=real.train, student=student, ipc=2, augment=augment.DSA(STRATEGY, siamese=True))
        method = made(cls, **{**toy_settings(cls), **shared, **changes})
        method.begin()
        return method

    return build


@pytest.fixture
def teacher() -> Callable:
    """Makes a network with batch norm."""
    return partial(ConvNet, (3, 8, 8), 3, depth=2, width=6, norm="batch", pooling="avg", activation="relu")


@pytest.fixture
def committee(real, teacher):
    """Two teachers that saw the toy set for some epochs."""
    from distill.teachers.committee import Committee
    from distill.training.loop import train

    nets = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        nets.append(teacher())
        train(nets[-1:], batches_of(real.train, make_recipe(epochs=30, lr=0.05, momentum=0.9)), seeds=[seed])
    return Committee(("first", "second"), tuple(nets), (60.0, 50.0))


@pytest.fixture
def asked_on(real, student, committee):
    """A method with a committee on the toy set: ``asked_on(Recovery, area=None)``."""

    def build(cls, **changes):
        shared = dict(seed=0, real=real.train, student=student, ipc=2, committee=committee)
        return made(cls, **{**toy_settings(cls), **shared, **changes})

    return build
