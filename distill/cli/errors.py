"""Errors in one line: what came, what was expected, what helps."""

import difflib
import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from distill.presets import CONFIGS, options, unknown
from distill.runs.signals import Interrupted
from distill.text import harmless


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """What came, what was expected, what helps; DISTILL_TRACEBACK=1 shows where, too."""
    try:
        yield
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(stop.code)
    except (ValueError, OSError, RuntimeError, HydraException, OmegaConfBaseException) as error:
        if os.environ.get("DISTILL_TRACEBACK"):
            raise
        sys.exit(f"error: {harmless(' '.join(explained(error).split()))}")


def explained(error: BaseException) -> str:
    """The error's text; of Hydra's, the part that a user can act on."""
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        return explained(error.__cause__)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file is not None:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        return unknown(group, name, options(group))
    key = re.match(r"Could not override '([\w.]+)'", str(error))
    if key:
        return unknown_value(key[1])
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
        return f"the disk is full ({error}): files already written are whole; free some space, then the same command goes on"
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} is missing: give {error.full_key}=VALUE"
    return str(error)


def places(node: DictConfig, name: str, parent: str = "") -> list[str]:
    """Where below ``node`` a setting of this name is, at most three of them."""
    found = []
    for key, child in node.items_ex(resolve=False):
        found += [f"{parent}{key!s}"] if key == name and parent else []
        found += places(child, name, f"{parent}{key!s}.") if isinstance(child, DictConfig) else []
    return found[:3]


def unknown_value(key: str) -> str:
    """What to say where the command line sets a value that this choice of groups does not have."""
    groups = [path.name for path in CONFIGS.iterdir() if path.is_dir()]
    choices = [item for item in sys.argv[1:] if item.split("=", 1)[0] in groups]
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        whole = node = hydra.compose("config", choices)
    parents: list[str] = []
    for name in key.split("."):
        known = [str(each) for each in node] if isinstance(node, DictConfig) else []
        if name not in known:
            break
        node = node[name]
        parents.append(name)
    known += [] if parents else ["experiment", "scale"]  # groups that leave no value of their own name
    close = difflib.get_close_matches(name, known, 1) or (places(whole, name) if "." not in key else [])
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    names = ", ".join(known) or "no values with these choices"
    return f"unknown value {key}: {hint}{'.'.join(parents) or 'the run'} has {names}"
