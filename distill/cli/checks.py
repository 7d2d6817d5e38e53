"""Checks of the run's own values, and the device."""

from typing import Any

import torch
from omegaconf import DictConfig, ListConfig, OmegaConf

from distill.ranges import check_ranges
from distill.report import check_published


def check_values(cfg: DictConfig) -> None:
    """Raise ValueError if a value of the run itself is none that it can have."""
    whole = {"seed": "whole [0, inf)", "syntheses": "whole [1, inf)", "workers": "whole [1, inf)"}
    check_ranges("", cfg, {**whole, "threads": "null or whole [1, inf)"})
    check_ranges("baselines", cfg.baselines, {"random": "whole [0, inf)"})
    if cfg.compile not in (True, False, "auto"):
        raise ValueError(f"compile is {cfg.compile!r}, expected true, false or auto")
    check_published(cfg.published)
    ipcs = cfg.ipc if isinstance(cfg.ipc, ListConfig) else [cfg.ipc]
    if not ipcs or not all(isinstance(ipc, int) for ipc in ipcs):
        raise ValueError(f"ipc is {cfg.ipc}, expected a whole number or a list of some")
    for name in ("out", "experts_path", "labels_path"):
        if not isinstance(cfg[name], str):
            raise ValueError(
                f"{name} is {cfg[name]}, expected the path of a folder: leave {name} out for the usual one"
            )
    if not any(isinstance(node, DictConfig) and "_target_" in node for node in cfg.student.values()):
        raise ValueError("no student is named: student=[convnet]")


def device(name: str) -> torch.device:
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"unknown device {name!r}: one of auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "device=cuda was asked for, but this machine has no CUDA device: use device=cpu or device=auto"
        )
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True)
