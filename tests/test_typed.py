"""What is typed on the command line is taken as it is meant, or told what it is called here."""

import re

import pytest
from conftest import composed
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from distill.cli.habits import HABITS, check_habits
from distill.cli.typed import FOLDERS, LISTS, quoted
from distill.files import flat
from distill.presets import RENAMED, alike, options
from distill.runs.checks import plain
from distill.runs.explained import words_explained

PATHS = [
    "plain/path_1.safetensors", "null", "true", "5", "1e3", "a b", "ünïcödé/ß", "a,b", "a=b", "[x]y", "(a)", "{a: 1}", "it's",
    'say "hi"', "a\\b", "ends\\", "x:y", "a#b", "~/x", "../up", "C:\\it's\\", "!x", "a;b", "[a]/b",
]  # fmt: skip


def read(item):
    override = OverridesParser.create().parse_override(item)
    return override.key_or_group, override.value()


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_what_was_typed(path):
    for name in FOLDERS if path == "null" else FOLDERS | LISTS | {"data.path"}:
        (item,) = quoted([f"{name}={path}"])
        assert read(item) == (name, path)
        assert quoted([item]) == [item]  # what has its quotes keeps them
    assert quoted(["out=plain"]) == ["out=plain"] and quoted(["data.path=null"]) == ["data.path=null"]


def test_lists_of_paths_stay_lists():
    for typed, paths in {
        "[a,b]": ["a", "b"],
        "[a b/x,ü]": ["a b/x", "ü"],
        "['a,b',c]": ["a,b", "c"],
        "[a=1,b(2)]": ["a=1", "b(2)"],
        "[5,true]": ["5", "true"],
    }.items():
        assert read(quoted([f"synset={typed}"])[0]) == ("synset", paths)
    assert read(quoted(["data.path=[a]"])[0]) == ("data.path", "[a]")
    assert read(quoted(["out=[a,b]"])[0]) == ("out", "[a,b]")  # out is no list


def test_other_settings_are_left_alone():
    items = [
        "method.lr_img=3",
        "data.classes=[1,2]",
        "--cfg",
        "job",
        "ipc={cat: 3}",
        "~method.steps",
        "out=${oc.env:X}",
    ]
    assert quoted(items) == items


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--dataset", "CIFAR10", "--ipc=10"], r"unknown flag --dataset CIFAR10: .* here perhaps data=cifar10 ipc=10 "),
        (["method=mtt", "--lr_img", "100"], "unknown flag --lr_img 100: .* method=mtt method.lr_img=100"),
        (["--method", "SRe2L"], "here perhaps method=sre2l "),
        (["--zca"], "unknown flag --zca: .* data.zca=true"),
        (["--buffer-path=b"], "experts_path=b"),
        (["dataset=FashionMNIST"], r"unknown value dataset: did you mean data=fashion_mnist\?"),
        (["model=ConvNet"], r"unknown value model: did you mean student=convnet\?"),
        (["model=ConvNetD3"], r"did you mean student=convnet\?"),
        (["lr_img=10"], r"unknown value lr_img: did you mean method.lr_img=10\?"),
        (["Iteration=5000"], r"did you mean method.steps=5000\?"),
        (["device=cuda:1"], r"did you mean device=cuda with CUDA_VISIBLE_DEVICES=1 before python\?"),
        (["gpu=0"], r"did you mean device=cuda with CUDA_VISIBLE_DEVICES=0 before python\?"),
    ],
)
def test_habits_from_the_papers_scripts_are_told_the_word_they_meant(arguments, said):
    with pytest.raises(ValueError, match=said):
        check_habits(arguments)


@pytest.mark.parametrize("former", RENAMED)
def test_a_name_of_before_is_told_the_name_of_now_at_both_doors(former):
    ours = RENAMED[former] if "=" in RENAMED[former] else f"{RENAMED[former]}=7"
    message = f"^{re.escape(f'{former} has another name now: {ours}')}$"
    with pytest.raises(ValueError, match=message):
        check_habits(["task=evaluate", f"{former}=7"])
    with pytest.raises(ValueError, match=message), words_explained(["seed=1", f"{former}=7"]):
        pass


def test_names_of_before_are_none_of_now_and_those_of_now_exist():
    cfg = composed("method=dc", "protocol=rded")
    for former, ours in RENAMED.items():
        name = ours.partition("=")[0]
        assert OmegaConf.select(cfg, name.replace("/", "."), default=...) is not ..., ours
        assert former not in flat(plain(cfg)), former


def test_what_is_ours_passes():
    check_habits(["--cfg", "job", "--resolve", "data=cifar10", "device=cuda", "-c", "job", "method.lr_img=3", "--help"])


def test_every_word_that_is_meant_exists():
    methods = ("mtt", "datm", "dc", "cda", "rded")
    settings = [composed(f"method={method}", "protocol=cvdd") for method in methods]
    for ours in set(HABITS.values()):
        assert any(OmegaConf.select(cfg, ours.replace("/", "."), default=...) is not ... for cfg in settings), ours
    assert not set(HABITS) & {name for cfg in settings for name in cfg}  # none hides a setting


@pytest.mark.parametrize(
    "group, papers, ours",
    [
        ("data", "CIFAR10", "cifar10"), ("data", "CIFAR100", "cifar100"), ("data", "MNIST", "mnist"), ("data", "SVHN", "svhn"),
        ("data", "FashionMNIST", "fashion_mnist"), ("data", "tinyimagenet", "tiny_imagenet"),
        ("data", "Tiny-ImageNet", "tiny_imagenet"), ("student", "ConvNet", "convnet"), ("student", "ConvNetBN", "convnet_bn"),
        ("student", "ConvNetD3", "convnet"), ("student", "ConvNetIN", "convnet"), ("student", "ResNet18", "resnet18"),
        ("student", "ResNet18BN", "resnet18_bn"), ("student", "VGG11", "vgg11"), ("student", "AlexNet", "alexnet"),
        ("method", "SRe2L", "sre2l"), ("method", "CV-DD", "cvdd"),
    ],
)  # fmt: skip
def test_papers_spellings_are_known(group, papers, ours):
    assert alike(papers, options(group))[0] == ours
