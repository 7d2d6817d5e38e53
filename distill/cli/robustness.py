"""`distill robustness`: its words are those of an evaluation, and some of its own, ``robustness.NAME=VALUE``."""

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from distill.cli.artefacts import values_of
from distill.evaluation.conditions import Robustness
from distill.presets import CONFIGS, options, unknown
from distill.runs.comparing import show
from distill.runs.composed import Composed, compose, literal
from distill.runs.explained import words_explained
from distill.runs.recorded import complete_overrides
from distill.runs.robustness import robustness

GROUP = "robustness"


def carried_out(arguments: Sequence[str]) -> list[str]:
    """Judge, attack, and show the tables."""
    values = values_of(arguments)
    settings, words = settings_of(values), words_of(values)
    with words_explained(words):
        run = run_of(words)
        tables, paths = robustness(run, settings, arrows(run))
    show(tables)
    return [f"wrote {path}" for path in paths]


def settings_of(values: Mapping[str, Any]) -> Robustness:
    """Those of a file in ``configs/robustness``, with other values.

    >>> settings_of({"robustness.radii": [8], "synset": "set"}).radii
    [8]
    """
    name = str(values.get(GROUP, "ours"))
    if name not in options(GROUP):
        raise ValueError(unknown(GROUP, name, options(GROUP)))
    found: Any = OmegaConf.to_container(OmegaConf.load(CONFIGS / GROUP / f"{name}.yaml"))
    given = {key.partition(".")[2]: value for key, value in values.items() if key.startswith(f"{GROUP}.")}
    for key in given:
        if key not in found:
            raise ValueError(unknown(f"value of {GROUP}", key, list(found)))
    return Robustness(**found | given)


def words_of(values: Mapping[str, Any]) -> list[str]:
    """The evaluation's, students kept."""
    own = {key: value for key, value in values.items() if key.partition(".")[0] != GROUP}
    given = {"synset", "union"} & own.keys()
    own = {"task": "evaluate" if given else "all", **own, "keep_students": True}
    return [f"{key}={literal(value)}" for key, value in own.items()]


def run_of(words: Sequence[str]) -> Composed:
    return compose(*complete_overrides(list(words)))


def arrows(run: Composed) -> tuple[str, ...]:
    """That lead to rows: sets that are given are not made."""
    return ("experts", "judge") if run.cfg.task == "evaluate" else ("experts", "distill", "judge")


TASKS = {"robustness": carried_out}
