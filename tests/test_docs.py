"""README and docs: every command composes, every Python block runs, every quotation is what the repository holds."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from conftest import ROOT
from hub import asked
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from test_structure import ORDER

from distill.cli.artefacts import WORDS, check_words, values_of
from distill.cli.continual import common_words
from distill.cli.habits import FLAGS, check_habits
from distill.cli.listing import listing
from distill.cli.main import with_task
from distill.cli.ranking import TASKS as RANKING
from distill.cli.ranking import ranking_run, truth_run
from distill.cli.results import again_of, check_result
from distill.cli.robustness import run_of as run_of_words
from distill.cli.robustness import settings_of, words_of
from distill.cli.typed import is_sweep, quoted, swept
from distill.data.preprocessing import normalised
from distill.presets import check_experiment
from distill.report.rows import ROW, Report
from distill.runs.checks import check_values, plain
from distill.runs.composed import compose
from distill.runs.suite import Job
from distill.runs.suited import run_of
from distill.sets.synthetic import SyntheticSet

DOCS = ROOT / "docs"
README = ROOT / "README.md"
TUTORIALS = sorted((ROOT / "tutorials").glob("*.py"))  # whose pages are made when the site is
PAGES = [README, *(page for page in sorted(DOCS.rglob("*.md")) if page.parent != DOCS / "tutorials")]
FENCE = re.compile(r"^```(\w*)(?: title=\"(.*?)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMANDS = ("python", "distill", "torchrun", "make", "pip", "source", "git", "cd", "tensorboard")


@dataclass(frozen=True)
class Fence:
    language: str
    title: str
    text: str


def name_of(page):
    return page.relative_to(ROOT).as_posix()


@cache
def fences(page):
    return [Fence(*found) for found in FENCE.findall(page.read_text())]


@cache
def prose(page):
    """The page without its blocks."""
    return FENCE.sub("", page.read_text())


by_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


# --- the pages as such -------------------------------------------------------------------------------------------------


def test_the_site_has_every_page():
    site = (ROOT / "mkdocs.yml").read_text()
    listed = re.findall(r"^ *- [^:\n]+: (\S+\.md)$", site, re.MULTILINE)
    made = [f"tutorials/{script.stem}.md" for script in TUTORIALS]
    assert sorted(listed) == sorted([page.relative_to(DOCS).as_posix() for page in PAGES if page != README] + made)


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) <= 160


def test_links_of_the_readme_lead_somewhere():
    links = re.findall(r"\]\(([^)]+)\)", README.read_text())
    assert links
    for link in links:
        file, _, anchor = link.partition("#")
        page = (README.parent / file) if file else README
        assert page.exists(), link
        headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in {
            re.sub(r"[^\w -]", "", each).strip().lower().replace(" ", "-") for each in headings
        }


def test_every_published_spread_says_that_it_is_a_standard_deviation():
    seen = 0
    for page in PAGES:
        for table in re.findall(r"(?:^\|.*\n)+", page.read_text(), re.MULTILINE):
            names, _, *rows = (line.split("|") for line in table.splitlines())
            for place, name in enumerate(names):
                if "published" in name and any("±" in row[place] for row in rows):
                    assert "± sd" in name, table
                    seen += 1
    assert seen


def test_the_walk_enters_at_most_ten_rooms_and_none_twice():
    walk = (DOCS / "walk.md").read_text()
    rooms = re.findall(r"^## \d+\. .*`distill/(\w+)`", walk, re.MULTILINE)
    assert 5 < len(rooms) <= 10 and len(set(rooms)) == len(rooms)
    known = re.search(r"^networks - .*$", walk, re.MULTILINE)[0].split(" - ")
    assert sorted(known) == sorted(rooms)
    whole = {room_of(module): place for place, module in enumerate(ORDER)}  # a room's last module
    assert known == sorted(known, key=whole.__getitem__), "the order of imports"


def room_of(module):
    return module.split(".")[1] if "." in module else module


def test_every_field_of_a_row_is_told():
    fields = set(
        re.findall(r"`(\w+)`", re.search(r"## A row\n(.*?)^## ", (DOCS / "outputs.md").read_text(), re.S | re.M)[1])
    )
    assert {*ROW, *Report.KEY} <= fields


# --- commands ----------------------------------------------------------------------------------------------------------


def said(script, folder):
    """The commands of a script as bash would call them, word by word; none of them is carried out."""
    code = 'python() { if [ "${1-}" = - ]; then said python -c "$(</dev/stdin)"; else said python "$@"; fi; }'
    stubs = "".join(f'{name}() {{ said {name} "$@"; }}\n' for name in COMMANDS)
    stub = f"said() {{ printf '%s\\0' \"$@\"; echo; }}\n{stubs}{code}\n"
    bash = shutil.which("bash")
    done = subprocess.run(
        [bash, "-euc", stub + script], cwd=folder, env={**os.environ, "PATH": ""}, capture_output=True, text=True
    )
    assert done.returncode == 0 and not done.stderr, f"{done.stderr}\n{script}"
    return [words.split("\0") for words in done.stdout.split("\0\n") if words]


def commands(page, folder):
    scripts = [each.text for each in fences(page) if each.language == "bash"]
    inline = re.findall(rf"`((?:{'|'.join(COMMANDS)}) [^`]+)`", prose(page))
    scripts += [" ".join(each.split()).removesuffix("...") for each in inline]
    return [words for script in scripts for words in said(script, folder)]


@by_page
def test_every_command_composes(page, tmp_path):
    assert not re.search(r"^ {4,}(python|distill|make) ", prose(page), re.MULTILINE), "a command outside of ```bash"
    for first, *words in commands(page, tmp_path):
        if first == "make":
            assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), words
        elif first == "pip":
            extras = re.findall(r"\[(.*?)\]", " ".join(words))
            known = re.search(r"optional-dependencies\]\n(.*?)\n\n", (ROOT / "pyproject.toml").read_text(), re.DOTALL)[
                1
            ]
            assert all(re.search(rf"^{name} = ", known, re.MULTILINE) for each in extras for name in each.split(","))
        elif first == "distill":
            check(words)
        elif first in ("python", "torchrun") and "run.py" in words:
            check(words[words.index("run.py") + 1 :])
        elif first == "python" and words[0] == "-c":
            compile(words[1], name_of(page), "exec")
        elif first == "python":
            assert words[:2] in (["-m", "venv"], ["-m", "http.server"]) or (ROOT / words[0]).exists(), words


@cache
def composes(*arguments):
    check_values(plain(compose(*arguments).cfg))


def check(words):
    """Whether the command line takes these words, as `distill.cli.main` reads them."""
    words = with_task(words)
    if "task=list" in words:
        assert listing([word for word in words if word != "task=list"])
        return
    task = "".join(words[:1]).removeprefix("task=")
    if task in WORDS:
        check_words(task, values_of(words[1:]))
        return
    if task == "suite":
        run = run_of({name: value for name, value in values_of(words[1:]).items() if name != "synset"})
        for job in [Job(each, cell) for each in run.subjects[:1] for cell in run.suite.cells({}, each.name)]:
            if not job.cell.of:  # else it needs the data
                composes(*run.words(job))
        return
    if task == "robustness":
        values = values_of(words[1:])
        settings_of(values)
        composes(*run_of_words([word for word in words_of(values) if not word.startswith("synset")]).stated)
        return
    if task == "continual":
        composes(*common_words(values_of(words[1:])))
        return
    if task == "result":
        check_result(words[1:])
        return
    if task == "reproduce":
        again, _ = again_of(["dc_mnist_ipc1" if word == "CELL" else word for word in words[1:]])
        composes(*(again.words if again else ()))
        return
    if task in RANKING:
        values = values_of(words[1:])
        own = {name: value for name, value in values.items() if name != "synset"} | {"method": "random"}
        composes(*(ranking_run(own)[0] if task == "rank_networks" else truth_run(values)).stated)
        return
    check_habits(words)
    words = quoted(words)
    jobs = [swept(word) for word in words if word.split("=")[0] not in FLAGS and word != "job"]
    check_experiment([word for job in jobs for word in job])
    assert is_sweep(words) or all(len(job) == 1 for job in jobs), words
    composes(*(job[0] for job in jobs))


# --- Python ------------------------------------------------------------------------------------------------------------

QUICK = '"experts.count": 1, "experts.recipe.epochs": 10, "student.width": 4'
SHORT = {  # what would take minutes or a download, and what it is here
    "steps=200, lr_img=1.0)": 'steps=2, lr_img=1.0, **{"student.width": 4})',
    "count=10, epochs=20)": 'count=1, epochs=20, **{"student.width": 4})',
    "steps=500)": 'steps=2, **{"student.width": 4})',
    "draws=5)": 'draws=1, student_epochs=[2], student_rates=[0.1], **{"convnet.width": 4, "protocol.students": 1})',
    '"protocol.students": 2, "convnet': '"workers": 1, "protocol.students": 2, "convnet',
    'dd.make("datm", real, ipc=10)': f'dd.make("datm", real, ipc=10, steps=2, expansion_steps=1, **{{{QUICK}}})',
    'CIFAR10("data", train=False, ': "FakeData(4, (3, 32, 32), 10, ",
}  # fmt: skip


def shortened(text):
    for long, short in SHORT.items():
        text = text.replace(long, short)
    return text


def runs(page):
    return [each.text for each in fences(page) if each.language == "python" and not each.title]


def somebodys_set():
    classes = torch.arange(10)
    space = normalised([0.5] * 3, [0.25] * 3)
    return SyntheticSet(torch.zeros(10, 3, 32, 32), classes, classes, tuple("abcdefghij"), space, "cifar10")


def carried_out(page, folder, monkeypatch):
    """The names that the page's blocks leave, run one after another in a folder with a set that somebody gave, beside a hub."""
    monkeypatch.chdir(folder)
    somebodys_set().save(folder / "synset.safetensors")
    names: dict = {}
    with asked(monkeypatch, folder / "hub"):
        for text in runs(page):
            exec(compile(shortened(text), name_of(page), "exec"), names)
    return names


def test_what_is_shortened_is_there():
    whole = "".join(text for page in PAGES for text in runs(page))
    assert all(long in whole for long in SHORT)


@pytest.mark.parametrize("page", [page for page in PAGES if page != README and runs(page)], ids=name_of)
def test_every_block_of_python_runs(page, tmp_path, monkeypatch):
    assert carried_out(page, tmp_path, monkeypatch)


def test_the_lines_of_the_readme_leave_what_they_name(tmp_path, monkeypatch):
    names = carried_out(README, tmp_path, monkeypatch)
    assert [row["method"] for row in names["report"].rows] == ["dm", "random real"]
    assert (tmp_path / "outputs" / "digits-mtt-ipc10-seed0" / "synset.safetensors").exists()


def test_the_command_of_the_worked_example_runs(tmp_path, monkeypatch):
    page = DOCS / "adding.md"
    (command,) = [words for words in commands(page, tmp_path) if "method=dm" in words]
    quick = [
        "student.convnet.width=8",
        "protocol.recipe.epochs=2",
        "protocol.students=1",
        "draws=1",
        "device=cpu",
    ]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [*command[1:], *quick])
    runpy.run_path(str(ROOT / "run.py"), run_name="__main__")
    assert (tmp_path / "outputs" / "digits-dm-ipc1-seed0" / "synset.safetensors").exists()


# --- quotations --------------------------------------------------------------------------------------------------------

TITLED = [(page, each) for page in PAGES for each in fences(page) if each.title]


@pytest.mark.parametrize("page, fence", TITLED, ids=lambda part: getattr(part, "title", None) or name_of(part))
def test_a_block_with_a_title_is_what_the_file_holds_or_composes_as_one(page, fence, tmp_path):
    if (ROOT / fence.title).exists():
        assert fence.text in (ROOT / fence.title).read_text()
        return
    assert fence.language == "yaml" and fence.title.startswith("configs/"), "quote a file, or show a configuration"
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    path = tmp_path / fence.title
    path.write_text(fence.text)
    with initialize_config_dir(str(tmp_path / "configs"), version_base="1.3"):
        cfg = hydra_compose("config", [f"{path.parent.name}={path.stem}", "precision=fp32"])
    check_values(plain(cfg))


def test_the_worked_example_quotes_the_whole_method():
    titles = [fence.title for page, fence in TITLED if page == DOCS / "adding.md"]
    assert titles.count("distill/methods/matching/dm.py") == 4 and titles.count("configs/method/dm.yaml") == 1
