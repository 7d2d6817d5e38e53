"""Checks of the run's own values, and the device."""

import os
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from distill.checks import check_ranges, check_tree, stated
from distill.data.settings import DataSettings
from distill.engines.base import Engine
from distill.evaluation.protocol import Protocol
from distill.methods.base import Method
from distill.networks.base import Student
from distill.parallel import Crew, crew
from distill.report.rows import check_published
from distill.sizes import check_size
from distill.training.recipe import PRECISIONS, TEACHERS

LIGHTNING = "one of pytorch_lightning.loggers."

LOGGERS = {
    "csv": {"_target_": f"{LIGHTNING}CSVLogger", "flush_logs_every_n_steps": "whole [1, 1e9]"},
    "wandb": (
        "absent",
        {
            **{"_target_": f"{LIGHTNING}WandbLogger", "project": "text", "entity": "null or text"},
            "mode": "null or one of online, offline",
        },
    ),
    "tensorboard": ("absent", {"_target_": f"{LIGHTNING}TensorBoardLogger", "save_dir": "path"}),
    "mlflow": (
        "absent",
        {
            **{"_target_": f"{LIGHTNING}MLFlowLogger", "experiment_name": "text", "tracking_uri": "null or text"},
            "synchronous": "true or false",
        },
    ),
}

UNMADE = ("random", "kd", "whole", "scratch")  # baselines that need no file

RANGES = {  # of the run; what a group takes is stated where its class is
    "task": "text",
    "out": "path",
    "experts_path": "path",
    "labels_path": "path",
    "synset": "null or path or list of path",
    "union": "null or list of path",
    "runs": "null or list of path",
    "seed": "whole [0, 1e18]",
    "ipc": "anything",  # `distill.sizes` says what
    "fraction": "null or (0, 1] or list of (0, 1]",
    "published": "null or text or [0, 100]",
    "syntheses": "whole [1, 1000]",
    "student_epochs": "list of whole [0, 100000]",
    "student_rates": "list of (0, 10]",
    "baselines": "any number of text",
    "draws": "whole [1, 1000]",
    "keep_students": "true or false",
    "device": "one of auto, cpu, cuda",
    "threads": "null or whole [1, 1024]",
    "precision": f"one of auto, {', '.join(PRECISIONS)}",
    "compile": "one of true, false, auto",
    "workers": "one of auto or whole [1, 1024]",
    "split": "whole [1, 1024]",
    "engine": Engine,
    "data": stated(DataSettings),
    "onto": ("absent or null", stated(DataSettings)),
    "student": "map of text to anything",
    "method": Method,
    "protocol": Protocol,
    "experts": ("absent or null", TEACHERS),
    "teachers": TEACHERS,
    "proxies": TEACHERS,
    "logger": LOGGERS,
}


def given_sets(values: Any) -> list[str]:
    """The paths that ``synset`` lists, or ``union``, of a run's values.

    Raises:
        ValueError: both are given, or they are no paths.
    """
    check_ranges("", values, {name: RANGES[name] for name in ("synset", "union")})
    if values["synset"] is not None and values["union"] is not None:
        raise ValueError("synset and union are both given: give syntheses of one method, or sets of different classes")
    named = values["synset"] or values["union"] or []
    return [named] if isinstance(named, str) else named


def check_values(values: Mapping[str, Any]) -> None:
    """Raise ValueError if any value of a composed configuration is none that it can have, whatever group it stands in."""
    check_tree("", values, RANGES)
    for size in sizes(values["ipc"]):
        check_size(size)
    check_published(values["published"])
    check_packages(values["logger"])
    networks = named(values["student"])
    if not networks:
        raise ValueError("no student is named: student=[convnet]")
    for name, node in networks.items():
        check_tree(f"student.{name}", node, Student)


def check_run(cfg: DictConfig, stated: Mapping[str, Any]) -> None:
    """Raise ValueError if values of a run cannot be together, or not here; ``stated`` are those that the user gave."""
    if cfg.workers not in ("auto", 1) and Crew.of(os.environ).size > 1:
        raise ValueError(f"workers is {cfg.workers} within a torchrun, whose processes share the work: leave it out")
    if list(cfg.method.get("share", [0, 1])) != [0, 1]:
        raise ValueError("method.share is for the processes of a torchrun, which sets it: leave it out")
    if stated.get("ipc") is not None and stated.get("fraction") is not None:
        raise ValueError("ipc and fraction are both given, and each says how many images: leave one out")
    if all(cfg[name] is None for name in ("ipc", "fraction", "synset", "union")) and (
        cfg.task != "evaluate" or list(cfg.baselines) != ["whole"]
    ):
        raise ValueError(
            "ipc is null, which names no set: evaluate ipc=null baselines=[whole] judges the whole real set alone"
        )
    for name in ("out", "experts_path", "labels_path"):
        if Path(cfg[name]).is_file():
            raise ValueError(f"{name} is {cfg[name]}, which is a file: expected a folder")
    check_transfer(cfg)


def check_transfer(cfg: DictConfig) -> None:
    """Raise ValueError if a run of pre-trained students, or of others, has what is for the other kind alone."""
    pretraining, name = cfg.protocol.pretraining, cfg.protocol.name
    if pretraining is None and cfg.get("onto") is not None:
        raise ValueError(
            f"data@onto is {cfg.onto.name}, and protocol {name} tunes students on no other real set: take protocol=transfer"
        )
    if "scratch" in cfg.baselines and (pretraining is None or pretraining.data_free):
        raise ValueError(
            f"baseline scratch is of students that a real set tunes, protocol {name} tunes none on all of one: take "
            "protocol=transfer"
        )
    if "kd" in cfg.baselines and pretraining is not None:
        raise ValueError(f"baseline kd has labels of its own, protocol {name} those of its tuning: leave it out")


def check_packages(loggers: Iterable[str]) -> None:
    """Raise ValueError if one of these loggers has a package, of its name, that is missing."""
    for name in loggers:
        found = find_spec(name)
        if found is None or found.origin is None:  # or a folder of files that happens to lie here
            raise ValueError(f"logger={name} needs the package {name}, which is not installed: pip install {name}")


def sizes(ipc: Any) -> list[Any]:
    """The sizes of a run, which says one or a list; none where it makes no set."""
    return [] if ipc is None else ipc if isinstance(ipc, list) and ipc else [ipc]


def baselines(cfg: DictConfig) -> dict[str, int]:
    """How many sets of each baseline are judged beside the run's; where teachers label random images, ``kd``, too.

    >>> from distill.runs.composed import compose
    >>> baselines(compose("baselines=[random,herding]", "syntheses=3").cfg)
    {'random': 5, 'herding': 3}
    """
    unmade = {"random": cfg.draws, "kd": cfg.draws, "whole": 1, "scratch": 1}
    named = dict.fromkeys(cfg.baselines)
    if "random" in named and "vote_temperature" in cfg.protocol.labels and cfg.protocol.pretraining is None:
        named["kd"] = None  # the fair opponent of soft labels
    return {name: unmade.get(name, cfg.syntheses) for name in named}


def named(students: dict[str, Any]) -> dict[str, Any]:
    """The networks among a run's students: an overlay may set a value of one that the command line replaced by another."""
    return {name: node for name, node in students.items() if isinstance(node, dict) and "_target_" in node}


def device_of(name: str) -> torch.device:
    """This process's device; a card becomes torch's current one."""
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    device = placed(name, crew().local_rank, cards)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def placed(name: str, local_rank: int, cards: int) -> torch.device:
    """The device of a process: the card of its local rank; where there are fewer cards, processes share them.

    Raises:
        ValueError: ``name`` is cuda and there is no card.
    """
    if name == "cuda" and not cards:
        raise ValueError(
            "device=cuda was asked for, but this machine has no CUDA device: use device=cpu or device=auto"
        )
    return torch.device("cpu") if name == "cpu" or not cards else torch.device("cuda", local_rank % cards)


def plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
