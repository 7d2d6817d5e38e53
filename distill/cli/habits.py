"""Flags that there are, and words that the papers' scripts taught; without Hydra, so that --help answers at once."""

import re
import shlex
from collections.abc import Sequence

from distill.presets import alike, check_renamed, options

FLAGS = {  # Hydra's, and whether a value follows
    "--help": False, "-h": False, "--hydra-help": False, "--version": False, "--resolve": False, "--run": False, "-r": False,
    "--multirun": False, "-m": False, "--cfg": True, "-c": True, "--package": True, "-p": True, "--info": True, "-i": True,
    "--config-path": True, "-cp": True, "--config-name": True, "-cn": True, "--config-dir": True, "-cd": True,
    "--shell-completion": False, "-sc": False, "--experimental-rerun": True,
}  # fmt: skip
# What options of the papers' scripts (DC, DSA, DM, MTT, TESLA, FTD, DATM, SRe2L, RDED) are here.
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
    "temperature": "protocol.labels.temperature", "protocol.choice": "protocol/choice", "protocol.recipe": "protocol/recipe",
    "save_path": "out", "gpu": "device", "gpu_id": "device",
}  # fmt: skip


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
    check_renamed(items)
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
