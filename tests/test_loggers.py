"""Loggers: what each service is given of a run, read back from its files; and what stops no run."""

import csv
import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_line import ROOT, line, succeeds, toy  # noqa: F401  # a fixture

import distill as dd
from distill.runs.judging import group_of
from distill.runs.loggers import Service

SETS = ["digits-dm-ipc1-seed0", "digits-dm-ipc1-seed1"]
BOTH, RANDOM = "digits-dm-ipc1", "digits-random-real-ipc1"  # what the rows of the report judge
TWO = [*toy("dm", "syntheses=2", "protocol=dcb-none"), "method.batch_real=8", "protocol.recipe.epochs=20"]


def metrics_of(folder):
    with (folder / "metrics" / "version_0" / "metrics.csv").open() as file:
        return [float(row["matching_loss"]) for row in csv.DictReader(file)]


def accuracies(out):
    first, second = json.loads((out / "report.json").read_text())["rows"]
    return {BOTH: first["mean"], RANDOM: second["mean"]}


def records_of(path):
    """Of an offline run of Weights & Biases: protobuf messages in LevelDB's log format, behind a header of seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record = Record()
            record.ParseFromString(parts)
            yield record
        parts = b"" if kind in (0, 1, 4) else parts


class OfflineRun:
    """What an offline run of Weights & Biases holds."""

    def __init__(self, path):
        self.folder, self.logged, self.config, self.artifacts, self.exit = path.parent, {}, {}, [], None
        for record in records_of(path):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                self.group, self.job, self.name = record.run.run_group, record.run.job_type, record.run.display_name
            for item in record.history.item:
                name = item.key or "/".join(item.nested_key)
                self.logged.setdefault(name, []).append(json.loads(item.value_json))
            for item in record.config.update:
                self.config[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
            if kind == "request" and record.request.WhichOneof("request_type") == "log_artifact":
                self.artifacts.append(record.request.log_artifact.artifact)
            if kind == "artifact":
                self.artifacts.append(record.artifact)
            if kind == "exit":
                self.exit = record.exit.exit_code


def test_wandb_gets_metrics_pictures_the_sets_and_the_table_offline(tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # no key in a netrc either
    command = [sys.executable, str(ROOT / "run.py"), *TWO, "logger=wandb"]
    done = subprocess.run(  # its client outlives a run in a process
        command, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0 and "wandb" not in done.stderr, done.stderr
    assert "wrote outputs/wandb\n" in done.stdout
    out = tmp_path / "outputs"
    runs = {(run.job, run.group): run for run in map(OfflineRun, out.glob("wandb/*/*.wandb"))}
    judged = [("evaluate", BOTH), ("evaluate", RANDOM)]
    assert sorted(runs) == sorted([*(("distill", name) for name in SETS), *judged, ("report", "report")])
    for name in SETS:
        run = runs["distill", name]
        assert run.logged["matching_loss"] == pytest.approx(metrics_of(out / name))
        assert len(run.logged["synthetic/filenames"]) == 2
        assert (run.config["method"], run.config["ipc"], run.config["seed"]) == ("dm", 1, int(name[-1]))
        assert run.config["run"]["method"]["lr_img"] == run.config["lr_img"]
        (artifact,) = run.artifacts
        assert json.loads(artifact.metadata) == {"method": "dm", "data": "digits", "ipc": 1, "seed": int(name[-1])}
        assert artifact.name == name and {entry.path for entry in artifact.manifest.contents} == {
            "synset.safetensors",
            "grid.png",
        }
    assert {run.exit for run in runs.values()} == {0}
    assert {group: runs["evaluate", group].logged["accuracy"] for group in (BOTH, RANDOM)} == {
        group: [mean] for group, mean in accuracies(out).items()
    }
    (file,) = (runs["report", "report"].folder / "files" / "media" / "table").glob("report*.table.json")
    table = json.loads(file.read_text())
    assert [row[table["columns"].index("mean")] for row in table["data"]] == list(accuracies(out).values())


def events_of(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload()


def test_tensorboard_gets_metrics_and_pictures_of_each_set_and_accuracies(line, tmp_path):  # noqa: F811
    code, said, message = line(*TWO, "logger=tensorboard")
    assert code == 0, message
    home = tmp_path / "outputs" / "tensorboard"
    assert "wrote outputs/tensorboard\n" in said
    assert sorted(path.name for path in home.iterdir()) == sorted([*SETS, BOTH, RANDOM])
    for name in SETS:
        found = events_of(home / name / "distill")
        assert found.Tags()["scalars"] == ["matching_loss", "skipped_steps"] and found.Tags()["images"] == ["synthetic"]
        logged = found.Scalars("matching_loss")
        assert [event.step for event in logged] == [0, 1, 2, 3]
        assert [event.value for event in logged] == pytest.approx(metrics_of(home.parent / name))
        assert [event.step for event in found.Images("synthetic")] == [2, 4]
    for group, mean in accuracies(home.parent).items():
        (row,) = (home / group).iterdir()
        assert row.name == "convnet-dcb-none+-hard-last"
        assert events_of(row).Scalars("accuracy")[0].value == pytest.approx(mean)
    before = sorted(home.rglob("*"))
    succeeds(line(*TWO, "logger=tensorboard"))
    assert sorted(home.rglob("*")) == before, "what is there is not logged again"


@pytest.mark.filterwarnings("ignore")  # mlflow's, of its database
def test_mlflow_gets_metrics_pictures_the_sets_and_accuracies(line, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    code, said, message = line(*TWO, "logger=mlflow")
    assert code == 0 and "mlflow" not in message.lower(), message
    assert "wrote outputs/mlflow.db\n" in said
    from mlflow.tracking import MlflowClient

    out = tmp_path / "outputs"
    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    found = client.search_runs([client.get_experiment_by_name("distill").experiment_id])
    runs = {(run.data.tags["job_type"], run.data.tags["group"]): run for run in found}
    assert sorted(runs) == sorted([*(("distill", name) for name in SETS), ("evaluate", BOTH), ("evaluate", RANDOM)])
    assert {run.info.status for run in found} == {"FINISHED"}
    for name in SETS:
        run = runs["distill", name]
        assert run.info.run_name == name
        logged = client.get_metric_history(run.info.run_id, "matching_loss")
        values = [each.value for each in sorted(logged, key=lambda each: each.step)]
        assert values == pytest.approx(metrics_of(out / name))
        assert (run.data.params["method"], run.data.params["seed"]) == ("dm", name[-1])
        kept = {Path(file.path).name for file in client.list_artifacts(run.info.run_id)}
        assert kept == {"images", "synset.safetensors"}
        loaded = dd.load(Path(client.download_artifacts(run.info.run_id, "synset.safetensors", str(tmp_path))))
        assert loaded.hash == dd.load(out / name).hash
    for group, mean in accuracies(out).items():
        assert runs["evaluate", group].data.metrics["accuracy"] == pytest.approx(mean)


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_logger_without_its_package_is_one_line_before_anything_is_made(line, name, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    code, _, message = line(*TWO, f"logger={name}")
    wanted = f"error: logger={name} needs the package {name}, which is not installed: pip install {name}"
    assert (code, message) == (1, wanted)
    assert not list(tmp_path.iterdir())


def test_a_service_that_fails_stops_no_run_and_is_told_once(line, tmp_path):  # noqa: F811
    (tmp_path / "taken").write_text("a file")
    code, said, message = line(*TWO, "logger=tensorboard", "logger.tensorboard.save_dir=taken")
    assert code == 0 and "wrote outputs/report.html" in said
    warnings = [each for each in message.splitlines() if "TensorBoard" in each]
    assert len(warnings) == 1 and warnings[0].startswith("warning: TensorBoard is left out: "), message


class Server:
    """A logger whose service goes away."""

    def __init__(self):
        self.heard = []

    def log_hyperparams(self, params):
        self.heard.append(params)

    def log_metrics(self, metrics, step):
        if step == 2:
            raise ConnectionError("the server\nis gone")
        self.heard.append(metrics)


def test_a_service_that_goes_away_is_asked_no_more(tmp_path, capsys):
    class Serving(Service):
        title = "the service"

        def begin(self, make):
            return server

    from omegaconf import OmegaConf

    server = Server()
    service = Serving(OmegaConf.create(), tmp_path, "set", "distill", "distill", {"method": "dm"})
    for step in range(5):
        service.log_metrics({"matching_loss": float(step)}, step)
    service.log_image("synthetic", torch.zeros(3, 2, 2), 5)
    service.end("success")
    assert server.heard == [{"method": "dm"}, {"matching_loss": 0.0}, {"matching_loss": 1.0}]
    assert capsys.readouterr().err == "warning: the service is left out: the server is gone\n"


@pytest.mark.parametrize(
    "files, group",
    [
        (["a-seed10/synset.safetensors"], "a-seed10"),
        (["a-seed10/synset.safetensors", "a-seed11/synset.safetensors"], "a"),
        (["../mine.safetensors"], "mine"),
        ([], "digits-dm-ipc3-50"),
        (["x/synset.safetensors", "y/synset.safetensors"], "digits-dm-ipc3-50"),
    ],
)
def test_a_row_is_in_the_group_of_its_set(files, group, tmp_path):
    row = {"data": "digits", "method": "dm", "ipc_range": "3-50", "synsets": files}
    assert group_of(row, tmp_path) == group


def test_python_chooses_a_logger_by_its_name(tmp_path):
    real = dd.load_data("digits", device="cpu")
    quick = {"student.width": 4, "compile": False, "steps": 2}
    dd.make("dm", real, ipc=1, logger="tensorboard", out=tmp_path, **quick)
    assert events_of(tmp_path / "tensorboard" / SETS[0] / "distill").Tags()["scalars"]
