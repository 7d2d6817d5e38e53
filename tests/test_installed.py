"""What pip installs: every module and configuration, and a command that is called in three ways."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from conftest import ROOT

import distill
from distill import configs, experts
from distill.text import command


def test_a_checkout_reads_its_own_configs_and_experts():
    assert Path(configs.__file__) == ROOT / "configs" / "__init__.py"
    assert Path(experts.__file__) == ROOT / "experts" / "__init__.py"


@pytest.mark.parametrize("words", [["-m", "distill"], [str(ROOT / "run.py")]])
def test_the_version_is_ours(words):
    told = subprocess.run([sys.executable, *words, "--version"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout == f"distill {distill.__version__}\n"


@pytest.mark.parametrize(
    ("started", "told"),
    [
        ("/usr/bin/distill", "distill"),
        ("/lib/distill/__main__.py", "python -m distill"),
        ("/src/run.py", "python run.py"),
        ("/lib/pytest/__main__.py", "python run.py"),
    ],
)
def test_hints_name_the_command_that_was_called(monkeypatch, started, told):
    monkeypatch.setattr(sys, "argv", [started, "task=list"])
    assert command() == told


def test_a_wheel_holds_every_module_and_configuration_and_no_other_package(tmp_path, monkeypatch):
    pytest.importorskip("setuptools", "77")  # as pyproject.toml asks of what builds
    from setuptools import build_meta as build

    for name in ("pyproject.toml", "README.md", "LICENSE", "distill", "configs", "experts", "results"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["setup.py"])
    with ZipFile(tmp_path / build.build_wheel(str(tmp_path))) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
        (points,) = [wheel.read(name).decode() for name in wheel.namelist() if name.endswith("/entry_points.txt")]
    patterns = ("*.py", "*.yaml", "*.html", "*.css", "*.js", "*.cpp", "ranking/*.json")
    files = [path for pattern in patterns for path in (ROOT / "distill").rglob(pattern)]
    expected = {path.relative_to(ROOT).as_posix() for path in files}
    for folder in ("configs", "experts"):
        files = [path for pattern in ("*.py", "*.yaml", "*.bib") for path in (ROOT / folder).rglob(pattern)]
        expected |= {f"distill/{path.relative_to(ROOT).as_posix()}" for path in files}
    expected |= {f"distill/results/{path.name}" for path in (ROOT / "results").glob("*.*")}  # without the sets
    assert held == expected
    assert "distill = distill.cli.main:main" in points
