"""Results are data: kept from a run, shown, and stood beside when a cell is run again."""

import json
import re
import shutil
from dataclasses import replace

import pytest
import scipy.stats
from conftest import ROOT
from test_docs import check
from test_line import line, succeeds, toy, typed  # noqa: F401  # a fixture

import distill
from benchmarks.results import PAGES, PART, RECIPES, filled
from distill.cli.results import check_result
from distill.comparison.results import GOLDEN, RESULTS, ablation, details, find, gallery, overview, results, summary
from distill.places import words_of
from distill.report.rows import Report
from distill.runs.composed import compose
from distill.runs.results import Again

HERE = ["device=cpu", "workers=1", "compile=false"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The out of a finished run of two sizes, and its words."""
    home = tmp_path_factory.mktemp("run")
    words = [*toy("dm"), "compile=false", "ipc=[1,2]", "published='50.0 ± 30.0'"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        code, message = typed(patch, *words, f"out={home / 'out'}")
    assert code == 0, message
    return home / "out"


@pytest.fixture
def kept(run, line, tmp_path):  # noqa: F811
    """The folder of results after `distill result`."""
    succeeds(line("result", f"out={run}", "cell=toy", "ipc=1", "hardware=mine", f"results={tmp_path / 'results'}"))
    return tmp_path / "results"


def changed(kept, **values):
    """The result with another row, or other fields."""
    result = find("toy", kept)
    row = {name: value for name, value in values.items() if name in result.row}
    own = {name: value for name, value in values.items() if name not in row}
    replace(result, rows=[{**result.rows[0], **row}, *result.rows[1:]], **own).write(kept)


def test_a_result_holds_the_rows_and_the_set_of_its_cell_and_no_folder_of_the_machine(kept, run, tmp_path):
    result, report = find("toy", kept), Report(run / "report.json")
    assert [row["method"] for row in result.rows] == ["dm", "random real"]
    assert {row["ipc"] for row in result.rows} == {1}
    own = next(row for row in report.rows if row["method"] == "dm" and row["ipc"] == 1)
    assert result.rows[0] == own | {"command": result.rows[0]["command"], "synsets": []}
    (made,) = result.sets
    synset = distill.load(kept / made["file"])
    assert synset.hash == made["hash"] == own["synset_hash"] and made["steps"] == 4 and made["seed"] == 0
    assert (result.hardware, result.date, result.mark) == ("mine", own["written"][:10], None)
    for text in [(kept / "toy.json").read_text(), *(path.read_text(errors="ignore") for path in kept.rglob("seed*"))]:
        assert str(tmp_path.parent) not in text and str(run) not in text
    assert json.loads((kept / "toy.json").read_text())["verdict"]["word"] == result.verdict.word == "consistent"


def test_its_command_is_that_of_the_run_of_this_size_without_what_moves_no_number(kept):
    words = find("toy", kept).words
    assert "ipc=1" in words and "ipc=[1,2]" not in words and "method=dm" in words
    assert not [word for word in words if re.match("out=|device=|workers=", word)]
    check(words)


def test_a_size_is_to_be_named_where_there_are_several(run, line, tmp_path):  # noqa: F811
    code, _, said = line("result", f"out={run}", "cell=toy", f"results={tmp_path}")
    assert code == 1 and "dm ipc=1, dm ipc=2: name a size with ipc=N" in said
    code, _, said = line("result", f"out={tmp_path}", "cell=toy", f"results={tmp_path}")
    assert code == 1 and "none: name the out of a finished run" in said
    code, _, said = line("result", f"out={run}", "ipc=1", f"results={tmp_path}")
    assert code == 1 and "cell is missing" in said
    assert not list(tmp_path.glob("*.json"))


def test_sets_that_are_not_those_of_the_row_are_refused(run, line, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr("distill.runs.results.load", lambda path: distill.load(run / "digits-dm-ipc2-seed0"))
    code, _, said = line("result", f"out={run}", "cell=toy", "ipc=1", f"results={tmp_path / 'results'}")
    assert code == 1 and "not those that its row judged" in said and not (tmp_path / "results").exists()


def test_a_large_set_is_told_and_not_kept_and_what_was_kept_before_goes(run, kept, line, monkeypatch):  # noqa: F811
    assert [*kept.glob("toy/seed0.*")]
    monkeypatch.setattr("distill.runs.results.MOST_BYTES", 100)
    succeeds(line("result", f"out={run}", "cell=toy", "ipc=1", f"results={kept}"))
    (made,) = find("toy", kept).sets
    assert made["file"] is None and made["hash"] and not [*kept.glob("toy/*")]


def test_a_cell_that_is_run_again_stands_beside_both_numbers(kept, run, line):  # noqa: F811
    code, out, said = line("reproduce", "toy", f"results={kept}", f"out={run}", *HERE)
    assert code == 0, said
    mean = f"{100 * find('toy', kept).row['mean']:.1f}"
    last = out.splitlines()[-1]
    assert last.startswith(f"toy: {mean}") and "published 50.0 ± 30.0: consistent" in last and f"our {mean}" in last
    assert "consistent (+0.0)" in last and "toy" in out and "what is left" in out and "no student was trained" in said


def test_a_cell_that_is_below_our_row_fails(kept, run, line):  # noqa: F811
    changed(kept, mean=1.0, published="50.0 ± 0.1")
    code, _, said = line("reproduce", "toy", f"results={kept}", f"out={run}", *HERE)
    assert code == 1 and re.search(r"^toy: .* published 50.0 ± 30.0: consistent .*; our 100.0.*: below \(-", said)


def test_a_cell_that_is_below_the_published_number_fails(kept, run, line, tmp_path):  # noqa: F811
    out = shutil.copytree(run, tmp_path / "again")
    report = Report(out / "report.json")
    for row in list(report.rows):
        report.add({**row, "published": "99.9 ± 0.1"} if row.get("published") else row)
    code, _, said = line("reproduce", "toy", f"results={kept}", f"out={out}", *HERE)
    assert code == 1 and re.search(r"^toy: .* published 99.9 ± 0.1: below .*; our .*: consistent \(\+0.0\)", said)


def test_other_words_win_are_told_and_can_be_consistent_at_best(kept):
    again = Again.of("toy", ["method.steps=8", "device=cpu", "ipc=1", "seed=7"], kept)
    assert "method.steps=8" in again.words and "method.steps=4" not in again.words and "out=outputs/toy" in again.words
    assert again.changes == ["method.steps=8"]
    quiet = {"syntheses": 5, "sd_synthesis": 0.001, "sd_student": 0.001, "published": "50.0 ± 0.1"}
    for own, word in (([], "met"), (["method.steps=8"], "consistent")):
        row = {**again.former.row, **quiet}
        former = replace(again.former, rows=[row])
        *_, ours = Again("toy", former, own).verdicts(row).values()
        assert (ours.word, ours.difference) == (word, 0.0)


def test_a_cell_without_a_row_of_ours_is_that_of_the_configs(tmp_path):
    again = Again.of("dc_mnist_ipc1", ["data.root=/there"], tmp_path)
    assert again.former is None and set(again.words) > {"experiment=dc_mnist_ipc1", "data.root=/there"}
    with pytest.raises(ValueError, match="unknown cell 'dc_mnst_ipc1': did you mean dc_mnist_ipc1"):
        Again.of("dc_mnst_ipc1", [], tmp_path)


def test_a_list_shows_verdict_cost_and_date(kept, line):  # noqa: F811
    changed(kept, mark="measured before the mend")
    code, out, _ = line("reproduce", "--list", f"results={kept}")
    result = find("toy", kept)
    (told,) = (each for each in out.splitlines() if " toy " in each)
    assert code == 0 and all(each in told for each in ("consistent", result.date, f"{result.seconds[1]:.0f}"))
    assert "toy: measured before the mend." in out and "published cells have no row yet" in out
    code, _, said = line("reproduce", f"results={kept}")
    assert code == 1 and "no cell is named" in said


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda text: text[:-40], "is not readable"),
        (lambda text: text.replace('"mine"', '"other"'), "was altered"),
        (lambda text: '{"format": "distill 3"}', "is of format 3"),
        (lambda text: '{"cell": "toy"}', "command is missing"),
    ],
)
def test_a_damaged_result_is_named_in_one_line(kept, line, damage, message):  # noqa: F811
    path = kept / "toy.json"
    path.write_text(damage(path.read_text()))
    for words in (["--list"], ["toy"]):
        code, _, said = line("reproduce", *words, f"results={kept}")
        assert code == 1 and str(path) in said and message in said and "\n" not in said.strip()


def test_rows_of_a_given_set_have_no_command_that_makes_them(run, line, tmp_path):  # noqa: F811
    words = [*toy("dm"), "task=evaluate", f"synset={run / 'digits-dm-ipc1-seed0'}", "baselines=[]"]
    succeeds(line(*[word for word in words if not word.startswith("ipc=")], f"out={tmp_path / 'given'}"))
    code, _, said = line("result", f"out={tmp_path / 'given'}", "cell=toy", f"results={tmp_path / 'results'}")
    assert code == 1 and "no command makes" in said


def test_words_of_a_result_are_known():
    assert check_result(["out=x", "deviations=['20 experts']"]) == {"out": "x", "deviations": ["20 experts"]}
    assert check_result(["out=x", "hardware=a card, its 'own'"])["hardware"] == "a card, its 'own'"
    with pytest.raises(ValueError, match="unknown word of result 'hardwre'"):
        check_result(["out=x", "hardwre=y"])
    assert words_of("python -m distill +experts=x data=digits out=y") == ["+experts=x", "data=digits"]


# --- what is committed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_the_tables_of_the_pages_are_those_of_the_results(page):
    text = (ROOT / page).read_text()
    assert PART.search(text) and filled(text, results()) == text, "run `make results`"


@pytest.mark.parametrize("result", results(), ids=lambda result: result.cell)
def test_every_result_says_what_the_rule_says_and_keeps_the_sets_that_it_judged(result):
    record = json.loads((RESULTS / f"{result.cell}.json").read_text())
    assert record["verdict"] == json.loads(json.dumps(result.verdict and vars(result.verdict)))
    assert ",".join(made["hash"] for made in result.sets) == result.row["synset_hash"]
    for made in result.sets:
        assert made["file"] is None or distill.load(RESULTS / made["file"]).hash == made["hash"]
    check(result.words)


def test_methods_stand_by_data_and_size_where_a_number_is_published(kept):
    result = replace(find("toy", kept), cell="dm_digits_ipc1")
    other = replace(result, cell="dm_deep_digits_ipc10", rows=[{**result.rows[0], "ipc": 10, "ipc_range": "10"}])
    silent = replace(result, cell="mtt_digits_ipc1", rows=[{**result.rows[0], "published": None}])
    form = overview([other, result, silent])
    assert form.columns == ["method", "digits, ipc 1", "digits, ipc 10"]
    texts = [[cell.text for cell in cells] for cells in form.rows]
    assert [text[0] for text in texts] == ["dm_deep", "dm"] and texts[1][2] == texts[0][1] == "–"
    assert "consistent (" in texts[1][1] and texts[1][1].startswith(f"{100 * result.row['mean']:.1f}")
    assert "no published number" in str(summary([silent]).rows)
    (same,), (otherwise,) = (overview([replace(result, deviations=each)]).rows for each in ([], ["ipc 1 -> 3"]))
    assert not same[1].text.endswith("with changes)") and otherwise[1].text.endswith("; with changes)")


def test_a_cell_stands_beside_random_images_that_were_judged_alike_wherever_they_were(kept):
    own = find("toy", kept)
    row = {**own.rows[0], "values": [0.5, 0.6, 0.7], "mean": 0.6, "syntheses": 3}
    random = {**row, "values": [0.2, 0.3, 0.4], "mean": 0.3, "protocol": "dc+", "protocol_hash": "other"}
    alone = replace(own, cell="dm", rows=[row])
    cell = replace(own, cell="random", rows=[{**random, "method": "random"}])
    beside = replace(own, cell="dsa", rows=[row, {**random, "mean": 0.4, "method": "random real"}])

    def stands(*found):
        return [[each.text for each in cells[4:6]] for cells in summary(found).rows]

    assert stands(alone) == [["–", "–"]] and stands(cell) == [["–", "–"]]
    half = 100 * scipy.stats.t.ppf(0.975, 4) * (2 * 0.1**2 / 3) ** 0.5  # Welch's t of equal spreads
    (told, gain), none = stands(alone, cell)
    assert told.startswith("30.0") and gain == f"30.0 ± {half:.1f}" and none == ["–", "–"]
    assert [gain[:4] for _, gain in stands(alone, beside)] == ["20.0", "20.0"]
    assert [gain[:4] for _, gain in stands(beside, cell)] == ["20.0", "–"]  # its own first
    for otherwise in ({"training_hash": "other"}, {"data_hash": "other"}, {"ipc": 3}, {"student_hash": "other"}):
        apart = replace(cell, rows=[{**cell.rows[0], **otherwise}])
        assert stands(alone, apart) == [["–", "–"]] * 2, otherwise
    assert "random real images: 30.0" in gallery([alone, cell])[0][1] and "mine" in str(details([own]).rows)


def test_an_ingredient_gains_what_its_line_has_over_the_line_above(kept):
    first = find("toy", kept)
    row = {**first.rows[0], "values": [0.5, 0.6, 0.7], "mean": 0.6, "syntheses": 3}
    more = {**row, "values": [0.6, 0.8, 1.0], "mean": 0.8}
    form = ablation([replace(first, rows=[row]), replace(first, rows=[more]), replace(first, rows=[row])])
    half = scipy.stats.t.ppf(0.975, 0.05**2 / (0.01**2 / 9 / 2 + 0.04**2 / 9 / 2) / 9) * (0.05 / 3) ** 0.5  # Welch's t
    assert [cells[2].text for cells in form.rows] == ["–", f"20.0 ± {100 * half:.1f}", f"-20.0 ± {100 * half:.1f}"]


def test_no_line_of_the_recipes_is_missing_so_that_a_gain_is_over_one_ingredient():
    assert {*RECIPES} <= {result.cell for result in results()}


def test_the_set_that_the_recipe_starts_from_lies_beside_its_row():
    start = distill.load(ROOT / compose("experiment=ncfm_picked_fashion_mnist").cfg.method.init)
    (picked,) = find("kmeans_fashion_mnist_ipc4").sets
    assert start.hash == picked["hash"] and start.ipc == 4


def test_tables_of_no_results_are_empty():
    assert not [form.rows for form in (overview([]), summary([]), details([]), ablation([])) if form.rows]


@pytest.mark.parametrize("folder", [RESULTS, GOLDEN])
def test_every_file_of_the_results_belongs_to_one(folder):
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    known = {f"{result.cell}.json" for result in results(folder)}
    kept = {made["file"] for result in results(folder) for made in result.sets if made["file"]}
    others = {name for name in files if name == "__init__.py" or re.match(r"__pycache__|golden/", name)}
    assert files - others == known | kept | {name.replace(".safetensors", ".json") for name in kept}
