"""The shape of the code: imports point one way, distill.cli and distill.runs alone know Hydra, configs are complete."""

import ast
import re
from pathlib import Path

import pytest
import torch
from conftest import changed, composed, preset
from hydra.utils import instantiate
from omegaconf import OmegaConf

from distill.identity import flat_protocol, parts_of
from distill.training.losses import Clipped
from distill.training.optimizers import Sgd
from distill.training.schedules import Drop

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "configs"
# Each module may import what stands before it.
ORDER = [
    *(
        "distill.filed",
        "distill.files",
        "distill.identity",
        "distill.text",
        "distill.progress",
        "distill.due",
        "distill.parallel",
        "distill.autotune",
        "distill.native",
        "distill.effort",
    ),
    *(
        "distill.checks",
        "distill.rng",
        "distill.wording",
        "distill.places",
        "distill.sizes",
        "distill.configs",
        "distill.results",
    ),
    "distill.presets",
    *("distill.engines", "distill.engines.base", "distill.engines.local", "distill.engines.*"),
    *(
        "distill.networks",
        "distill.networks.functions",
        "distill.networks.instance",
        "distill.networks.base",
        "distill.networks.flat",
        "distill.networks.*",
    ),
    *("distill.augment.families", "distill.augment.dc", "distill.augment.crops", "distill.augment.mixing"),
    *("distill.augment.tiles", "distill.augment.policies", "distill.augment.makers", "distill.augment"),
    *("distill.data", "distill.data.selection", "distill.data.preprocessing", "distill.data.settings"),
    "distill.data.pictures",
    *("distill.data.folders", "distill.data.readers", "distill.data.lazy", "distill.data.content"),
    *("distill.data.split", "distill.data.real"),
    *("distill.report", "distill.report.unfinished", "distill.report.rows"),
    *("distill.sets", "distill.sets.base", "distill.sets.coreset", "distill.sets.walks", "distill.sets.foreign"),
    "distill.sets.soundness",
    *(
        "distill.sets.formation",
        "distill.sets.looks",
        "distill.sets.export",
        "distill.sets.repository",
        "distill.sets.hub",
        "distill.sets.synthetic",
        "distill.sets.stored",
        "distill.sets.reading",
        "distill.sets.union",
    ),
    *("distill.sets.importers", "distill.sets.importers.safe", "distill.sets.importers.base"),
    *("distill.sets.importers.evidence", "distill.sets.importers.tensors", "distill.sets.importers.assembling"),
    "distill.sets.importers.*",
    *("distill.training", "distill.training.losses", "distill.training.optimizers", "distill.training.schedules"),
    *("distill.training.ridge", "distill.training.pretext"),
    *("distill.training.views", "distill.training.recipe", "distill.training.batch", "distill.training.gradients"),
    *("distill.training.dynamics", "distill.training.loop", "distill.training.accuracy"),
    *("distill.teachers", "distill.teachers.store", "distill.teachers.committee", "distill.teachers.proxies"),
    *("distill.teachers.shelf", "distill.teachers.codecs", "distill.teachers.label_store", "distill.teachers.labels"),
    *("distill.teachers.lwf", "distill.teachers.probe"),
    *(
        "distill.teachers.stored",
        "distill.teachers.calibrated",
        "distill.teachers.once",
        "distill.teachers.regressed",
        "distill.teachers.reinforced",
        "distill.teachers.given",
    ),
    *(
        "distill.methods",
        "distill.methods.foreseen",
        "distill.methods.peers",
        "distill.methods.base",
        "distill.methods.synthesis",
        "distill.methods.shares",
        "distill.methods.sampling",
        "distill.methods.picked",
    ),
    *(
        "distill.methods.matching",
        "distill.methods.matching.unroll",
        "distill.methods.matching.sliced",
        "distill.methods.matching.ways",
        "distill.methods.matching.classes",
        "distill.methods.matching.matcher",
        "distill.methods.matching.*",
    ),
    *(
        "distill.methods.selection",
        "distill.methods.selection.geometry",
        "distill.methods.selection.scores",
        "distill.methods.selection.coverage",
        "distill.methods.selection.rules",
        "distill.methods.selection.*",
    ),
    *(
        "distill.methods.decoupled",
        "distill.methods.decoupled.units",
        "distill.methods.decoupled.views",
        "distill.methods.decoupled.moments",
        "distill.methods.decoupled.edc",
        "distill.methods.decoupled.rded",
        "distill.methods.decoupled.critical",
        "distill.methods.decoupled.foreseen",
        "distill.methods.decoupled.recovery",
        "distill.methods.decoupled.*",
    ),
    *(
        "distill.methods.selfsupervised",
        "distill.methods.selfsupervised.pool",
        "distill.methods.selfsupervised.krrst",
        "distill.methods.selfsupervised.source",
    ),
    *(
        "distill.report.differences",
        "distill.report.gains",
        "distill.report.table",
    ),
    "distill.report.runs",
    *("distill.comparison", "distill.comparison.arms", "distill.comparison.verdicts", "distill.comparison.citations"),
    *(
        "distill.comparison.published",
        "distill.comparison.pivots",
        "distill.comparison.forms",
        "distill.comparison.results",
        "distill.comparison.markup",
        "distill.comparison.charts",
        "distill.comparison.overall",
        "distill.comparison.written",
    ),
    *(
        "distill.page",
        "distill.page.boards",
        "distill.page.details",
        "distill.page.figures",
        "distill.page.pictures",
        "distill.page.made",
        "distill.page.written",
    ),
    *("distill.ranking", "distill.ranking.space", "distill.ranking.measures", "distill.ranking.truth"),
    "distill.ranking.tables",
    *("distill.suites", "distill.suites.base", "distill.suites.dcbench", "distill.suites.ddranking"),
    *("distill.suites.regimes", "distill.suites.tables"),
    *(
        "distill.evaluation",
        "distill.evaluation.statistics",
        "distill.evaluation.underway",
        "distill.evaluation.pretraining",
        "distill.evaluation.protocol",
        "distill.evaluation.kept",
        "distill.evaluation.attacks",
        "distill.evaluation.corruptions",
        "distill.evaluation.conditions",
        "distill.evaluation.trial",
        "distill.evaluation.rehearsal",
    ),
    *("distill.evaluation.planned", "distill.evaluation.measure", "distill.evaluation.entry"),
    "distill.evaluation.evaluate",
    *("distill.continual", "distill.continual.orders", "distill.continual.courses", "distill.continual.tables"),
    *("distill.experts", "distill.experts.train"),
    *(
        "distill.runs",
        "distill.runs.composed",
        "distill.runs.checks",
        "distill.runs.cells",
        "distill.runs.signals",
        "distill.runs.progress",
    ),
    *(
        "distill.runs.recorded",
        "distill.runs.stores",
        "distill.runs.line",
        "distill.runs.loggers",
        "distill.runs.stages",
        "distill.runs.rivals",
        "distill.runs.entries",
        "distill.runs.judging",
        "distill.runs.comparing",
        "distill.runs.rehearsed",
        "distill.runs.pieces",
        "distill.runs.judged",
        "distill.runs.ahead",
        "distill.runs.room",
        "distill.runs.cards",
        "distill.runs.imagined",
        "distill.runs.cost",
        "distill.runs.ranking",
        "distill.runs.errands",
        "distill.runs.workers",
        "distill.runs.plan",
    ),
    *(
        "distill.runs.explained",
        "distill.runs.pipeline",
        "distill.runs.results",
        "distill.runs.outside",
        "distill.runs.suite",
        "distill.runs.foreseen",
        "distill.runs.suited",
        "distill.runs.robustness",
        "distill.runs.continual",
        "distill.runs.adopted",
        "distill.runs.labelled",
        "distill.runs.importing",
        "distill.artefacts",
        "distill.benchmark",
        "distill.api",
    ),
    "distill",
    *("distill.cli", "distill.cli.habits", "distill.cli.typed", "distill.cli.listing", "distill.cli.errors"),
    *("distill.cli.sweeps", "distill.cli.jobs", "distill.cli.artefacts", "distill.cli.planning", "distill.cli.suites"),
    *(
        "distill.cli.robustness",
        "distill.cli.ranking",
        "distill.cli.continual",
        "distill.cli.results",
        "distill.cli.main",
    ),
    *("distill.__main__", "run"),
]


def modules():
    beside = [*ROOT.glob("configs/**/*.py"), *ROOT.glob("experts/**/*.py"), *ROOT.glob("results/*.py")]
    for path in [ROOT / "run.py", *ROOT.glob("distill/**/*.py"), *beside]:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        yield f"distill.{name}" if path in beside else name, path


MODULES = dict(modules())


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from [part for part in parts if part in MODULES] or [node.module]


def rank(module):
    if module in ORDER:
        return ORDER.index(module)
    return next((i for i, name in enumerate(ORDER) if name == f"{module.rpartition('.')[0]}.*"), None)


def test_imports_point_one_way():
    unknown = [name for name in MODULES if rank(name) is None]
    assert not unknown, f"give {unknown} a place in ORDER"
    backward = []
    for name, path in MODULES.items():
        for target in set(imports(path)) & set(MODULES):
            extends = rank(name) == rank(target) and ORDER[rank(name)].endswith(".*")  # one method may extend another
            if rank(target) >= rank(name) and not extends:
                backward.append(f"{name} -> {target}")
    assert not backward


def test_every_room_is_packaged_and_known_by_one_name():
    rooms = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    (packages,) = re.findall(r"^packages = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL | re.MULTILINE)
    assert sorted(rooms) == re.findall(r'"(.*?)"', packages)
    for name, path in [*MODULES.items(), *((path.stem, path) for path in ROOT.glob("tests/*.py"))]:
        assert not {target for target in imports(path) if target.split(".")[0] in ("configs", "experts", "results")}, (
            name
        )


def test_the_command_line_and_its_runs_are_the_only_parts_that_know_hydra():
    users = {
        name
        for name, path in MODULES.items()
        for target in imports(path)
        if target.split(".")[0] in ("hydra", "omegaconf")
    }
    assert users and all(name.startswith(("distill.cli.", "distill.runs.", "distill.presets")) for name in users)


def test_nothing_unpickles_and_nothing_seeds_from_the_clock():
    for name, path in MODULES.items():
        text = path.read_text()
        assert not re.search(r"pickle\.load|allow_pickle=True|weights_only=False|add_safe_globals", text), name
        loads = re.findall(r"torch\.load\(.*", text)
        assert not loads or (
            name == "distill.sets.importers.safe" and all("weights_only=True" in each for each in loads)
        ), name
        assert not re.search(r"seed\w*\(.*time\(|np\.random\.(?!default_rng)", text), name


def options(group):
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


@pytest.mark.parametrize("name", options("protocol"))
def test_a_preset_is_a_complete_protocol_under_its_own_name(name):
    protocol = preset(name)
    assert (protocol.name, protocol.version) == (name, {"cl-lwf": 2}.get(name, 1))
    lines = (CONFIGS / "protocol" / f"{name}.yaml").read_text().splitlines()
    assert len(lines) <= 20  # over shared recipes


# Field by field from the tables of the evaluation specification, section 7:
# passes, lr, learned rate, batch, augmentation, labels, students, iterate; AST's stands in the trajectory specification
PRESETS = {
    "dc": (301, 0.01, False, 256, "none", "hard", 20, "last"),
    "dc_mnist": (1001, 0.01, False, 256, "crop_scale_rotate", "hard", 20, "last"),
    "dsa": (1001, 0.01, False, 256, "dsa", "hard", 20, "last"),
    "dm": (1001, 0.01, False, 256, "dsa", "hard", 20, "last"),
    "eccv24": (1001, 0.01, False, 256, "dsa", "hard", 3, "last"),
    "mtt": (1001, 0.01, True, 256, "dsa", "hard", 5, "test"),
    "tesla": (1001, 0.01, True, 256, "dsa", "own", 3, "test"),
    "datm": (1001, 0.01, True, 128, "dsa", "own", 5, "test"),
    "dcb-none": (301, 0.01, False, 256, "none", "hard", 5, "last"),
    "dcb-dsa": (1001, 0.01, False, 256, "dsa", "hard", 5, "last"),
    "ours": (1001, 0.01, False, 256, "dsa", "both", 5, "val"),
}  # those that ask a committee: test_committee_line.py


@pytest.mark.parametrize("name", PRESETS)
def test_presets_equal_the_table(name):
    protocol = preset(name)
    p, recipe = flat_protocol(parts_of(protocol)), protocol.recipe
    names = ("lr", "artefact_lr", "batch", "augment", "labels", "students", "iterate")
    assert (recipe.passes(1), *(p[each] for each in names)) == PRESETS[name]
    assert (recipe.optimizer, recipe.schedule) == (Sgd(0.9, 5e-4), Drop(0.1, None, None))
    assert recipe.schedule.last(recipe.epochs) == recipe.epochs // 2 + 1
    assert bool(protocol.candidates) == (name == "ours") and p["test_every"] is None


def test_asts_preset_differs_from_mtts_as_the_table_says():
    ast, changes = preset("ast"), dict(weight_decay=1e-3, decay=0.5, decay_momentum=0.8, students=1, test_every=20)
    assert ast == preset("mtt", **changes).with_(name="ast")
    script = instantiate(composed("experiment=ast_cifar100_ipc10").protocol, _convert_="all")
    assert script == changed(ast, epochs=300)  # it trains its students shorter than the others


def test_asts_experts_are_those_of_the_table():
    experts = instantiate(composed("method=ast", "data=cifar10").method.experts)
    recipe = experts.recipe
    assert (recipe.lr, recipe.batch, recipe.epochs, recipe.optimizer) == (0.003, 256, 50, Sgd(0.9, 1e-3))
    assert (recipe.schedule, experts.loss) == (Drop(0.6, 26, None), Clipped(0.5, 10, 2.0))


PICKED = [
    name for name in options("experiment") if re.match(r"(random|herding)_.*ipc", name)
]  # papers' tables beside methods
CELLS = [name for name in options("experiment") if "ipc" in name and name not in PICKED]
PROTOCOLS = {
    "dcc": "dc",
    "dsac": "dsa",
    "sre2l": "sre2l-cifar",
    "cda": "sre2l-cifar",
    "pca": "rth-hard",
    "krrst": "transfer",
}  # others are called as their method


# Constants of each set: the evaluation specification's table; then where a paper's code has others of its own.
FIELD, IMAGENET = ([0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]), ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
CIFAR100 = [0.5071, 0.4866, 0.4409], [0.2673, 0.2564, 0.2762]
CONSTANTS = {
    "mnist": ([0.1307], [0.3081]), "fashion_mnist": ([0.2861], [0.3530]),
    "svhn": ([0.4377, 0.4438, 0.4728], [0.1980, 0.2010, 0.1970]),
    "cifar10": FIELD, "cifar100": FIELD, "tiny_imagenet": IMAGENET, "imagenet64": IMAGENET, "imagenet": IMAGENET,
    ("dc", "cifar100"): CIFAR100, ("dsa", "cifar100"): CIFAR100, ("dm", "cifar100"): CIFAR100,
    ("cvdd", "cifar10"): (FIELD[0], [0.2470, 0.2435, 0.2616]),
    ("cvdd", "cifar100"): ([0.5071, 0.4867, 0.4408], [0.2675, 0.2565, 0.2761]),
    ("edc", "cifar100"): ([0.5071, 0.4867, 0.4408], [0.2675, 0.2565, 0.2761]),
    ("rded", "cifar10"): IMAGENET, ("rded", "cifar100"): IMAGENET,
}  # fmt: skip
POOLED = ("dc", "dsa", "dcc", "dsac", "dm")  # five syntheses of twenty students stand behind each of their numbers


@pytest.mark.parametrize("name", CELLS)
def test_a_published_cell_is_complete_and_has_its_papers_values(name):
    path = [f"data.path={ROOT}"] if "_imagenet" in name.replace("_tiny_imagenet", "") else []
    cfg = composed(f"experiment={name}", *path)
    OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    method, network, data, ipc = re.fullmatch(r"([a-z0-9]+)_(convnet_)?(\w+)_ipc(\d+)", name).groups()
    protocol = "dc_mnist" if (method, data) == ("dc", "mnist") else PROTOCOLS.get(method, method)
    assert (cfg.data.name, cfg.ipc, cfg.protocol.name) == (data, int(ipc), protocol)
    assert cfg.data.val == 0
    assert cfg.data.test_resize == (72 if (method, data) == ("rded", "tiny_imagenet") else None)
    assert (cfg.data.mean, cfg.data.std) == CONSTANTS.get((method, data), CONSTANTS[data])
    # A mirrored digit is another sign; DM's script mirrors them all the same.
    assert ("flip" in cfg.data.strategy) == (data not in ("mnist", "svhn") or method == "dm")
    assert (cfg.syntheses, cfg.protocol.students) == (5, 20) if method in POOLED else cfg.syntheses == 1
    if method == "cvdd":
        own = composed("student=[mobilenet_v2,densenet121]").student
        assert set(cfg.protocol.labels.committee.networks) > {"mobilenet_v2", "densenet121"} < set(own)
        assert [own[name]._target_ for name in ("mobilenet_v2", "densenet121")] == [
            "distill.networks.cvdd.MobileNetV2",
            "distill.networks.cvdd.DenseNet121",
        ]
    if method in ("sre2l", "cda", "rded", "nrr"):
        own = "convnet" if network else "resnet18_bn_kaiming"
        assert list(cfg.method.committee.networks) == [own] == [*cfg.student]
        assert not network or cfg.student.convnet.norm == "batch"
    if method == "ast" or name in ("krrst_tiny_imagenet_ipc10", "krrst_imagenet64_ipc1"):  # no number could be read
        assert cfg.published is None
    else:
        assert re.fullmatch(r"\d+\.\d( ± \d\.\d)?( recalled)?", cfg.published)
    assert "arXiv:" in (CONFIGS / "experiment" / f"{name}.yaml").read_text()


@pytest.mark.parametrize("name", PICKED)
def test_a_published_cell_of_real_images_is_complete(name):
    cfg = composed(f"experiment={name}")
    method, of, data, ipc = re.fullmatch(r"([a-z]+)_(mtt_)?(\w+)_ipc(\d+)", name).groups()
    protocol = "mtt" if of else "dc_mnist" if data == "mnist" else "dc"
    assert (cfg.protocol.name, cfg.data.zca, cfg.data.val) == (protocol, bool(of), 0)
    assert (cfg.data.name, cfg.ipc, cfg.data.strategy) == (
        data,
        int(ipc),
        composed(f"experiment={'mtt' if of else 'dc'}_{data}_ipc{ipc}").data.strategy,
    )
    assert (cfg.syntheses > 1) == (method == "random")  # rules without chance pick one subset
    assert re.fullmatch(r"\d+\.\d( ± \d\.\d)?", cfg.published)


LEARN = [method for method in options("method") if "max_start_epoch" in composed(f"method={method}").method]


@pytest.mark.parametrize("name", [name for name in CELLS if name.split("_")[0] in LEARN])
def test_a_published_cells_experts_are_long_enough(name):
    cfg = composed(f"experiment={name}", f"data.path={ROOT}")
    recipe = instantiate(cfg.method.experts.recipe)
    assert cfg.method.max_start_epoch + cfg.method.expert_epochs - 1 <= recipe.passes(1)
    assert (cfg.method.experts.name, recipe.epochs) == {"datm": ("ftd", 100), "ast": ("ast", 50)}.get(
        cfg.protocol.name, ("mtt", 50)
    )


@pytest.mark.parametrize("name", [name for name in CELLS if name.split("_")[0] in ("dc", "dsa", "dcc", "dsac")])
def test_a_cell_of_gradient_matching_runs_a_thousand_networks(name):
    cfg = composed(f"experiment={name}")
    updates, epochs = cfg.method.loops[cfg.ipc]
    assert cfg.method.networks == 1000 and cfg.method.steps is None
    few = {"dc": (1, 1), "dsa": (1, 1), "dcc": (10, 5), "dsac": (10, 5)}
    assert (updates, epochs) == {1: few[name.split("_")[0]], 10: (10, 50), 50: (50, 10)}[cfg.ipc]


@pytest.mark.parametrize("name", [name for name in CELLS if name.startswith("idc_")])
def test_idcs_cells_have_the_values_of_its_table(name):
    cfg = composed(f"experiment={name}")
    data, method = cfg.data.name, cfg.method
    rate, distance, stretch = {
        "mnist": (1e-4, "absolute", 8), "fashion_mnist": (1e-4 * (28 / 32) ** 2, "absolute", 8), "svhn": (5e-3, "squared", 8)
    }.get(data, (5e-3, "squared", 32))  # fmt: skip
    assert (method.lr_img, method.distance, method.network.steps) == (pytest.approx(rate, rel=1e-3), distance, stretch)
    assert (method.factors, method.networks, method.sweeps, method.turns) == ([2], 2000, 100, None)
    plain = data == "mnist"  # four in one: no CutMix, no hole
    assert [each is None for each in (method.network.mix, cfg.protocol.recipe.mix)] == [plain, plain]
    assert method.augment.strategy == ("color_crop" if plain else "color_crop_cutout")


@pytest.mark.parametrize("name", [name for name in CELLS if name.startswith("ncfm_")])
def test_ncfms_cells_have_the_values_of_its_table(name):
    cfg = composed(f"experiment={name}")
    method, recipe = cfg.method, cfg.protocol.recipe
    sgd = name == "ncfm_cifar100_ipc10"
    assert (method.optimizer, method.lr_img) == (("sgd", 0.01) if sgd else ("adamw", 1e-3))
    assert recipe.epochs == {"ncfm_tiny_imagenet_ipc10": 300, "ncfm_tiny_imagenet_ipc50": 40}.get(name, 2000)
    assert (method.iterations, method.frequencies, method.batch_real, method.factors) == (20000, 4096, 1024, [2])
    experts = instantiate(method.experts.recipe)
    assert (method.experts.count, experts.epochs, experts.batch, experts.optimizer) == (20, 60, 128, Sgd(0.9, 5e-4))
    assert [experts.rate(epoch, 60) for epoch in (39, 40, 50)] == pytest.approx([0.01, 0.002, 0.0004])


@pytest.mark.parametrize("name", [name for name in CELLS if name.startswith("edc_")])
def test_edcs_cells_have_the_values_of_its_table(name):
    cfg = composed(f"experiment={name}")
    method, recipe, small = cfg.method, cfg.protocol.recipe, cfg.data.name == "cifar10"
    assert (method.iterations, method.committee.recipe.epochs) == ((75, 5) if small else (2000, 50))
    batch = {"cifar10": 25, "cifar100": 50, "tiny_imagenet": 100}[cfg.data.name]
    long = cfg.ipc == 1 or cfg.data.name != "tiny_imagenet"
    assert (recipe.epochs, recipe.batch, recipe.schedule.stretch) == (1000 if long else 300, batch, 2.0)
    shared = dict(
        lr_img=0.05, bn_weight=0.01, batch=100, area=0.5, curriculum="none", roll=0, init="real", pairs="in_turn"
    )
    parts = dict(
        class_share=0.5, statistics_average=0.8, flatness=0.25, flatness_average=0.99, flatness_temperature=4.0
    )
    assert {key: method[key] for key in shared | parts} == shared | parts
    assert (method.committee.recipe.lr, method.first_bn_weight) == (0.05, 10.0)


@pytest.mark.parametrize("name", [name for name in CELLS if name.startswith("krrst_")])
def test_krrsts_cells_have_the_values_of_its_table(name):
    cfg = composed(f"experiment={name}", f"data.path={ROOT}")
    method, small = cfg.method, name == "krrst_cifar100_ipc10"
    assert (method.lr_img, method.lr_targets) == ((1e-4, 1e-4) if small else (1e-5, 1e-5))
    assert cfg.student.convnet_doubling.width == ([128, 256, 512] if small else [64, 128, 256, 512])
    assert (method.steps, method.batch_real, method.ridge, method.clip, method.raw_start) == (
        160000,
        1024,
        1e-6,
        None,
        True,
    )
    pool = method.pool
    assert (pool.count, pool.steps, pool.lr, pool.momentum, pool.weight_decay) == (10, 1000, 0.1, 0.9, 1e-3)
    assert [*method.committee.networks] == ["resnet18_bn_kaiming"] and method.committee.pretext.weight == 5e-3


def test_all_published_cells_of_the_specification_are_there():
    cells = {
        "random": ["cifar10 1 10 50", "mtt_cifar10 1 10 50", "mnist 1 10", "fashion_mnist 1 10"],
        "herding": ["cifar10 1 10 50"],
        "mtt": ["cifar10 1 10 50", "cifar100 1 10 50", "tiny_imagenet 1 10 50"],
        "tesla": ["cifar10 1", "cifar100 50", "imagenet64 1"],
        "ast": ["cifar10 10", "cifar100 1 10 50", "tiny_imagenet 1"],
        "datm": ["cifar10 1 10 50 500 1000", "cifar100 1 10 50 100", "tiny_imagenet 1 10 50"],
        "dc": ["mnist 1 10 50", "fashion_mnist 1 10 50", "svhn 1 10 50", "cifar10 1 10 50", "cifar100 1 10"],
        "dsa": ["mnist 1 10 50", "fashion_mnist 1 10 50", "svhn 1 10 50", "cifar10 1 10 50", "cifar100 1 10 50"],
        "dcc": ["svhn 1 10 50", "cifar10 1 10 50", "cifar100 1 10 50"],
        "dsac": ["svhn 1 10 50", "cifar10 1 10 50", "cifar100 1 10 50"],
        "sre2l": ["cifar10 10 50", "cifar100 1 10 50"],
        "cda": ["cifar100 1 10 50"],
        "cvdd": ["cifar10 1 10 50", "cifar100 1 10 50"],
        "idc": ["mnist 1 10 50", "fashion_mnist 1 10 50", "svhn 1 10 50", "cifar10 1 10 50", "cifar100 10"],
        "ncfm": ["cifar10 1 10 50", "cifar100 1 10 50", "tiny_imagenet 1 10 50"],
        "pca": ["imagenet 10 50 100"],
        "edc": ["cifar10 1 10 50", "cifar100 1 10 50", "tiny_imagenet 1 10 50"],
        "krrst": ["cifar100 10", "tiny_imagenet 10", "imagenet64 1"],
        "nrr": ["cifar10 10", "cifar100 10", "tiny_imagenet 1 10 50"],
        "rded": ["cifar10 1 10 50", "convnet_cifar10 1 10 50", "cifar100 1 10 50", "tiny_imagenet 1 10 50"],
        "dm": [
            "mnist 1 10 50",
            "fashion_mnist 1 10 50",
            "svhn 1 10 50",
            "cifar10 1 10 50",
            "cifar100 1 10 50",
            "tiny_imagenet 1 10 50",
        ],
    }
    expected = {
        f"{method}_{row.split()[0]}_ipc{ipc}"
        for method, rows in cells.items()
        for row in rows
        for ipc in row.split()[1:]
    }
    assert {*CELLS, *PICKED} == expected


@pytest.mark.parametrize("name", options("student"))
def test_student_configs_make_networks(name):
    cfg = composed(f"student={name}")
    net = instantiate(cfg.student[name])((3, 32, 32), 10)
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_code_is_short():
    """Modules up to 300 lines, functions up to 60 lines and 8 arguments."""
    long = []
    for path in [*MODULES.values(), *ROOT.glob("benchmarks/*.py")]:
        text = path.read_text()
        long += [f"{path.name}: {len(text.splitlines())} lines"] * (len(text.splitlines()) > 300)
        for each in ast.walk(ast.parse(text)):
            if isinstance(each, ast.FunctionDef):
                lines, takes = each.end_lineno - each.lineno + 1, each.args
                every = (*takes.posonlyargs, *takes.args, *takes.kwonlyargs, takes.vararg, takes.kwarg)
                count = len({one.arg for one in every if one} - {"self", "cls"})
                long += [f"{path.name}: {each.name} has {lines} lines, {count} arguments"] * (lines > 60 or count > 8)
    assert not long
