"""A run's configuration with the choices behind it, from the command line or from Python."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from omegaconf import DictConfig, OmegaConf, open_dict

from distill.checks import stated
from distill.presets import CONFIGS


@dataclass(frozen=True)
class Composed:
    """What one run does.

    Attributes:
        cfg: every value; ``precision=auto`` is here what it stands for on this machine, as stores, sets and rows are told.
        choices: the option that each group took, by the group's name.
        stated: what the user stated, as Hydra's overrides.
    """

    cfg: DictConfig
    choices: Mapping[str, Any]
    stated: Sequence[str] = ()

    def __post_init__(self) -> None:
        drop_replaced(self.cfg, self.stated)
        if self.cfg.precision == "auto":
            self.cfg.precision = usual_precision(str(self.cfg.device))

    @classmethod
    def from_command_line(cls, cfg: DictConfig) -> "Composed":
        """Of the run that Hydra has begun."""
        own = HydraConfig.get()
        return cls(cfg, dict(own.runtime.choices), list(own.overrides.task))


def drop_replaced(cfg: DictConfig, words: Sequence[str]) -> None:
    """Drop what a protocol says of its labels or its choice where others were named that have no such settings."""
    for part in ("labels", "choice"):
        if any(word.startswith(f"protocol/{part}=") for word in words):
            node = cfg.protocol[part]
            known = {"_target_", *stated(hydra.utils.get_class(node._target_))}
            own = {word.partition("=")[0].removeprefix(f"protocol.{part}.").partition(".")[0] for word in words}
            with open_dict(node):
                for name in [each for each in node if each not in known | own]:
                    del node[name]


def usual_precision(device: str) -> str:
    """``bf16`` where a GPU that computes in it will train, else ``fp32``.

    >>> usual_precision("cpu")
    'fp32'
    """
    import torch  # late: what composes alone starts sooner

    gpu = device != "cpu" and torch.cuda.is_available()
    return "bf16" if gpu and torch.cuda.get_device_capability()[0] >= 8 else "fp32"


def compose(*overrides: str) -> Composed:
    """The configuration of ``distill OVERRIDES``; whatever else uses Hydra in this process is left as it was.

    >>> compose("method=dm", "ipc=1").cfg.method.lr_img
    1.0
    """
    cfg, choices = _composed(*overrides)
    return Composed(deepcopy(cfg), dict(choices), list(overrides))


@lru_cache(16)  # every row of a run asks for its protocol's preset
def _composed(*overrides: str) -> tuple[DictConfig, Mapping[str, Any]]:
    with _ours():
        whole = hydra.compose("config", list(overrides), return_hydra_config=True)
    return OmegaConf.masked_copy(whole, [str(key) for key in whole if key != "hydra"]), whole.hydra.runtime.choices


@contextmanager
def _ours() -> Iterator[None]:
    before = Singleton.get_state()
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
            yield
    finally:
        Singleton.set_state(before)


def overrides(group: str, values: Mapping[str, Any]) -> list[str]:
    """Values as a command line states them.

    >>> overrides("data", {"val": 0, "path": "my pets", "mean": [0.5], "zca": True, "size": None})
    ['data.val=0', 'data.path="my pets"', 'data.mean=[0.5]', 'data.zca=true', 'data.size=null']
    """
    return [f"{f'{group}.' if group else ''}{name}={literal(value)}" for name, value in values.items()]


def literal(value: Any) -> str:
    """A value in Hydra's grammar.

    >>> print(literal({"cat": 1, "a b": [None, True, "x"]}))
    {cat:1,"a b":[null,true,"x"]}
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return (
            "{"
            + ",".join(f"{key if str(key).isalnum() else literal(key)}:{literal(each)}" for key, each in value.items())
            + "}"
        )
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(literal, value)) + "]"
    if isinstance(value, str | Path):
        return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)


def places(node: DictConfig, name: str, parent: str = "") -> list[str]:
    """Where below ``node`` a setting of this name is, at most three of them."""
    found = []
    for key, child in node.items_ex(resolve=False):
        found += [f"{parent}{key!s}"] if key == name else []
        found += places(child, name, f"{parent}{key!s}.") if isinstance(child, DictConfig) else []
    return found[:3]


def protocol_override(name: str, value: Any, stated: Sequence[str]) -> list[str]:
    """A value of the protocol as a command line states it, wherever below the protocol its name is.

    >>> protocol_override("epochs", 2, []), protocol_override("labels", "hard", [])
    (['protocol.recipe.epochs=2'], ['protocol/labels=hard'])
    """
    if (CONFIGS / "protocol" / name).is_dir():
        return [f"protocol/{name}={value}"]
    found = [] if "." in name else places(compose(*stated).cfg.protocol, name)
    found = [place for place in found if not place.startswith(("candidates.", "pretraining."))]
    return overrides("protocol", {found[0] if found else name: value})
