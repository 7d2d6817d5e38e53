"""The worked example of docs/add_a_method.md is the code that runs."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "add_a_method.md").read_text()
SOURCES = {
    "python": ROOT / "distill" / "methods" / "matching" / "dm.py",
    "yaml": ROOT / "configs" / "method" / "dm.yaml",
}


def snippets(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("language", SOURCES)
def test_snippets_are_what_the_repository_holds(language):
    found = snippets(language)
    assert len(found) == {"python": 4, "yaml": 1}[language]
    for snippet in found:
        assert snippet in SOURCES[language].read_text()


def test_every_published_spread_says_that_it_is_a_standard_deviation():
    seen = 0
    for table in re.findall(r"(?:^\|.*\n)+", (ROOT / "README.md").read_text(), re.MULTILINE):
        names, _, *rows = (line.split("|") for line in table.splitlines())
        for place, name in enumerate(names):
            if "published" in name and any("±" in row[place] for row in rows):
                assert "± sd" in name, table
                seen += 1
    assert seen


def test_the_command_runs(tmp_path, monkeypatch):
    import runpy

    (command,) = snippets("bash")
    quick = ["student.convnet.width=8", "protocol.epochs=2", "protocol.students=1", "baselines.random=1", "device=cpu"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [*command.split()[1:], *quick])
    runpy.run_path(str(ROOT / "run.py"), run_name="__main__")
    assert (tmp_path / "outputs" / "digits-dm-ipc1-seed0" / "synset.safetensors").exists()


SHORT = {
    "steps=200": "steps=2", "steps=500": "steps=2", "count=10": "count=1",
    "random=5)": 'random=1, student_epochs=[2], student_rates=[0.1], **{"convnet.width": 4, "protocol.students": 1})',
}  # fmt: skip


def test_the_lines_of_python_in_the_readme_run(tmp_path, monkeypatch):
    (block,) = re.findall(r"## From Python\n\n```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    for text, short in SHORT.items():
        assert block.count(text) == 1
        block = block.replace(text, short)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(block, names)
    assert [row["method"] for row in names["report"].rows] == ["dm", "random real"]
    assert (tmp_path / "outputs" / "digits-mtt-ipc10-seed0" / "synset.safetensors").exists()
