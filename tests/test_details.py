"""What the page shows of a row or set when it is opened, packed away and in a real browser."""

import base64
import io

import numpy as np
import pytest
import torch
from browser import in_chromium
from pages import details
from PIL import Image
from test_boards import browser  # noqa: F401
from test_page import report, row  # noqa: F401

from distill.files import save_tensors
from distill.page.details import artefacts, by_class, facts
from distill.page.made import Made, Share
from distill.page.pictures import Picture, first_images
from distill.page.written import write_page
from distill.report.rows import Report
from distill.sets.reading import load
from distill.sets.synthetic import SyntheticSet

EVIL = "<img src=x onerror=alert(1)>"


def opened(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


@pytest.fixture
def soft(real, tmp_path):
    """A set of soft labels with three snapshots, each image's first pixel telling its step; in a folder with a blank."""
    home = tmp_path / "toy soft-ipc2-seed0"
    made = SyntheticSet.from_real(real.train, 2, torch.Generator().manual_seed(0))
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 2.0, 1.0], [1.0, 0.0, 3.0]]).repeat_interleave(2, 0)
    for step in (0, 5, 10):
        images = made.images.clone()
        images[:, :, 0, 0] = made.preprocessing(torch.full((1, 1, 8, 8), step / 10))[0, 0, 0, 0]
        last = made.with_(images=images, labels=logits, label_kind="logits", class_names=("cat", EVIL, "owl"))
        tensors = {name: tensor for name, tensor in last.tensors.items() if "." not in name}
        save_tensors(
            home / "snapshots" / f"step_{step:06d}.safetensors", tensors, {"step": step, "label_kind": "logits"}
        )
    last.save(home / "synset.safetensors", {"method": "datm", "step": 10, "steps": 10, "config": {"ipc": 2}})
    return home / "synset.safetensors"


def test_images_are_exact_where_they_fit_and_shrunk_where_they_do_not():
    images = (torch.rand(6, 3, 64, 64) * 255).round() / 255
    exact = Picture.of(images, 3, 10**6)
    assert (exact.height, exact.width, exact.columns) == (64, 64, 3) and opened(exact.uri).size == (192, 128)
    second = torch.from_numpy(np.array(opened(exact.uri)))[:64, 64:128].permute(2, 0, 1)
    assert torch.equal(second, (images[1] * 255).round().byte())
    small = Picture.of(images, 3, 3000)
    assert small.uri.startswith("data:image/jpeg") and len(small.uri) < 4100 and small.height == small.width < 64


def test_of_many_classes_and_images_the_first_are_shown_within_the_bytes():
    classes = torch.arange(100).repeat_interleave(50)
    shown = first_images(classes, 3072, 400_000)
    assert len(shown) == 1000 and shown[:11].tolist() == [*range(10), 50]
    assert first_images(classes, 3072, 2500).tolist() == list(range(0, 500, 50))  # ten classes
    assert first_images(classes, 3072, 1).tolist() == [0]
    assert len(first_images(classes, 64, 6400)) == 100  # tiny images take less


def test_shares_of_many_sets_keep_a_page_small():
    for count in (1, 10, 2000):
        share = Share.of(count)
        assert count * (share.picture + share.stages) * 4 / 3 < 9e6 and share.points >= 30


def test_a_set_shows_its_images_their_soft_labels_and_how_they_evolved(soft):
    made = Made(soft, load(soft), "", Share.of(1))
    classes = dict(made.classes)
    assert list(classes) == ["cat", EVIL, "owl"] and [len(images) for images in classes.values()] == [2] * 3
    assert list(classes["owl"][0].label) == ["owl", "cat", EVIL]
    assert classes["owl"][0].label["owl"] == pytest.approx(torch.tensor([1.0, 0.0, 3.0]).softmax(0)[2].item())
    picture = torch.from_numpy(np.array(opened(made.picture.uri)))
    for place, image in enumerate(image for images in classes.values() for image in images):
        cut = picture[image.top : image.top + 8, image.left : image.left + 8]
        assert torch.equal(cut, (made.synset.pixels[place] * 255).round().byte().permute(1, 2, 0))
    stages = made.stages
    assert stages.steps == [0, 5, 10] and stages.picture.columns == 3
    seen = opened(stages.picture.uri)
    assert [seen.getpixel((0, 8 * line))[0] for line in range(3)] == [0, 128, 255]


def test_where_room_is_scarce_snapshots_show_fewer_classes(soft):
    made = Made(soft, load(soft), "", Share(picture=10_000, stages=3 * 200, points=30))
    assert made.stages.picture.columns == 1 and opened(made.stages.picture.uri).size == (8, 24)


def test_a_damaged_snapshot_leaves_the_rest_of_a_set(soft):
    (soft.parent / "snapshots" / "step_000005.safetensors").write_bytes(b"half")
    made = Made(soft, load(soft), "", Share.of(1))
    assert made.stages is None and made.picture is not None


def test_a_row_tells_what_changed_what_it_cost_and_its_hashes():
    full = row(
        protocol_changes=["epochs 1000 -> 2"], synthesis_seconds=12.5, optimizer_steps=40.0, operations=2e12, peak_bytes=3e9,
        label_bytes=800, image_bytes=2560,
        synset_hash="a1", training_hash="b2", cell_changes=["ipc 10 -> 1"], accuracies=[0.25, 0.75],
    )  # fmt: skip
    told = facts(full, {"accuracy": "50.0 ± 1.0", "published": "", "gain": "+2.0"})
    assert told["+ changed"] == "epochs 1000 -> 2" and told["otherwise than published"] == "ipc 10 -> 1"
    assert (told["a set took"], told["a student took"], told["labels take"]) == ("12.5 s", "40 steps, 2 TFLOP", "800 B")
    assert told["all students took"] == "1 s, 3 GB, on unknown"
    assert told["each student"] == "25.0, 75.0" and told["row"] == Report.name(full)
    assert (told["hash of the set"], told["hash of the training"]) == ("a1", "b2") and "published" not in told


def test_of_many_classes_the_lowest_and_the_highest_are_told():
    assert by_class({"accuracy_by_class": {"a": 0.5, "b": None}}) == [("a", 50.0)] and by_class({}) == []
    many = by_class({"accuracy_by_class": {str(k): k / 200 for k in range(200)}})
    assert [name for name, _ in many] == [str(k) for k in [*range(10), *range(190, 200)]]


@pytest.mark.parametrize("name", ["javascript:alert(1)", "//evil/x", 'a" onclick="x'])
def test_a_link_leads_to_a_file_and_nowhere_else(name, tmp_path):
    (address,) = artefacts({"synsets": [name]}, tmp_path, tmp_path).values()
    assert ":" not in address and not address.startswith("//") and '"' not in address


@pytest.fixture
def page(soft, browser, tmp_path):  # noqa: F811
    """A row of the set, opened in a browser."""
    shown = Report(tmp_path / "report.json")
    where = str(soft.relative_to(tmp_path))
    shown.rows = [
        row(method=EVIL, command=f"run {EVIL}", synsets=[where], accuracy_by_class={"cat": 0.3, EVIL: 0.9}, protocol="datm+",
            protocol_changes=[f"epochs 9 -> {EVIL}"], synset_hash="a1b2"),
        row(method="random real", mean=0.4),
    ]  # fmt: skip
    _, page = write_page(shown, [shown], "")
    assert len(details(page)) == 3
    browser.looks()
    browser.size(1280, 800)
    browser.open(page)
    return browser


SETTLED = "new Promise((done) => setTimeout(done, 200))"


@in_chromium
def test_keys_open_a_rows_details_enlarge_its_pictures_and_close_them(page):
    while page("document.activeElement.dataset.line") != "0":
        page.press("Tab")
    page.press("Enter")
    page(SETTLED)
    assert page("shown.open") and page("shown.contains(document.activeElement)")
    text = page("shown.innerText")
    assert all(each in text for each in (f"epochs 9 -> {EVIL}", "a1b2", f"run {EVIL}", "30.0", "90.0", "0.84"))
    assert page("shown.querySelectorAll('img[src=x]').length") == 0  # what looks like markup is text
    assert page("shown.querySelector('a').getAttribute('href')") == "toy%20soft-ipc2-seed0/synset.safetensors"
    assert page("shown.querySelector('a').href").startswith("file:///")
    wide = "shown.querySelector('canvas').getBoundingClientRect().width"
    drawn = "new Set(shown.querySelector('canvas').getContext('2d').getImageData(0, 0, 8, 8).data).size"
    assert page(wide) == 48 and page(drawn) > 3
    while not page("document.activeElement.matches('.enlarge')"):
        page.press("Tab")
    page.press(" ")
    assert page(wide) == 180 and page("document.activeElement.ariaPressed") == "true"
    page.press("Escape")
    assert not page("shown.open") and page("document.activeElement.dataset.line") == "0"  # back where the reader was
    assert not page.requests and not page.complaints


@in_chromium
def test_a_sets_card_opens_it_with_its_snapshots(page):
    page("document.querySelector('.card').click()")
    page(SETTLED)
    assert page("shown.querySelector('.stages ol').innerText.split('\\n')") == ["0", "5", "10"]
    assert page("shown.querySelector('.stages img').naturalWidth") == 24
    page("shown.querySelector('.close').click()")
    page("document.querySelectorAll('#results .open')[1].click()")  # a baseline has no set
    page(SETTLED)
    assert page("shown.innerText.startsWith('Close')") and page("shown.querySelectorAll('canvas').length") == 0


@in_chromium
def test_details_fit_a_phone(page):
    page.size(390, 844, phone=True)
    page("document.querySelector('#results .open').click()")
    page(SETTLED)
    page("shown.querySelector('.enlarge').click()")
    assert page("shown.getBoundingClientRect().left") >= 0 and page("shown.getBoundingClientRect().right") <= 390
    assert page("shown.scrollWidth <= shown.clientWidth") and page("document.documentElement.scrollWidth") == 390
