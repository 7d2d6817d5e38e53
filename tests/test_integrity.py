"""Files say what was written into them, or nothing: single bits that turn, files of the first format, records made up."""

import json
import os
import time

import pytest
import torch
from conftest import load_npz
from safetensors.torch import load_file, save_file
from test_labels import store

from distill.autotune import fastest
from distill.evaluation.underway import Underway
from distill.files import digest, hash_tensors, load_tensors, parsed, read_record, save_tensors, write_record
from distill.methods.synthesis import claim
from distill.report.rows import Report
from distill.report.unfinished import Unfinished
from distill.sets.reading import load
from distill.sets.synthetic import SyntheticSet
from distill.teachers.store import ExpertStore
from distill.training.loop import Progress
from distill.training.views import Augmented

SAMPLES = int(os.environ.get("DISTILL_BITS", 200))  # bytes of each file in which a bit is turned
ROW = {
    **dict(method="dm", data="toy", student="convnet", protocol="ours", labels="hard", selection="last", ipc=1, seed=0),
    **dict(syntheses=1, students=2, mean=0.5, sd=0.1, ci95=None, seconds=3.5, synsets=["a"], command="python run.py"),
}


class Voice:
    """A committee of one, which says the same of every view."""

    names, fingerprint = ("é",), "0" * 12

    def votes(self, temperature):
        return torch.ones(1)

    def logits(self, views, *rest):
        return torch.arange(3.0).expand(len(views), 3)


@pytest.fixture
def synset(npz):
    start = SyntheticSet.from_real(load_npz(npz).train, 1, torch.Generator().manual_seed(0))
    images = torch.rand(3, 3, 2, 2)
    return start.with_(images=images, labels=torch.randn(3, 3), label_kind="logits", lr=torch.tensor(0.03))


def write_set(folder, synset):
    synset.save(folder / "synset.safetensors", {"seed": 3, "data": "é"})
    return "synset.safetensors", lambda: content(load(folder))


def content(synset):
    return hash_tensors(synset.stored), synset.record, synset.class_names, synset.data, synset.label_kind


def write_state(folder, synset):
    path = folder / "state.safetensors"
    save_tensors(path, {"images": synset.images}, {"step": 150, "label_kind": "hard", "skips": 0})
    return path.name, lambda: (lambda tensors, record: (hash_tensors(tensors), record))(*load_tensors(path))


def expert_store(folder):
    about = {"data": {"name": "toy"}, "preprocessing": "é", "shape": [3, 8, 8], "student": "mlp"}
    recipe = {"name": "toy", "epochs": 2, "extra_epochs": 0}
    write_record(folder / "manifest.json", {**about, "recipe": recipe, "seed": 0})
    return lambda: ExpertStore(folder, {**about, "recipe": recipe, "seed": 0}, 1)


def write_expert(folder, synset):
    store = expert_store(folder)()
    store.write(0, torch.randn(3, 7), 0.16, {"norm.mean": torch.randn(2), "norm.count": torch.tensor(5)})
    return "expert_0000.safetensors", lambda: (
        [store.row(0, epoch, 7).tolist() for epoch in (0, 1, -1)],
        hash_tensors(store.statistics(0)),
        store.accuracy(0),
    )


def write_unfinished(folder, synset):
    store = expert_store(folder)()
    store.keep([0, 1], torch.randn(2, 3, 7), {"0.momentum": torch.randn(2, 7)})

    def read():
        weights, optimizer = store.unfinished([0, 1])
        return hash_tensors({"weights": weights, **optimizer})

    return "unfinished_0000-0001.safetensors", read


def write_manifest(folder, synset):
    make = expert_store(folder)
    return "manifest.json", lambda: make().identity


def label_store(folder, synset):
    return store(folder, synset, Voice(), epochs=1, batch=2, mix=None, views=Augmented("none"))


def write_labels(folder, synset):
    (path,) = [label_store(folder, synset)]
    path.read(0)
    return str(path.folder.relative_to(folder) / "labels.json"), lambda: label_store(path.folder, synset).identity


def write_label_epoch(folder, synset):
    own = label_store(folder, synset)
    own.read(0)
    return str(own.folder.relative_to(folder) / "epoch_00000.safetensors"), lambda: own.read(0).tolist()


def write_config(folder, synset):
    config = {"data": "é", "ipc": 1, "seed": 0, "method": {"lr": 0.1, "betas": [0.5, None]}}
    claim(folder, config)
    return "config.json", lambda: claim(folder, config)


def write_row(folder, synset):
    report = Report(folder / "report.json")
    report.add(ROW)
    return f"rows/{report.name(ROW)}.json", lambda: Report(folder / "report.json").rows


def write_students(folder, synset):
    Unfinished(folder / "unfinished_0.json").keep({"dm/0/1": [3, 0, 9]}, {"dm/0/1": [7, 112]}, 12.5, device="cpu")

    def read():
        again = Unfinished(folder / "unfinished_0.json")
        return again.hits, again.took, again.spent, again.devices

    return f"unfinished_0_{digest('dm/0/1')}.json", read


def write_underway(folder, synset):
    path, students = folder / "unfinished_0.safetensors", ["dm/0/0", "dm/0/1"]
    own = Underway(path, students, time.monotonic())
    own.due.at = -1.0
    own.keep(Progress(2, torch.randn(2, 7), {"0.momentum_buffer": torch.randn(2, 7)}, {"steps": torch.tensor(7)}))

    def read():
        again = Underway(path, students, time.monotonic())
        now = again.before(torch.device("cpu"))
        return hash_tensors({"weights": now.weights, **now.tensors}), now.epochs, again.found

    return path.name, read


def write_report(folder, synset):
    """As earlier versions wrote it, or one that was carried away from its rows."""
    write_record(folder / "report.json", {"rows": [ROW], "unfinished": {"dm/0/1": [3, 0, 9]}, "spent": 12.5})

    def read():
        return Report(folder / "report.json").rows

    return "report.json", read


KINDS = [
    write_set, write_state, write_expert, write_unfinished, write_manifest, write_labels, write_label_epoch, write_config,
    write_row, write_students, write_underway, write_report,
]  # fmt: skip


@pytest.mark.parametrize("write", KINDS)
def test_no_bit_of_a_file_can_turn_unnoticed(write, tmp_path, synset):
    torch.manual_seed(0)
    name, read = write(tmp_path, synset)
    whole, right = (tmp_path / name).read_bytes(), read()
    told, places = 0, range(0, len(whole), 1 + len(whole) // SAMPLES)
    for at in places:
        bit = 1 << (at * 5 + 3) % 8
        (tmp_path / name).write_bytes(whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :])
        try:
            assert read() == right, f"byte {at} of {len(whole)}, bit {bit}"  # \u00e9 is \u00E9
        except ValueError as error:
            assert "\n" not in str(error) and name in str(error) and len(str(error)) < 700, str(error)
            told += 1
    assert told > 0.98 * len(places)
    (tmp_path / name).write_bytes(whole)
    assert read() == right


def test_a_cache_of_times_that_lost_a_bit_is_made_anew_with_a_word(tmp_path, monkeypatch, taking, capsys):
    def measured(folder):
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
        ways, tried = taking(eager=0.5, stacked=0.25)
        assert fastest(ways, {"net": "x"}, 1, torch.device("cpu"), "auto") == "eager"
        return tried

    def times(folder):
        return folder / "distill" / "fastest.json"

    assert measured(tmp_path) == ["eager"] and measured(tmp_path) == []
    whole, right = times(tmp_path).read_bytes(), read_record(times(tmp_path), "")
    for at in range(0, len(whole), 1 + len(whole) // SAMPLES):
        folder = tmp_path / str(at)
        times(folder).parent.mkdir(parents=True)
        times(folder).write_bytes(whole[:at] + bytes([whole[at] ^ 1 << (at * 5 + 3) % 8]) + whole[at + 1 :])
        anew, said = measured(folder), capsys.readouterr().err
        assert said.count("\n") == len(anew), said
        assert not said or "fastest.json" in said and "what is fastest is measured again" in said
        assert read_record(times(folder), "") == right and measured(folder) == []


def first_format(path):
    """The file as the first format had it: no hash of what is not a tensor."""
    if path.suffix == ".json":
        record = json.loads(path.read_text())
        path.write_text(json.dumps({k: v for k, v in record.items() if k not in ("format", "sha256")}))
        return
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        header = {key: value for key, value in file.metadata().items() if key not in ("format", "sha256")}
    tensors = load_file(path)
    save_file(tensors, path, header | ({"sha256": hash_tensors(tensors)} if "record" in header else {}))


@pytest.mark.parametrize("write", KINDS)
def test_files_of_the_first_format_are_read(write, tmp_path, synset):
    name, read = write(tmp_path, synset)
    right = read()
    first_format(tmp_path / name)
    assert read() == right


@pytest.mark.parametrize("write", KINDS)
@pytest.mark.parametrize("lost", ["format", "sha256"])
def test_a_file_that_lost_part_of_its_seal_does_not_pass_for_one_of_the_first_format(write, lost, tmp_path, synset):
    name, read = write(tmp_path, synset)
    whole = (tmp_path / name).read_bytes()
    other = lost[:-1] + "x"
    assert whole.count(f'"{lost}"'.encode()) >= 1
    (tmp_path / name).write_bytes(whole.replace(f'"{lost}"'.encode(), f'"{other}"'.encode()))
    with pytest.raises(ValueError, match="altered|cannot be used"):
        read()


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 60 + "1" + "}" * 60, "null", "[]", "5", '{"a": 1', "\xff"])
def test_what_is_no_record_gets_one_line(text, tmp_path):
    (tmp_path / "a.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match="a.json is not readable .*: move it$") as told:
        read_record(tmp_path / "a.json", "move it")
    assert len(str(told.value)) < 300
    if text != "\xff":
        with pytest.raises(ValueError):
            parsed(text)


REPORTS = [
    {"rows": {}}, {"rows": [5]}, {"rows": [{}]}, {"rows": [{**ROW, "mean": "0.5"}]}, {"rows": [{**ROW, "mean": 50.0}]},
    {"rows": [{**ROW, "ci95": []}]}, {"rows": [{**ROW, "synsets": "a"}]}, {"rows": [{**ROW, "method": None}]}, {},
    {"rows": [ROW], "unfinished": []}, {"rows": [ROW], "unfinished": {"a": None}},
    {"rows": [{**ROW, "accuracies": ["x"]}]}, {"rows": [{**ROW, "accuracies": 0.5}]}, {"rows": None},
    {"rows": [{**ROW, "cut": [1]}]}, {"rows": [ROW], "unfinished": {"a": [0.5]}},
    {"rows": [{**ROW, "accuracy_by_class": {"a": 2}}]}, {"rows": [ROW], "spent": "1"},
]  # fmt: skip


@pytest.mark.parametrize("record", REPORTS)
def test_a_report_of_another_structure_is_refused_in_one_line(record, tmp_path):
    (tmp_path / "report.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="report.json is not a report .*: move it away or choose another out=DIR$"):
        Report(tmp_path / "report.json")


@pytest.mark.parametrize(
    "changes", [{"mean": 50.0}, {"metric": None}, {"values": ["a"]}, {"written": 5}, {"method": 1}]
)
def test_a_row_of_another_structure_is_refused_in_one_line(changes, tmp_path):
    report = Report(tmp_path / "report.json")
    report.add(ROW)
    (path,) = (tmp_path / "rows").glob("*.json")
    write_record(path, {**read_record(path, ""), **changes})
    with pytest.raises(ValueError, match=f"{path.name} is not a row .*: delete it to have its row measured again$"):
        Report(tmp_path / "report.json")
