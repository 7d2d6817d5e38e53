"""Words of a command and records of sets without the machine that they were made on."""

import re
import shlex
from collections.abc import Mapping
from itertools import dropwhile
from typing import Any

SILENT = {  # what moves no number: where files lie, and how the same work is done
    *("task", "out", "experts_path", "labels_path", "data.root", "data.path", "data.download", "data.workers"),
    *("device", "threads", "compile", "method.compile", "workers", "logger", "keep_students"),
}


def words_of(command: str) -> list[str]:
    """The words of a row's command that move a number.

    >>> words_of("python run.py experiment=dc_mnist_ipc1 out='my out' device=cpu precision=fp32 ~method.loops")
    ['experiment=dc_mnist_ipc1', 'precision=fp32', '~method.loops']
    """
    words = dropwhile(lambda word: not re.match(r"[~+]|[\w./@]+=", word), shlex.split(command))
    return [word for word in words if name_of(word) not in SILENT]


def name_of(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


def without_places(record: Mapping[str, Any]) -> dict[str, Any]:
    """A set's record without the folders of the machine that it was made on.

    >>> without_places({"overrides": ["ipc=1", "out=/home"], "config": {"out": "/home", "ipc": 1, "data": {"root": "/data"}}})
    {'overrides': ['ipc=1'], 'config': {'ipc': 1, 'data': {}}}
    >>> without_places({"method": "dm", "overrides": ["out=/home"]})
    {'method': 'dm'}
    """
    config = {name: value for name, value in record.get("config", {}).items() if name not in SILENT}
    for group, values in config.items():
        if isinstance(values, dict):
            config[group] = {name: value for name, value in values.items() if f"{group}.{name}" not in SILENT}
    words = [word for word in record.get("overrides", []) if name_of(word) not in SILENT]
    kept = {name: value for name, value in record.items() if name not in ("overrides", "config")}
    return kept | {name: value for name, value in (("overrides", words), ("config", config)) if value}
