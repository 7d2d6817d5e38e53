"""The command line as it is typed: paths as a shell gives them, and choices of a sweep."""

import re
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

FOLDERS = {"out", "experts_path", "labels_path", "data.root"}  # whatever is typed is a name, null and true included
LISTS = {"synset", "union", "runs", "images", "labels", "class_order"}  # one path, or a list in brackets
FILES = {"data.path", "path", *LISTS}  # null is none
SWEEP = ("--multirun", "-m")


def quoted(arguments: Sequence[str]) -> list[str]:
    """The command line with quotes around paths that Hydra's grammar would take for something else, or not at all."""
    done, sweep = [], is_sweep(arguments)
    for item in arguments:
        name, equals, value = item.partition("=")
        if sweep and name in FOLDERS | FILES and _differs(item):
            parts = value.split(",")
            simple = not re.search(r"['\"()\[\]]", value)  # else Hydra's own quotes, lists and functions
            done.append(f"{name}={','.join(map(_quote, parts))}" if simple else item)
        elif not equals or name not in FOLDERS | FILES or "${" in value or re.fullmatch(r"'.*'|\".*\"", value):
            done.append(item)
        elif name in LISTS and re.fullmatch(r"\[.*\]", value):
            read = _read(item)
            texts = isinstance(read, list) and all(isinstance(each, str) for each in read)
            done.append(item if texts else f"{name}=[{','.join(map(_quote, value[1:-1].split(',')))}]")
        else:
            done.append(
                item if _read(item) == value or (name in FILES and value == "null") else f"{name}={_quote(value)}"
            )
    return done


def is_sweep(arguments: Sequence[str]) -> bool:
    """Whether values with commas are choices, a job for each."""
    return not set(SWEEP).isdisjoint(arguments)


def swept(item: str) -> list[str]:
    """``seed=0,1`` as ``seed=0`` and ``seed=1``; any other as it is."""
    try:
        override = OverridesParser.create().parse_override(item)
    except HydraException:
        return [item]
    if not override.is_sweep_override():
        return [item]
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]


def _differs(item: str) -> bool:
    """Whether a path is several in a sweep: some hold what Hydra's grammar has no place for, but commas divide them."""
    value = item.partition("=")[2]
    return swept(item) != [item] or ("," in value and not re.search(r"['\"\[]", value))


def _read(item: str) -> object:
    """What Hydra reads of an override; None where its grammar has no place for it."""
    try:
        return OverridesParser.create().parse_override(item).value()
    except HydraException:
        return None


def _quote(text: str) -> str:
    inner = re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + (r"\'" if found[2] else ""), text.strip())
    return f"'{inner}'"
