"""The command line as it is typed: paths as a shell gives them, and words that the papers' scripts taught."""

import re
import shlex
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from distill.presets import alike, options

FOLDERS = {"out", "experts_path", "labels_path", "data.root"}  # whatever is typed is a name, null and true included
LISTS = {"synset", "union", "runs"}  # one path, or a list in brackets
FILES = {"data.path", *LISTS}  # null is none
FLAGS = {  # Hydra's, and whether a value follows
    "--help": False, "-h": False, "--hydra-help": False, "--version": False, "--resolve": False, "--run": False, "-r": False,
    "--multirun": False, "-m": False, "--cfg": True, "-c": True, "--package": True, "-p": True, "--info": True, "-i": True,
    "--config-path": True, "-cp": True, "--config-name": True, "-cn": True, "--config-dir": True, "-cd": True,
    "--shell-completion": False, "-sc": False, "--experimental-rerun": True,
}  # fmt: skip
SWEEP = ("--multirun", "-m")
# What options of the papers' scripts (DC, DSA, DM, MTT, TESLA, FTD, DATM, SRe2L, RDED) and of earlier versions are here.
HABITS = {
    "dataset": "data", "subset": "data.classes", "data_path": "data.root", "zca": "data.zca", "dsa_strategy": "data.strategy",
    "model": "student", "net": "student", "arch": "student", "arch_name": "student", "eval_mode": "student",
    "stud_name": "student", "lr_img": "method.lr_img", "mom_img": "method.momentum_img", "lr_lr": "method.lr_lr",
    "lr_net": "method.network.lr", "lr_y": "method.lr_label", "lr_teacher": "method.lr_student", "lr_init": "method.lr_student",
    "Iteration": "method.steps", "iteration": "method.steps", "eval_it": "method.snapshot_every", "init": "method.init",
    "pix_init": "method.init", "batch_real": "method.batch_real", "batch_syn": "method.batch_syn",
    "expert_epochs": "method.expert_epochs", "syn_steps": "method.student_steps", "max_start_epoch": "method.max_start_epoch",
    "min_start_epoch": "method.min_start_epoch", "current_max_start_epoch": "method.initial_max_start_epoch",
    "expansion_end_epoch": "method.expansion_steps", "threshold": "method.max_error", "dis_metric": "method.distance",
    "buffer_path": "experts_path", "num_experts": "method.experts.count", "train_epochs": "method.experts.recipe.epochs",
    "rho_max": "method.experts.recipe.optimizer.gsam_rho", "rho_alpha": "method.experts.recipe.optimizer.gsam_alpha",
    "r_bn": "method.bn_weight", "first_bn_multiplier": "method.first_bn_weight", "jitter": "method.roll",
    "mipc": "method.pool", "num_crop": "method.patches", "factor": "method.factor",
    "num_exp": "syntheses", "num_eval": "protocol.students", "epoch_eval_train": "protocol.recipe.epochs",
    "re_epochs": "protocol.recipe.epochs", "batch_train": "protocol.recipe.batch", "re_batch_size": "protocol.recipe.batch",
    "temperature": "protocol.labels.temperature", "protocol.soft": "protocol/labels", "protocol.labels": "protocol/labels",
    "protocol.iterate": "protocol/choice", "protocol.choice": "protocol/choice", "protocol.recipe": "protocol/recipe",
    "save_path": "out", "gpu": "device", "gpu_id": "device",
}  # fmt: skip


def quoted(arguments: Sequence[str]) -> list[str]:
    """The command line with quotes around paths that Hydra's grammar would take for something else, or not at all."""
    done, sweep = [], is_sweep(arguments)
    for item in arguments:
        name, equals, value = item.partition("=")
        if sweep and name in FOLDERS | FILES and _differs(item):
            parts = value.split(",")
            simple = not re.search(r"['\"()\[\]]", value)  # else Hydra's own quotes, lists and functions
            done.append(f"{name}={','.join(map(_quote, parts))}" if simple else item)
        elif not equals or name not in FOLDERS | FILES or "${" in value or re.fullmatch(r"'.*'|\".*\"", value):
            done.append(item)
        elif name in LISTS and re.fullmatch(r"\[.*\]", value):
            read = _read(item)
            texts = isinstance(read, list) and all(isinstance(each, str) for each in read)
            done.append(item if texts else f"{name}=[{','.join(map(_quote, value[1:-1].split(',')))}]")
        else:
            done.append(
                item if _read(item) == value or (name in FILES and value == "null") else f"{name}={_quote(value)}"
            )
    return done


def is_sweep(arguments: Sequence[str]) -> bool:
    """Whether values with commas are choices, a job for each."""
    return not set(SWEEP).isdisjoint(arguments)


def swept(item: str) -> list[str]:
    """``seed=0,1`` as ``seed=0`` and ``seed=1``; any other as it is."""
    try:
        override = OverridesParser.create().parse_override(item)
    except HydraException:
        return [item]
    if not override.is_sweep_override():
        return [item]
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]


def _differs(item: str) -> bool:
    """Whether a path is several in a sweep: some hold what Hydra's grammar has no place for, but commas divide them."""
    value = item.partition("=")[2]
    return swept(item) != [item] or ("," in value and not re.search(r"['\"\[]", value))


def _read(item: str) -> object:
    """What Hydra reads of an override; None where its grammar has no place for it."""
    try:
        return OverridesParser.create().parse_override(item).value()
    except HydraException:
        return None


def _quote(text: str) -> str:
    inner = re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + (r"\'" if found[2] else ""), text.strip())
    return f"'{inner}'"


def check_habits(arguments: Sequence[str]) -> None:
    """Refuse flags that there are not and words of the papers' scripts, and say what they are here."""
    items, flags, left = [], [], list(arguments)
    while left:
        item = left.pop(0)
        flag, equals, value = item.partition("=")
        if flag in FLAGS:
            left = left[1:] if FLAGS[flag] and not equals else left
        elif flag.startswith("--"):
            if not equals and left and not left[0].startswith("--") and "=" not in left[0]:
                equals, value = "=", left.pop(0)
            flags.append(f"{flag} {value}".strip())
            ours, _, value = _translated(flag.lstrip("-").replace("-", "_"), value or "true").partition("=")
            items.append(f"{ours}={next(iter(alike(value, options(ours))), value)}")
        else:
            items.append(item)
    if flags:
        raise ValueError(
            f"unknown flag {flags[0]}: settings are NAME=VALUE without dashes, here perhaps {shlex.join(items)} "
            "(--cfg job prints all that there are)"
        )
    for item in items:
        name, equals, value = item.partition("=")
        ours = _translated(name, value)
        if equals and ours != item:
            raise ValueError(f"unknown value {name}: did you mean {ours}?")


def _translated(name: str, value: str) -> str:
    """A setting of the papers' scripts as ours; others as they are."""
    ours = HABITS.get(name, name)
    if ours in ("data", "student") and ours != name:
        value = next(iter(alike(value, options(ours))), value)
    if ours == "device" and re.fullmatch(r"(cuda:)?\d+", value):
        return f"device=cuda with CUDA_VISIBLE_DEVICES={value.removeprefix('cuda:')} before python"
    return f"{ours}={value}"
