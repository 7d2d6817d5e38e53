"""Rivals: the methods named as baselines, made and judged beside a run's sets, of their sizes and under its protocol."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy, deepcopy
from dataclasses import replace

from omegaconf import OmegaConf

from distill.presets import options, unknown
from distill.runs import stages
from distill.runs.checks import UNMADE, baselines, plain
from distill.runs.composed import compose
from distill.runs.line import Line
from distill.sizes import Size, of_counts


def rivals(line: Line) -> Iterator[Line]:
    """A line for each method that is named as a baseline, which shares all with the run's but its method."""
    for name in baselines(line.cfg):
        if name not in UNMADE:
            yield beside(line, name)


def beside(line: Line, name: str) -> Line:
    """The line of another method.

    Raises:
        ValueError: there is none of this name, or it learns, which a baseline does not.
    """
    known = sorted({*options("method"), *UNMADE})
    if name not in known:
        raise ValueError(unknown("baseline", name, known))
    cfg = deepcopy(line.cfg)
    if line.judges is not None:  # the method's, where the protocol states none
        OmegaConf.update(cfg, "protocol.labels.committee", plain(line.judges), merge=False)
    OmegaConf.update(cfg, "method", compose(f"method={name}").cfg.method, merge=False)
    cfg.ipc, cfg.fraction, cfg.synset, cfg.union = sizes(line), None, None, None
    run = replace(line.run, cfg=cfg, choices={**line.choices, "method": name})
    other = copy(line)
    other.run, other.cfg, other.choices, other.synsets, other.paths = run, cfg, run.choices, [], []
    return other


def distilled(line: Line) -> Line:
    """The line whose students learn from classes and teachers side by side: those of its protocol, or ``teachers``."""
    labels = compose("protocol=dc", "protocol/labels=kd").cfg.protocol.labels
    if line.cfg.protocol.labels._target_ == labels._target_:
        return line
    cfg = deepcopy(line.cfg)
    OmegaConf.update(cfg, "protocol.labels", labels, merge=False)
    if line.judges is not None:
        OmegaConf.update(cfg, "protocol.labels.committee", line.judges, merge=False)
    other = copy(line)
    other.run, other.cfg = replace(line.run, cfg=cfg), cfg
    return other


def sizes(line: Line) -> list[Size]:
    """Of the sets that are judged."""
    if not line.synsets:
        return line.ipcs
    return [of_counts(line.synsets[0].counts, line.real.train.class_names)]


def check(line: Line) -> None:
    """Let fail what the baselines would find impossible."""
    for other in rivals(line):
        if other.kind.learns:
            raise ValueError(
                f"{other.choices['method']} is no baseline: it learns; judge its sets in a run of their own"
            )
        other.check_making()
    if "kd" in baselines(line.cfg):
        distilled(line).check()


def make(line: Line) -> None:
    """Train the proxies of the baselines and pick their sets; what is there is not made again."""
    for other in rivals(line):
        stages.experts(other)
        stages.distill(other)
    if "kd" in baselines(line.cfg):
        stages.experts(distilled(line))
