"""What values settings may have: stated once, beside the class or function that takes them, and checked wherever they enter.

A statement is text in a small language::

    whole [1, inf)      (0, 1]      true or false       null or (0, 1]      text        path        anything
    one of fp32, bf16               some of flip, crop joined by _          absent or text      {}
    list of X           two of X                        map of X to Y       (X: the rest of the statement)
    any number of X     any text    (a list or a text that may be empty)

or, for a group of settings: a table (name -> statement), the class or function that its ``_target_`` must name, or a pair
of text for what may stand instead of the group (``null``, ``absent``, ``{}``) and one of these.
A class states the table of its own settings as ``RANGES``, and has its bases' too; a function's stands in its module. The
fields of a dataclass carry theirs (`setting`), and a class that is made of such settings names it as ``settings_type``.
"""

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, field, fields, is_dataclass
from functools import cache
from typing import Any

LITERALS = {"null": None, "true": True, "false": False}

STRUCTURE = {"_partial_": "true or false", "_convert_": "one of none, partial, object, all"}  # Hydra's


def setting(statement: Any, default: Any = MISSING) -> Any:
    """A field of a dataclass that takes what ``statement`` says."""
    return field(default=default, metadata={"range": statement})


def check_ranges(group: str, values: Mapping[str, Any], ranges: Mapping[str, Any]) -> None:
    """Raise ValueError if one of ``values`` is none that it can have; groups of settings are not looked into.

    Args:
        group: what the values are settings of, for the message; may be empty.
    """
    for name, statement in ranges.items():
        if isinstance(statement, str) and not inside(values.get(name, ...), statement):
            raise ValueError(refusal(f"{group}{'.' * bool(group)}{name}", values.get(name, ...), statement))


def check_tree(group: str, values: Any, statement: Any) -> None:
    """Raise ValueError if a value anywhere in a configuration is none that it can have, is missing, or is not known.

    Args:
        group: what the values are settings of, for the message; empty for the whole run.
        values: of a group, plain dictionaries and lists.
        statement: what is stated of the group.
    """
    if isinstance(statement, tuple):
        instead, statement = statement
        if inside(values, instead):
            return
    if not isinstance(values, Mapping):
        raise ValueError(
            f"{group} is {shortened(values)}, expected a group of settings: {group}.NAME=VALUE changes one"
        )
    table = statement
    if not isinstance(statement, Mapping):
        owner = owner_of(group, values.get("_target_"), statement)
        table, values = stated(owner), {name: value for name, value in values.items() if name != "_target_"}
        check_ranges(group, values, {name: kind for name, kind in STRUCTURE.items() if name in values})
        if inspect.isclass(statement) and not values.get("_partial_", True):
            raise ValueError(f"{group}._partial_ is false, expected true: leave it as it is")
    unknown = [name for name in values if name not in table and name not in STRUCTURE]
    if unknown:
        raise ValueError(
            f"unknown setting {group}{'.' * bool(group)}{unknown[0]}: {group or 'the run'} has {', '.join(table)}"
        )
    check_ranges(group, values, table)
    for name, inner in table.items():
        if not isinstance(inner, str):
            check_tree(f"{group}{'.' * bool(group)}{name}", values.get(name, ...), inner)


def stated(owner: Any) -> dict[str, Any]:
    """The table of all settings of a class (a subclass's statement replaces its base's) or of a function."""
    if not inspect.isclass(owner):
        return dict(sys.modules[owner.__module__].RANGES)  # type: ignore[attr-defined]
    table = stated(owner.settings_type) if hasattr(owner, "settings_type") else {}
    if is_dataclass(owner):
        table |= {each.name: each.metadata["range"] for each in fields(owner) if "range" in each.metadata}
    tables = (vars(base).get("RANGES", {}) for base in reversed(owner.__mro__))
    return table | {name: kind for own in tables for name, kind in own.items()}


def owner_of(group: str, target: Any, kind: Any) -> Any:
    """The class or function that ``target`` names, if it is ``kind`` or a subclass of it; raises ValueError otherwise."""
    module, _, name = str(target).rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError, TypeError):
        found = None
    if found is not kind and not (inspect.isclass(found) and inspect.isclass(kind) and issubclass(found, kind)):
        known = f"{kind.__module__}.{kind.__qualname__}"
        raise ValueError(f"{group}._target_ is {shortened(target)}, expected {known} or a class made from it")
    return found


def inside(value: Any, statement: str) -> bool:
    """Whether ``value`` is one of those stated; ``...`` stands for none at all."""
    return _parsed(statement)[0](value)


def refusal(name: str, value: Any, statement: str) -> str:
    """What to say of a value that is none of those stated."""
    takes = _parsed(statement)[1]
    if value is ...:
        return f"{name} is missing, expected {takes}"
    if re.match(r"(null or |absent or )*one of ", statement):
        return f"unknown {name} {shortened(value)}: {takes}"
    return f"{name} is {shortened(value)}, expected {takes}"


def shortened(value: Any) -> str:
    """``value`` as it is written, cut where it fills a line."""
    text = (
        {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else repr(value)
    )
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


@cache
def _parsed(statement: str) -> tuple[Callable[[Any], bool], str]:
    """Whether a value is one of those stated, and how to say what is."""
    for pattern, parse in KINDS.items():
        if found := re.fullmatch(pattern, statement):
            return parse(*found.groups())
    raise AssertionError(f"no statement of a range: {statement}")


def _either(first: str, rest: str) -> tuple[Callable[[Any], bool], str]:
    (one, this), (other, that) = _parsed(first), _parsed(rest)
    return lambda value: one(value) or other(value), f"{this} or {that}" if first != "absent" else that


def _list(rest: str) -> tuple[Callable[[Any], bool], str]:
    takes, what = _parsed(rest)
    return lambda value: _is_list(value) and len(value) > 0 and all(map(takes, value)), f"a list, each item {what}"


def _any_number(rest: str) -> tuple[Callable[[Any], bool], str]:
    takes, what = _parsed(rest)
    return lambda value: _is_list(value) and all(map(takes, value)), f"a list of any length, each item {what}"


def _two(rest: str) -> tuple[Callable[[Any], bool], str]:
    takes, what = _parsed(rest)
    return lambda value: _is_list(value) and len(value) == 2 and all(map(takes, value)), f"two values, each {what}"


def _map(key: str, rest: str) -> tuple[Callable[[Any], bool], str]:
    (known, what), (takes, to) = _parsed(key), _parsed(rest)

    def inside(value: Any) -> bool:
        return isinstance(value, Mapping) and len(value) > 0 and all(known(k) and takes(v) for k, v in value.items())

    return inside, f"a map {{...: ...}} of {what} to {to}"


def _interval(whole: str | None, left: str, low: str, high: str, right: str) -> tuple[Callable[[Any], bool], str]:
    least, most, kind = float(low), float(high), int if whole else int | float

    def inside(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, kind):
            return False
        return least < value < most or (value == least and left == "[") or (value == most and right == "]")

    return inside, f"a {whole or ''}number in {left}{low}, {high}{right}"


def _one(names: str) -> tuple[Callable[[Any], bool], str]:
    known = [
        LITERALS[each] if each in LITERALS else int(each) if each.isdecimal() else each for each in names.split(", ")
    ]
    return lambda value: any(type(value) is type(each) and value == each for each in known), f"one of {names}"


def _some(names: str, joint: str) -> tuple[Callable[[Any], bool], str]:
    known = names.split(", ")
    return (
        lambda value: isinstance(value, str) and all(part in known for part in value.split(joint)),
        f"some of {names} joined by {joint}",
    )


def _literal(name: str) -> tuple[Callable[[Any], bool], str]:
    return lambda value: value is LITERALS[name], name


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.strip() != "" and "\0" not in value


NUMBER = r"(-?[\d.e+]+|-?inf)"

KINDS: dict[str, Callable[..., tuple[Callable[[Any], bool], str]]] = {
    r"list of (.+)": _list,
    r"any number of (.+)": _any_number,
    r"two of (.+)": _two,
    r"map of (.+?) to (.+)": _map,
    r"(.+?) or (.+)": _either,
    rf"(whole )?([(\[]){NUMBER}, {NUMBER}([)\]])": _interval,
    r"one of (.+)": _one,
    r"some of (.+) joined by (.)": _some,
    r"(null|true|false)": _literal,
    r"absent": lambda: (lambda value: value is ..., "nothing"),
    r"anything": lambda: (lambda value: value is not ..., "anything"),
    r"\{\}": lambda: (lambda value: value == {}, "{}"),
    r"text": lambda: (_is_text, "text"),
    r"any text": lambda: (lambda value: isinstance(value, str), "text"),
    r"path": lambda: (_is_text, "a path"),
}
