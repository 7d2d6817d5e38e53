import base64
import io
import json
import re
from dataclasses import fields

import numpy as np
import pytest
import torch
from conftest import load_npz
from PIL import Image
from torch.utils.data import DataLoader

import distill
from distill.data.preprocessing import Preprocessing, normalised
from distill.sets.synthetic import SyntheticSet


@pytest.fixture(params=["normalised", "zca"])
def synset(npz, request):
    """A learned-looking set: soft labels, its own rate, images off the data."""
    torch.manual_seed(0)
    real = load_npz(npz, zca=request.param == "zca")
    start = SyntheticSet.from_real(real.train, 2, torch.Generator().manual_seed(0))
    images = start.images + 0.1 * torch.randn_like(start.images)
    return start.with_(images=images, labels=torch.randn(6, 3), label_kind="logits", lr=torch.tensor(0.03))


def test_a_set_that_was_loaded_and_changed_says_what_it_is_now(synset, tmp_path):
    synset.save(tmp_path / "before.safetensors", {"method": "mine", "versions": {"torch": "1.0"}})
    names, hard = ("x", "y", "z"), dict(labels=synset.classes, label_kind="hard", lr=None)
    changed = distill.load(tmp_path / "before.safetensors").with_(class_names=names, **hard)
    changed.save(tmp_path / "after.safetensors")
    after = distill.load(tmp_path / "after.safetensors")
    assert (after.class_names, after.label_kind, after.lr) == (names, "hard", None)
    assert after.record["hash"] == after.hash == changed.hash != synset.hash
    assert (after.record["method"], after.record["versions"]) == ("mine", {"torch": "1.0"})  # of who made it


def test_what_is_saved_is_what_is_loaded(synset, tmp_path):
    synset.save(tmp_path / "run" / "synset.safetensors", {"method": "datm", "seed": 3, "config": {"a": [1, None]}})
    for path in ("run", "run/synset.safetensors", "run/synset.json"):
        again = distill.load(tmp_path / path)
        assert all(torch.equal(again.tensors[name], tensor) for name, tensor in synset.tensors.items())
        assert again.hash == synset.hash
        assert again.preprocessing.fingerprint == synset.preprocessing.fingerprint
        assert (again.class_names, again.data, again.label_kind) == (("c0", "c1", "c2"), "toy", "logits")
        assert again.record["method"] == "datm"
        assert again.record["config"] == {"a": [1, None]}
    about = json.loads((tmp_path / "run" / "synset.json").read_text())
    assert about == again.record
    assert about["versions"]["torch"] == torch.__version__
    assert [path.name for path in sorted((tmp_path / "run").iterdir())] == ["synset.json", "synset.safetensors"]


def test_vectors_are_kept_and_name_no_classes(synset, tmp_path):
    vectors = synset.with_(labels=torch.randn(6, 7), label_kind="vectors", lr=None)
    vectors.save(tmp_path / "synset.safetensors")
    again = distill.load(tmp_path)
    assert again.has_vectors and not again.is_soft and torch.equal(again.targets, vectors.labels)
    assert torch.equal(again.hard, vectors.classes) and again.label_bytes == 6 * 7 * 4
    with pytest.raises(ValueError, match="vectors: use datm, pt or npz"):
        again.export(tmp_path / "mtt", "mtt")


class Counted(SyntheticSet):
    """A set that counts how often its tensors are read as they are stored."""

    reads = 0

    @property
    def stored(self):
        Counted.reads += 1
        return super().stored


def test_a_set_is_hashed_once_and_anew_where_anything_of_it_changes(synset):
    first, before = synset.hash, Counted.reads
    synset = Counted(**{each.name: getattr(synset, each.name) for each in fields(synset)})
    assert synset.hash == synset.hash == synset.to(torch.device("cpu")).hash == first and Counted.reads == before + 1
    assert synset.copy().hash == first
    seen = {first}
    with torch.no_grad():
        synset.images[0] += 0.01
        seen.add(synset.hash)
        synset.images = synset.images + 0.01
        seen.add(synset.hash)
    seen |= {
        synset.with_(lr=torch.tensor(0.5)).hash,
        synset.quantised().hash,
        synset._but(classes=synset.classes + 1).hash,
    }
    assert len(seen) == 6


def test_labels_and_classes_may_be_one_tensor(synset, tmp_path):
    hard = synset.with_(labels=synset.classes, label_kind="hard")
    hard.save(tmp_path / "synset.safetensors")
    again = distill.load(tmp_path)
    assert torch.equal(again.labels, synset.classes) and again.hash == hard.hash


def test_three_lines_give_a_dataset_and_the_matching_test_transform(synset, tmp_path, npz):
    synset.save(tmp_path / "synset.safetensors")
    loaded = distill.load(tmp_path)
    images, targets = next(iter(DataLoader(loaded, batch_size=6)))
    assert torch.equal(images, synset.images)
    assert torch.allclose(targets, synset.labels.softmax(1))
    assert torch.allclose(loaded.targets, targets)
    real = load_npz(npz, zca=synset.preprocessing.space == "zca")
    with np.load(npz) as file:
        pixels = file["x_test"][0]
    for image in (pixels, Image.fromarray(pixels)):
        assert torch.allclose(loaded.transform(image), real.test.images[0], atol=1e-5)


@pytest.mark.parametrize("damage", ["truncate", "flip", "header", "empty", "json"])
def test_a_damaged_file_is_recognised(synset, tmp_path, damage):
    path = tmp_path / "synset.safetensors"
    synset.save(path)
    whole = path.read_bytes()
    broken = {
        "truncate": whole[: len(whole) * 2 // 3],
        "flip": whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:],
        "header": b"\xff" * 16 + whole[16:],
        "empty": b"",
        "json": b'{"images": []}',
    }[damage]
    path.write_bytes(broken)
    with pytest.raises(ValueError, match="truncated|altered"):
        distill.load(path)


def test_a_pickle_is_never_opened(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    torch.save({"images": Bomb()}, tmp_path / "synset.safetensors")
    with pytest.raises(ValueError, match="not a safetensors file"):
        distill.load(tmp_path)
    assert not (tmp_path / "exploded").exists()
    with pytest.raises(FileNotFoundError, match="no synthetic set at"):
        distill.load(tmp_path / "nothing")


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(images=torch.full((6, 3, 8, 8), float("nan"))), "images hold 1152 values that are NaN"),
        (dict(labels=torch.full((6, 3), float("inf"))), "labels hold 18 values"),
        (dict(labels=torch.tensor([0, 1, 2, 3, 0, 1]), label_kind="hard"), "labels span 0 to 3, expected 0 to 2"),
        (dict(labels=torch.tensor([0, -1, 2, 1, 0, 1]), label_kind="hard"), "labels span -1 to 2"),
        (dict(classes=torch.full((6,), 7)), "labels span 7 to 7"),
        (dict(label_kind="probabilities"), "do not sum to 1"),
        (dict(label_kind="soft"), "unknown label kind 'soft': one of hard, logits, probabilities, vectors"),
        (dict(labels=torch.zeros(5, 7), label_kind="vectors"), r"vectors labels are torch.float32 \(5, 7\)"),
        (dict(labels=torch.full((6, 7), float("nan")), label_kind="vectors"), "labels hold 42 values that are NaN"),
        (dict(labels=torch.zeros(6, 2)), r"are torch.float32 \(6, 2\), expected \(6, 3\)"),
        (dict(images=torch.zeros(6, 8, 8)), r"expected \(N, C, H, W\)"),
        (dict(lr=torch.tensor(-0.1)), "learned rate is -0.1, expected above 0"),
        (dict(lr=torch.tensor(1e9)), "learned rate is 1e.09"),
        (dict(lr=torch.tensor(float("nan"))), "learned rate is nan"),
        (dict(preprocessing=Preprocessing("pixel01")), "not in space pixel01"),
    ],
)
def test_an_inconsistent_set_is_refused(npz, changes, message):
    start = SyntheticSet.from_real(load_npz(npz).train, 2, torch.Generator().manual_seed(0))
    values = {"labels": torch.zeros(6, 3), "label_kind": "logits", "lr": torch.tensor(0.03), **changes}
    with pytest.raises(ValueError, match=message):
        start.with_(**values)


def test_exports_hold_the_same_set(synset, tmp_path):
    folder = synset.export(tmp_path / "pt", "pt")
    assert torch.equal(torch.load(folder / "images.pt", weights_only=True), synset.images)
    assert torch.equal(torch.load(folder / "labels.pt", weights_only=True), synset.labels)
    folder = synset.export(tmp_path / "npz", "npz")
    with np.load(folder / "synset.npz", allow_pickle=False) as file:
        assert np.array_equal(file["images"], synset.images.numpy())
        assert list(file["class_names"]) == ["c0", "c1", "c2"]
        assert float(file["lr"]) == pytest.approx(0.03)
    folder = synset.export(tmp_path / "png", "png")
    pictures = sorted(folder.glob("*/*.png"))
    assert [path.parent.name for path in pictures] == ["0000_c0"] * 2 + ["0001_c1"] * 2 + ["0002_c2"] * 2
    shown = np.asarray(Image.open(pictures[3])).transpose(2, 0, 1) / 255
    assert np.abs(shown - synset.pixels[3].numpy()).max() < 1 / 255
    for kind in ("pt", "npz", "png"):
        text = (tmp_path / kind / "README.md").read_text()
        assert f"space: {synset.preprocessing.space}" in text
        assert "rate: 0.03" in text
    with pytest.raises(FileExistsError, match="exists: name a new folder"):
        synset.export(tmp_path / "png", "png")
    with pytest.raises(ValueError, match="unknown export 'gif': one of png, npz, pt"):
        synset.export(tmp_path / "gif", "gif")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".") or path.name == "gif") == []


def test_an_interrupted_write_leaves_the_old_file(synset, tmp_path, monkeypatch):
    path = tmp_path / "synset.safetensors"
    synset.save(path)
    before = path.read_bytes()

    def full_disk(tensor):
        yield memoryview(b"the first bytes")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("distill.files._parts", full_disk)
    monkeypatch.setattr("distill.files.hash_tensors", lambda tensors: "0" * 64)
    with pytest.raises(OSError, match="No space left"):
        synset.with_(lr=torch.tensor(0.5)).save(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.glob(".*"))) == 0


def test_a_foreign_file_is_named_as_what_it_is_and_never_opened(tmp_path, monkeypatch):
    torch.save(torch.zeros(2), tmp_path / "images_best.pt")
    torch.save(torch.zeros(2), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    np.savez(tmp_path / "a.npz", x=np.zeros(2))
    (tmp_path / "b.bin").write_bytes(b"")
    kinds = {"images_best.pt": "a file of torch.save", "old.pt": "a pickle", "a.npz": "an .npz of NumPy"}
    monkeypatch.setattr("torch.load", None)
    monkeypatch.setattr("pickle.load", None)
    for name, kind in {**kinds, "b.bin": "a file of another kind"}.items():
        with pytest.raises(ValueError, match=f"{name} is {kind}.*, no synthetic set of distill"):
            distill.load(tmp_path / name)


def test_a_notebook_shows_the_first_classes_of_many_and_all_where_it_is_asked():
    classes = torch.arange(30)
    names = tuple(f"c{k}" for k in range(30))
    synset = SyntheticSet(torch.zeros(30, 1, 8, 8), classes, classes.clone(), names, normalised([0.5], [0.5]), "toy")
    (data,) = re.findall(r"base64,([\w+/=]+)", synset._repr_html_())
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (10 * 34 + 2, 2 * 34 + 2)
    assert synset.show().size == (10 * 34 + 2, 3 * 34 + 2)
    assert "&lt;b&gt;" in synset.with_(data="<b>")._repr_html_()
