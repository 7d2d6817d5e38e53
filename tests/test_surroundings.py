"""A home or a store that cannot be written, a umask, a clock that goes back."""

import os
import stat
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import load_npz
from test_evaluate import judged, protocol, subset

from distill.autotune import fastest
from distill.data import content
from distill.data.preprocessing import ZCA_EPS, cached_zca, fit_zca
from distill.files import alone_in, read_record, save_tensors, write_record
from distill.parallel import Crew
from distill.report.rows import Report
from distill.runs import stages
from distill.runs.progress import Shown

CPU = torch.device("cpu")


@pytest.fixture(params=[0o022, 0o027, 0o002, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_files_and_folders_follow_the_umask(npz, umask, tmp_path):
    new = tmp_path / "new"
    write_record(new / "a.json", {})
    save_tensors(new / "a.safetensors", {"x": torch.zeros(2)})
    synset = subset(load_npz(npz))
    synset.save(new / "set" / "synset.safetensors")
    for kind in ("png", "npz", "pt"):
        synset.export(new / kind, kind)
    for path in [new, *new.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o777 if path.is_dir() else 0o666) & ~umask, path


def test_times_are_measured_once_where_no_home_can_be_written(monkeypatch, taking, tmp_path, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/cache")
    ways, measured = taking(eager=1.0, stacked=0.5)
    for _ in range(3):
        for compile in ("auto", False):  # nothing compiled is left, yet two ways are
            assert fastest(ways, {"net": "read-only"}, 1000, CPU, compile) == "stacked"
    assert measured == ["eager", "stacked"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert fastest(ways, {"net": "other"}, 1, CPU, "auto") == "eager"
    assert [each["about"]["net"] for each in read_record(tmp_path / "distill" / "fastest.json", "").values()] == [
        "other"
    ]
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("warning: what is fastest is not remembered: ")


def test_a_user_without_a_home_is_no_error(monkeypatch, capsys):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("pathlib.Path.home", homeless)
    ways = dict.fromkeys(["eager", "stacked"], lambda: None)
    assert fastest(ways, {"net": "homeless"}, 1, CPU, "auto") == "eager"
    assert "not remembered: Could not determine home" in capsys.readouterr().err


def test_whitening_is_not_kept_beside_data_that_cannot_be_written(tmp_path, capsys):
    pixels = torch.rand(40, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    right = fit_zca(pixels).fingerprint
    (tmp_path / "file.txt").write_text("")
    assert cached_zca(pixels, "k", tmp_path / "file.txt" / "cache").fingerprint == right
    assert capsys.readouterr().err.startswith("warning: the whitening is not kept for the next run: ")


def test_what_files_hold_is_not_kept_beside_data_that_cannot_be_written(tmp_path, monkeypatch, capsys):
    later = time.time_ns() + 10**11
    monkeypatch.setattr("time.time_ns", lambda: later)  # when files of just now may be remembered, too
    file = tmp_path / "file.png"
    file.write_bytes(b"pixels")
    right = content.content_of([file], tmp_path / "cache", 1)
    assert content.content_of([file], file / "cache", 1) == right
    assert capsys.readouterr().err.startswith("warning: the files' content is read again next time: ")


def test_a_damaged_or_foreign_whitening_is_fitted_anew_with_a_word(tmp_path, capsys):
    pixels = torch.rand(40, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    right = cached_zca(pixels, "k", tmp_path)
    path = tmp_path / f"zca-k-eps{ZCA_EPS}.safetensors"
    whole = path.read_bytes()
    damaged = [whole[:-1] + bytes([whole[-1] ^ 1]), whole[:50], b""]
    foreign = [
        fit_zca(pixels[..., :2]).tensors,
        {"mean": torch.zeros(9), "matrix": torch.zeros(9, 9)},
        {"x": torch.zeros(1)},
    ]
    for each in [*damaged, *foreign]:
        path.write_bytes(each) if isinstance(each, bytes) else save_tensors(path, each)
        assert cached_zca(pixels, "k", tmp_path).fingerprint == right.fingerprint
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "fitted anew" in said
        assert cached_zca(pixels, "k", tmp_path).fingerprint == right.fingerprint and not capsys.readouterr().err


def test_nothing_is_written_into_a_store_that_is_complete(experts, real):
    before = {path.name: path.stat().st_mtime_ns for path in [experts.folder, *experts.folder.iterdir()]}
    line = SimpleNamespace(
        crew=Crew(), teachers_alone=False, expert_store=lambda: experts, written=[], progress=Shown(), real=real,
        asked_stores=lambda: [({}, "other", 0, SimpleNamespace(missing=[], folder=Path("other"), count=1, accuracy=float))],
    )  # fmt: skip
    line.judge = line
    stages.experts(line)
    assert line.written == [experts.folder, Path("other")]
    assert before == {path.name: path.stat().st_mtime_ns for path in [experts.folder, *experts.folder.iterdir()]}


def test_seconds_are_never_negative_when_the_clock_goes_back(real, student, tmp_path, monkeypatch):
    clock = iter(range(10**6, 0, -1000))
    monkeypatch.setattr("time.time", lambda: float(next(clock)))
    report = Report(tmp_path / "report.json")
    quick = protocol(epochs=1, extra_epochs=0, students=1)
    (row,) = judged(subset(real), real, {"convnet": student}, quick, report).rows
    assert 0 < row["seconds"] < 60


def test_what_a_killed_writer_left_is_cleared(tmp_path):
    (tmp_path / "snapshots").mkdir()
    left = [".a.json.1234.part", ".tmpAb12Cd", "snapshots/.step.safetensors.1234.part", "snapshots/.tmpAb12Cd"]
    for name in [*left, "kept.json", ".tmp"]:
        (tmp_path / name).write_text("")
    with alone_in(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {".lock", ".tmp", "kept.json", "snapshots"}
        assert not list((tmp_path / "snapshots").iterdir())
