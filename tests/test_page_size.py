"""A page of 2,000 rows in a real browser: how large it is, and how fast it opens, filters, sorts and shows details."""

import random
import time

import pytest
import torch
from browser import in_chromium
from test_boards import browser  # noqa: F401
from test_page import row

from distill.page.written import write_page
from distill.report.rows import RANDOM, Report
from distill.sets.synthetic import SyntheticSet

ROWS, SETS = 2000, 50
DRAWN = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


def many():
    draw = random.Random(0)
    for number in range(ROWS):
        values = [draw.random() for _ in range(5)]
        student, training = f"net{number // 30 % 20}", f"t{number // 600}"
        yield row(
            method=RANDOM if number % 10 == 0 else f"method{number % 10}", data="toy", ipc=(1, 10, 50)[number // 10 % 3],
            student=student, training_hash=training, protocol_hash=training, protocol="datm+",
            protocol_changes=[f"epochs 1000 -> {number // 600}"], accuracies=values, values=values, mean=sum(values) / 5,
            students=5, seconds=100.0 + number, synthesis_seconds=3.0 * number, image_bytes=25600, label_bytes=4000,
            command=f"python run.py data=toy method=dm student={student} method.lr_img={draw.random():.4f} out=many",
            synsets=[f"set{number % SETS}/synset.safetensors"], synset_hash=f"{number:012x}",
            accuracy_by_class={str(k): draw.random() for k in range(10)},
        )  # fmt: skip


@pytest.fixture
def page(real, tmp_path):
    """2,000 rows on pictures of noise, which no format makes small, as many bytes of them as a page may have."""
    g = torch.Generator().manual_seed(0)
    base = SyntheticSet.from_real(real.train, 1, g)
    for number in range(SETS):
        classes = torch.arange(3).repeat_interleave(10)
        noise = torch.randn(30, 3, 64, 64, generator=g)
        synset = base.with_(images=noise, labels=classes, classes=classes)
        synset.save(
            tmp_path / f"set{number}" / "synset.safetensors", {"method": "dm", "steps": 1000, "config": {"ipc": 10}}
        )
    report = Report(tmp_path / "report.json")
    report.rows = list(many())
    return write_page(report, [report], "python run.py task=report")[1]


@in_chromium
def test_two_thousand_rows_open_in_three_seconds_from_fewer_than_fifteen_megabytes(page, browser):  # noqa: F811
    assert 5e6 < page.stat().st_size < 15e6
    browser.size(1280, 800)
    assert min(browser.open(page, watched=False) for _ in range(3)) < 3
    assert browser("document.querySelectorAll('#results tbody tr').length") == ROWS
    assert browser("document.querySelectorAll('.card img').length") == SETS and not browser.complaints

    def seconds(action):
        before = time.perf_counter()
        browser(f"(async () => {{ {action}; await {DRAWN}; }})()")
        return time.perf_counter() - before

    choose = "controls.words.value = {!r}; controls.dispatchEvent(new Event('input'))"
    assert seconds(choose.format("method3 net1")) < 3
    told = sum(each["method"] == "method3" and "net1" in each["student"] for each in many())
    assert browser("controls.querySelector('output').value") == f"{told} of 2000 rows"
    assert seconds("document.querySelectorAll('#results th button')[5].click()") < 3
    wait = "while (!shown.open) await new Promise((done) => setTimeout(done, 5))"
    assert seconds(f"document.querySelector('#results tr:not([hidden]) .open').click(); {wait}") < 3
    assert browser("shown.querySelectorAll('canvas').length") > 2
