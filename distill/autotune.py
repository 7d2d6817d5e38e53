"""The fastest of several ways to the same numbers, found by measurement and remembered on this machine."""

import logging
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch

from distill.files import cache_folder, digest, read_record, write_record
from distill.progress import stage

logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it tells of a missing GPU when compiling

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

EAGER = "eager"

COMPILE_FROM = 300.0  # seconds of work, the best way so far, from which torch.compile, up to a minute, is worth a try

STACK_FROM = 20.0  # the same for ways that cost no more than their measurement

HOPELESS = 1.5  # a way made of parts is not tried when one of them takes this much longer than `eager`

MARGIN = 0.95  # another way replaces `eager` only where it takes at most this share of its time


def fastest(
    ways: Mapping[str, Callable[[], object]],
    about: Mapping[str, Any],
    calls: int,
    device: torch.device,
    compile: bool | str,
) -> str:
    """Name of the way that takes the least time for the work ahead.

    Times are kept in ``fastest.json`` in the user's cache folder, so that a command that goes on after a kill computes as
    it did before. A way that fails, for want of a compiler for instance, is left out with a warning.

    Args:
        ways: by name, what does the same piece of work; ``eager`` is one. Names with ``compiled`` use torch.compile.
            Names of two words combine the ways of each.
        about: what the work is (network, shapes, precision); machine, threads and torch version are added.
        calls: how many such pieces are ahead; little work is done without a try at the others.
        compile: ``auto`` measures; True and False are orders.
    """
    if compile != "auto":
        ways = {name: work for name, work in ways.items() if ("compiled" in name) == compile}
    if len(ways) == 1:
        return next(iter(ways))
    about = {**about, "machine": _machine(device), "torch": torch.__version__}
    key = digest(about)

    def seconds(name: str) -> float:
        """Of one call; infinite for a way that fails."""
        times = {**_remembered().get(key, {}).get("seconds", {}), **_UNSAVED.get(key, {})}
        if name not in times:
            with stage(f"measuring which way is fastest: {name}"):
                times[name] = _measure(ways[name], name)
            known = _remembered()  # other runs measure, too
            known.setdefault(key, {"about": about, "seconds": {}})["seconds"][name] = times[name]
            if not _saved(known):
                _UNSAVED.setdefault(key, {})[name] = times[name]
        return float("inf") if times[name] is None else times[name]

    first = next(iter(ways))
    best = seconds(first)
    times = {first: MARGIN * best}
    for name in list(ways)[1:]:
        hopeless = any(times[part] > HOPELESS * times[first] for part in name.split() if part in times)
        if not hopeless and (compile is True or calls * best > (COMPILE_FROM if "compiled" in name else STACK_FROM)):
            times[name] = seconds(name)
            best = min(best, times[name])
    return min(times, key=lambda name: times[name])


def in_one_piece(function: F) -> F:
    """``function``, which `fuse` will not look into: it becomes one call in the graph."""
    PIECES.append(function)
    return function


def a_constant(function: F) -> F:
    """``function``, whose answer `fuse` takes for the same ever after."""
    CONSTANTS.append(function)
    return function


PIECES: list[Callable[..., Any]] = []  # told to the compiler when it is wanted: importing it takes a second and a half
CONSTANTS: list[Callable[..., Any]] = []


def fuse(function: Callable[..., T]) -> Callable[..., T]:
    """torch.compile, for static shapes, with a store of its own.

    torch keeps eight results for one code object, which functions from one ``def`` share, and goes the eager way from the
    ninth on: slower, and rounded otherwise than in a run that a restart begins there.
    """

    def own(*args: Any) -> T:
        return function(*args)

    own.__code__ = own.__code__.replace()  # a copy

    @cache
    def compiled() -> Callable[..., T]:
        for piece in PIECES:
            torch.compiler.allow_in_graph(piece)
        for constant in CONSTANTS:
            torch.compiler.assume_constant_result(constant)
        # Where inductor (torch 2.14) may lay convolutions out anew, gradients of grey images are NaN in bf16.
        return torch.compile(own, dynamic=False, options={"layout_optimization": False})

    return lambda *args: compiled()(*args)  # the compiler is imported when it is wanted


def _measure(work: Callable[[], object], name: str) -> float | None:
    """Median seconds of a call, after one that warms up; None if it fails."""
    times = []
    try:
        for _ in range(4):
            began = time.perf_counter()
            work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times.append(time.perf_counter() - began)
    except Exception as error:  # whatever the compiler raises, the eager way goes on
        if name == EAGER:
            raise
        print(f"warning: {name} is left out: {str(error).strip().splitlines()[0]}", file=sys.stderr)
        return None
    return statistics.median(times[1:])


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.node()} {platform.machine()}, {torch.get_num_threads()} threads, {os.cpu_count()} cores"


def memory_of(device: torch.device | None = None) -> int:
    """Bytes of a device's memory, used or not; None is this machine."""
    if device is not None and device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _path() -> Path:
    """Of the times.

    Raises:
        RuntimeError: the user has no home.
    """
    return cache_folder() / "fastest.json"


def _remembered() -> dict[str, Any]:
    """What was measured on this machine, by what it is about."""
    try:
        times = read_record(_path(), "what is fastest is measured again")
        if not all(isinstance(entry, dict) and _are_seconds(entry.get("seconds")) for entry in times.values()):
            raise ValueError(f"{_path()} holds no times: what is fastest is measured again")
    except (OSError, RuntimeError):
        times = {}
    except ValueError as error:
        _warn(str(error))
        times = {}
    return times


def _are_seconds(times: Any) -> bool:
    return isinstance(times, dict) and all(
        each is None or (isinstance(each, int | float) and each >= 0) for each in times.values()
    )


def _saved(times: dict[str, Any]) -> bool:
    """Whether what was measured could be written into the cache folder."""
    try:
        write_record(_path(), times)
    except (OSError, RuntimeError) as error:
        _warn(f"what is fastest is not remembered: {error}")
        return False
    return True


_UNSAVED: dict[str, dict[str, float | None]] = {}  # seconds that this process alone remembers


@cache
def _warn(text: str) -> None:
    """Once."""
    print(f"warning: {text}", file=sys.stderr)
