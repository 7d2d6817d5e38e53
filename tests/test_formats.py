"""Files of every format are read, and those of a later one are told to be so."""

import json
import re
import shutil

import pytest
from conftest import ROOT
from written import FORMATS, KINDS

from distill import files
from distill.files import FORMAT, Newer

OLDER = sorted(path.parent for path in FORMATS.glob("*/v*/said.json"))


def number_of(folder):
    return int(re.match(r"v(\d+)", folder.name)[1])


@pytest.mark.parametrize("folder", OLDER, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_what_was_written_before_is_read_as_it_was_meant(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    assert KINDS[folder.parent.name].read(tmp_path) == json.loads((folder / "said.json").read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_a_format_has_files_of_all_kinds_before_another_takes_its_place(kind):
    numbers = {number_of(folder) for folder in OLDER if folder.parent.name == kind}
    assert numbers and numbers >= set(range(min(numbers), FORMAT + 1)), "python tests/written.py before it counts up"


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_the_next_format_is_told_to_be_of_it(kind, tmp_path, monkeypatch):
    pair, said = KINDS[kind], FORMATS / kind / f"v{FORMAT}" / "said.json"
    with monkeypatch.context() as later:
        later.setattr(files, "FORMAT", FORMAT + 1)
        pair.write(tmp_path)
        assert pair.read(tmp_path) == json.loads(said.read_text())
        shutil.copytree(said.parent, tmp_path / "before")
        assert pair.read(tmp_path / "before") == json.loads(said.read_text())  # this one becomes a former one
    with pytest.raises(Newer) as told:
        pair.read(tmp_path)
    message = f" is of format {FORMAT + 1}, this distill reads up to {FORMAT}: upgrade distill"
    path = str(told.value).removesuffix(message)
    assert (tmp_path / path).is_file() and str(told.value) == path + message


def test_the_page_tells_the_formats_of_all_kinds():
    page = (ROOT / "docs" / "outputs.md").read_text()
    (table,) = re.findall(r"^## Formats\n(?:[^|\n].*\n|\n)+((?:\|.*\n)+)", page, re.MULTILINE)
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in table.splitlines()[2:]]
    told = {kind: {int(each) for each in numbers.split(", ")} for kind, _, numbers, _ in rows}
    assert told == {kind: {number_of(path) for path in OLDER if path.parent.name == kind} for kind in KINDS}
