"""Comparison of rows: what is compared with what, tables in four markups, figures, verdicts, citations."""

import csv
import doctest
import json
import math
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from test_gains import row as students_row
from test_line import line as shell  # noqa: F401  # a fixture

from distill.comparison import citations, markup
from distill.comparison.arms import Comparison
from distill.comparison.charts import KINDS, draw
from distill.comparison.citations import bibtex, cited, entries, family
from distill.comparison.forms import Cell, Form, architectures, contrasts, costs, main, reproductions, standings
from distill.comparison.overall import overall
from distill.comparison.verdicts import verdict
from distill.comparison.written import summary, write
from distill.evaluation.statistics import statistics, syntheses
from distill.presets import CONFIGS, options
from distill.report.rows import RANDOM, WHOLE, Report
from distill.runs.comparing import compare

NOISE = np.array([-0.02, -0.01, 0.0, 0.01, 0.02])


def row(method, mean, noise=NOISE, **changes):
    """Five syntheses of one student each, unless ``noise`` (R, S) says otherwise."""
    accuracies = np.clip(mean + np.reshape(noise, (len(noise), -1)), 0, 1)
    told = {
        "synset_hash": f"{method} {mean}",
        "synsets": [],
        "ipc_range": None,
        "device": "cpu",
        **statistics(accuracies),
    }
    return students_row(method, accuracies.ravel().tolist(), accuracies.shape[1], **{**told, **changes})


def compared(*rows):
    return Comparison.of(rows)


def pairs(found):
    return [(each.ours.name, each.other.name, each.against) for each in found.contrasts]


# --- what is compared --------------------------------------------------------------------------------------------------


def test_each_method_is_compared_with_random_and_then_with_the_best_and_no_pair_twice():
    found = compared(row("dm", 0.5), row(RANDOM, 0.3), row("dc", 0.4), row(WHOLE, 0.9, ipc=None))
    assert pairs(found) == [("dm", RANDOM, "random"), ("dc", RANDOM, "random"), ("dc", "dm", "best")]
    lost = compared(row("dm", 0.2), row(RANDOM, 0.3))  # random is the best
    assert pairs(lost) == [("dm", RANDOM, "random")]
    assert pairs(compared(row("dm", 0.5), row("dc", 0.4))) == [("dc", "dm", "best")]


@pytest.mark.parametrize(
    "changes",
    [
        {"ipc": 10},
        {"counts": [1, 3]},
        {"student_hash": "t"},
        {"protocol_hash": "q"},
        {"data_hash": "e"},
        {"selection": "maximum"},
    ],
)
def test_rows_that_were_judged_otherwise_are_not_compared(changes):
    assert pairs(compared(row("dm", 0.5, **changes), row(RANDOM, 0.3))) == []


def test_rows_of_other_numbers_of_students_are_compared():
    few = row("dm", 0.5, protocol="dc+", protocol_hash="few", training_hash="t")
    found = compared(few, row(RANDOM, 0.3, protocol_hash="many", training_hash="t"))
    assert pairs(found) == [("dm", RANDOM, "random")] and len(main(found)) == 1


def test_soft_labels_are_compared_among_themselves_and_with_random_images_with_hard_ones_where_there_are_no_others():
    own, hard = (
        [row("rded", 0.5, labels="stored"), row("sre2l", 0.4, labels="stored")],
        [row("dm", 0.6), row(RANDOM, 0.3)],
    )
    assert ("sre2l", "rded", "best") in pairs(compared(*own, *hard)) and ("rded", RANDOM, "random") in pairs(
        compared(*own, *hard)
    )
    soft = compared(*own, *hard, row(RANDOM, 0.35, labels="stored"))
    (against,) = (each for each in soft.contrasts if each.ours.name == "rded")
    assert against.found.mean == pytest.approx(0.5 - 0.35)
    (table,) = (form for form in main(compared(*own, *hard)) if "stored" in form.title)
    assert [line[1].text for line in table.rows] == [f"{RANDOM}, hard labels", "rded", "sre2l"]


def test_a_row_that_two_runs_hold_counts_once_and_others_of_its_name_are_told_apart():
    alike, other = row("dm", 0.5), row("dm", 0.4, command="python run.py method=dm method.lr_img=5")
    found = compared(alike, dict(alike), other, row("dm", 0.45, synset_hash="x"))
    assert [arm.name for arm in found.arms] == ["dm", "dm, lr_img=5", "dm #2"]


def test_rows_that_share_synthesis_seeds_are_paired_and_those_of_one_synthesis_are_not():
    seeds = {"synthesis_seeds": [0, 1, 2, 3, 4]}
    ours, theirs = row("dm", 0.5, **seeds), row("dc", 0.45, NOISE + np.array([0, 1, 0, -1, 0]) / 1000, **seeds)
    (paired,) = compared(ours, theirs).contrasts
    (apart,) = compared(ours, {**theirs, "synthesis_seeds": [5, 6, 7, 8, 9]}).contrasts
    assert paired.paired and not apart.paired and paired.found.p < apart.found.p / 100
    assert paired.permutation[1] == 2 / 2**5 and apart.permutation[1] == 2 / 252
    single = row("dm", 0.5, NOISE[None], synthesis_seeds=[0]), row("dc", 0.4, NOISE[None], synthesis_seeds=[0])
    (students,) = compared(*single).contrasts
    assert not students.paired and students.permutation == (None, None) and students.runs_for_half_a_point is None


def test_holm_is_over_all_tests_of_the_comparison():
    few = [row("dm", 0.33), row(RANDOM, 0.3)]
    more = [row("dm", 0.33, ipc=ipc) for ipc in (10, 50)] + [row(RANDOM, 0.3, ipc=ipc) for ipc in (10, 50)]
    (alone,), three = compared(*few).contrasts, compared(*few, *more).contrasts
    assert alone.p_holm == alone.found.p < 0.05
    assert [each.p_holm for each in three] == pytest.approx([3 * alone.found.p] * 3)


def test_more_runs_are_asked_for_by_a_smaller_gap():
    (small,) = compared(row("dm", 0.31), row(RANDOM, 0.3)).contrasts
    (large,) = compared(row("dm", 0.36), row(RANDOM, 0.3)).contrasts
    assert large.runs_for_this < small.runs_for_this < small.runs_for_half_a_point == large.runs_for_half_a_point


# --- tables ------------------------------------------------------------------------------------------------------------


def bold(form):
    return {line[1].text for line in form.rows if any(cell.bold for cell in line)}


def test_bold_are_the_best_and_all_that_no_test_separates_from_it():
    (form,) = main(compared(row("dm", 0.50), row("dc", 0.495), row("mtt", 0.3), row(RANDOM, 0.2)))
    assert bold(form) == {"dm", "dc"}
    (single,) = main(compared(row("dm", 0.50, NOISE[:1]), row("dc", 0.495, NOISE[:1]), row(RANDOM, 0.2)))
    assert bold(single) == {"dm"}  # there is no test that could fail to separate


def test_methods_stand_by_family_and_the_whole_set_comes_last_beside_every_size():
    rows = [row(WHOLE, 0.9, ipc=None), row("mtt", 0.5), row("kcenter", 0.4), row("mine", 0.3), row(RANDOM, 0.2)]
    (form,) = main(compared(*rows, row("mtt", 0.6, ipc=10), row("mtt", 0.7, selection="maximum", ci95=None)))
    assert form.columns == ["family", "method", "toy, ipc 1", "toy, ipc 10"]
    assert [line[1].text for line in form.rows] == [RANDOM, "kcenter", "mtt", "mtt", "mine", WHOLE]
    assert [line[0].text for line in form.rows] == ["baseline", "selection", "trajectory", "", "other", "baseline"]
    assert form.rows[-1][2] == form.rows[-1][3] and form.rows[-1][2].text.startswith("90.0")
    assert form.rows[3][2] == Cell("70.0", "5x1", "†")  # picked on test: no interval, not bold
    assert form.rows[1][3] == Cell()


def test_what_is_missing_enters_no_mean():
    rows = [row(method, mean, student=student, student_hash=student) for method, mean, student in [
        ("dm", 0.5, "convnet"), ("dm", 0.4, "mlp"), ("dc", 0.6, "convnet"),
    ]]  # fmt: skip
    (form,) = architectures(compared(*rows))
    assert form.columns == ["method", "convnet", "mlp", "mean"]
    assert {line[0].text: line[-1].text for line in form.rows} == {"dm": "45.0", "dc": "–"}
    assert architectures(compared(rows[0], rows[2])) == []  # one student is no architecture to compare


def test_rankings_of_two_students_are_compared_where_both_rank_three_methods():
    means = {"convnet": (0.3, 0.4, 0.5), "mlp": (0.2, 0.4, 0.3)}
    rows = [
        row(method, mean, student=student, student_hash=student)
        for student, own in means.items()
        for method, mean in zip(("dm", "dc", "mtt"), own, strict=True)
    ]
    (form,) = architectures(compared(*rows))
    assert form.notes[-1] == "Rankings of convnet and mlp: Spearman 0.50, Kendall 0.33 (3 methods)."


def test_one_synthesis_is_said_and_two_protocols_of_one_name_have_numbers():
    one, two = row("dm", 0.5, NOISE[None]), row("dm", 0.5, protocol_hash="q")
    first, second = main(compared(one, two))
    assert first.title.endswith("dc #1, convnet, hard labels (single synthesis)")
    assert second.title.endswith("dc #2, convnet, hard labels")


def test_ranks_tell_how_often_they_hold():
    (form,) = standings(compared(row("dm", 0.9), row("dc", 0.5), row(RANDOM, 0.499)))
    assert [line[-2].text for line in form.rows] == ["1 of 3", "2 of 3", "3 of 3"]
    first, second, third = (line[-1].text for line in form.rows)
    assert first == "100 %" and second == third and 50 <= int(second.split()[0]) < 60


def test_ranks_over_data_sets_ask_for_five_and_for_methods_that_have_all_of_them():
    means = {"dm": (0.9, 0.3, 0.9, 0.9, 0.9), "dc": (0.5, 0.8, 0.5, 0.5, 0.5), "mtt": (0.4, 0.1, 0.1, 0.1, 0.1)}
    rows = [
        row(method, mean, data=f"d{i}", data_hash=f"d{i}")
        for method, own in means.items()
        for i, mean in enumerate(own)
    ]
    (form,) = overall(compared(*rows, row("random", 0.2, data="d0", data_hash="d0")))
    assert [line[2].text for line in form.rows] == ["dm", "dc", "mtt"]
    assert [line[3].text for line in form.rows] == ["78.0", "56.0", "16.0"]
    # dm leads unless d1, where it is 50 points behind and else 40 ahead, is drawn three times of five or more
    behind = sum(math.comb(5, k) * 0.2**k * 0.8 ** (5 - k) for k in (3, 4, 5))
    assert [float(line[5].text.split()[0]) for line in form.rows] == pytest.approx(
        [100 * (1 - behind)] * 2 + [100], abs=1
    )
    assert overall(compared(*(each for each in rows if each["data"] != "d4"))) == []


# --- markup ------------------------------------------------------------------------------------------------------------

STRANGE = r"a_b 50% & $x$ #1 {c} ~^\d <b>|*"


@pytest.fixture
def strange():
    cells = [
        [Cell("selection"), Cell(STRANGE), Cell("46.1 ± 0.6", "5x5", "†", True)],
        [Cell("", ""), Cell("x"), Cell()],
    ]
    return Form("main-1", STRANGE, ["family", "method", STRANGE], cells, [STRANGE], families=True)


def test_latex_escapes_what_it_would_read_as_a_command_and_every_line_has_its_cells(strange):
    text = markup.latex(strange)
    assert (
        r"\textbf{46.1 $\pm$ 0.6}$^\dagger$$^{5\times 5}$" in text
        and r"a\_b 50\% \& \$x\$ \#1 \{c\} \textasciitilde" in text
    )
    plain = re.sub(r"\\[\\_%&#${}]", "", text)  # without what is escaped
    assert plain.count("{") == plain.count("}") and not set("_%#~<>±–†") & set(plain)
    assert plain.count("$") % 2 == 0 and all(each in text for each in (r"\toprule", r"\midrule", r"\bottomrule"))
    lines = [line for line in plain.splitlines() if "&" in line]
    assert len(lines) == 3 and all(line.count("&") == 2 for line in lines)
    opened, closed = (re.findall(rf"\\{each}{{(\w+)}}", text) for each in ("begin", "end"))
    assert opened == closed[::-1] == ["table", "tabular"]


def test_markdown_html_and_csv_keep_names_as_they_are(strange):
    table = [line for line in markup.markdown([strange]).splitlines() if line.startswith("|")]
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in table] == [4] * 4 and r"a\_b" in table[2]
    assert "**46.1 ± 0.6**† <sup>5x5</sup>" in table[2]
    rows = list(csv.reader(markup.sheet(strange).splitlines()))
    assert rows[1:] == [["selection", STRANGE, "46.1 ± 0.6 († 5x5)"], ["selection", "x", "–"]]

    class Reader(HTMLParser):
        open, texts = [], []

        def handle_starttag(self, tag, attrs):
            self.open += [tag] if tag not in ("meta",) else []

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

        def handle_data(self, data):
            self.texts.append(data)

    reader = Reader()
    reader.feed(markup.page([strange]))
    assert reader.open == [] and reader.texts.count(STRANGE) == 4  # title, column, cell, note


def test_a_difference_is_a_number_in_a_sheet_and_a_formula_is_text():
    form = Form("tests", "", ["method", "difference"], [[Cell("=1+1"), Cell("+1.5")]])
    assert markup.sheet(form).splitlines()[1] == "'=1+1,+1.5"


# --- files -------------------------------------------------------------------------------------------------------------


def many():
    rows = []
    for student in ("convnet", "mlp"):
        for ipc in (1, 10):
            kept = {"student": student, "student_hash": student, "ipc": ipc, "synthesis_seconds": 3.0}
            rows += [row("dm", 0.4 + ipc / 100, **kept), row("$a_b$", 0.35, **kept), row(RANDOM, 0.3, **kept)]
    return [
        *rows,
        row(WHOLE, 0.9, ipc=None, student_hash="convnet"),
        row("dc", 0.5, published="49.9 ± 0.5", cell_changes=["x"]),
    ]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    return folder, write(compared(*many()), folder)


def test_everything_is_written(written):
    folder, paths = written
    assert all(path.is_file() and path.stat().st_size for path in paths)
    kinds = {"main-1", "architectures-1", "tests", "ranks", "costs", "reproductions"}
    assert {path.stem for path in paths if path.suffix == ".tex"} >= kinds
    names = {"accuracy_by_ipc", "gain_over_random", "accuracy_by_student", "accuracy_by_cost"}
    assert {path.name for path in paths if path.parent.name == "figures"} == {f"{a}.{b}" for a in names for b in KINDS}
    told = json.loads((folder / "summary.json").read_text())
    assert len(told) == len(many()) and told[0]["random"]["difference"] == pytest.approx(0.11)
    assert told[-1]["verdict"]["changes"] == ["x"]


def test_a_figure_shows_what_the_rows_say(written, tmp_path):
    text = (written[0] / "figures" / "accuracy_by_student.svg").read_text()
    assert all(f">{value}<" in text for value in ("41.0", "35.0", "30.0", "50.0", "$a_b$"))
    assert ">–<" in text  # dc was judged by one student
    assert draw(compared(row("dm", 0.4)), tmp_path) == []


def test_the_same_rows_are_drawn_the_same(tmp_path):
    first, second = (draw(compared(row("dm", 0.4), row(RANDOM, 0.3)), tmp_path / name) for name in "ab")
    assert first and [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_without_matplotlib_all_but_the_figures_is_there(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    report = Report(tmp_path / "run" / "report.json")
    for each in many():
        report.add({**each, "cell_changes": []})
    with pytest.raises(ValueError, match="has all but the figures.*pip install matplotlib"):
        compare(tmp_path / "run", tmp_path / "out")
    assert (tmp_path / "out" / "tables.md").exists() and not (tmp_path / "out" / "figures").exists()
    with pytest.raises(ValueError, match="no rows in"):
        compare(tmp_path / "nothing")
    assert len(compare([report, str(tmp_path / "run")]).arms) == len(many())  # the same rows, once


def test_the_command_compares_folders_and_refuses_those_without_rows(shell, tmp_path):  # noqa: F811
    for name, rows in {"a": [row("dm", 0.5), row(RANDOM, 0.3)], "b": [row("dc", 0.4)]}.items():
        report = Report(tmp_path / name / "report.json")
        for each in rows:
            report.add(each)
    code, out, message = shell("compare", "runs=[a,b]", "out=both")
    assert code == 0, message
    assert all(each in out for each in ("dm", "dc", "+20.0", "p (Holm)"))
    named = re.findall(r"^wrote (both/comparison/\S+)$", out, re.MULTILINE)
    assert {"both/comparison/methods.bib", "both/comparison/tables/main-1.tex"} <= set(named)
    assert all((tmp_path / path).is_file() for path in named)
    assert shell("compare", "out=nothing")[0::2] == (
        1,
        "error: no rows in nothing: name folders that a run wrote as its out",
    )


def test_accuracy_under_an_attack_is_left_out_and_that_of_transfer_has_a_table(tmp_path):
    report = Report(tmp_path / "report.json")
    tuned = {"data": "toy to other", "protocol": "transfer", "protocol_hash": "t", "metric": "transfer accuracy"}
    for each in (
        *(row("dm", 0.5), row(RANDOM, 0.3), row("dm", 0.1, metric="accuracy under PGD", student_hash="t")),
        *(row("dm", 0.7, **tuned), row(RANDOM, 0.6, **tuned)),
    ):
        report.add(each)
    found = compare(report)
    assert [arm.row["mean"] for arm in found.arms] == pytest.approx([0.5, 0.3, 0.7, 0.6])
    assert len(main(found)) == 2
    report.write()
    assert compare(str(tmp_path)).arms == found.arms


def test_costs_are_told_in_units_that_people_read_and_none_is_made_up():
    took = dict(
        operations=2e12, peak_bytes=1.5e9, synthesis_peak_bytes=3e9, synthesis_seconds=61.2, image_bytes=123_000
    )
    told, silent = row("dm", 0.5, **took), row("dc", 0.4)
    (form,) = costs(compared(told, silent))
    by_name = [dict(zip(form.columns, (cell.text for cell in line), strict=True)) for line in form.rows]
    keys = ("synthesis, s", "synthesis, GB", "students, GB", "TFLOP", "images, MB")
    students = told["syntheses"] * told["students"]
    assert [by_name[0][key] for key in keys] == ["61", "3.00", "1.50", f"{2 * students}", "0.123"]
    assert {by_name[1][key] for key in keys} == {"–"}


def test_rows_tell_the_seeds_and_the_seconds_of_their_sets_where_all_of_them_do():
    def made(*records):
        return syntheses([type("Set", (), {"record": record}) for record in records])

    assert made({"seed": 3, "seconds": 1.0}, {"seed": 4, "seconds": 2.0}) == {
        "synthesis_seeds": [3, 4],
        "synthesis_seconds": 1.5,
    }
    assert made({"seed": 3, "seconds": "long"}, {"seed": "x"}) == {}
    assert made({"peak_bytes": 5}, {"peak_bytes": 7}) == {"synthesis_peak_bytes": 7}
    assert made({"peak_bytes": 5}, {}) == made({"peak_bytes": 5}, {"peak_bytes": "much"}) == {}


# --- published numbers that were not run -------------------------------------------------------------------------------


def grey(*rows):
    """Method and text of each grey cell, by the column's title."""
    found = [(form, line, n) for form in main(compared(*rows)) for line in form.rows for n, _ in enumerate(line)]
    return {(line[1].text, form.columns[n]): line[n].text for form, line, n in found if line[n].grey}


AS_DM = dict(protocol="dm", student="convnet", data="cifar10", protocol_hash="dm")


def test_a_published_number_stands_grey_where_its_method_has_no_row_of_the_same_protocol_data_and_size():
    random, ten = row(RANDOM, 0.3, ipc=1, **AS_DM), row(RANDOM, 0.4, ipc=10, **AS_DM)
    assert grey(random) == {("dm", "cifar10, ipc 1"): "26.0 ± 0.8"}
    assert grey(random, row("dm", 0.25, ipc=1, **AS_DM), ten) == {("dm", "cifar10, ipc 10"): "48.9 ± 0.6"}
    for other in ({"protocol": "ours"}, {"student": "mlp"}, {"data": "digits"}, {"ipc": 3}):
        assert grey({**random, **other}) == {}
    assert grey({**random, "protocol": "dm+ bf16", "protocol_changes": ["students 20 -> 1"]}) == grey(random)
    assert grey({**random, "protocol": "dm+", "protocol_changes": ["recipe.epochs 1000 -> 3"]}) == {}


def test_a_grey_number_is_told_apart_in_every_markup():
    (form,) = main(compared(row(RANDOM, 0.3, ipc=1, **AS_DM)))
    assert r"\textcolor{gray}{\textit{26.0 $\pm$ 0.8}}" in markup.latex(form)
    assert "*26.0 ± 0.8*" in markup.markdown([form]) and "<i>26.0 ± 0.8</i>" in markup.page([form])
    assert "26.0 ± 0.8 (published)" in markup.sheet(form) and any("Grey" in note for note in form.notes)
    assert not any("Grey" in note for note in main(compared(row("dm", 0.3)))[0].notes)


def test_every_cell_that_states_a_published_number_is_known():
    from omegaconf import OmegaConf

    from distill.comparison.published import _known

    stated = [OmegaConf.load(path).get("published") for path in (CONFIGS / "experiment").glob("*_ipc*.yaml")]
    assert sorted(number for cell in _known().values() for number in cell.values()) == sorted(filter(None, stated))


# --- verdicts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ours, noise, published, changes, word",
    [
        (0.500, 0.1, "50.2 ± 0.3", [], "met"),
        (0.500, 0.1, "50.2 ± 0.3", ["steps 2 -> 1"], "consistent"),
        (0.500, 0.1, "52.0 ± 0.3", [], "below"),
        (0.500, 0.1, "48.0 ± 0.3", ["steps 2 -> 1"], "above"),
        (0.500, 2.0, "50.2 ± 0.3", [], "consistent"),  # too few runs to say more
        (0.500, 0.1, "50.2 ± 0.3 recalled", [], "none"),
    ],
)
def test_a_verdict_weighs_the_gap_against_the_noise_of_both(ours, noise, published, changes, word):
    told = verdict(
        row("dm", ours, noise * NOISE, published=published, cell_changed=bool(changes), cell_changes=changes)
    )
    assert told.word == word and told.changes == tuple(changes)
    assert told.difference == pytest.approx(100 * ours - float(published.split()[0]))


def test_more_published_syntheses_make_a_published_number_surer():
    alike = dict(published="51.5 ± 1.0", cell_changed=False)
    one, five = (
        verdict(row("dm", 0.5, NOISE / 100, published_of=cell, **alike)).word
        for cell in ("mtt_cifar10_ipc10", "dm_cifar10_ipc10")
    )
    assert (one, five) == ("consistent", "below")


def test_of_one_synthesis_the_published_spread_stands_for_ours():
    assert verdict(row("mtt", 0.5, NOISE[None] / 100, published="51.0 ± 0.8")).word == "consistent"
    assert verdict(row("mtt", 0.5, np.tile(NOISE / 100, (2, 1)), published="51.0 ± 0.2")).word == "below"
    assert verdict(row("mtt", 0.5, NOISE[None], published="51.0")).word == "none"
    assert verdict(row("mtt", 0.5)) is None
    (form,) = reproductions(compared(row("mtt", 0.5, NOISE[None] / 100, published="51.0 ± 0.8")))
    assert [cell.text for cell in form.rows[0][1:5]][0] == "51.0 ± 0.8" and form.rows[0][4].text == "consistent"


# --- citations ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", options("method"))
def test_every_method_has_a_family_and_a_citation(method):
    assert family(method) != "other" and cited(method) and set(cited(method)) <= entries().keys()


def test_every_entry_is_complete_and_somebodys():
    assert set(entries()) == {key for method in options("method") for key in cited(method)}
    for key, entry in entries().items():
        fields = re.findall(r"^  (\w+) = \{", entry, re.MULTILINE)
        assert {"title", "author", "year"} <= set(fields) and entry.count("{") == entry.count("}"), key
        assert re.search(r"year = \{(\d{4})\}", entry)[1] in key


def test_an_arxiv_number_is_the_one_that_the_methods_file_names():
    numbers = {key: re.search(r"eprint = \{(.*)\}", entry) for key, entry in entries().items()}
    text = {method: (CONFIGS / "method" / f"{method}.yaml").read_text() for method in options("method")}
    for key, number in numbers.items():
        users = [method for method in options("method") if key in cited(method)]
        assert number is None or any(f"arXiv:{number[1]}" in text[method] for method in users), key


def test_an_entry_is_written_once_and_what_is_not_known_is_said():
    text = bibtex(["dcc", "dsac", RANDOM, WHOLE, "union of dm"])
    assert re.findall(r"^@\w+\{(\w+),", text, re.MULTILINE) == ["lee2022dcc", "cui2022dcbench"]
    assert text.startswith("% No citation is known of: union of dm\n")
    assert family("../protocol/dc") == "other"


def test_examples_hold():
    assert doctest.testmod(citations).failed == 0 and doctest.testmod(markup).failed == 0


def test_a_summary_has_no_contrast_where_there_is_none():
    (alone,) = summary(compared(row("dm", 0.5)))
    assert alone["random"] is None and alone["best"] is None and alone["verdict"] is None
    assert contrasts(compared(row("dm", 0.5))) == []


def test_sets_that_several_networks_made_have_a_line_each_of_all_students():
    def judged(method, student, mean, **more):
        return row(method, mean, student=student, student_hash=student, synset_hash=f"{method} {more}", **more)

    nets = ("convnet", "mlp")
    found = compared(
        *(judged("dm", each, 0.5, source=by) for each in nets for by in nets),
        *(judged("dc", each, 0.5, source="convnet") for each in nets),
        *(judged(RANDOM, each, 0.4) for each in nets),
    )
    (table,) = architectures(found)
    assert [line[0].text for line in table.rows] == [RANDOM, "dc", "dm, source=convnet", "dm, source=mlp"]
    assert table.columns == ["method", *nets, "mean"] and all(cell.text != "–" for line in table.rows for cell in line)


def test_the_network_that_made_sets_is_told_where_their_records_agree():
    class Made:
        def __init__(self, **record):
            self.record = record

    made = [Made(choices={"student": [name, "mlp"]}) for name in ("convnet", "convnet", "vit")]
    assert syntheses(made[:2])["source"] == "convnet" and "source" not in syntheses(made)
    for other in ({}, {"choices": "x"}, {"choices": {"student": []}}, {"choices": {"student": "vit"}}):
        assert "source" not in syntheses([made[0], Made(**other)]) and "source" not in syntheses([Made(**other)])
