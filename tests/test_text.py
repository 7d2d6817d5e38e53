"""Names are checked where they enter, and made harmless where they leave."""

import csv
import io

import pytest
from rich.console import Console

from distill.cli.errors import errors_in_one_line
from distill.data import real as data
from distill.page.written import write_page
from distill.report.rows import Report, check_published, published_mean
from distill.report.table import table
from distill.text import check_name, shown, spreadsheet

EVIL = [
    "a$b",
    "[/]",
    "[red]",
    "$\\frac$",
    "\x1b[2J",
    "x\u202egnp",
    "<script>alert(1)</script>",
    '"><b>',
    "\x00",
    "\ud800",
    "new\nline",
]


def row(**changes):
    values = dict(
        method="mtt", data="toy", ipc=1, student="convnet", protocol="ours", labels="hard", selection="last", accuracies=[0.5],
        mean=0.5, sd=None, ci95=0.01, syntheses=1, students=1, seconds=1.0, published=None, command="run", synsets=[], seed=0,
    )  # fmt: skip
    return {**values, **changes}


def test_no_name_in_a_report_ruins_it_or_steers_what_shows_it(tmp_path):
    fields = ("method", "data", "student", "protocol", "labels", "published", "command")
    report = Report(tmp_path / "report.json")
    for evil in EVIL:
        report.add(row(**dict.fromkeys(fields, evil)))
    report = Report(tmp_path / "report.json")  # as the next command finds it
    out = io.StringIO()
    Console(file=out, force_terminal=True, color_system=None, width=400).print(table(report))
    _, page = write_page(report, [report], EVIL[-1])
    html = page.read_text(encoding="utf-8")
    assert all(shown(evil) in out.getvalue() for evil in EVIL) and not set(out.getvalue()) & set("\x1b\u202e\x00")
    assert "<script>" not in html and '"><b>' not in html and not set(html) & set("\x1b\u202e\x00")


def test_an_error_that_quotes_a_name_steers_no_terminal():
    for evil in EVIL:
        with pytest.raises(SystemExit) as stop, errors_in_one_line():
            raise ValueError(f"no class {evil} here")
        assert str(stop.value) == f"error: no class {shown(evil.replace(chr(10), ' '))} here"


@pytest.mark.parametrize("published", ["abc", "[/]", "46.2 ± x", "", True, -1.0, 101.0, float("nan"), "4 6"])
def test_what_is_no_published_number_is_refused_and_never_computed_with(published):
    assert published_mean(published) is None
    with pytest.raises(ValueError, match="expected an accuracy in %"):
        check_published(published)


@pytest.mark.parametrize("published", [None, 46.2, 46, "46.2", "46.2 ± 0.8", "46.2 ± 0.8 recalled", "46 recalled"])
def test_published_numbers_are_taken(published):
    check_published(published)
    assert published_mean(published) == (None if published is None else pytest.approx(46.1, abs=0.2))


@pytest.mark.parametrize(
    "name",
    ["../../x", "/tmp/x", "a/b", "a\\b", "C:x", ".x", "..", "", " ", "a\x1b[2J", "a\n", "x" * 151, "字" * 51, 5, None],
)
def test_a_data_name_cannot_leave_the_folder(name, npz, tmp_path):
    with pytest.raises(ValueError, match="data.name"):
        data.load(
            name, path=npz, root=tmp_path, strategy="flip", mean=None, std=None, zca=False, val=0.2, download=False
        )


@pytest.mark.parametrize("name", ["pets", "Häuser 2024", "犬と猫", "a$b", "=x", "[x]", "a,b"])
def test_names_in_any_script_are_taken(name):
    check_name("data.name", name)


@pytest.mark.parametrize("formula", ["=1+1", "@SUM(A1)", "+1", "-1", '=HYPERLINK("x")'])
def test_no_text_is_a_formula_in_the_sheet_and_numbers_stay_numbers(formula, tmp_path):
    report = Report(tmp_path / "report.json")
    report.rows = [row(method=formula, sd=-0.5)]
    table, _ = write_page(report, [report], "")
    (line,) = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
    assert line["method"] == f"'{formula}" and line["sd"] == "-0.5" and spreadsheet(-1.0) == -1.0
