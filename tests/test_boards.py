"""The page's boards: what shares a column; sorted, filtered and read in a real browser."""

import pytest
from browser import Browser, in_chromium
from test_page import report, row  # noqa: F401

from distill.page.boards import Boards
from distill.page.written import write_page
from distill.report.rows import RANDOM, WHOLE, Report
from distill.report.table import lines

SCRIPT = "<script>document.title = 'stolen'</script>"


def measured(method, mean, ipc=1, training="t", **more):
    values = [mean - 0.01, mean + 0.01]
    return row(
        method=method, ipc=ipc, training_hash=training, protocol_hash=f"{training}{more.get('students', 2)}", mean=mean,
        values=values, accuracies=values, students=more.pop("students", 2), synset_hash=method, image_bytes=2048, **more,
    )  # fmt: skip


ROWS = [
    measured(RANDOM, 0.4, label_bytes=0),
    measured(RANDOM, 0.5, ipc=10, label_bytes=0),
    measured("dm", 0.5, synthesis_seconds=30.0, label_bytes=800),
    measured("dm", 0.7, ipc=10, synthesis_seconds=300.0, label_bytes=8000, students=5),
    measured(SCRIPT, 0.6, synthesis_seconds=4.0, label_bytes=90_000),
    measured("dm", 0.9, training="other", protocol="long+", protocol_changes=["epochs 300 -> 900"]),
    measured(WHOLE, 0.95, ipc=None),
]


def boards_of(rows):
    return Boards(rows, [cells["gain"] for cells in lines(rows).cells])


def test_a_board_has_no_line_of_a_method_that_has_a_published_number_alone():
    as_dm = dict(protocol="dm", student="convnet", data="cifar10")
    (board,) = boards_of([measured("dc", 0.5, **as_dm), measured(RANDOM, 0.3, **as_dm)]).boards()  # DM has 26.0
    assert {line.name for line in board.lines} == {"dc", RANDOM}


def test_a_training_of_two_names_is_chosen_by_one_of_them():
    page = boards_of([measured("dm", 0.5, protocol="dsa"), measured(RANDOM, 0.3, students=5, protocol="dsa+")])
    assert {each["protocol"] for each in page.facets} == {"dsa"} and "protocol" not in page.choices
    (board,) = page.boards()
    assert board.facets["protocol"] == "dsa" and {line.name for line in board.lines} == {"dm", RANDOM}


def test_rows_of_different_trainings_share_no_column_and_the_number_of_students_does_not_matter():
    first, second = boards_of(ROWS).boards()
    assert [name for _, name in first.columns] == ["toy, ipc 1", "toy, ipc 10"]
    numbers = {line.name: [cell and cell.number for cell in line.cells] for line in first.lines}
    assert numbers == {RANDOM: [0, 1], "dm": [2, 3], SCRIPT: [4, None], WHOLE: [6, 6]}
    assert [cell.number for line in second.lines for cell in line.cells] == [5]
    assert second.facets["protocol"] == "long+" and second.changes == ["epochs 300 -> 900"] and not first.changes


def test_a_cell_shows_the_gain_over_random_what_it_cost_and_what_its_labels_take():
    views = boards_of(ROWS).boards()[0].lines[1].cells[1].views
    assert (views["accuracy"].text, views["accuracy"].order) == ("70.0 ± 1.0", 0.7)
    assert views["accuracy"].below.startswith("+20.0 ± ")  # Welch's interval
    assert (views["cost"].text, views["cost"].below) == ("300 s", "students 1 s")
    assert (views["bytes"].text, views["bytes"].below) == ("8 kB", "images 2.05 kB")


def test_accuracy_under_an_attack_has_a_board_a_column_and_random_images_of_its_own():
    attacked = [
        {**each, "metric": "accuracy under fgsm 2", "inputs_hash": "fgsm", "mean": each["mean"] / 2}
        for each in (ROWS[0], ROWS[2])
    ]
    boards = boards_of([*ROWS, *attacked])
    found = [[cell.number for line in board.lines for cell in line.cells if cell] for board in boards.boards()]
    assert found == [[0, 1, 2, 3, 4, 6, 6], [5], [7, 8]]
    assert boards.choices["metric"] == ["accuracy", "accuracy under fgsm 2"]
    seen = lines([*ROWS, *attacked])
    assert "metric" in seen.columns and "metric" not in lines(ROWS).columns
    assert [seen.cells[2]["gain"].split()[0], seen.cells[8]["gain"].split()[0]] == ["+10.0", "+5.0"]


def test_a_row_that_two_runs_hold_has_one_place_and_one_way_to_choose_it():
    boards = boards_of([*ROWS, ROWS[2]])
    assert boards.boards()[0].lines[1].cells[0].number == 7 and len(boards.facets) == 8
    assert boards.choices == {"protocol": ["datm", "long+"]}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture
def page(browser, tmp_path):
    """The rows, freshly opened."""
    browser.looks()
    browser.size(1280, 800)
    shown = Report(tmp_path / "report.json")
    shown.rows = ROWS
    _, page = write_page(shown, [shown], "python run.py task=report")
    browser.open(page)
    assert not browser.requests and not browser.complaints
    return browser


def column(page, number):
    rows = "[...document.querySelector('.board tbody').rows].filter((row) => !row.hidden)"
    return page(rows + f".map((row) => row.cells[{number}].innerText.split('\\n')[0])")


def choose(page, name, value):
    page(
        f"""controls.{name}.value = {value!r}, controls.{name}.dispatchEvent(new Event("input", {{ bubbles: true }}))"""
    )


@in_chromium
def test_a_column_is_sorted_by_keys_alone_and_says_so(page):
    assert column(page, 1) == ["40.0 ± 1.0", "50.0 ± 1.0", "60.0 ± 1.0", "95.0 ± 1.0"]
    while page("document.activeElement.textContent") != "toy, ipc 10":
        page.press("Tab")
    assert page("getComputedStyle(document.activeElement).outlineStyle") == "solid"  # a reader sees where they are
    page.press("Enter")
    head = "document.activeElement.closest('th').ariaSort"
    assert column(page, 2) == ["95.0 ± 1.0", "70.0 ± 1.0", "50.0 ± 1.0", "–"] and page(head) == "descending"
    page.press(" ")
    assert column(page, 2) == ["50.0 ± 1.0", "70.0 ± 1.0", "95.0 ± 1.0", "–"] and page(head) == "ascending"
    page("document.querySelector('.board th button').click()")  # by name: the other column is no longer sorted
    assert (
        column(page, 0) == sorted(column(page, 0))
        and page("document.querySelectorAll('[aria-sort=ascending]').length") == 1
    )


@in_chromium
def test_the_table_of_rows_is_sorted_by_numbers_and_blanks_come_last(page):
    head = "[...document.querySelectorAll('#results th')].find((head) => head.textContent === {!r})"
    cells = "[...document.querySelectorAll('#results tbody tr')].map((row) => row.cells[{}.cellIndex].textContent)"
    for name, seen in (
        (
            "accuracy",
            ["95.0 ± 1.0", "90.0 ± 1.0", "70.0 ± 1.0", "60.0 ± 1.0", "50.0 ± 1.0", "50.0 ± 1.0", "40.0 ± 1.0"],
        ),
        ("ipc", ["1", "1", "1", "1", "10", "10", "all"]),
    ):
        page(f"{head.format(name)}.querySelector('button').click()")
        assert page(cells.format(head.format(name))) == seen
    page(f"{head.format('gain')}.querySelector('button').click()")
    assert [each[:5] for each in page(cells.format(head.format("gain")))] == ["+20.0"] * 2 + ["+10.0"] + [""] * 4


@in_chromium
def test_words_and_choices_filter_boards_and_rows(page):
    choose(page, "words", "dm")
    assert column(page, 0) == ["dm"] and page("controls.querySelector('output').value") == "3 of 7 rows"
    choose(page, "words", "DM toy absent")
    assert page("controls.querySelector('output').value") == "0 of 7 rows"
    choose(page, "words", "")
    choose(page, "protocol", "long+")
    assert page("[...document.querySelectorAll('.board')].map((board) => board.hidden)") == [True, False]
    assert page("[...document.querySelectorAll('#results tbody tr')].filter((row) => !row.hidden).length") == 1


@in_chromium
def test_cells_show_and_are_sorted_by_what_was_chosen(page):
    choose(page, "view", "bytes")
    assert column(page, 1) == ["0 B", "800 B", "90 kB", "–"]
    page("document.querySelectorAll('.board th button')[1].click()")
    assert column(page, 1) == ["90 kB", "800 B", "0 B", "–"]
    choose(page, "view", "cost")
    assert column(page, 1) == ["30 s", "4 s", "–", "–"]  # sorted as before, by what is shown now


@in_chromium
def test_a_name_that_looks_like_markup_is_text(page):
    assert SCRIPT in column(page, 0) and page("document.title").startswith("distill: dm on toy")
    page(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title = 1\"><img src=http://127.0.0.1:9/>')"
    )
    page("new Promise((done) => setTimeout(done, 300))")
    assert page("document.title") != "1"  # nor could a page's own mistake run or fetch anything


def luminance(color):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (each / 255 for each in color)]
    return sum(weight * each for weight, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@in_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_reads_well_in_light_and_dark_on_screens_and_phones(report, browser, tmp_path, scheme, width):  # noqa: F811
    _, page = write_page(report, [report], "")
    browser.looks(scheme)
    browser.size(width, 844, phone=width == 390)
    browser.open(page)
    assert not browser.requests and not browser.complaints
    assert browser("document.documentElement.scrollWidth") <= width  # nothing to scroll sideways
    assert browser("[...document.images].map((image) => image.naturalWidth)") == [24]
    colors = "getComputedStyle(document.body).{}.match(/\\d+/g).map(Number)"
    ink, back = (luminance(browser(colors.format(name))) for name in ("color", "backgroundColor"))
    assert (back < ink) == (scheme == "dark")
    assert (max(ink, back) + 0.05) / (min(ink, back) + 0.05) > 7  # contrast, WCAG AAA
    browser("document.querySelector('.card').click(), new Promise((done) => setTimeout(done, 200))")
    assert browser("getComputedStyle(document.querySelector('dialog svg')).color") == browser(
        "getComputedStyle(document.body).color"
    )


@in_chromium
def test_a_wide_board_scrolls_by_itself_on_a_small_phone(page):
    page.size(280, 844, phone=True)
    choose(page, "view", "cost")
    assert page("document.documentElement.scrollWidth") == 280
    scroll = "document.querySelector('.board .scroll')"
    assert page(f"{scroll}.scrollWidth > {scroll}.clientWidth") and page(f"{scroll}.tabIndex") == 0  # keys scroll it
    page(f"{scroll}.scrollLeft = 1e3")
    assert page("document.querySelector('.board tbody th').getBoundingClientRect().width") < 150
    assert (
        page("document.querySelector('.board tbody th').getBoundingClientRect().left") >= 0
    )  # its methods stay in view


@in_chromium
def test_the_page_prints_what_was_filtered_without_its_controls(page, tmp_path):
    whole = page.pdf()
    choose(page, "words", "long+")
    page.looks(media="print")
    assert page("getComputedStyle(controls).display") == "none" and column(page, 0) == []
    assert whole.startswith(b"%PDF") and len(whole) > 10_000 and len(page.pdf()) < len(whole)
