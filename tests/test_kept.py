"""Kept students: the very ones that were judged, whole or not at all, and they change no number."""

import json

import pytest
import torch
from conftest import load_npz, write_npz
from test_evaluate import Told, judged, protocol, subset
from test_line import line, succeeds, toy  # noqa: F401

import distill as dd
from distill.evaluation.kept import Kept, build, load_student
from distill.evaluation.measure import Bench
from distill.files import load_tensors, save_tensors
from distill.networks.convnet import ConvNet
from distill.report.rows import Report

NETWORK = {
    "_target_": "distill.networks.convnet.ConvNet",
    "_partial_": True,
    **{"depth": 2, "width": 6, "norm": "instance", "pooling": "avg", "activation": "relu"},
}
SAME = {"seconds", "written", "command", "peak_bytes"}


def measure(real, folder, synsets, *, with_protocol=None, network=NETWORK, **bench):
    own = {name: value for name, value in network.items() if not name.startswith("_")}
    nets = {"convnet": (lambda: ConvNet((3, 8, 8), 3, **own), network)}
    asked = with_protocol or protocol()
    return judged(synsets, real, nets, asked, Report(folder / "report.json"), Bench(keep=folder / "students", **bench))


def correct(student, split):
    with torch.no_grad():
        pixels = split.preprocessing.inverse(split.images)
        return (student(pixels).argmax(1) == split.labels).float().mean().item()


def files(folder):
    return {path.name: path for path in (folder / "students").glob("*/*.safetensors")}


@pytest.mark.parametrize("zca", [False, True])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_a_kept_student_classifies_pixels_as_it_did_when_it_was_judged(tmp_path, norm, zca):
    real = load_npz(write_npz(tmp_path / "toy.npz"), zca=zca)
    network = {**NETWORK, "norm": norm}
    (row,) = measure(real, tmp_path, [subset(real, 0), subset(real, 1)], network=network).rows
    paths = [f"{i}-{j}.safetensors" for i in range(2) for j in range(3)]
    assert sorted(files(tmp_path)) == paths
    assert {path.parent.name for path in files(tmp_path).values()} == {Report.name(row)}
    students = [load_student(files(tmp_path)[name]) for name in paths]
    assert [student.record["accuracy"] for student in students] == row["accuracies"]
    assert [correct(student, real.test) for student in students] == pytest.approx(row["accuracies"])
    assert not any(student.training for student in students)
    told = students[4].record
    assert (told["number"], told["synthesis_seed"], told["seed"]) == (1, 1, 0)
    assert told["class_names"] == list(real.test.class_names) and told["row"]["protocol_hash"] == row["protocol_hash"]


def test_rows_are_the_same_with_students_and_without(real, student, tmp_path):
    (kept,) = measure(real, tmp_path / "a", subset(real)).rows
    nets = {"convnet": (student, NETWORK)}
    (plain,) = judged(subset(real), real, nets, protocol(), Report(tmp_path / "b" / "report.json")).rows
    assert {name: kept[name] for name in kept.keys() - SAME} == {name: plain[name] for name in plain.keys() - SAME}


def test_a_row_without_its_students_is_measured_again_and_takes_its_place(real, tmp_path):
    first = measure(real, tmp_path, subset(real)).rows
    path = files(tmp_path)["0-1.safetensors"]
    weights = load_tensors(path)[0]
    assert not measure(real, tmp_path, subset(real), progress=(told := Told())).added and not told.students
    path.unlink()
    again = measure(real, tmp_path, subset(real))
    assert [row["accuracies"] for row in again.rows] == [row["accuracies"] for row in first]
    assert again.rows == again.added and again.rows[0]["written"] > first[0]["written"]
    assert all(torch.equal(tensor, weights[name]) for name, tensor in load_tensors(path)[0].items())


def test_a_killed_evaluation_keeps_whole_students_and_trains_the_others(real, tmp_path):
    def stop(text, done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(real, tmp_path, subset(real), progress=stop)
    assert sorted(files(tmp_path)) == ["0-0.safetensors", "0-1.safetensors"]
    before = {name: path.stat().st_mtime_ns for name, path in files(tmp_path).items()}
    files(tmp_path)["0-1.safetensors"].unlink()
    measure(real, tmp_path, subset(real), progress=(told := Told()))
    assert told.students == 2 and len(files(tmp_path)) == 3
    assert files(tmp_path)["0-0.safetensors"].stat().st_mtime_ns == before["0-0.safetensors"]


def test_students_chosen_on_validation_are_those_of_the_row(real, tmp_path):
    asked = protocol(candidates={"lr": [0.1, 0.01]}, students=2)
    (row,) = measure(real, tmp_path, subset(real), with_protocol=asked).rows
    assert len(files(tmp_path)) == 2  # none of the choice
    assert [load_student(path).record["accuracy"] for _, path in sorted(files(tmp_path).items())] == row["accuracies"]


def test_a_function_without_a_configuration_is_refused_before_anything_is_trained(real, student, tmp_path):
    told = Told()
    with pytest.raises(ValueError, match="convnet cannot be kept: they are a function without a configuration"):
        report = Report(tmp_path / "report.json")
        judged(subset(real), real, {"convnet": student}, protocol(), report, Bench(keep=tmp_path, progress=told))
    assert not told.events


def test_what_is_no_student_is_refused_in_one_line(real, tmp_path):
    measure(real, tmp_path, subset(real))
    path = files(tmp_path)["0-0.safetensors"]
    tensors, record = load_tensors(path)
    made = tmp_path / "made.safetensors"

    def refused(match, tensors=tensors, **changes):
        save_tensors(made, tensors, {**record, **changes})
        with pytest.raises(ValueError, match=match) as told:
            load_student(made)
        assert "\n" not in str(told.value) and "keep_students=true" in str(told.value)

    refused("expected a class of distill.networks", network={"_target_": "os.system", "command": "true"})
    refused(
        "network._target_ is 'distill.networks.base.laid_out'", network={"_target_": "distill.networks.base.laid_out"}
    )
    refused("unknown network.norm", network={**NETWORK, "norm": "none of ours"})
    refused("size mismatch", class_names=["a", "b"])
    refused("size mismatch", shape=[3, 16, 16])
    refused("accuracy is 2", accuracy=2)
    refused("unknown space", space="elsewhere")
    refused("Missing key", {name: each for name, each in tensors.items() if not name.endswith("bias")})
    refused("elsewhere", {**tensors, "elsewhere.x": torch.zeros(1)})
    with pytest.raises(FileNotFoundError):
        load_student(tmp_path / "missing.safetensors")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="truncated"):
        load_student(path)


def test_a_network_of_published_weights_is_built_without_fetching_them():
    node = {"_target_": "distill.networks.resnet.ImageNetResNet", "depth": 18, "weights": "IMAGENET1K_V1"}
    assert build(node, (3, 32, 32), 4).published is None


def test_a_failed_write_leaves_no_file(real, tmp_path, monkeypatch):
    def fails(*_):
        raise OSError("disk full")

    kept = Kept.of(tmp_path, dict.fromkeys([*Report.KEY, "protocol"], 0), NETWORK, real.train)
    monkeypatch.setattr("distill.files.write_safetensors", fails)
    with pytest.raises(OSError, match="disk full"):
        kept.keep(build(NETWORK, (3, 8, 8), 3), 0, 0, 0, 0.5)
    assert not list(kept.folder.iterdir())


def test_the_command_line_keeps_students_of_sets_and_baselines(line, tmp_path):  # noqa: F811
    words = [word for word in toy("dm") if "draws" not in word]
    succeeds(line(*words, "draws=1"))
    report = tmp_path / "outputs" / "report.json"
    before = json.loads(report.read_text())["rows"]
    assert not (tmp_path / "outputs" / "students").exists()
    succeeds(line(*words, "draws=1", "keep_students=true"))
    rows = json.loads(report.read_text())["rows"]
    assert [Report.name(row) for row in rows] == [Report.name(row) for row in before]
    assert [row["accuracies"] for row in rows] == [row["accuracies"] for row in before]
    for row in rows:
        paths = sorted((tmp_path / "outputs" / "students" / Report.name(row)).iterdir())
        assert [dd.load_student(path).record["accuracy"] for path in paths] == row["accuracies"]
    assert "all rows were there" in line(*words, "draws=1", "keep_students=true")[2]
    code, _, message = line(*words, "keep_students=maybe")
    assert code == 1 and "keep_students is 'maybe', expected true or false" in message
