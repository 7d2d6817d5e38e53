"""What a set's maker chose of data, method and networks, for its evaluation: the command line wins, key by key.

Groups are chosen by name before Hydra composes the configuration (`complete_overrides`), and the maker's values are put into
what it composed (`take_values`), never as text that is read again. A record may be a stranger's: it names options that there
are, and gives plain values to settings that they have; none that is fetched, instantiated or written to.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from distill.presets import options
from distill.runs.composed import Composed

GROUPS = ("experiment", "data", "method", "student")
FETCHED = {"download", "weights"}
PLACES = {"root", "path", "workers", "name"}  # of files and of threads: sets of one method may differ in them


def stated(arguments: Sequence[str]) -> dict[str, Any]:
    """What a command line states, as Hydra reads it: values by their names."""
    parser, found = OverridesParser.create(), {}
    for item in arguments:
        try:
            override = parser.parse_override(item)
        except HydraException:
            continue  # a flag; or Hydra will say what is wrong with it
        found[override.get_key_element().lstrip("+")] = override.value()
    return found


def choices(run: Composed, students: Sequence[str]) -> dict[str, Any]:
    """The options that this run chose, for the record."""
    chosen = run.choices
    own = {"data": chosen["data"], "method": chosen["method"], "student": list(students)}
    experiment = stated(run.stated).get("experiment")
    return own | ({"experiment": experiment} if experiment else {})


def complete_overrides(arguments: list[str]) -> list[str]:
    """The command line; for task=evaluate synset=... or union=... with the options of its maker that it does not choose."""
    given = stated(arguments)
    path = given.get("synset") or given.get("union")
    if isinstance(path, ChoiceSweep):  # the sets of a sweep have one maker
        path = path.list[0].text if isinstance(path.list[0], QuotedString) else path.list[0]
    if given.get("task") != "evaluate" or not path or "experiment" in given:
        return arguments
    from distill.sets.reading import load

    try:
        record = load(str(path[0] if isinstance(path, list) else path)).record
    except (OSError, ValueError, TypeError):
        return arguments  # the task will say what is wrong with it
    chosen = _chosen(record)
    if any(given.get(group, chosen.get(group)) != chosen.get(group) for group in ("data", "method")):
        chosen.pop("experiment", None)  # of another cell
    kept = [
        f"{group}={'[' + ','.join(name) + ']' if isinstance(name, list) else name}"
        for group, name in chosen.items()
        if group not in given
    ]
    return [*kept, *arguments]


def _chosen(record: Mapping[str, Any]) -> dict[str, Any]:
    """The maker's options by group, those that there are; sets of earlier versions have their command line alone."""
    chosen, overrides = record.get("choices"), record.get("overrides")
    if not isinstance(chosen, dict):
        items = [item for item in overrides if isinstance(item, str)] if isinstance(overrides, list) else []
        found = [re.fullmatch(r"(\w+)=(\w+|\[[\w,]+\])", item) for item in items]
        chosen = {each[1]: each[2].strip("[]").split(",") if "[" in each[2] else each[2] for each in found if each}

    def known(group: str, name: Any) -> bool:
        names, there = name if group == "student" and isinstance(name, list) else [name], options(group)
        return 0 < len(names) <= len(there) and all(isinstance(each, str) and each in there for each in names)

    return {group: chosen[group] for group in GROUPS if group in chosen and known(group, chosen[group])}


def take_values(run: Composed, records: Sequence[Mapping[str, Any]]) -> None:
    """Put the maker's values into the run, where the same data, method and networks are chosen here.

    Args:
        records: of the sets that are evaluated together; all but the first are only compared.

    Raises:
        ValueError: the sets were made with different data, or with data that are not here.
    """
    cfg, given, values, chosen = run.cfg, stated(run.stated), _values(records[0]), _chosen(records[0])
    if "experiment" in given and given["experiment"] != chosen.get("experiment"):
        return
    root = cfg.data.root
    for group in ("data", "method", "student", "proxies", "teachers"):
        if group not in ("data", "method") or given.get(group, chosen.get(group)) == chosen.get(group):
            _fill(cfg, group, values.get(group), given)
    if given.get("data", chosen.get("data")) != chosen.get("data"):
        return
    if cfg.data.root != root and "data.download" not in given:
        cfg.data.download = False  # into a place that a stranger names
    for other in map(_values, records[1:]):
        for key, value in values.get("data", {}).items():
            if f"data.{key}" not in given and key not in PLACES and other.get("data", {}).get(key, value) != value:
                raise ValueError(
                    f"the sets were made with data.{key} {value} and {other['data'][key]}: "
                    f"evaluate them one after the other, or state data.{key}"
                )
    path = None if OmegaConf.is_missing(cfg.data, "path") else cfg.data.path
    if path is not None and "data.path" not in given and not Path(path).expanduser().exists():
        raise ValueError(f"the set was made from data.path={path}, which is not here: give data.path=PATH")


def of_all_classes(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record without its maker's choice of classes, which is not that of a union."""
    values = _values(record)
    data = {name: value for name, value in values["data"].items() if name != "classes"}
    return {**record, "config": values | {"data": data}}


def other_data(records: Sequence[Mapping[str, Any]], fingerprint: str) -> list[str]:
    """What to tell a user whose training images, here of ``fingerprint``, are not those that a set was made from."""
    made = [each.get("data_fingerprint") for each in records if "choices" in each]  # earlier ones hashed other things
    differ = any(isinstance(each, str) and each != fingerprint for each in made)
    return (
        ["note: the training images here, or their split, are not those that the set was made from"] if differ else []
    )


def _values(record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The maker's values by group."""
    config = record.get("config")
    values = {key: part for key, part in (config if isinstance(config, dict) else {}).items() if isinstance(part, dict)}
    data = values.get("data", {})
    if "crop" not in data and data.get("lazy") is True:  # before there was a choice, lazy folders were cropped
        data = data | {"crop": True}
    if data.get("path") is not None or not (
        isinstance(data.get("root"), str) and Path(data["root"]).expanduser().is_dir()
    ):
        data = {key: value for key, value in data.items() if key != "root"}
    return values | {"data": data}


def _fill(cfg: DictConfig, key: str, values: Any, given: Mapping[str, Any]) -> None:
    """Give the settings below ``key`` the values of the same name, where the command line gives none.

    What refers to another group, as a rule's proxies do, has that group's values.
    """
    node = OmegaConf.select(cfg, key)
    for name in node if isinstance(values, dict) else ():
        inner = f"{key}.{name}"
        if (
            inner in given
            or name not in values
            or name in FETCHED
            or name.startswith("_")
            or OmegaConf.is_interpolation(node, name)
        ):
            continue
        if OmegaConf.is_dict(OmegaConf.select(cfg, inner)):
            _fill(cfg, inner, values[name], given)
        elif _plain(values[name]):
            OmegaConf.update(cfg, inner, _literal(values[name]))


def _plain(value: Any) -> bool:
    return all(isinstance(each, str | int | float | None) for each in (value if isinstance(value, list) else [value]))


def _literal(value: Any) -> Any:
    """The value as OmegaConf takes it, where ``${`` begins an interpolation."""
    if isinstance(value, list):
        return [_literal(each) for each in value]
    return re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + r"\${", value) if isinstance(value, str) else value
