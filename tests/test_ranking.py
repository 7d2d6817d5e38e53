"""A ranking of networks is what its definitions say, its truth is made once and kept, and what is missing is never guessed."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from broken import stop
from conftest import ROOT, preset
from scipy import stats

from distill import load_data
from distill.cli.ranking import TASKS, ranking_run, truth_run
from distill.evaluation.entry import Entry
from distill.ranking.measures import MEASURES, correlations, orders_of, ranking, resamples
from distill.ranking.space import N54, REPEATED, macs
from distill.ranking.tables import NONE, Proxy, summary, worth
from distill.ranking.truth import Measured, Truth
from distill.runs import ranking as runs
from distill.runs.line import Line
from distill.runs.progress import Shown
from distill.runs.ranking import of_rows
from distill.sets.synthetic import SyntheticSet

DEPTHS = np.array([each.depth for each in N54])
QUICK = ["data=digits", "threads=1", "device=cpu", "workers=1", "protocol.recipe.epochs=1"]


def made_truth(seed=0, **changes):
    g = np.random.default_rng(seed)
    networks = {
        each.name: Measured(
            100 * each.depth, 10 * each.width, *(list(g.random(1 + 2 * (each in REPEATED))) for _ in "vt"), 1.0
        )
        for each in N54
    }
    about = {"data_hash": "0" * 12, "images": 10, "recipe": {"lr": 0.05}, "made_by": "x", "torch": "2", "device": "cpu"}
    return Truth(**{"data": "digits", **about, "networks": networks, **changes})


TRUTH = made_truth()


def test_the_space_has_54_networks_of_different_names_and_the_work_that_was_computed_for_it():
    names = [each.name for each in N54]
    assert len(set(names)) == 54 and "c3-d2-w32-nI-pM" in names
    work = [macs(each.make((3, 32, 32), 10), (3, 32, 32)) for each in N54]
    assert np.mean(work) == pytest.approx(4.2e6, rel=0.02)
    assert len(set(REPEATED)) == 12 and [each.depth for each in REPEATED].count(2) == 4


def test_the_truth_ranks_itself_perfectly():
    found = ranking(TRUTH.val[None], TRUTH.val, TRUTH.test, DEPTHS)
    for each in (found.rho, found.tau):
        assert (each.value, each.low, each.high) == pytest.approx((1, 1, 1))
    assert found.regret == {1: 0, 5: 0} and found.inside == {1: 1, 2: 1, 3: 1}
    assert found.chosen == pytest.approx(TRUTH.test[TRUTH.val.argmax()])


def test_permuted_scores_have_an_interval_around_zero():
    g = np.random.default_rng(1)
    found = [correlations([(g.permutation(TRUTH.val), TRUTH.val)]) for _ in range(60)]
    for each in zip(*found, strict=True):
        assert abs(np.mean([one.value for one in each])) < 0.06
        assert 51 <= sum(one.low < 0 < one.high for one in each) <= 60  # of intervals that hold 95 % of the time


def test_correlations_and_each_of_their_resamples_are_scipys_with_ties_too():
    g = np.random.default_rng(2)
    x = np.round(g.random(54), 1)
    y = np.round(x + g.random(54), 1)
    found, oracles = correlations([(x, y)]), (stats.spearmanr, stats.kendalltau)
    for each, measure, oracle in zip(found, MEASURES, oracles, strict=True):
        assert each.value == pytest.approx(oracle(x, y)[0])
        counts = resamples(54)[:20]
        drawn = [np.repeat(np.arange(54), row.astype(int)) for row in counts]
        assert measure(counts, x, y) == pytest.approx([oracle(x[own], y[own])[0] for own in drawn])
        assert each.low < each.value < each.high
    assert (resamples(54).sum(1) == 54).all() and len(resamples(54)) == 10_000


def test_several_draws_are_several_rankings_and_not_one_of_their_mean():
    g = np.random.default_rng(3)
    draws = TRUTH.val + g.normal(0, 0.3, (3, 54))
    found = ranking(draws, TRUTH.val, TRUTH.test, DEPTHS)
    alone = [ranking(each[None], TRUTH.val, TRUTH.test, DEPTHS) for each in draws]
    assert found.rho.value == pytest.approx(np.mean([each.rho.value for each in alone]))
    assert found.regret[5] == pytest.approx(np.mean([each.regret[5] for each in alone]))
    assert found.rho.value < ranking(draws.mean(0)[None], TRUTH.val, TRUTH.test, DEPTHS).rho.value


def test_a_proxy_that_only_knows_depth_ranks_nothing_inside_a_depth():
    truth = DEPTHS + TRUTH.val
    found = ranking(DEPTHS[None].astype(float), truth, truth, DEPTHS)
    assert found.rho.value > 0.8 and found.inside == {1: None, 2: None, 3: None}


def test_equal_scores_share_their_places():
    truth = np.array([0.9, 0.5, 0.1])
    orders = orders_of(np.array([1.0, 1.0, 0.0]))
    assert (orders[:, 2] == 2).all() and 400 < (orders[:, 0] == 0).sum() < 600
    found = ranking(np.array([[1.0, 1.0, 0.0]]), truth, truth, np.ones(3, int), firsts=(1, 2))
    assert found.regret[1] == pytest.approx(0.2, abs=0.03) and found.regret[2] == 0


@pytest.mark.parametrize("scores", [np.ones((1, 54)), np.stack([TRUTH.val, np.ones(54)])])
def test_equal_scores_are_no_ranking_rather_than_a_correlation_of_zero(scores):
    proxy = Proxy("equal", scores, 1.0, 1.0)
    assert worth([proxy], TRUTH, TRUTH.data_hash).rows[0][2].text == NONE
    assert summary([proxy], TRUTH)["proxies"][0]["ranking"] == NONE
    assert worth([Proxy("missing")], TRUTH, "").rows[0][2].text == "–"


def test_a_table_says_which_truth_it_is_of_and_that_other_images_were_scored():
    form = worth([], TRUTH, TRUTH.data_hash)
    assert any(TRUTH.hash in note and "10 images" in note for note in form.notes) and "lr 0.05" in form.notes[-1]
    assert "are not those of this run" in worth([], TRUTH, "another").notes[-1]
    assert replace(TRUTH, images=11).hash != TRUTH.hash


def test_the_ceiling_is_the_correlation_between_seeds_of_the_networks_that_have_several():
    rho, _ = TRUTH.noise()
    seeds = np.array([TRUTH.networks[each.name].val for each in N54 if each in REPEATED]).T
    pairs = [(0, 1), (0, 2), (1, 2)]
    assert rho.value == pytest.approx(np.mean([stats.spearmanr(seeds[i], seeds[j])[0] for i, j in pairs]))
    once = {name: replace(each, val=each.val[:1]) for name, each in TRUTH.networks.items()}
    assert replace(TRUTH, networks=once).noise() is None


def test_early_stopping_takes_as_many_steps_as_on_what_a_set_decodes_to(monkeypatch):
    line = Line(truth_run({"data": "digits", "device": "cpu"}), Shown())
    images = torch.arange(20) * 60
    plain = SyntheticSet.of_images(line.real.train, images)
    for factors, steps in (((1,), 3), ((1, 2), 15)):  # 20 images in batches of 20, or 100 of them
        entry = Entry([plain.with_(factors=factors)], "m", 2)
        monkeypatch.setattr(runs, "entries", lambda line, quiet, entry=entry: iter([(line, entry)]))
        monkeypatch.setattr(Line, "protocol", lambda line: preset("n54-truth", epochs=3, batch=20))
        *_, (_, _, early) = runs.trained(line)
        assert (early.recipe.steps, early.recipe.batch) == (steps, 20)


def test_networks_are_scored_on_validation_and_a_proxys_cost_is_that_of_one_set():
    row = {"syntheses": 2, "students": 3, "accuracies": [0.9] * 6, "operations": 6e9, "seconds": 8.0}
    proxy = of_rows("set", [{**row, "validation_accuracies": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}] * 54)
    assert proxy.scores[:, 0] == pytest.approx([0.2, 0.5]) and proxy.seconds == pytest.approx(54 * 4)
    assert proxy.tflop == pytest.approx(54 * 3 * 6e9 / 1e12)  # three students of one synthesis


def test_a_table_of_truth_is_read_as_it_was_written_or_refused(tmp_path):
    path = tmp_path / "n54_digits.json"
    TRUTH.write(path)
    again = Truth.of("digits", str(path))
    assert again == TRUTH and again.hash == TRUTH.hash and (again.val == TRUTH.val).all()
    text = path.read_text()
    path.write_text(text.replace('"images": 10', '"images": 99'))
    with pytest.raises(ValueError, match="was altered"):
        Truth.read(path)
    few = {name: each for name, each in TRUTH.networks.items() if name != "c3-d1-w16-nN-pM"}
    replace(TRUTH, networks=few).write(path)
    with pytest.raises(ValueError, match="no table of true accuracies .c3-d1-w16-nN-pM.macs is missing"):
        Truth.read(path)


@pytest.mark.parametrize("data", [path.stem.removeprefix("n54_") for path in ROOT.glob("distill/ranking/n54_*.json")])
def test_a_table_that_comes_with_distill_is_of_these_networks(data):
    truth = Truth.of(data)
    assert truth.data == data and "/" not in truth.made_by
    seeds = {each.name: 3 if each in REPEATED else 1 for each in N54}
    assert {name: len(each.val) for name, each in truth.networks.items()} == seeds
    assert {name: len(each.test) for name, each in truth.networks.items()} == seeds
    assert truth.noise()[0].value > 0.5
    if data == "digits":
        assert truth.data_hash == load_data("digits").hash
        work = {each.name: macs(each.make((1, 8, 8), 10), (1, 8, 8)) for each in N54[::10]}
        assert all(truth.networks[name].macs == count for name, count in work.items())


def test_networks_that_are_trained_stay_and_proxies_stand_beside_the_set(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [*QUICK, "ipc=2"]
    stop(monkeypatch, runs, "evaluate", 20)
    with pytest.raises(RuntimeError, match="stopped"):
        TASKS["network_truth"](words)
    rows = tmp_path / "outputs" / "rows"
    there = {path: path.stat().st_mtime_ns for path in rows.glob("*.json")}
    assert len(there) == 19 and not (tmp_path / "outputs" / "n54_digits.json").exists()
    assert TASKS["network_truth"](words) == ["wrote outputs/n54_digits.json"]
    assert all(path.stat().st_mtime_ns == when for path, when in there.items()) and len(list(rows.glob("*.json"))) == 54
    truth = Truth.of("digits", "outputs/n54_digits.json")
    assert truth.images == 20 and len(truth.networks["c3-d1-w16-nN-pM"].val) == 3
    assert len(truth.networks["c3-d1-w16-nN-pA"].test) == 1

    words = [*QUICK, "method=random", "ipc=1", "truth=outputs/n54_digits.json", "out=ranked"]
    TASKS["rank_networks"](words)
    with (tmp_path / "ranked" / "ranking" / "tables" / "ranking.csv").open() as file:
        table = {line["proxy"]: line for line in csv.DictReader(file)}
    assert list(table) == ["random ipc 1", "random real ipc 1", "early stopping, 2 steps", "parameters", "MACs"]
    assert (
        table["random real ipc 1"]["sets"] == "3" and truth.hash in (tmp_path / "ranked/ranking/tables.md").read_text()
    )
    told = json.loads((tmp_path / "ranked" / "ranking" / "summary.json").read_text())
    assert told["truth"]["hash"] == truth.hash and told["proxies"][-1]["tflop"] == 0
    early = [json.loads(path.read_text()) for path in (tmp_path / "ranked" / "rows").glob("*.json")]
    early = [row for row in early if row["method"].startswith("early")]
    assert len(early) == 54 and all(row["optimizer_steps"] == 2 and row["seen"] == 20 for row in early)

    monkeypatch.setattr("distill.evaluation.measure.Measurement.measure", None)  # nothing is left to be trained
    TASKS["rank_networks"](words)
    assert "Ranking 54 networks on digits" in capsys.readouterr().out


def test_networks_without_a_norm_train_at_a_lower_rate_and_some_have_three_seeds():
    line = Line(truth_run({"data": "digits", "device": "cpu"}), Shown())
    recipes = {each: runs.recipe_of(line, each) for each in N54}
    assert {each.norm: recipes[each].recipe.lr for each in N54} == {"none": 0.01, "instance": 0.05, "batch": 0.05}
    assert all(recipe.students == (3 if each in REPEATED else 1) for each, recipe in recipes.items())


@pytest.mark.parametrize(
    ("task", "words", "said"),
    [
        ("rank_networks", QUICK, "no set to judge"),
        ("rank_networks", [*QUICK, "method=random", "draws=2"], "draws is 2, expected 3 or more"),
        ("rank_networks", [*QUICK, "method=random", "truth=none.json"], "no table of true accuracies in none.json"),
        ("rank_networks", [*QUICK, "method=rendom"], "unknown method 'rendom': did you mean random"),
        ("rank_networks", [*QUICK, "synset=nowhere", "truth=t.json"], "nowhere"),
        ("rank_networks", [*QUICK, "method=random", "truth=t.json", "data.val=0"], "ranked on the validation split"),
        ("network_truth", [*QUICK, "data.val=0"], "ranked on the validation split, which is empty"),
        ("network_truth", [*QUICK, "ipc=1000"], "ipc is 1000, expected at most"),
        ("network_truth", [*QUICK, "protocol.recipe.lr=-1"], "lr is -1"),
    ],
)
def test_what_is_impossible_is_said_before_anything_is_trained(tmp_path, monkeypatch, task, words, said):
    monkeypatch.chdir(tmp_path)
    TRUTH.write(tmp_path / "t.json")
    with pytest.raises((ValueError, OSError), match=said):
        TASKS[task](words)
    assert not (tmp_path / "outputs").exists()


def test_random_images_are_no_option():
    run, _ = ranking_run({"method": "dm", "baselines": ["kcenter"]})
    assert list(run.cfg.baselines) == ["random", "kcenter"] and run.cfg.draws == 3 and run.cfg.protocol.validate
