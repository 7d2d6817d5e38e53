"""What a run has otherwise than a preset, and than the published cell whose number stands beside it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from distill.identity import canonical
from distill.report.rows import Published
from distill.runs.checks import plain, sizes
from distill.runs.composed import Composed, compose
from distill.sets.synthetic import SyntheticSet

Changes = dict[str, tuple[Any, Any]]
SILENT = {  # what moves no number: where files lie, and how the same work is done
    *("data.root", "data.download", "data.workers"),
    "validate",
    *("method.compile", "method.log_every", "method.together"),
}


def changes(now: Mapping[str, Any], was: Mapping[str, Any]) -> Changes:
    """What two nested configurations have otherwise, as (was, is) by dotted name; a value that one lacks is None there."""
    before, after = canonical(was), canonical(now)
    silent = SILENT | {
        name for name, value in before.items() if value == "???"
    }  # a cell leaves open where its data lie
    names = [name for name in {**before, **after} if name not in silent and before.get(name) != after.get(name)]
    return {name: (before.get(name), after.get(name)) for name in names}


def told(found: Changes) -> list[str]:
    """The changes for a row: ``epochs 1000 -> 2``."""
    return [f"{name} {json.dumps(was)} -> {json.dumps(now)}" for name, (was, now) in found.items()]


def protocol_changes(run: Composed) -> Changes:
    """What the run's protocol has otherwise than its preset."""
    chosen = run.choices["protocol"]
    preset = compose(f"protocol={chosen}", "data=npz").cfg.protocol  # no overlay is called after npz
    # What a preset takes from the run, as ${precision}, is no change of it.
    stated = changes(_judging(run.cfg.protocol, resolve=False), _judging(preset, resolve=False))
    return {
        name: pair for name, pair in changes(_judging(run.cfg.protocol), _judging(preset)).items() if name in stated
    }


def published(run: Composed, synsets: Sequence[SyntheticSet], ipc: int | str) -> Published | None:
    """The number that is printed beside the run's own, and what the run has otherwise than the number's cell.

    Args:
        run: how the sets are judged; how they were made is told by their records.
        ipc: of the sets; text where their classes differ.
    """
    cfg = run.cfg
    if cfg.published is None:
        return None
    name = run.choices.get("experiment")
    cell = compose(*([f"experiment={name}"] if name else []), "device=cpu").cfg  # in fp32, unless it says otherwise
    if not name or str(cell.published) != str(cfg.published):  # the command line's own; of several sizes, the first's
        first = sizes(plain(cfg)["ipc"])[0]
        own = ipc if isinstance(first, int) else synsets[0].record.get("ipc")
        return Published(str(cfg.published), "", told(changes({"ipc": own}, {"ipc": first})))
    number = _number(cell, cell.ipc)
    found = changes(_number(cfg, ipc), number)
    for synset in synsets:
        found |= _made_otherwise(synset.record.get("config"), number)
    return Published(str(cfg.published), name, told(found))


def _number(cfg: DictConfig, ipc: int | str) -> dict[str, Any]:
    """What an accuracy depends on: of the students, the first is the paper's."""
    name, node = next((name, node) for name, node in _plain(cfg.student).items() if "_target_" in node)
    groups = {"data": _plain(cfg.data), "method": _plain(cfg.method), "protocol": _judging(cfg.protocol)}
    return {"ipc": ipc, "student": {"name": name, **node}, **groups}


def _judging(protocol: DictConfig, resolve: bool = True) -> dict[str, Any]:
    """The protocol but for whether a second row has hard labels, which moves no number of the first."""
    own = _plain(protocol, resolve)
    return own | {"labels": {name: value for name, value in own["labels"].items() if name != "twin"}}


def _made_otherwise(config: Any, number: Mapping[str, Any]) -> Changes:
    """What the record of a set tells of its making; a setting that there was not yet is no change."""
    if not isinstance(config, dict) or not isinstance(config.get("method"), dict):
        return {"method": ("the cell's", "not recorded")}
    made = {group: config.get(group) for group in ("data", "method")}
    return {name: pair for name, pair in changes(made, number).items() if name in canonical(made)}


def _plain(node: DictConfig, resolve: bool = True) -> dict[str, Any]:
    return OmegaConf.to_container(node, resolve=resolve)  # type: ignore[return-value]
