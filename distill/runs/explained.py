"""What is wrong with a run's words, as its user can act on it."""

import difflib
import errno
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra.errors import HydraException, InstantiationException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from distill.presets import CONFIGS, check_renamed, options, unknown
from distill.runs.composed import compose, places

REPORTED = (ValueError, OSError, RuntimeError, HydraException, OmegaConfBaseException)  # what a user can act on


@contextmanager
def words_explained(stated: Sequence[str]) -> Iterator[None]:
    """Hydra's errors, and names of earlier versions, as a ValueError that helps."""
    check_renamed(stated)
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(explained(error, stated)) from None


def explained(error: BaseException, stated: Sequence[str]) -> str:
    """The error's text; of Hydra's, the part that a user can act on.

    Args:
        stated: the run's overrides.
    """
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        return explained(error.__cause__, stated)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file is not None:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        return unknown(group, name, options(group))
    key = re.match(r"Could not override '([\w.]+)'", str(error))
    if key:
        return unknown_value(key[1], stated)
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
        return f"the disk is full ({error}): files already written are whole; free some space, then the same command goes on"
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} is missing: give {error.full_key}=VALUE"
    return str(error)


def unknown_value(key: str, stated: Sequence[str]) -> str:
    """What to say where a run sets a value that this choice of groups does not have."""
    groups = [path.name for path in CONFIGS.iterdir() if path.is_dir()]
    choices = [item for item in stated if item.split("=", 1)[0] in groups]
    node = compose(*choices).cfg
    parents: list[str] = []
    for name in key.split("."):
        known = [str(each) for each in node] if isinstance(node, DictConfig) else []
        if name not in known:
            break
        node = node[name]
        parents.append(name)
    known += [] if parents else ["experiment", "scale"]  # groups that leave no value of their own name
    leaf, above = key.rpartition(".")[2], "".join(f"{parent}." for parent in parents)
    close = places(node, leaf, above) if isinstance(node, DictConfig) else []
    close = close or difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    names = ", ".join(known) or "no values with these choices"
    return f"unknown value {key}: {hint}{'.'.join(parents) or 'the run'} has {names}"
