"""The whole line through run.py at toy size, for every method config, and what it says about bad input."""

import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import composed, write_npz
from hydra.core.global_hydra import GlobalHydra
from pages import details

import distill
from distill.methods.base import Method

ROOT = Path(__file__).parent.parent
METHODS = sorted(path.stem for path in (ROOT / "configs" / "method").glob("*.yaml"))
LEARN = [method for method in METHODS if "steps" in composed(f"method={method}").method]
TOY = [
    "data=digits", "ipc=1", "student.convnet.width=8", "method.steps=4", "method.snapshot_every=2", "protocol.recipe.epochs=2",
    "student_epochs=[2]", "protocol.students=2", "baselines=[random]", "draws=2", "device=cpu", "workers=1",
]  # fmt: skip


OWN_PROTOCOLS = {
    "sre2l": "sre2l-cifar",
    "cda": "sre2l-cifar",
    "cvdd": "cvdd",
    "rded": "rded",
    "nrr": "nrr",
    "edc": "edc",
    "lgm": "lgm",
    **dict.fromkeys(("krrst", "krrst_initial", "krrst_targets"), "transfer"),
}
TEACHERS = ["networks=[convnet]", "count=2", "minimum=0", "recipe.epochs=2"]


@pytest.fixture
def line(tmp_path, monkeypatch, capsys):
    """``line("task=experts", ...)`` runs run.py as from a shell: (exit code, standard output, error line or warnings)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        capsys.readouterr()
        code, message = typed(monkeypatch, *arguments)
        said = capsys.readouterr()
        return code, said.out, message or said.err

    return call


def typed(patch, *arguments):
    """run.py with these words: (exit code, its error line)."""
    GlobalHydra.instance().clear()
    patch.setattr(sys, "argv", ["run.py", *arguments])
    patch.setenv("HYDRA_FULL_ERROR", "0")
    patch.delenv("DISTILL_TRACEBACK", raising=False)
    try:
        runpy.run_path(str(ROOT / "run.py"), run_name="__main__")
    except SystemExit as stop:
        return (stop.code or 0, "") if isinstance(stop.code, int | None) else (1, stop.code)
    return 0, ""


def succeeds(outcome):
    code, _, message = outcome
    assert code == 0, message


def toy(method, *more):
    """A short line in one process, with experts of four epochs where there are any."""
    node = composed(f"method={method}").method
    experts = ["method.experts.count=2", "method.experts.recipe.epochs=4"] if "experts" in node else []
    experts += ["method.max_start_epoch=2", "method.student_steps=4"] if "max_start_epoch" in node else []
    experts += ["method.initial_max_start_epoch=1"] if "initial_max_start_epoch" in node else []
    if "committee" in node:
        experts = ["student.convnet.norm=batch", *(f"method.committee.{setting}" for setting in TEACHERS)]
    rows = ["method.log_every=1"] if "log_every" in node else []
    if OWN_PROTOCOLS.get(method) == "transfer":  # of one target network, whose students learn twice
        rows += ["method.committee.count=1", "method.committee.pretext.widths=[8,8]", "method.pool.steps=3"]
        rows += [
            "protocol.recipe.steps=null",
            *(f"protocol.pretraining.{kind}.epochs=2" for kind in ("vectors", "classes")),
        ]
    return [*TOY, f"method={method}", *experts, *rows, *more]


@pytest.mark.parametrize("method", LEARN)
def test_every_method_goes_the_whole_line_and_on_where_it_was_interrupted(line, method, tmp_path, monkeypatch):
    code, out, message = line(*toy(method))
    assert code == 0, message
    rows = json.loads((tmp_path / "outputs" / "report.json").read_text())["rows"]
    assert {row["method"] for row in rows} == {method, "random real"}
    for row in rows:
        assert len(row["accuracies"]) == row["syntheses"] * row["students"]
        assert row["protocol"] == f"{OWN_PROTOCOLS.get(method, 'ours')}+"
        assert row["command"].startswith("python run.py data=digits ipc=1")
    wrote = [line for line in out.splitlines() if line.startswith("wrote ")][-3:]
    assert wrote == [f"wrote outputs/report.{kind}" for kind in ("json", "csv", "html")]
    assert any("matching loss over the outer steps" in each for each in details(tmp_path / "outputs" / "report.html"))
    home = tmp_path / "outputs" / f"digits-{method}-ipc1-seed0"
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]
    synset = distill.load(home)
    assert synset.record["method"] == method
    assert synset.record["step"] == 4
    assert len(synset) == 10
    assert (home / "grid.png").exists()
    metrics = (home / "metrics" / "version_0" / "metrics.csv").read_text().splitlines()
    assert "matching_loss" in metrics[0]
    assert len(metrics) == 5
    # Every arrow is a restart point: nothing is made again.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "outputs").rglob("*.safetensors")}
    assert "no student was trained" not in message
    code, _, message = line(*toy(method))
    assert code == 0 and "all rows were there: no student was trained" in message
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "outputs").rglob("*.safetensors")}
    assert json.loads((tmp_path / "outputs" / "report.json").read_text())["rows"] == rows
    # Within an arrow, too: a power cut in the fourth step leaves the last good set, and the same command ends in the same one.
    again = toy(method, "task=distill", "out=cut", "experts_path=outputs/experts", "syntheses=2")
    with monkeypatch.context() as patch:
        patch.setattr(Method, "training_step", power_cut)
        assert line(*again)[0::2] == (1, "error: power cut")
    half = distill.load(tmp_path / "cut" / home.name).record
    assert half["step"] == 2
    succeeds(line(*again))
    whole = distill.load(tmp_path / "cut" / home.name)
    assert whole.hash == synset.hash and whole.record["seconds"] > half["seconds"] > 0
    assert distill.load(tmp_path / "cut" / f"digits-{method}-ipc1-seed1").hash != synset.hash


TRAINING_STEP = Method.training_step


def power_cut(method, step):
    if int(step) == 3:
        raise RuntimeError("power cut")
    TRAINING_STEP(method, step)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder in which experts and a set were made."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for task in ("experts", "distill"):
            assert typed(patch, *toy("datm", f"task={task}")) == (0, "")
    return folder


@pytest.fixture
def made(finished, line, tmp_path):
    """The set of a finished toy run, which lies in a folder of the test's own."""
    shutil.copytree(finished / "outputs", tmp_path / "outputs")
    return tmp_path / "outputs" / "digits-datm-ipc1-seed0"


def test_experts_are_known_by_what_they_are_not_by_where_the_recipe_is_written(made):
    (manifest,) = made.parent.glob("experts/*/manifest.json")
    assert json.loads(manifest.read_text())["recipe"]["name"] == "ftd"
    assert "distill.training" not in manifest.read_text()


QUICK = [
    "task=evaluate",
    "protocol.recipe.epochs=2",
    "protocol.students=1",
    "baselines=[]",
    "student_epochs=[2]",
    "workers=1",
]


def test_a_set_somebody_gave_you_is_judged_by_other_students_on_its_own_data(line, made, tmp_path):
    gift = tmp_path / "gift.safetensors"
    gift.write_bytes((made / "synset.safetensors").read_bytes())
    code, out, message = line(*QUICK, f"synset={gift}", "protocol=datm", "student=[convnet,mlp]", "out=judged")
    assert code == 0, message
    rows = json.loads((tmp_path / "judged" / "report.json").read_text())["rows"]
    assert [(row["student"], row["protocol"], row["labels"]) for row in rows] == [
        ("convnet", "datm+", "own"),
        ("mlp", "datm+", "own"),
    ]
    assert all(row["data"] == "digits" and row["ipc"] == 1 for row in rows)
    assert all(row["protocol_changes"] == ["epochs 1000 -> 2", "students 5 -> 1"] for row in rows)
    assert "digits" in out
    # The protocol's own numbers, without changes, keep its name.
    succeeds(line(*QUICK[:1], *QUICK[3:], f"synset={gift}", "protocol=dcb-none", "student=mlp", "out=plain"))
    assert json.loads((tmp_path / "plain" / "report.json").read_text())["rows"][0]["protocol"] == "dcb-none"


def test_naming_a_sets_own_data_judges_it_as_before(line, made, tmp_path):
    rows = []
    for out, named in (("silent", []), ("named", ["data=digits"])):
        succeeds(line(*QUICK, f"synset={made}", "protocol=dcb-none", f"out={out}", *named))
        rows += json.loads((tmp_path / out / "report.json").read_text())["rows"]
    assert [rows[0][key] == rows[1][key] for key in ("student_hash", "protocol", "accuracies")] == [True] * 3


def test_best_on_test_is_reported_beside_the_last_snapshot_under_a_papers_protocol(line, made, tmp_path):
    code, _, message = line(*QUICK, f"synset={made}", "protocol=mtt", "out=paper", "ipc=1", "published=46.2")
    assert code == 0, message
    rows = json.loads((tmp_path / "paper" / "report.json").read_text())["rows"]
    assert [row["selection"] for row in rows] == ["last", "maximum", "test"]
    assert [row["published"] for row in rows] == [None, "46.2", None]
    assert rows[1]["chosen"]["step"] == rows[2]["chosen"]["step"] and rows[1]["chosen"]["step"][0] in (0, 2, 4)


def test_a_set_whose_run_was_cut_says_so_in_terminal_row_and_page(line, made, tmp_path):
    distill.load(made).save(tmp_path / "half" / "synset.safetensors", {"step": 2})
    code, out, message = line(*QUICK, "synset=half", "protocol=dcb-none", "out=judged")
    assert code == 0, message
    assert "warning: half was cut at step 2 of 4: it is judged as it is" in message
    (row,) = json.loads((tmp_path / "judged" / "report.json").read_text())["rows"]
    assert (row["finished"], row["cut"]) == (False, ["step 2 of 4"])
    assert "datm, step 2 of 4" in out
    assert "datm, step 2 of 4" in (tmp_path / "judged" / "report.html").read_text()


def test_choices_recorded_in_a_set_cannot_name_code(line, made, tmp_path):
    synset = distill.load(made)
    overrides = [
        "data=digits",
        "student.convnet._target_=os.abort",
        "student=${oc.env:HOME}",
        "data=../../x",
        "hydra.run.dir=/x",
        "out=/x",
    ]
    synset.save(tmp_path / "evil.safetensors", {"overrides": overrides})
    code, _, message = line(*QUICK, "synset=evil.safetensors", "student.convnet.width=8", "out=judged")
    assert code == 0, message
    assert (tmp_path / "judged" / "report.json").exists()


def test_help_lists_and_config_answer_without_heavy_imports():
    code = """
import runpy, sys
sys.argv = ["run.py", *sys.argv[1:]]
try:
    runpy.run_path("run.py", run_name="__main__")
except SystemExit:
    pass
print("IMPORTED", *{name.partition(".")[0] for name in sys.modules})
"""
    heavy, composing = {"torch", "numpy", "wandb", "sklearn", "kornia"}, {"hydra", "omegaconf", "antlr4"}
    for words, absent in (("--help", heavy | composing), ("task=list", heavy | composing), ("--cfg job", heavy)):
        command = [sys.executable, "-c", code, *words.split()]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        text, _, imported = done.stdout.partition("IMPORTED ")
        assert "distill" in imported.split() and not absent & set(imported.split()), done.stderr
        assert "datm" in text


def test_help_says_what_hydra_would_make_of_its_template(line):
    code, ours, message = line("-h", "method=mtt")
    assert code == 0, message
    assert ours == line("--help", "--resolve")[1], "a second flag leaves the answer to Hydra"
    assert "\nprotocol/choice: last, test, val\n" in ours


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["task=destill"],
            "unknown task 'destill': did you mean distill\\? one of experts, distill, evaluate, all, report",
        ),
        (
            ["data=cifar11"],
            "unknown data 'cifar11': did you mean cifar10 or cifar100\\? one of cifar10, cifar100, digits",
        ),
        (["method=datmm"], f"unknown method 'datmm': did you mean datm\\? .* shows all {len(METHODS)}"),
        (
            ["experiment=dc_cifr10_ipc1"],
            "unknown experiment 'dc_cifr10_ipc1': did you mean dc_cifar10_ipc1 or .* shows all",
        ),
        (["protocol=best"], "unknown protocol 'best': .* shows all \\d+"),
        (["student=convnett"], "unknown student 'convnett': did you mean convnet or"),
        (["student=[convnet,x]"], "unknown student 'x': "),
        (["experiments=dm_cifar10_ipc1"], "unknown value experiments: did you mean experiment\\?"),
        (["method.stepz=3"], "unknown value method.stepz: did you mean steps\\? method has"),
        (["ipc=5000"], "ipc is 5000, expected at most 125 here: class '8' has 125 training images"),
        (["device=cuda"], "device=cuda was asked for, but this machine has no CUDA device"),
        (["data=cifar10", "data.download=false"], "no cifar10 under data and data.download=false"),
        (["model=ConvNet"], "unknown value model: did you mean student=convnet\\?"),
        (["--dataset", "CIFAR10"], "unknown flag --dataset CIFAR10: settings are NAME=VALUE .* data=cifar10"),
        (["momentum=0.9"], "unknown value momentum: did you mean .*recipe.optimizer.momentum"),
        (
            ["task=evaluate", f"synset={ROOT / 'run.py'}"],
            "run.py is a file of another kind, no synthetic set of distill",
        ),
        (["data=npz", "data.path=none.npz"], "no file 'none.npz'"),
        (["data=npz"], "data.path is missing: give data.path=VALUE"),
        (["task=distill", "seed=7"], "0 of 2 experts in .*: train them with `python run.py task=experts`"),
        (
            ["method.max_start_epoch=40"],
            "end at epoch 4, this range reads epoch 40: lower method.max_start_epoch or train longer",
        ),
        (["student.convnet.norm=batch"], "keeps batch statistics"),
        (["task=evaluate", "synset=none.safetensors"], "no synthetic set at none.safetensors"),
        (["task=report", "runs=[none,nil]"], "no rows in none, nil: name folders that a run wrote as its out"),
        (["data.name=../../x"], "data.name is '../../x', which names no file"),
        (["published=abc"], "published is 'abc', expected an accuracy in %"),
    ],
)
def test_bad_input_gets_one_line_and_a_failure(line, arguments, message, tmp_path):
    defaults = [item for item in toy("datm") if item.split("=")[0] not in {a.split("=")[0] for a in arguments}]
    if any(item.startswith(("data=", "student=")) for item in arguments):
        defaults = [item for item in defaults if not item.startswith(("student.", "data="))]
    code, _, said = line(*defaults, *arguments)
    assert code == 1
    assert said.startswith("error: ")
    assert re.search(message, said), said
    assert "\n" not in said
    assert not list(tmp_path.rglob("*.safetensors")), "nothing was trained"
    assert not list(tmp_path.rglob("report.json"))


def test_another_precision_is_another_row_and_named(line, made, tmp_path):
    for precision in ("fp32", "bf16"):
        succeeds(line(*QUICK, f"synset={made}", "out=x", "baselines=[]", f"precision={precision}"))
    rows = json.loads((tmp_path / "x" / "report.json").read_text())["rows"]
    assert len({row["protocol"] for row in rows}) == 2
    assert [row["protocol"].endswith(" bf16") for row in rows] == sorted(
        row["protocol"].endswith("bf16") for row in rows
    )


def test_many_runs_go_on_one_page_and_no_report_is_lost(line, made, tmp_path):
    for out in ("a", "b (ü)=5"):
        succeeds(line(*QUICK, f"synset={made}", f"out={out}"))
    before = (tmp_path / "a" / "report.json").read_text()
    code, out, message = line("task=report", "runs=[a,b (ü)=5]", "out=both")
    assert (code, message) == (0, "")
    assert out.splitlines()[-3:] == [f"wrote both/report.{kind}" for kind in ("json", "csv", "html")]
    page = (tmp_path / "both" / "report.html").read_text()
    assert page.count("<tr data-") == 2 * len(json.loads(before)["rows"])
    assert "data:image/png" in page  # found beside the set, wherever the page lies
    code, _, message = line("task=report", "runs=[b (ü)=5]", "out=a")
    assert (code, message) == (
        1, "error: a holds the report of another run: choose another folder with out=DIR, or add it to runs"
    )  # fmt: skip
    succeeds(line("task=report", "out=a"))
    assert (tmp_path / "a" / "report.json").read_text() == before


def test_bad_input_beside_finished_work_overwrites_nothing(line, made, tmp_path):
    def snapshot():
        return {
            path: (path.stat().st_mtime_ns, path.read_bytes())
            for path in (tmp_path / "outputs").rglob("*")
            if path.is_file()
        }

    before = snapshot()
    experts = next((tmp_path / "outputs" / "experts").iterdir())
    cases = [
        (
            toy("datm", "task=distill", "method.lr_img=3"),
            "belongs to another configuration: method.lr_img was .*, is 3; choose another",
        ),
        (
            toy("datm", "task=distill", f"experts_path={experts}", "data.classes=[0,1]", "out=x"),
            "experts in .* were trained with other data",
        ),
        (
            toy("datm", "task=distill", f"experts_path={experts}", "student.convnet.width=9", "out=x"),
            "were trained with other student.*width .8 there, 9 here",
        ),
        (toy("datm", "task=distill", f"experts_path={experts}", "data.mean=[0.5]", "out=x"), "were trained with"),
        (
            [*QUICK, f"synset={made}", "data.zca=true", "out=x"],
            "lives in space normalised, data.zca=true .* use data.zca=false",
        ),
        (
            [*QUICK, f"synset={made}", "data.classes=[0,1]", "out=x"],
            "10 classes there, 2 here, the first .* alone is '2'",
        ),
    ]
    for arguments, message in cases:
        code, _, said = line(*arguments)
        assert code == 1
        assert re.search(message, said), said
    assert snapshot() == before


def test_a_run_that_diverges_stops_by_name_and_keeps_the_last_good_set(line, tmp_path):
    succeeds(line(*toy("datm", "task=experts")))
    code, _, said = line(*toy("datm", "task=distill", "method.max_error=1e-9", "method.max_skips=2"))
    assert code == 1
    assert "2 steps in a row were skipped, at last because the matching loss is" in said
    assert "the last good set is outputs/digits-datm-ipc1-seed0/synset.safetensors" in said
    assert torch.isfinite(distill.load(tmp_path / "outputs" / "digits-datm-ipc1-seed0").images).all()
    code, _, said = line(
        *toy("datm", "task=distill", "method.max_error=1e-9", "out=idle", "experts_path=outputs/experts")
    )
    assert code == 0
    assert "4 of 4 outer steps of digits-datm-ipc1-seed0 were skipped (the matching loss is" in said


def test_your_own_images_go_the_whole_line(line, tmp_path):
    write_npz(tmp_path / "mine.npz", per_class=30)
    arguments = [item for item in toy("datm") if not item.startswith("data=")]
    sizes = ["method.steps=2", "method.experts.recipe.epochs=22", "method.student_steps=3", "ipc=2"]
    code, _, said = line(*arguments, "data=npz", "data.path=mine.npz", "data.name=mine", "data.zca=true", *sizes)
    assert code == 0, said
    synset = distill.load(tmp_path / "outputs" / "mine-datm-ipc2-seed0")
    assert (synset.preprocessing.space, len(synset)) == ("zca", 6)
    code, _, said = line(*QUICK, "synset=outputs/mine-datm-ipc2-seed0", "out=x", "protocol=dcb-none")  # tells its data
    assert code == 0, said
