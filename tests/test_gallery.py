"""Pictures and leaderboard of the pages are what the results give."""

import re
from dataclasses import replace

import pytest
import torch
from conftest import ROOT
from PIL import Image

from benchmarks.results import PICTURES, alike, picture, pictures
from distill.comparison.markup import lines
from distill.comparison.results import find, gallery, leaderboard, results
from distill.data.preprocessing import normalised
from distill.sets.synthetic import SyntheticSet

CELL = "ncfm_digits_small_ipc1"  # its rows are NCFM's and those of random real images


@pytest.fixture
def result():
    return find(CELL)


def measured(result, cell, mean, **values):
    """The result with another number, under another name."""
    own, *others = result.rows
    return replace(result, cell=cell, rows=[{**own, "mean": mean, **values}, *({**each, **values} for each in others)])


@pytest.mark.parametrize("path, image", pictures(results()).items(), ids=lambda part: getattr(part, "stem", ""))
def test_a_picture_is_what_the_set_holds(path, image):
    assert alike(Image.open(path), image), "run `make results`"
    assert path.stat().st_size < 60_000


def test_every_picture_belongs_to_a_result():
    assert {*PICTURES.iterdir()} == {*pictures(results())}


def test_a_picture_shows_the_first_image_of_each_of_ten_classes_enlarged(result, tmp_path, monkeypatch):
    classes = torch.tensor([*range(11, -1, -1), *range(12)])
    shade = 10 * torch.arange(24)[:, None, None, None] / 255
    space = normalised([0.5], [0.25])
    images = space(shade.expand(-1, 1, 8, 8))
    SyntheticSet(images, classes, classes, tuple("abcdefghijkl"), space, "mine").save(tmp_path / "seed0.safetensors")
    monkeypatch.setattr("benchmarks.results.RESULTS", tmp_path)
    shown = picture(replace(result, sets=[{**result.sets[0], "file": "seed0.safetensors"}]))
    assert shown.size == (10 * 100 + 4, 104)
    assert [shown.getpixel((100 * place + 99, 50))[0] for place in range(10)] == [10 * (11 - cls) for cls in range(10)]


def test_pictures_are_alike_up_to_a_level():
    grey = Image.new("L", (4, 4), 7)
    near, far = grey.copy(), grey.copy()
    near.putpixel((3, 0), 8)
    far.putpixel((3, 0), 9)
    assert alike(grey, near) and not alike(grey, far)
    assert not alike(grey, Image.new("L", (4, 5), 7)) and not alike(grey, grey.convert("RGB"))


def test_methods_stand_by_accuracy_within_data_and_size(result):
    found = [
        measured(result, "worse", 0.5),
        measured(result, "larger", 0.9, ipc=10, ipc_range="10"),
        measured(result, "better", 0.95),
        measured(result, "other", 0.1, data="cifar10"),
    ]
    form = leaderboard(found)
    told = [(cells[0].text, cells[1].link.partition("#")[2] or cells[1].text) for cells in form.rows]
    random = "random real"
    assert told == [
        *[("cifar10, ipc 1", random), ("", "other"), ("digits, ipc 1", "better"), ("", random), ("", "worse")],
        *[("digits, ipc 10", "larger"), ("", random)],
    ]
    assert [cells[2].text.split()[0] for cells in form.rows] == ["71.4", "10.0", "95.0", "71.4", "50.0", "90.0", "71.4"]


def test_a_line_of_the_leaderboard_links_to_its_place_in_the_gallery(result):
    (line,) = [each for each in lines(leaderboard([result])).splitlines() if "ncfm" in each]
    assert f"[ncfm](gallery.md#{CELL}) | 84.6 ± 2.0 <sup>5x3</sup> | – | no published number | idc+ bf16" in line
    headings = re.findall(r"^## (\S+)$", (ROOT / "docs" / "gallery.md").read_text(), re.MULTILINE)
    front = (ROOT / "docs" / "index.md").read_text()
    assert (
        set(re.findall(r"gallery\.md#(\w+)\)", front)) == {*headings} == {each.cell for each in results() if each.kept}
    )
    (other,) = lines(leaderboard([replace(result, rows=result.rows[:1], sets=[])])).splitlines()[2:]
    assert "[ncfm](results.md#cells-with-data)" in other


def test_the_gallery_tells_what_a_number_stands_beside(result):
    published = measured(result, "known", 0.9, published="89.0 ± 3.0")
    lonely = replace(published, rows=published.rows[:1])
    unkept = replace(result, sets=[{**each, "file": None} for each in result.sets])
    told = {each.cell: text for each, text in gallery([result, published, unkept])}
    assert told[CELL].startswith("84.6 ± 2.0 % (5x3); no published number; random real images: 71.4 ± 7.4 (5x3).")
    assert "published 89.0 ± 3.0 (± sd), met" in told["known"] or "consistent (+1.0)" in told["known"]
    assert "random real images: not measured" in gallery([lonely])[0][1] and not gallery([unkept])


def test_a_cell_of_random_images_is_a_line_of_its_own(result):
    own = measured(result, "picked", 0.7, method="random real", published="69.0 ± 2.0")
    assert [cells[3].text for cells in leaderboard([own]).rows] == ["–", "69.0 ± 2.0"]
    assert [cells[1].link for cells in leaderboard([own]).rows] == ["", "gallery.md#picked"]
