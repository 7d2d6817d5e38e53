"""What stores, rows and folders are known by; what earlier versions wrote is found."""

import doctest
import hashlib
import json
import shutil
from pathlib import Path

import pytest
from conftest import composed
from test_line import line  # noqa: F401  # a fixture

from distill import identity
from distill.identity import canonical, digits, flat_experts, former_digits, pathless
from distill.methods.synthesis import claim
from distill.runs.checks import plain

FORMER = Path(__file__).parent / "former"  # a run of two methods, written by the version before identities had a format
RUN = [
    "data=npz", "data.path=toy.npz", "data.name=toy", "data.mean=[.5]", "data.std=[.25]", "student.convnet.width=2",
    "student.convnet.depth=2", "ipc=1", "draws=1", "compile=false", "out=run", "device=cpu",
]  # fmt: skip
METHODS = {
    "mtt": [
        "method.steps=2", "method.snapshot_every=1", "method.student_steps=1", "method.expert_epochs=1",
        "method.max_start_epoch=2", "method.experts.count=1", "method.experts.recipe.epochs=2", "protocol.students=2",
        "student_epochs=[2]", "student_rates=[.1]",
    ],
    "rded": [
        "student.convnet.norm=batch", "method.pool=8", "method.committee.networks=[convnet]", "method.committee.count=1",
        "method.committee.recipe.epochs=1", "method.committee.minimum=0", "protocol.recipe.epochs=2", "protocol/labels=stored",
    ],
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_experts_sets_labels_and_rows_of_earlier_versions_are_found(line, method, tmp_path):  # noqa: F811
    shutil.copytree(FORMER, tmp_path, dirs_exist_ok=True)
    before = contents(tmp_path)
    code, _, message = line(*RUN, f"method={method}", *METHODS[method])
    assert code == 0, message
    after = contents(tmp_path)
    pages = {"run/report.html", "run/report.csv", "run/report.json"}
    own = {name for name in after if name.endswith(".lock") or name.startswith("run/rows/")}
    assert {name for name in after if before.get(name) != after[name]} - pages - own == set()
    rows, former = (json.loads((each / "run" / "report.json").read_text())["rows"] for each in (tmp_path, FORMER))
    assert [row["accuracies"] for row in rows if row["labels"] != "kd"] == [row["accuracies"] for row in former]
    assert len(rows) - len(former) == (method == "rded")  # random images with teachers stood not beside soft labels yet


def test_a_changed_number_is_another_store_and_another_row(line, tmp_path):  # noqa: F811
    shutil.copytree(FORMER, tmp_path, dirs_exist_ok=True)
    own = [each for each in METHODS["mtt"] if "recipe.epochs" not in each]
    changed = [*RUN, "method=mtt", *own, "method.experts.recipe.epochs=2", "method.experts.recipe.lr=0.02"]
    code, _, message = line(*changed)
    assert code == 1 and "belongs to another configuration" in message and "experts" in message
    assert len(list((tmp_path / "run" / "experts").iterdir())) == 3
    code, _, message = line(
        *RUN, "method=mtt", *METHODS["mtt"], "protocol.recipe.batch=3", "task=evaluate", "synset=run/toy-mtt-ipc1-seed0"
    )
    assert code == 0, message
    rows = json.loads((tmp_path / "run" / "report.json").read_text())["rows"]
    assert len(rows) == len(json.loads((FORMER / "run" / "report.json").read_text())["rows"]) + 2


def test_a_class_may_move_but_not_be_another():
    here, there = {"_target_": "distill.networks.convnet.ConvNet", "width": 8}, {"_target_": "a.b.ConvNet", "width": 8}
    assert (
        digits({"student": here}) == digits({"student": there}) != digits({"student": {**here, "_target_": "a.b.MLP"}})
    )
    assert former_digits({"student": here}) == former_digits({"student": there})


def test_canonical_values_of_canonical_values_are_the_same():
    record = {"a": {"_target_": "x.Y", "_partial_": True, "b": [1, 2.5], "c": None}, "d": {1: "e"}}
    assert (
        canonical(canonical(record)) == canonical(record) == {"a.kind": "Y", "a.b": [1, 2.5], "a.c": None, "d.1": "e"}
    )


def test_a_schedule_of_its_own_kind_is_a_name_in_the_identity_of_a_store():
    own = pathless(plain(composed("method=ncfm", "data=digits").method.experts))
    store = {"data": {"name": "digits"}, "recipe": flat_experts(own)}
    assert canonical(store)["recipe.schedule"] == "StepsAt" and canonical(store)["recipe.mix_probability"] == 0.5


def test_examples_hold():
    assert doctest.testmod(identity).failed == 0


def contents(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_auto_goes_on_where_a_choice_was_made_and_nothing_else_does(tmp_path):
    claim(tmp_path, {"method": {"memory": "recompute", "steps": 3}})
    claim(tmp_path, {"method": {"memory": "auto", "steps": 3}})
    for memory, steps in (("full", 3), ("auto", 4)):
        with pytest.raises(ValueError, match="belongs to another configuration"):
            claim(tmp_path, {"method": {"memory": memory, "steps": steps}})
