"""Methods that pick real images: through the line, from one proxy run, as baselines, and what they say about bad input."""

import json
from dataclasses import replace

import pytest
import torch
from conftest import composed, write_npz
from hydra.utils import instantiate
from pages import details
from test_line import METHODS, line, succeeds  # noqa: F401

import distill
from distill.experts.train import PROXIES, teachers
from distill.methods.base import Inputs
from distill.methods.selection.method import Selection
from distill.methods.selection.scored import AUM, CCS, Entropy
from distill.parallel import crew
from distill.teachers.committee import Committee
from distill.teachers.proxies import Proxies
from distill.training.dynamics import Dynamics
from distill.training.recipe import Recipe

WALK = [name for name in METHODS if composed(f"method={name}").method._target_.endswith("Sampling")]
PICK = [name for name in METHODS if composed(f"method={name}").method._target_.endswith("Selection")]
TOY = [
    "data=digits", "student.convnet.width=8", "proxies.recipe.epochs=3", "protocol=dcb-none", "protocol.recipe.epochs=2",
    "protocol.students=1", "baselines=[]", "device=cpu", "workers=1", "compile=false",
]  # fmt: skip


def toy(method, *more):
    one = ["method.rule.cutoffs=[0.1]"] if method == "ccs" else []
    ten = ["method.rule.epochs=2"] if method == "el2n" else []
    return [*TOY, f"method={method}", *one, *ten, *more]


def rows(folder):
    return json.loads((folder / "outputs" / "report.json").read_text())["rows"]


def test_every_rule_goes_the_whole_line_from_one_proxy_run_and_makes_nothing_twice(line, tmp_path):  # noqa: F811
    real = distill.load_data("digits").train
    for method in PICK:
        succeeds(line(*toy(method, "ipc=3")))
        synset = distill.load(tmp_path / "outputs" / f"digits-{method}-ipc3-seed0")
        index = torch.tensor(synset.record["selected"])
        assert synset.record["method"] == method and synset.counts == (3,) * 10
        assert len(index.unique()) == len(index) == 30
        assert torch.equal(synset.classes, real.labels[index]) and torch.equal(synset.labels, synset.classes)
        assert torch.allclose(synset.images, real.images[index], atol=1e-6) and synset.eight_bit
    assert {row["method"] for row in rows(tmp_path)} == set(PICK)
    page = "".join(details(tmp_path / "outputs" / "report.html"))
    assert "<dt>hash</dt>" in page and "<dt>outer steps</dt>" not in page and "No metrics" not in page
    assert len(list((tmp_path / "outputs" / "experts").glob("*"))) == 1
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "outputs").rglob("*.safetensors")}
    for method in PICK[:2]:
        succeeds(line(*toy(method, "ipc=3")))
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "outputs").rglob("*.safetensors")}


def test_a_picked_set_is_judged_again_with_its_makers_proxies_and_no_row_is_measured_twice(line, tmp_path):  # noqa: F811
    beside = ["baselines=[kcenter]", "ipc=2"]
    succeeds(line(*[word for word in toy("herding") if "baselines" not in word], *beside))
    there = rows(tmp_path)
    assert {row["method"] for row in there} == {"herding", "kcenter"}
    again = [word for word in TOY if "=" in word and word.partition("=")[0] not in ("data", "baselines")]
    again = [word for word in again if not word.startswith(("proxies", "student."))]  # what the set tells
    succeeds(line("task=evaluate", "synset=outputs/digits-herding-ipc2-seed0", *again, "baselines=[kcenter]"))
    assert rows(tmp_path) == there and len(list((tmp_path / "outputs" / "experts").glob("*"))) == 1
    real = distill.load_data("digits")
    synset = distill.load(tmp_path / "outputs" / "digits-herding-ipc2-seed0")
    quick = {"epochs": 1, "protocol.students": 1, "convnet.width": 4, "compile": False, "proxies.recipe.epochs": 1}
    report = distill.evaluate(
        synset, real, protocol="dcb-none", out=tmp_path / "p", workers=1, baselines=["kcenter"], **quick
    )
    assert [row["method"] for row in report.rows] == ["herding", "kcenter"] and "2 rows" in repr(report)
    with pytest.raises(ValueError, match="'rs2' is no set: give those of make or load; walks are baselines="):
        distill.evaluate("rs2", real)


def test_each_synthesis_has_a_proxy_of_its_own_and_a_fraction_is_a_size(line, tmp_path):  # noqa: F811
    for task in ("experts", "distill"):
        succeeds(line(*toy("herding", f"task={task}", "fraction=[0.1,0.02]", "syntheses=2")))
    succeeds(line(*toy("random", "task=distill", "fraction=0.1", "syntheses=2")))
    assert len(list((tmp_path / "outputs" / "experts").glob("*"))) == 2
    found = {path.name: distill.load(path) for path in (tmp_path / "outputs").glob("digits-*")}
    sizes = {name.removesuffix("-seed0"): len(each) for name, each in found.items() if "seed0" in name}
    herding = {"digits-herding-ipc10percent": 129, "digits-herding-ipc2percent": 26}
    assert sizes == {**herding, "digits-random-ipc10percent": 129}
    for name in ("herding", "random"):
        assert found[f"digits-{name}-ipc10percent-seed0"].hash != found[f"digits-{name}-ipc10percent-seed1"].hash


def test_baselines_stand_beside_a_set_of_their_size(line, tmp_path):  # noqa: F811
    named = ["baselines=[random,herding,kcenter,whole]", "draws=2"]
    learned = ["method=dm", "method.steps=2", "method.batch_real=8", "ipc=2"]
    succeeds(line(*TOY, *learned, *named))
    methods = ["dm", "random real", "herding", "kcenter", "whole real set"]
    assert [(row["method"], row["syntheses"]) for row in rows(tmp_path)] == [
        (name, 2 if name == "random real" else 1) for name in methods
    ]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "outputs").rglob("*.safetensors")}
    own = f"synset={tmp_path}/outputs/digits-dm-ipc2-seed0"
    succeeds(line("task=evaluate", own, *[word for word in TOY if "baselines" not in word], *named))
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "outputs").rglob("*.safetensors")}
    assert [row["method"] for row in rows(tmp_path)] == methods  # all were found


def test_every_walk_goes_the_whole_line_and_leaves_no_set(line, tmp_path):  # noqa: F811
    succeeds(
        line(*[word for word in TOY if "baselines" not in word], "method=rs2", "ipc=3", f"baselines=[{','.join(WALK)}]")
    )
    found = rows(tmp_path)
    assert [row["method"] for row in found] == ["rs2", *(name for name in WALK if name != "rs2")]
    assert all(row["images"] == 1293 and row["image_bytes"] == 1293 * 64 for row in found)
    steps = {row["method"]: row["optimizer_steps"] for row in found}
    assert steps["rs2"] == steps["short"] == steps["rs2_replaced"] == 3  # three epochs of a batch of 30
    assert steps["infobatch"] > 3 and steps["seta"] > 3  # rounds of all images
    succeeds(line(*[word for word in TOY if "baselines" not in word], "method=seta", "ipc=3", "draws=2", "out=all"))
    beside = json.loads((tmp_path / "all" / "report.json").read_text())["rows"]
    assert [(row["method"], row["ipc"], row["syntheses"]) for row in beside] == [
        ("seta", None, 1),
        ("whole real set", None, 1),
    ]
    assert not list((tmp_path / "outputs").rglob("*.safetensors"))
    code, _, said = line(*TOY, "method=short", "ipc=500")
    assert code == 1 and "ipc is 500, expected at most 125 here: class '8' has 125 training images" in said


def test_random_images_with_a_teacher_stand_beside_soft_labels(line, tmp_path):  # noqa: F811
    taught = [
        "teachers.networks=[convnet]",
        "teachers.recipe.epochs=1",
        "teachers.minimum=0",
        "draws=2",
        "method=random",
        "ipc=3",
    ]
    own = [word for word in TOY if "baselines" not in word]
    succeeds(line(*own, *taught, "protocol/labels=on_the_fly"))
    told = [(row["method"], row["labels"], row["syntheses"]) for row in rows(tmp_path)]
    assert told == [
        *(
            ("random", "on_the_fly", 1),
            ("random", "hard", 1),
            ("random real", "on_the_fly", 2),
            ("random real", "hard", 2),
        ),
        ("random real", "kd", 2),
    ]
    succeeds(line(*own, *taught, "baselines=[random,kd]", "out=hard"))
    hard = json.loads((tmp_path / "hard" / "report.json").read_text())["rows"]
    assert [(row["method"], row["labels"]) for row in hard] == [
        ("random", "hard"),
        ("random real", "hard"),
        ("random real", "kd"),
    ]
    named = [word.replace("teachers.", "protocol.labels.committee.") for word in taught]
    succeeds(line(*own, *named, "protocol/labels=kd", "out=named", "protocol.labels.alpha=0.3"))
    kd = json.loads((tmp_path / "named" / "report.json").read_text())["rows"]
    assert len({row["protocol_hash"] for row in kd}) == 1 and {row["labels"] for row in kd} == {"kd", "hard"}
    assert len(list((tmp_path / "named" / "experts").glob("*"))) == 1  # of the named network alone
    assert hard[2]["committee"] == {"convnet": 1.0} and hard[1]["accuracies"] != hard[2]["accuracies"]


def test_a_cut_off_is_chosen_on_validation(line, tmp_path):  # noqa: F811
    cutoffs = "method.rule.cutoffs=[0,0.4,0.2]"
    asked = [*TOY, "method=ccs", cutoffs, "ipc=3"]
    code, _, said = line(*asked)
    assert code == 1 and "CCS has 3 variants to choose among on validation, this protocol chooses none" in said
    assert not (tmp_path / "outputs" / "experts").exists()
    succeeds(line(*asked, "protocol/choice=val"))
    (row,) = rows(tmp_path)
    assert row["selection"] == "val" and row["students_for_choices"] == 3 and row["chosen"]["step"][0] in (0, 1, 2)
    kept = sorted((tmp_path / "outputs" / "digits-ccs-ipc3-seed0" / "snapshots").glob("*"))
    assert len(kept) == 3
    hashes = set()
    for k, cutoff in enumerate((0.0, 0.4, 0.2)):  # a snapshot is the set at one cut-off
        alone = [*TOY, "method=ccs", f"method.rule.cutoffs=[{cutoff}]", "ipc=3", "task=distill", f"out=one{k}"]
        succeeds(line(*alone, "experts_path=outputs/experts"))
        hashes.add(distill.load(tmp_path / f"one{k}" / "digits-ccs-ipc3-seed0").hash)
    from distill.methods.synthesis import iterates

    path = tmp_path / "outputs" / "digits-ccs-ipc3-seed0" / "synset.safetensors"
    assert {each.hash for each in iterates(path).values()} == hashes and len(hashes) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["method=kcenter", "ipc=400"],
            "KCenter: ipc is 400, expected at most 125 here: class '8' has 125 training images",
        ),
        (["method=herding", "fraction=0"], "fraction is 0, expected null or a number in (0, 1]"),
        (["method=herding", "fraction=1.5"], "fraction is 1.5, expected null or a number in (0, 1]"),
        (["method=herding", "proxies.networks=[lenet5]"], "unknown network of a committee 'lenet5'"),
        (["method=herding", "proxies.recipe.epochs=-1"], "proxies.recipe.epochs is -1"),
        (["method=dm", "baselines=[herdin]"], "unknown baseline 'herdin': did you mean herding or herding_max?"),
        (["method=herding", "baselines=[dm]"], "dm is no baseline: it learns"),
        (["method=forgetting", "method.rule.keep=both"], "unknown method.rule.keep 'both': one of easy, hard"),
        (["method=ccs", "method.rule.cutoffs=[0.99]"], "CCS cannot pick 10 of 128 images of class '0'"),
        (
            ["method=rs2", "task=distill"],
            "rs2 makes no set, students walk the real one: distill method=rs2",
        ),
        (["method=herding", "ipc=1", "fraction=0.1"], "ipc and fraction are both given"),
        (["method=dm", "baselines=[ccs]"], "CCS has 6 variants to choose among"),
    ],
)
def test_what_is_impossible_is_refused_before_anything_is_trained(line, tmp_path, words, said):  # noqa: F811
    given = {word.partition("=")[0] for word in words}
    code, _, error = line(*[word for word in TOY if word.partition("=")[0] not in given], *words)
    assert code == 1 and said in error, error
    assert not list((tmp_path / "outputs").rglob("*.safetensors")) and not (tmp_path / "outputs" / "experts").exists()


def test_a_proxy_of_another_data_set_or_network_is_refused_and_so_is_a_teacher(line, tmp_path):  # noqa: F811
    succeeds(line("task=experts", *toy("herding")))
    (store,) = (tmp_path / "outputs" / "experts").glob("*")
    write_npz(tmp_path / "other.npz")
    own = [f"experts_path={store}", "task=distill", "ipc=1", "out=x"]
    other = ["data=npz", "data.path=other.npz", *[word for word in toy("herding") if word != "data=digits"]]
    for words, what in ((other, "data"), ([*toy("herding"), "student.convnet.width=4"], "student")):
        code, _, said = line(*words, *own)
        assert code == 1 and "were trained with other" in said and what in said
    succeeds(line(*toy("herding"), *own))
    networks = ["experts=teacher", "experts.networks=[convnet]", "experts.recipe.epochs=1"]
    succeeds(line("task=experts", *TOY, *networks, "experts_path=taught"))
    (taught,) = (tmp_path / "taught").glob("*")
    code, _, said = line(*toy("herding"), f"experts_path={taught}", "task=distill", "ipc=1", "out=y")
    assert code == 1 and "is no proxy's of these images" in said and (taught / "expert_0000.safetensors").exists()


# --- one rule at a time, in Python ------------------------------------------------------------------------------------------


@pytest.fixture
def proxies(real, student):
    """An untrained network and the log of three epochs."""
    torch.manual_seed(0)
    log, g = Dynamics(3, len(real.train)), torch.Generator().manual_seed(1)
    log.margins = torch.rand(3, len(real.train), generator=g) * 2 - 1
    log.errors = torch.rand(3, len(real.train), generator=g)
    return Proxies(Committee(("toy",), (student(),), (50.0,)), (log,))


@pytest.fixture
def selection(real, student, proxies):
    """``selection("aum", ipc=3)``: the method on the toy set."""

    def build(name, ipc=2, proxies=proxies, seed=0, **changes):
        values = dict(instantiate(composed(f"method={name}").method, _convert_="all").keywords)
        inputs = Inputs(real=real.train, ipc=ipc, student=student, seed=seed, proxies=proxies)
        return Selection.make(inputs, {**values, **changes})

    return build


def selected(method):
    method.begin()
    return method.synset.record["selected"]


@pytest.mark.parametrize("balanced", [True, False])
def test_either_end_of_a_score_is_kept_of_each_class_or_of_all(selection, real, proxies, balanced):
    scores, labels = proxies.logs[0].margins.sum(0), real.train.labels
    for keep, sign in (("hard", 1), ("easy", -1)):
        found = selected(selection("aum", ipc=5, balanced=balanced, rule=AUM(keep=keep)))
        groups = [(labels == k).nonzero()[:, 0] for k in range(3)] if balanced else [torch.arange(len(labels))]
        expected = [index[(sign * scores[index]).argsort()[: 15 // len(groups)]] for index in groups]
        assert sorted(found) == sorted(torch.cat(expected).tolist())


@pytest.mark.parametrize("name", PICK)
def test_a_seed_decides_the_draws_and_nothing_else_does(selection, name):
    changes = {"rule": CCS(score=AUM(keep="hard"), cutoffs=[0.1], strata=5)} if name == "ccs" else {}
    changes |= {"rule": replace(selection(name).settings.rule, epochs=2)} if name == "el2n" else {}
    first = selected(selection(name, **changes))
    torch.manual_seed(123)
    assert selected(selection(name, **changes)) == first
    draws = {"random", "kcenter", "kcenter_unit", "kcenter_skip", "ccs"}
    if name in draws:
        assert any(selected(selection(name, seed=seed, **changes)) != first for seed in (1, 2, 3))


def test_a_score_is_the_mean_over_proxies(selection, proxies):
    other = Dynamics(3, proxies.logs[0].margins.shape[1])
    other.margins = -3 * proxies.logs[0].margins  # the mean turns the order round
    two = Proxies(proxies.committee, (proxies.logs[0], other))
    assert selected(selection("aum", proxies=two)) == selected(selection("aum", rule=AUM(keep="easy")))


def test_uncertainty_keeps_what_the_network_is_least_sure_of(selection, real, proxies):
    with torch.no_grad():
        logits = proxies.committee.nets[0](real.train.images)
    entropies = torch.distributions.Categorical(logits=logits).entropy()
    found = selected(selection("entropy", ipc=4, balanced=False, rule=Entropy(keep="hard")))
    assert set(found) == set(entropies.topk(12).indices.tolist())


def test_nan_scores_and_features_that_are_none_are_refused(selection, real, proxies):
    broken = Dynamics(3, len(real.train))  # an epoch that left images out
    with pytest.raises(ValueError, match="AUM cannot pick 2 of 16 images of class .*NaN"):
        selected(selection("aum", proxies=Proxies(proxies.committee, (broken,))))
    with torch.no_grad():
        next(proxies.committee.nets[0].parameters()).fill_(torch.nan)
    with pytest.raises(
        ValueError, match="Herding cannot pick .* the proxy toy makes .* features of an image, expected"
    ):
        selected(selection("herding"))


def test_a_cut_off_that_leaves_too_few_names_rule_class_and_budget(selection):
    rule = CCS(score=AUM(keep="hard"), cutoffs=[0.9], strata=5)
    with pytest.raises(ValueError, match="CCS cannot pick 8 of 16 images of class 'c?.*' ?: "):
        selected(selection("ccs", ipc=8, rule=rule))


def test_a_ranking_of_all_that_leaves_a_class_out_is_refused(selection, real, proxies):
    log = Dynamics(3, len(real.train))
    log.margins = real.train.labels.float().expand(3, -1)
    with pytest.raises(ValueError, match="AUM picks no image of class .* among 6 of all classes: method.balanced=true"):
        selected(selection("aum", balanced=False, proxies=Proxies(proxies.committee, (log,))))


def test_a_killed_proxy_run_goes_on_and_ends_in_the_same_log(real, student, tmp_path, always_due):
    from conftest import identity, make_recipe

    from distill.teachers.store import ExpertStore

    recipe: Recipe = make_recipe(epochs=4, batch=10)

    def train(folder, die_after=None):
        store = ExpertStore(tmp_path / folder, identity(real), 1)

        def progress(text, done, total):
            if done == die_after:
                raise KeyboardInterrupt

        crew().make(teachers(store, real, student, recipe, 0, PROXIES), progress)
        return store

    whole = train("whole")
    with pytest.raises(KeyboardInterrupt):
        train("broken", die_after=2)
    assert list((tmp_path / "broken").rglob("unfinished*"))
    broken = train("broken")
    mine, theirs = (store.dynamics(0, len(real.train)) for store in (broken, whole))
    assert mine.keys() == theirs.keys() == {"margins", "errors"}
    for name in mine:
        assert torch.equal(mine[name], theirs[name]) and mine[name].isfinite().all()
    assert torch.equal(whole.row(0, -1), broken.row(0, -1))


def test_python_sets_proxies_and_says_that_a_walk_is_no_set(tmp_path):
    data = distill.load_data("digits")
    quick = {"student.width": 4, "compile": False, "out": tmp_path}
    synset = distill.make("herding", data, ipc=1, **quick, **{"proxies.recipe.epochs": 1})
    assert synset.record["config"]["proxies"]["recipe"]["epochs"] == 1 and len(synset) == 10
    tenth = distill.make("random", data, fraction=0.1, compile=False, out=tmp_path)
    assert len(tenth) == 129 and tenth.record["ipc"] == "10%"
    with pytest.raises(
        ValueError, match=r"rs2 makes no set, students walk the real one: distill method=rs2, or baselines=\['rs2'\]"
    ):
        distill.make("rs2", data, ipc=1, **quick)
