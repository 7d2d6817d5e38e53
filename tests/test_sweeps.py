"""Sweeps: a job for each combination of values, in folders named by what differs, on one page."""

import json
import os
from functools import partial

import pytest
from test_faults import in_a_process

from distill.cli.sweeps import folder_name, sweep_overrides
from distill.cli.typed import quoted

TINY = [
    "data=digits", "ipc=1", "student.convnet.width=4", "method=dm", "method.steps=1", "method.batch_real=4",
    "protocol=dcb-none", "protocol.recipe.epochs=1", "protocol.students=2", "draws=1", "device=cpu", "workers=1",
]  # fmt: skip


def run(folder, *arguments, before=None):
    """What a sweep of a process of its own printed; what it said lies beside ``folder``."""
    beside = folder.with_name(f"{folder.name} said")
    beside.mkdir(exist_ok=True)
    code = in_a_process(arguments, beside, before=partial(before or widely, folder))
    assert code == 0, (beside / "heard").read_text() + (beside / "said").read_text()
    return (beside / "printed").read_text()


def widely(folder):
    os.chdir(folder)
    os.environ["COLUMNS"] = "300"


def elsewhere(folder):
    """As if this machine's workers were on others."""
    from distill.engines.local import Local

    widely(folder)
    Local.here = False


def failing(folder):
    """And one job's worker finds it impossible."""
    from distill.runs import outside

    def wrong(words, own=outside.alone):
        return [*own(words), *(["protocol.recipe.epochs=-1"] if "method.lr_img=5" in words else [])]

    elsewhere(folder)
    outside.alone = wrong


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    run(folder, *TINY, "-m", "method.lr_img=1,5", "seed=0,1")
    return folder


def test_a_sweep_runs_each_job_in_a_folder_named_by_what_differs(swept):
    jobs = sorted(path.parent.name for path in swept.glob("multirun/*/report.json"))
    assert jobs == [f"method.lr_img={lr},seed={seed}" for lr in (1, 5) for seed in (0, 1)]
    assert [path.name for path in swept.iterdir()] == ["multirun"]
    for job in jobs:
        row = json.loads((swept / "multirun" / job / "report.json").read_text())["rows"][0]
        assert f"out=multirun/{job}" in row["command"].replace('"\'"', "").replace("'", "")
        assert "experts_path=outputs/experts" in row["command"]


def test_a_page_of_a_sweep_tells_its_rows_apart_by_a_column_for_each_value(swept):
    for _ in range(2):  # what is collected may be collected again
        printed = run(swept, "task=report", "runs=[multirun/*]", "out=all")
    assert "lr_img" in printed and "seed" in printed
    assert [line for line in printed.splitlines() if line.startswith("wrote")] == [
        f"wrote all/report.{kind}" for kind in ("json", "csv", "html")
    ]
    rows = json.loads((swept / "all" / "report.json").read_text())["rows"]
    assert len(rows) == 8
    assert all((swept / "all" / name).exists() for row in rows for name in row["synsets"])
    page = (swept / "all" / "report.html").read_text()
    assert ">lr_img<" in page and ">seed<" in page


def test_commas_between_paths_are_choices_of_a_sweep_alone():
    assert quoted(["data.path=a b,c=d"]) == ["data.path='a b,c=d'"]
    assert quoted(["-m", "data.path=a b,c=d"]) == ["-m", "data.path='a b','c=d'"]
    assert quoted(["-m", "synset=[a,b]"]) == ["-m", "synset=[a,b]"]
    assert quoted(["-m", "out=range(1,3)"]) == ["-m", "out=range(1,3)"]


def test_values_that_all_jobs_have_are_not_in_the_names_of_folders():
    flag, folder, same, *rest = sweep_overrides(["out=here", "seed=0,1", "--multirun", "data=digits"])
    assert (flag, folder, rest) == ("--multirun", "hydra.sweep.dir=here", ["out=here", "seed=0,1", "data=digits"])
    assert same == "hydra.job.config.override_dirname.exclude_keys=['out','data']"
    assert sweep_overrides(["seed=0"]) == ["seed=0"]


def test_a_folder_of_a_job_is_one_folder_and_two_jobs_have_two():
    assert folder_name("method.lr_img=1,seed=0") == "method.lr_img=1,seed=0"
    assert folder_name("synset=a/b") != folder_name("synset=a_b")
    assert "/" not in folder_name("synset=a/b")
    assert len(folder_name("x" * 999)) < 255


def test_a_job_that_fails_is_told_and_the_others_run(tmp_path):
    with pytest.raises(AssertionError) as said:
        run(tmp_path, *TINY, "baselines=[]", "-m", "method.lr_img=-1,5")
    message = str(said.value)
    assert "error: method.lr_img is -1" in message and "(job method.lr_img=-1)" in message
    assert "error: 1 of the sweep's jobs failed: method.lr_img=-1; the same command goes on" in message
    assert (tmp_path / "multirun" / "method.lr_img=5" / "report.json").exists()


def test_jobs_share_the_experts_that_they_have_in_common(tmp_path):
    changed = {"method", "method.batch_real"}
    toy = [item for item in TINY if item.split("=")[0] not in changed]
    experts = [
        "method.experts.count=1",
        "method.experts.recipe.epochs=2",
        "method.max_start_epoch=2",
        "method.expert_epochs=1",
    ]
    run(
        tmp_path,
        *toy,
        "method=mtt",
        *experts,
        "method.student_steps=1",
        "baselines=[]",
        "-m",
        "method.lr_img=1,5",
    )
    (store,) = tmp_path.rglob("manifest.json")
    assert len(list(store.parent.glob("expert_*"))) == 1 and len(list(tmp_path.glob("multirun/*/report.json"))) == 2


ELSEWHERE = [*TINY[:-1], "workers=2", "seed=1", "-m", "method.lr_img=1,5"]


def test_jobs_go_side_by_side_where_workers_are_elsewhere(swept, tmp_path):
    printed = run(tmp_path, *ELSEWHERE, before=elsewhere)
    assert printed.count("wrote multirun/method.lr_img=") == 8
    heard = (tmp_path.with_name(f"{tmp_path.name} said") / "heard").read_text()
    assert heard.count("all rows were there") == 2  # the driver finds what workers made
    for job in ("method.lr_img=1", "method.lr_img=5"):
        one, other = (
            json.loads((folder / "multirun" / name / "report.json").read_text())["rows"]
            for folder, name in ((swept, f"{job},seed=1"), (tmp_path, job))
        )
        assert [row["values"] for row in one] == [row["values"] for row in other]


def test_a_job_that_fails_elsewhere_is_told_and_the_others_run(tmp_path):
    with pytest.raises(AssertionError) as said:
        run(tmp_path, *ELSEWHERE, before=failing)
    message = str(said.value)
    assert "error: protocol.recipe.epochs is -1" in message and "(job method.lr_img=5)" in message
    assert "error: 1 of the sweep's jobs failed: method.lr_img=5; the same command goes on" in message
    assert (tmp_path / "multirun" / "method.lr_img=1" / "report.json").exists()
    assert not (tmp_path / "multirun" / "method.lr_img=5" / "report.json").exists()
