"""DD-Ranking's scores: their arithmetic and intervals, what arms have in common, and the whole suite on digits."""

import json

import numpy as np
import pytest
from broken import unlucky_cells
from test_suites import read

from distill.cli.artefacts import values_of
from distill.cli.suites import carried_out
from distill.report.differences import difference
from distill.report.rows import Report
from distill.runs.composed import compose
from distill.runs.line import Line
from distill.runs.progress import Shown
from distill.runs.suite import Job
from distill.runs.suited import run_of, subjects, suite_of
from distill.suites.ddranking import interval, rate, squashed
from distill.suites.tables import scores

DDR = suite_of("ddranking", {})
TOY = [
    "suite=ddranking", "data=digits", "ipc=1", "method=[kmeans]", "draws=2", "protocol.students=2", "suite.rates=[0.01,0.05]",
    "suite.widen=null",
    "protocol.recipe.epochs=2", "student.convnet.width=4", "proxies.recipe.epochs=1", "workers=1", "threads=1", "device=cpu",
    "compile=false",
]  # fmt: skip
# By ddranking 0.2.0, whose trainings were replaced by these accuracies.
ACCURACIES = {"syn_hard": 0.5, "syn_any": 0.5, "rdm_any": 0.4, "syn_bare": 0.45, "rdm_bare": 0.42, "real_hard": 0.8}


def row(values, **more):
    """Of a synthesis for each value, with one student."""
    own = {
        "values": list(values),
        "mean": float(np.mean(values)),
        "syntheses": len(values),
        "students": 1,
        "chosen": {},
    }
    return {**own, "selection": "last", **more}


def rows(**values):
    return {name: row(values.get(name, [value])) for name, value in ACCURACIES.items()}


def test_scores_are_those_of_ddranking():
    found = DDR.score(rows(), {})
    assert found["HLR"] == pytest.approx(0.3) and found["IOR"] == pytest.approx(0.1)
    assert found["LRS"] == pytest.approx(0.22845363830836396, abs=1e-15)
    assert found["ARS"] == pytest.approx(0.2975148370316832, abs=1e-15)
    assert DDR.intervals(rows(), {}) == {}  # of single numbers


def test_percent_is_refused_and_a_missing_row_makes_no_score():
    assert squashed(0.5 * 10 - 0.5 * 30) == pytest.approx(-0.156, abs=1e-3)  # what the release prints
    with pytest.raises(ValueError, match=r"accuracies of syn_hard are \[50.0\], expected fractions"):
        DDR.score(rows(syn_hard=[50.0]), {})
    left = {name: each for name, each in rows().items() if name != "rdm_any"}
    assert DDR.score(left, {}) == {"HLR": pytest.approx(0.3), "IOR": None, "LRS": None, "ARS": None}


def test_the_weight_ranks_by_hard_labels_at_0_and_by_the_gain_at_1():
    at = {w: suite_of("ddranking", {"weight": w}).score(rows(), {})["LRS"] for w in (0, 0.5, 1)}
    assert at[0] == squashed(-0.3) and at[1] == pytest.approx(squashed(0.1))
    judged = {subject: rows() for subject in subjects({"ipc": 1, "method": "kmeans"})}
    random, kmeans = judged
    judged[kmeans] = rows(syn_hard=[0.4], syn_any=[0.6])  # worse with hard labels, better with its own: the same at 0.5
    weighed = DDR.weighed(judged)
    assert [place.text for place in weighed.rows[0][2:]] == [
        f"{100 * squashed(-0.3 + 0.4 * w):.2f}" for w in (0, 0.25, 0.5, 0.75, 1)
    ]
    assert weighed.notes[1:] == ["random and kmeans, ipc 1, change places at w = 0.50."]


def test_intervals_are_welchs_and_those_of_scores_are_their_ends():
    there = rows(
        syn_any=[0.5, 0.52, 0.49], syn_hard=[0.5, 0.45, 0.48], rdm_any=[0.4, 0.41, 0.38, 0.43], real_hard=[0.8, 0.81]
    )
    found = DDR.intervals(there, {})
    for name, (one, other) in {"IOR": ("syn_any", "rdm_any"), "HLR": ("real_hard", "syn_hard")}.items():
        apart = difference(np.array(there[one]["values"]), np.array(there[other]["values"]))
        assert found[name] == (pytest.approx(apart.low), pytest.approx(apart.high))
    low, high = interval(DDR.label_robust(there, 0.5))
    assert found["LRS"] == (squashed(low), squashed(high))
    assert found["LRS"][0] < DDR.score(there, {})["LRS"] < found["LRS"][1]
    assert "ARS" not in found  # its arms without augmentation are single numbers


def test_what_one_set_is_worth_under_both_recipes_is_one_part():
    """A set that is good under both leaves more doubt than two independent ones; here its sum does not vary at all."""
    up, down = [0.4, 0.5, 0.6], [0.6, 0.5, 0.4]
    assert (
        interval(DDR.label_robust(rows(syn_any=up, syn_hard=down, rdm_any=[0.4, 0.4], real_hard=[0.8, 0.8]), 0.5))
        is None
    )
    assert (
        interval(DDR.label_robust(rows(syn_any=up, syn_hard=up, rdm_any=[0.4, 0.4], real_hard=[0.8, 0.8]), 0.5))
        is not None
    )


def test_intervals_cover_what_they_are_of():
    """LRS of three syntheses, five draws of random images and three students of the real set; random against itself."""
    g, inside, zero, runs = np.random.default_rng(0), 0, 0, 2000
    truth = squashed(0.5 * (0.5 - 0.4) - 0.5 * (0.8 - 0.45))
    for _ in range(runs):
        set_ = g.normal(0, 0.02, 3)
        there = rows(
            syn_any=0.5 + set_ + g.normal(0, 0.01, 3),
            syn_hard=0.45 + set_ + g.normal(0, 0.01, 3),
            rdm_any=g.normal(0.4, 0.02, 5),
            real_hard=g.normal(0.8, 0.005, 3),
        )
        low, high = DDR.intervals(there, {})["LRS"]
        inside += low <= truth <= high
        itself = DDR.intervals(rows(syn_any=g.normal(0.4, 0.02, 5), rdm_any=g.normal(0.4, 0.02, 5)), {})["IOR"]
        zero += itself[0] <= 0 <= itself[1]
    assert 0.93 < inside / runs < 0.98 and 0.93 < zero / runs < 0.97


def test_every_arm_tries_the_same_rates_and_a_method_brings_its_own_recipe():
    tried = "++protocol.candidates.lr=[0.001,0.005,0.01,0.05,0.1]"
    cells = {cell.name: cell for cell in DDR.arms("sre2l", DDR.rates)}
    assert all(tried in cell.stated for name, cell in cells.items() if name != "real_hard")
    assert "protocol=sre2l-cifar" in cells["syn_any"].stated and "protocol=ddr" in cells["syn_hard"].stated
    assert cells["syn_bare"].stated == (*cells["syn_any"].stated, "protocol.recipe.mix=null")
    for arm in ("any", "bare"):
        assert cells[f"rdm_{arm}"].stated == cells[f"syn_{arm}"].stated and cells[f"rdm_{arm}"].of
    plain = {cell.name: cell.stated for cell in DDR.arms("kmeans", DDR.rates)}
    assert plain["syn_any"] == plain["syn_hard"]  # of hard labels: one row
    for method in (*DDR.own, "random"):
        for cell in DDR.arms(method, DDR.rates):
            compose("data=digits", *cell.stated)


def test_a_rate_tells_that_it_is_an_end_and_what_the_learned_one_came_to():
    def told(lr, tried, values):
        return rate(
            row([0.5], chosen={"lr": lr, "candidates": {"lr": tried}, "validation_accuracies": values}), DDR.rates
        )

    grid = list(DDR.rates)
    assert told(0.01, grid, [0.1] * 5) == "0.01" and told(0.1, grid, [0.1] * 5) == "0.1 (end)"
    assert told(0.02, [*grid, 0.02], [0.1, 0.2, 0.3, 0.2, 0.1, 0.4]) == "0.02; learned 0.02: 40.0, others 30.0"


def test_where_a_rate_is_an_end_all_arms_try_again_and_these_count():
    def chose(lr, **values):
        return {
            name: {**each, "chosen": {"lr": lr} if name != "real_hard" else {}} for name, each in rows(**values).items()
        }

    names = [cell.name for cell in DDR.arms("kmeans", DDR.rates)]
    again = [f"{name} again" for name in names if name != "real_hard"]
    unknown = DDR.cells({}, "kmeans")
    assert [cell.name for cell in unknown] == [*names, *again] and [cell.sure for cell in unknown] == [True] * 6 + [
        False
    ] * 5
    assert [cell.name for cell in DDR.cells(chose(0.01), "kmeans")] == names
    middle, end = chose(0.01), chose(0.01)
    end["rdm_any"]["chosen"] = {"lr": 0.001}
    assert DDR.at_end(end)  # the smallest, as the largest
    end["rdm_any"]["chosen"] = {"lr": 0.1}
    wider = DDR.cells(end, "kmeans")
    assert [cell.name for cell in wider] == [*names, *again] and all(cell.sure for cell in wider)
    assert all("++protocol.candidates.lr=[0.0002,0.001,0.005,0.01,0.05,0.1,0.5]" in cell.stated for cell in wider[6:])
    assert DDR.score(end, {})["IOR"] is None and DDR.score(middle, {})["IOR"] == pytest.approx(0.1)
    end |= {f"{name} again": each for name, each in chose(0.2, syn_any=[0.7]).items() if name != "real_hard"}
    assert DDR.score(end, {})["IOR"] == pytest.approx(0.3) and DDR.score(end, {})["HLR"] == pytest.approx(0.3)
    never = suite_of("ddranking", {"widen": None})
    assert [cell.name for cell in never.cells(end, "kmeans")] == names and never.score(end, {})["IOR"] == pytest.approx(
        0.1
    )


def test_random_images_and_the_real_set_meet_the_sets_own_network_and_teachers(tmp_path, monkeypatch):
    """RDED on digits has a ConvNet with batch norm, which is its teacher too; random images alone would have another."""
    monkeypatch.chdir(tmp_path)
    run = run_of(
        values_of(["suite=ddranking", "data=digits", "ipc=1", "method=rded", "draws=1", "threads=1", "device=cpu"])
    )
    random, rded = run.subjects
    run.find_sets(run.rivals["1"], make=True)
    cells = {cell.name: cell for cell in run.suite.cells({}, "rded")}
    own, rival, real = (run.line(Job(rded, cells[name])) for name in ("syn_any", "rdm_any", "real_hard"))
    assert own.students["convnet"]["norm"] == "batch" and own.students == rival.students == real.students
    assert own.judges.networks == ["convnet"] and own.judges == rival.judges
    assert [synset.record["method"] for synset in rival.synsets] == ["random"]
    assert {synset.record["seed"] for synset in rival.synsets} == {1}  # no draw of the random images that are judged
    plain = run.line(Job(random, run.suite.cells({}, "random")[1]))
    assert plain.students["convnet"]["norm"] != "batch"


def test_the_whole_real_set_is_judged_alone_where_no_size_is_named():
    line = Line(compose("task=evaluate", "method=datm", "ipc=null", "baselines=[whole]", "protocol=ddr-real"), Shown())
    assert line.ipcs == [] and line.expert_store() is None and not list(line.asked_stores())
    for words in (["task=all", "baselines=[whole]"], ["task=evaluate"], ["task=distill", "method=random"]):
        with pytest.raises(ValueError, match="ipc is null, which names no set"):
            Line(compose(*words, "ipc=null"), Shown())


def test_a_set_that_was_picked_on_the_test_split_is_marked():
    subject = subjects({"ipc": 1})[0]
    peaked = {**rows(), "syn_any": row([0.5], selection="test")}
    for there, mark in ((rows(), ""), (peaked, "†")):
        form = scores(DDR, "ddranking", {subject: there})
        assert form.rows[0][0].text == f"random{mark}" and ("† beside a method" in " ".join(form.notes)) == bool(mark)


def test_the_suite_runs_goes_on_and_tells_all_arms(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from distill.runs import suite as runs

    plan = carried_out([*TOY, "plan=true"])
    assert (
        len(plan) == 9 and not (tmp_path / "outputs").exists()
    )  # proxies and seven rows: arms that are the same have one
    broken = unlucky_cells(monkeypatch, "ipc=null")
    carried_out(TOY)
    folder = tmp_path / "outputs" / "suite" / "ddranking"
    summary = json.loads((folder / "summary.json").read_text())
    assert set(summary["failed"]) == {"random-ipc1-real_hard", "kmeans-ipc1-real_hard"}
    assert all(each["HLR"] is None and each["IOR"] is not None for each in summary["scores"])
    broken.clear()
    carried_out(TOY)
    random, kmeans = json.loads((folder / "summary.json").read_text())["scores"]
    low, high = random["intervals"]["IOR"]
    assert low < 0 < high and random["IOR"] != 0  # other draws of the same
    report = Report(tmp_path / "outputs" / "report.json")
    (real,) = [each for each in report.rows if each["method"] == "whole real set"]
    assert len(report.rows) == 7 and kmeans["HLR"] == pytest.approx(
        real["mean"]
        - next(
            each["mean"]
            for each in report.rows
            if each["method"] == "kmeans" and "views" not in str(each["protocol_changes"])
        )
    )
    assert read(folder / "tables", "ddranking.csv")[0] == ["method", "ipc", *DDR.scores]
    assert all("0.0" in each for each in read(folder / "tables", "ddranking-rates.csv")[1][2:])
    monkeypatch.setattr(runs, "carry_out", None)
    carried_out(TOY)


def test_words_within_words_are_read_in_quotes_alone():
    assert values_of(['suite.real=["protocol=ddr-real"]']) == {"suite.real": ["protocol=ddr-real"]}
    with pytest.raises(ValueError, match=r"suite.real=\[protocol=ddr-real\].* stands in quotes: NAME='\[\"a=b\"\]'"):
        values_of(["suite.real=[protocol=ddr-real]"])
