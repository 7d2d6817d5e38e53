"""The tutorials are scripts of cells, run by `make tutorials`; what their pages are made of."""

import re
import runpy
import subprocess
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT
from test_docs import TUTORIALS

import distill as dd
from distill.checks import stated

ADDED = (ROOT / "tutorials" / "adding_method.py").read_text()


def cells(script):
    """(kind, text) of each."""
    return re.findall(r"^# %%( \[markdown\])?\n(.*?)(?=^# %%|\Z)", script.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("script", TUTORIALS, ids=lambda script: script.stem)
def test_a_tutorial_is_told_in_cells_that_compile(script):
    kinds = [kind for kind, _ in cells(script)]
    assert kinds.count("") >= 3 and cells(script)[0][0] and cells(script)[0][1].startswith("# # ")
    assert all(line.startswith("#") for kind, text in cells(script) if kind for line in text.split("\n") if line)
    for kind, text in cells(script):
        compile("" if kind else text, script.name, "exec")


def test_main_runs_them_before_it_makes_the_site():
    steps = (ROOT / ".ci" / "run").read_text()
    assert 0 < steps.index("\nmake tutorials") < steps.index("\nmake docs") and len(TUTORIALS) == 4


def test_the_first_tutorial_tells_how_many_images_there_are():
    told = " ".join((ROOT / "tutorials/first_set.py").read_text().replace("#", "").split())
    assert f"{len(dd.load_data('digits').train.labels):,} real ones" in told


def named(name):
    """A text that the tutorial writes into a file."""
    return re.search(rf'^{name} = (\'\'\'|""")(.*?)\1$', ADDED, re.MULTILINE | re.DOTALL)[2]


@pytest.fixture
def added(tmp_path):
    """The names of the module that the tutorial adds."""
    path = tmp_path / "added.py"
    path.write_text(named("module"))
    return runpy.run_path(str(path))


def test_the_configuration_of_the_added_method_states_each_setting(added):
    values = yaml.safe_load(named("config"))
    assert set(stated(added["RidgeSettings"])) == set(values) - {"_target_", "_partial_"}
    assert values["_target_"] == "distill.methods.matching.ridge_matching.RidgeMatching"


def test_the_ridge_of_the_added_method_is_that_of_the_normal_equations(added):
    known, labels, asked = (torch.randn(*shape, dtype=torch.float64) for shape in ((6, 4), (6, 3), (5, 4)))
    amount = 0.3 * (known @ known.T).diagonal().mean()
    weights = torch.linalg.solve(known.T @ known + amount * torch.eye(4), known.T @ labels)
    assert torch.allclose(added["ridge_answers"](asked, known, labels, 0.3), asked @ weights)


TOLD = """# %% [markdown]
# # A title

# %%
import sys

from PIL import Image

print("on stderr", file=sys.stderr)
print("on stdout")
Image.new("L", (3, 3))
"""


@pytest.fixture
def rendered(tmp_path, monkeypatch):
    """Renders a script's text; the folder of its page."""
    tutorials = pytest.importorskip("benchmarks.tutorials", reason="needs distill[docs]")
    monkeypatch.setattr(tutorials, "PAGES", tmp_path / "pages")

    def render(text: str) -> Path:
        (tmp_path / "told.py").write_text(text)
        tutorials.render(tmp_path / "told.py")
        return tmp_path / "pages"

    return render


@pytest.mark.filterwarnings("ignore")  # of the notebook's own packages
def test_a_page_shows_what_a_tutorial_prints_and_its_pictures_without_progress(rendered):
    pages = rendered(TOLD)
    text = (pages / "told.md").read_text()
    (picture,) = (pages / "told").iterdir()
    assert text.startswith("# A title") and "    on stdout" in text and "on stderr" not in text.partition("```\n")[2]
    assert f"(told/{picture.name})" in text and picture.suffix == ".png"


@pytest.mark.filterwarnings("ignore")
def test_a_tutorial_that_fails_has_no_page(rendered, tmp_path):
    with pytest.raises(subprocess.CalledProcessError):
        rendered(TOLD + "raise ValueError\n")
    assert not (tmp_path / "pages" / "told.md").exists()
