from pathlib import Path

import pytest
import torch
from torch.func import grad

from distill.autotune import fastest, fuse
from distill.files import read_record
from distill.progress import heard_by

CPU = torch.device("cpu")


@pytest.fixture
def choose(tmp_path, monkeypatch, taking):
    """``choose(calls, eager=1.0, compiled=0.5)``: what is chosen when a call takes these seconds, and what was measured."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def run(calls, compile="auto", about=None, **seconds):
        ways, measured = taking(**seconds)
        return fastest(ways, about or {"net": "toy"}, calls, CPU, compile), measured

    return run


def test_the_fastest_way_is_found_once_and_remembered(choose, tmp_path):
    seconds = {"eager": 1.0, "stacked": 0.9, "compiled": 0.5}
    assert choose(1000, **seconds) == ("compiled", ["eager", "stacked", "compiled"])
    assert choose(1000, **seconds) == ("compiled", [])
    assert choose(1000, about={"net": "other"}, **seconds)[1] == ["eager", "stacked", "compiled"]
    assert len(read_record(tmp_path / "distill" / "fastest.json", "")) == 2


def test_little_work_is_done_eagerly_whatever_is_known(choose):
    seconds = {"eager": 1.0, "stacked": 0.9, "compiled": 0.5}
    assert choose(10, **seconds) == ("eager", ["eager"])
    assert choose(100, **seconds) == ("stacked", ["stacked"])
    assert choose(1000, **seconds) == ("compiled", ["compiled"])
    assert choose(10, **seconds) == ("eager", [])


def test_what_another_way_shortens_is_too_little_for_the_compiler(choose):
    seconds = {"eager": 1.0, "stacked": 0.5, "compiled": 0.1}
    assert choose(500, **seconds) == ("stacked", ["eager", "stacked"])
    assert choose(700, **seconds) == ("compiled", ["compiled"])


def test_a_way_that_is_hardly_faster_is_not_worth_it(choose):
    assert choose(1000, eager=1.0, compiled=0.97)[0] == "eager"


def test_measuring_is_a_stage(choose):
    told = []
    with heard_by(lambda *stage: told.append(stage)):
        choose(1000, eager=1.0, compiled=0.5)
    text = "measuring which way is fastest: "
    assert told == [(text + name, done, 1) for name in ("eager", "compiled") for done in (0, 1)]


def test_orders_are_followed_without_a_measurement(choose):
    assert choose(1, compile=True, eager=1.0, compiled=2.0) == ("compiled", [])
    assert choose(10**9, compile=False, eager=1.0, compiled=0.1) == ("eager", [])


def test_a_way_that_fails_is_left_out_with_a_warning(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def broken():
        raise RuntimeError("no compiler found")

    ways = {"eager": lambda: None, "compiled": broken}
    assert fastest(ways, {}, 10**12, CPU, "auto") == "eager"
    assert "warning: compiled is left out: no compiler found" in capsys.readouterr().err
    assert fastest(ways, {}, 10**12, CPU, "auto") == "eager" and capsys.readouterr().err == ""


def test_an_unreadable_cache_is_measured_anew(choose, tmp_path):
    Path(tmp_path / "distill").mkdir()
    (tmp_path / "distill" / "fastest.json").write_text("{")
    assert choose(1000, eager=1.0, compiled=0.5)[0] == "compiled"


def test_any_number_of_functions_from_one_definition_is_compiled():
    from torch._dynamo.utils import counters

    def make(factor):
        return grad(lambda x: factor * x.square().sum())

    before, x = counters["stats"]["unique_graphs"], torch.arange(3.0)
    with torch._dynamo.config.patch(recompile_limit=2):
        for factor in (1.0, 2.0, 3.0):
            assert torch.equal(fuse(make(factor))(x), 2 * factor * x)
    assert counters["stats"]["unique_graphs"] - before == 3


def test_what_another_run_measures_meanwhile_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def own():
        fastest(dict.fromkeys(["eager", "stacked"], lambda: None), {"net": "other"}, 1, CPU, "auto")

    fastest(dict.fromkeys(["eager", "stacked"], own), {"net": "own"}, 1, CPU, "auto")
    found = read_record(tmp_path / "distill" / "fastest.json", "")
    assert {entry["about"]["net"] for entry in found.values()} == {"own", "other"}
