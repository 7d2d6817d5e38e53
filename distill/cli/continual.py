"""`distill continual`: its words are those of the runs that it is made of, and some of its own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.checks import check_ranges
from distill.cli.artefacts import values_of
from distill.comparison.written import write_tables
from distill.continual import tables
from distill.presets import options, unknown
from distill.runs.comparing import show
from distill.runs.composed import literal
from distill.runs.continual import RANDOM, Stream
from distill.runs.explained import words_explained

OWN: Mapping[str, Any] = {"steps": 5, "orders": 2, "method": RANDOM, "ipc": 10, "out": "outputs"}
USUAL: Mapping[str, Any] = {"protocol": "cl-gdumb", "data.val": 0}
RANGES = {
    **{"steps": "whole [1, 10000]", "orders": "whole [1, 1000]", "method": "text or list of text", "out": "path"},
    "ipc": "whole [1, 100000]",
}


def carried_out(arguments: Sequence[str]) -> list[str]:
    """Make every memory, train every student, and show the tables; lines to print."""
    values = {**OWN, **values_of(arguments)}
    common = common_words(values)
    with words_explained(common):
        stream = stream_of(values, common)
        stream.check()
    stream.go()
    courses, names = stream.courses(), stream.real.train.class_names
    title = f"{stream.real.train.name}, {stream.steps} steps, ipc {stream.ipc}, {stream.whole.protocol().name}"
    forms = [tables.summed(courses, title), tables.by_step(courses, title)]
    told = tables.summary(courses, [[[names[cls] for cls in step] for step in order] for order in stream.blocks])
    show(forms)
    return [f"wrote {path}" for path in write_tables(forms, told, stream.out / "continual", {})]


def common_words(values: Mapping[str, Any]) -> list[str]:
    """What all runs are told, of a command line's values."""
    check_ranges("", {**OWN, **values}, RANGES)
    for name in ("synset", "union", "baselines", "syntheses", "fraction"):
        if name in values:
            raise ValueError(f"continual makes its memories itself, random ones among them: leave {name} out")
    return [f"{name}={literal(value)}" for name, value in {**USUAL, **values}.items() if name not in RANGES]


def stream_of(values: Mapping[str, Any], common: Sequence[str]) -> Stream:
    """Random memories, and those of the methods asked for."""
    asked = values["method"] if isinstance(values["method"], list) else [values["method"]]
    for name in asked:
        if name not in options("method"):
            raise ValueError(unknown("method", name, options("method")))
    methods = list(dict.fromkeys([RANDOM, *asked]))
    return Stream(methods, values["steps"], values["orders"], values["ipc"], common, Path(values["out"]))


TASKS = {"continual": carried_out}
