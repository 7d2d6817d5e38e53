"""Small real sets, networks and experts that the tests share."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, fields
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from distill import augment
from distill.data import real as data
from distill.data.real import RealData
from distill.networks.convnet import ConvNet
from distill.teachers.store import ExpertStore
from distill.training.expert_recipe import ExpertRecipe

ROOT = Path(__file__).parent.parent
torch.set_num_threads(1)  # the tensors are tiny: a second thread only waits
STRATEGY = "color_crop_cutout_flip_scale_rotate"


def composed(*overrides):
    """The configuration of ``python run.py`` with these overrides."""
    return deepcopy(_composed(*overrides))


@cache
def _composed(*overrides):
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("config", list(overrides))


def make_recipe(**fields) -> ExpertRecipe:
    values = dict(
        name="toy", epochs=4, extra_epochs=0, optimizer="sgd", lr=0.1, momentum=0.0, weight_decay=0.0, decay=1.0,
        decay_epoch=None, decay_momentum=None, batch=16, augment="none", precision="fp32", gsam_rho=None, gsam_alpha=None,
        ramp_start=1.0, ramp_epochs=0, gradient_penalty=0.0,
    )  # fmt: skip
    return ExpertRecipe(**{**values, **fields})


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
def cache(tmp_path_factory):
    """A cache folder of the tests' own: what was measured or whitened elsewhere has no say."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


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
    from distill.experts.train import train_experts

    store = ExpertStore(tmp_path / "experts", identity(real), 2)
    train_experts(store, real, student, make_recipe(), 0, lambda text, done, total: None, compile=False)
    return store


def identity(real: RealData, **changes) -> dict:
    parts = {
        "data": {"name": "toy", "fingerprint": real.fingerprint},
        "preprocessing": str(real.train.preprocessing),
        "shape": [3, 8, 8],
        "student": "convnet",
        "recipe": asdict(make_recipe()),
        "seed": 0,
    }
    return {**parts, **changes}


SHARED = dict(seed=0, steps=4, snapshot_every=2, max_skips=3)
MTT = dict(
    student_steps=3, expert_epochs=1, min_start_epoch=0, max_start_epoch=3, batch_syn=4, lr_student=0.05, lr_img=1.0,
    momentum_img=0.5, lr_lr=1e-4, momentum_lr=0.5, max_error=None, soft_label_assignment=False, memory="recompute",
    student_momentum=0.0, compile=False,
)  # fmt: skip
AST = dict(student_momentum=0.9, balanced=True, perturbation=1.0, intermediate="aggregate", init="kmeans")
DATM = dict(initial_max_start_epoch=2, expansion_steps=3, init="correct", lr_label=1.0, momentum_label=0.9)


def made(cls, **values):
    """A method of inputs and settings that stand in one dictionary."""
    from distill.methods.base import Inputs

    names = {each.name for each in fields(Inputs)} & values.keys()
    return cls.make(Inputs(**{name: values[name] for name in names}), values)


@pytest.fixture
def method_on(real, student, experts):
    """A method class on the toy set: ``method_on(DATM, lr_img=1.0)``, ready to update."""
    from distill.methods.matching import ast, datm

    own = {datm.DATM: DATM, ast.AST: AST}

    def build(cls, **changes):
        torch.manual_seed(0)
        values = {**SHARED, **MTT, **own.get(cls, {}), **changes}
        shared = dict(real=real.train, student=student, experts=experts, augment=augment.DSA(STRATEGY), ipc=2)
        method = made(cls, **{**shared, **values})
        method.begin()
        return method

    return build


MATCHING = dict(batch_real=8, init="real", lr_img=0.1, momentum_img=0.5, compile=False)
DC = dict(
    networks=1000, loops={2: (2, 1)}, collective=False, warmup_networks=1, warmup_updates=1, distance="rows",
    network=make_recipe(epochs=1, lr=0.01, batch=256), network_augment=augment.DSA(STRATEGY),
)  # fmt: skip
DM = dict(precision="fp32")


@pytest.fixture
def matching_on(real, student):
    """A method without experts on the toy set: ``matching_on(GradientMatching, init="noise")``, ready to update."""
    from distill.methods.matching.dm import DistributionMatching
    from distill.methods.matching.gradient import GradientMatching

    shared = dict(MATCHING, augment=augment.DSA(STRATEGY, siamese=True), real=real.train, student=student, ipc=2)
    own = {GradientMatching: DC, DistributionMatching: DM}

    def build(cls, **changes):
        torch.manual_seed(0)
        method = made(cls, **{**SHARED, **shared, **own[cls], **changes})
        method.begin()
        return method

    return build


RECOVERY = dict(
    iterations=4, steps=None, batch=100, together=4, share=(0, 1), pairs="all", vote_temperature=5.0, bn_weight=0.01,
    first_bn_weight=10.0, curriculum="cosine", milestone=1.0, area=0.08, roll=1, roll_both=False, crop_each=False,
    init="noise", patches=3, pool=16, factor=1, lr_img=0.25, betas=(0.5, 0.9), precision="fp32",
    log_every=1,
)  # fmt: skip
RDED = dict(steps=None, pool=16, patches=3, factor=1)


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
        recipe = make_recipe(epochs=30, lr=0.05, momentum=0.9)
        train(nets[-1:], real.train.images, real.train.labels, recipe, seeds=[seed], augment=augment.none)
    return Committee(("first", "second"), tuple(nets), (60.0, 50.0))


@pytest.fixture
def asked_on(real, student, committee):
    """A method with a committee on the toy set: ``asked_on(Recovery, area=None)``."""
    from distill.methods.decoupled.rded import RDED as Composites
    from distill.methods.decoupled.recovery import Recovery

    own = {Recovery: RECOVERY, Composites: RDED}

    def build(cls, **changes):
        shared = dict(
            seed=0, snapshot_every=2, max_skips=3, real=real.train, student=student, ipc=2, committee=committee
        )
        return made(cls, **{**shared, **own[cls], **changes})

    return build
