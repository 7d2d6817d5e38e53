"""Every setting of every group is given what it should not be: one line says so, or the run could begin.

Nothing is trained: the configuration is checked, and what passes is built up to the first training on handwritten digits.
A seeded sample is tried here, all of it by ``make fuzz`` (fuzz_all.py).
"""

import copy
import random
import signal
from functools import reduce

import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from test_ranges import options

from distill.cli.errors import errors_in_one_line
from distill.runs.checks import check_values, plain
from distill.runs.composed import Composed
from distill.runs.line import Line

NAN, INF, HUGE = float("nan"), float("inf"), 10**12
NEVER = ["", " ", [], [None], [NAN], {"a": None}, NAN, INF, -INF, -1, -0.5, 1e15]  # no setting may be one of these
VALUES = [
    *NEVER, {}, HUGE, None, True, False, "abc", "off", 0, 1, 2, 7, 1000, 0.5, 1.5, [1], [0.5], ["abc"], {"a": 1}, {1: 1},
]  # fmt: skip
SECONDS = 60  # after which a check hangs
# Read elsewhere, or of threads, of what is fetched, and of the memory that there is.
LATER = {"task", "threads", "workers", "download", "weights", "size", "test_resize"}
TOY = ["data=digits", "ipc=1", "student.convnet.width=4", "device=cpu"]


def bases():
    """Overrides and the groups whose settings they put to the test, so that each option is tried once."""
    yield ["method=datm"], [""]
    for name in options("method"):
        yield [f"method={name}"], ["method"]
    for name in options("protocol"):
        yield ["method=rded", f"protocol={name}"], ["protocol"]
    for name in options("student"):
        yield ["method=datm", f"student=[convnet,{name}]"], [f"student.{name}"]


def leaves(node, path=()):
    """Places and values below ``node``; an empty group is one, too."""
    for name, value in node.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name), value


class Base:
    """One composed configuration, and what is tried on it."""

    def __init__(self, overrides, groups):
        self.hydra = compose("config", ["precision=fp32", *TOY, *overrides], return_hydra_config=True)
        self.values = plain(OmegaConf.masked_copy(self.hydra, [key for key in self.hydra if key != "hydra"]))
        names = [".".join(map(str, path)) for path, _ in leaves(self.values)]
        groups = [group for group in groups if group] or ["data", "proxies", "logger", "student.convnet"]
        own = groups + ([name for name in names if "." not in name] if overrides == ["method=datm"] else [])
        self.leaves = [
            (path, before)
            for path, before in leaves(self.values)
            if any(f"{'.'.join(map(str, path))}.".startswith(f"{group}.") for group in own)
        ]

    def run(self, path, value):
        """With another value."""
        runtime = self.hydra.hydra.runtime
        return Composed(
            OmegaConf.create(self.with_value(path, value)), runtime.choices, self.hydra.hydra.overrides.task
        )

    def with_value(self, path, value):
        values = copy.deepcopy(self.values)
        reduce(lambda node, name: node[name], path[:-1], values)[path[-1]] = value
        return values


def told(act):
    """The line that a user is told; empty where nothing is wrong. Other errors and hangs come through."""
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail(f"hangs for {SECONDS} s"))
    signal.alarm(SECONDS)
    try:
        with errors_in_one_line():
            act()
    except SystemExit as stop:
        return str(stop.code)
    finally:
        signal.alarm(0)
    return ""


def may_be(path, before, value):
    """Whether ``value`` is at least of the kind of what stands there; stated without the ranges."""
    name = path[-1]
    if name == "assumed" and value == []:
        return True
    if type(value) is type(before) and value == before:
        return True
    if any(value is each or value == each for each in NEVER):
        return False
    if value == {}:
        return isinstance(before, dict) or before is None
    if value is HUGE:
        return name == "seed"
    if isinstance(value, bool):
        return isinstance(before, bool) or name == "compile"
    if isinstance(before, bool):
        return value == "auto"
    if isinstance(before, int | float):
        return isinstance(value, int | float) or name in ("ipc", "published") or value is None
    if isinstance(before, str):
        return isinstance(value, str) or value is None or name in ("compile", "synset", "runs", "classes")
    return True


class Silent:
    def say(self, text):
        pass


def attempt(base, path, before, value):
    """Try one value; whether it passed the statement of its range."""
    values = base.with_value(path, value)
    said = told(lambda: check_values(values))
    about = f"{'.'.join(map(str, path))}={value!r}: {said[:200]}"
    assert "\n" not in said and len(said) < 1000, about
    assert not said or said.startswith("error: "), about
    if "choices" not in path:  # the protocol looks into them, see `begin`
        assert said or may_be(path, before, value), f"accepted: {about}"
    return not said


def begin(base, path, value):
    """Everything up to the first training."""
    said = told(lambda: Line(base.run(path, value), Silent()))
    assert "\n" not in said and len(said) < 1000, f"{path}={value!r}: {said[:200]}"


@pytest.fixture
def hydra(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        yield


def test_a_sample_of_all_values_gets_one_line_or_can_begin(hydra):
    draw, passed = random.Random(0), 0
    for overrides, groups in draw.sample(list(bases()), 6):
        base = Base(overrides, groups)
        for path, before in draw.sample(base.leaves, min(20, len(base.leaves))):
            for value in draw.sample(VALUES, 5):
                if attempt(base, path, before, value) and not LATER & set(path) and passed < 8:
                    passed += 1
                    begin(base, path, value)
