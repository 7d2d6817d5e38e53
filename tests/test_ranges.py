"""Ranges: which values a statement takes, what is said of the others, and that every setting has one."""

import copy
from functools import reduce

import pytest
from conftest import ROOT, composed
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from distill.checks import check_ranges, check_tree, inside, shortened
from distill.networks.base import Student
from distill.runs.checks import check_values, plain


@pytest.mark.parametrize(
    "statement, taken, refused",
    [
        ("(0, 1]", [0.5, 1, 1.0], [0, -1, 1.1, None, "0.5", True, float("nan")]),
        ("[0, 1)", [0, 0.99], [1, -0.01]),
        ("whole [1, inf)", [1, 10**9], [0, 1.0, 2.5, None, "3", float("inf"), True]),
        ("null or (0, inf)", [None, 1e-9], [0.0, "x"]),
        ("null or whole [1, inf)", [None, 7], [0, 7.0]),
        ("true or false", [True, False], ["off", "no", "true", 0, 1, None]),
        ("one of true, false, auto", [True, False, "auto"], [1, "true", None]),
        ("one of 18, 34", [18, 34], ["18", 18.0, 50]),
        ("null or one of a, b", [None, "a"], ["c", "null", ""]),
        ("some of flip, crop joined by _", ["flip", "crop_flip"], ["", "crop_", "x", None, 5]),
        ("list of whole [1, 9]", [[1, 9]], [[], [1.5], 1, "1", [True], None]),
        ("null or list of text or whole [0, 9]", [None, ["cat", 3]], [[10], [""], {"a": 1}]),
        ("two of [0, 1)", [[0, 0.5], (0.1, 0.2)], [[0.5], [0, 1], [0, 0, 0], "ab", None]),
        ("map of whole [1, 9] to two of whole [1, 9]", [{1: [2, 3]}], [{}, {0: [1, 1]}, {1: [1]}, [1], None]),
        ("text", ["a b"], ["", " ", 5, None, True, "a\0b"]),
        ("{} or map of text to (0, 1]", [{}, {"a": 1}], [{"a": 0}, {1: 1}, None]),
        ("absent or text", [..., "a"], ["", None]),
    ],
)
def test_a_statement_takes_what_it_says(statement, taken, refused):
    assert [value for value in taken + refused if inside(value, statement)] == taken


def test_the_first_value_outside_of_its_range_is_told():
    with pytest.raises(ValueError, match=r"^method\.area is 1\.5, expected null or a number in \(0, 1\]$"):
        check_ranges("method", {"roll": 4, "area": 1.5}, {"roll": "whole [0, inf)", "area": "null or (0, 1]"})
    with pytest.raises(ValueError, match=r"^seed is 'x', expected a whole number in \[0, inf\)$"):
        check_ranges("", {"seed": "x"}, {"seed": "whole [0, inf)"})
    with pytest.raises(ValueError, match=r"^data\.zca is 'off', expected true or false$"):
        check_ranges("data", {"zca": "off"}, {"zca": "true or false"})


def test_a_value_that_fills_a_line_is_cut():
    assert len(shortened(list(range(10**5)))) < 100


def options(group):
    return sorted(path.stem for path in (ROOT / "configs" / group).glob("*.yaml"))


@pytest.fixture(scope="module")
def compositions():
    """Plain configurations in which every option of every group stands at least once."""
    students = f"student=[{','.join(options('student'))}]"
    methods, protocols, data = (options(group) for group in ("method", "protocol", "data"))
    made = []
    for i, protocol in enumerate(protocols):
        more = ["experts=teacher", students] if i == 0 else ["experts=committee"] if i == 1 else []
        more += [f"logger={options('logger')[-i - 1]}"] if i < len(options("logger")) else []
        names = [
            f"method={methods[i % len(methods)]}",
            f"data={data[i % len(data)]}",
            "data.path=x",
            f"protocol={protocol}",
        ]
        made.append(plain(composed(*names, *more)))
    return made


def test_every_setting_of_every_group_has_a_stated_range(compositions):
    for values in compositions:
        check_values(values)  # each key is known, and holds what it may hold


def test_a_setting_that_has_no_stated_range_is_refused(compositions):
    for path in (
        [],
        ["data"],
        ["method"],
        ["method", "experts", "recipe"],
        ["protocol"],
        ["logger", "wandb"],
        ["proxies", "recipe"],
    ):
        values = copy.deepcopy(compositions[0])
        reduce(lambda node, name: node[name], path, values)["unheard_of"] = 1
        with pytest.raises(ValueError, match=f"unknown setting {'.'.join([*path, 'unheard_of'])}: .* has "):
            check_values(values)


def test_a_class_in_a_configuration_must_be_of_the_kind_that_stands_there():
    with pytest.raises(ValueError, match="_target_ is 'os.abort', expected distill.networks.base.Student"):
        check_tree("student.x", {"_target_": "os.abort"}, Student)
    with pytest.raises(ValueError, match="unknown setting student.x.depth"):
        check_tree("student.x", {"_target_": "distill.networks.compact.MLP", "width": 4, "depth": 2}, Student)


REFUSED = {
    "data.zca=off": "data.zca is 'off', expected true or false",
    "draws=no": "draws is 'no', expected a whole number in [1, 1000]",
    "method.betas=null": "method.betas is null, expected two values, each a number in [0, 1)",
    "method.share=5": "method.share is 5, expected two values",
    "method.committee=null": "method.committee is null, expected a group of settings",
    "data.val=abc": "data.val is 'abc', expected a number in [0, 1)",
    "student.convnet.width=null": "student.convnet.width is null, expected a whole number in",
    "protocol.recipe.views.augment=dsaa": "unknown protocol.recipe.views.augment 'dsaa': one of none, dsa",
    "student_epochs=[1.5]": "student_epochs is [1.5], expected a list, each item a whole number",
    "protocol.recipe.schedule.decay=abc": "protocol.recipe.schedule.decay is 'abc', expected a number in [0, 1]",
    "method.lr_img=abc": "method.lr_img is 'abc', expected a number",
    "method.lr_img=-1": "method.lr_img is -1, expected a number",
    "method.momentum_img=1e9": "method.momentum_img is 1000000000.0, expected a number in [0, 1)",
    "method.experts.count=1000000000": "method.experts.count is 1000000000, expected a whole number in [1, 10000]",
    "method.committee.priors=[good]": "method.committee.priors is ['good'], expected null or a list, each item a number",
    "method.committee.minimum=95": "method.committee.minimum is 95, expected a number in [0, 1]",
    "method.committee.networks=convnet": "method.committee.networks is 'convnet', expected null or a list, each item text",
    "method.iterations=many": "method.iterations is 'many', expected a whole number",
    "method.iterations=0": "method.iterations is 0, expected a whole number",
    "method.area=1.5": "method.area is 1.5, expected null or a number in (0, 1]",
    "method.vote_temperature=0": "method.vote_temperature is 0, expected a number in (0,",
    "method.memory=half": "unknown method.memory 'half': one of auto, full, segments, recompute, tesla",
    "method.lr_student=nan": "method.lr_student is nan, expected a number in (0, 10]",
    "protocol.recipe.epochs=-5": "protocol.recipe.epochs is -5, expected null or a whole number",
    "protocol.labels.top_k=0": "protocol.labels.top_k is 0, expected null or a whole number in",
    "protocol.recipe.schedule.stretch=-1": "protocol.recipe.schedule.stretch is -1, expected null or a number in (0,",
    "protocol.recipe.ema=2": "protocol.recipe.ema is 2, expected null or a number in [0, 1]",
    "protocol.labels.squared=maybe": "protocol.labels.squared is 'maybe', expected true or false",
    "protocol.labels._target_=os.abort": "protocol.labels._target_ is 'os.abort', expected distill.teachers.labels.Labels",
    "protocol.recipe=null": "protocol.recipe is null, expected a group of settings",
    "protocol.labels.committee.mode=train": "unknown protocol.labels.committee.mode 'train': one of eval, batch",
    "student.convnet.norm=x": "unknown student.convnet.norm 'x': one of instance, batch",
    "labels_path=null": "labels_path is null, expected a path",
    "ipc=abc": "ipc is 'abc', expected a whole number",
    "ipc=0": "ipc is 0, expected a whole number",
    "compile=maybe": "unknown compile 'maybe': one of true, false, auto",
    "precision=fp8": "unknown precision 'fp8': one of auto, fp32, bf16",
    "device=tpu": "unknown device 'tpu': one of auto, cpu, cuda",
    "logger.wandb._target_=os.abort": "unknown logger.wandb._target_ 'os.abort': one of pytorch_lightning.loggers.WandbLogger",
    "logger.wandb.mode=disabled": "unknown logger.wandb.mode 'disabled': null or one of online, offline",
    "logger.mlflow.synchronous=no": "logger.mlflow.synchronous is 'no', expected true or false",
    "threads=1000000000": "threads is 1000000000, expected null or a whole number in [1, 1024]",
}


@pytest.mark.parametrize("setting", REFUSED)
def test_values_that_ran_or_broke_get_one_line(compositions, setting):
    *path, name = setting.split("=")[0].split(".")
    holds = [values for values in compositions if name in reduce(lambda node, key: node.get(key) or {}, path, values)]
    values = copy.deepcopy(holds[0])
    typed = OmegaConf.to_container(compose_value(setting))
    reduce(lambda node, key: node[key], path, values)[name] = reduce(lambda node, key: node[key], [*path, name], typed)
    with pytest.raises(ValueError) as said:
        check_values(values)
    assert str(said.value).startswith(REFUSED[setting])


def compose_value(setting):
    """What Hydra makes of an override's value."""
    override = OverridesParser.create().parse_override(setting)
    made = OmegaConf.create({})
    OmegaConf.update(made, override.key_or_group, override.value())
    return made
