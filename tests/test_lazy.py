"""Image folders that stay on disk."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_line import line  # noqa: F401  # a fixture

import distill
from distill.data import content
from distill.data import real as data
from distill.sets.stored import StoredSet


def write_folder(root, side=(30, 44), train=8, test=3, classes=4):
    """Bright bars at a height that tells the class."""
    g = np.random.default_rng(0)
    for part, count in (("train", train), ("test", test)):
        for cls in range(classes):
            (root / part / f"c{cls}").mkdir(parents=True)
            for i in range(count):
                pixels = g.integers(0, 90, (*side, 3), dtype=np.uint8)
                step = side[0] // (classes + 1)
                pixels[step * (cls + 1) - step // 2 :][:step, side[1] // 5 : -side[1] // 5] += 150
                Image.fromarray(pixels).save(root / part / f"c{cls}" / f"{i}.png")
    return root


def load(path, **changes):
    values = dict(
        path=path, root=path, size=16, crop=True, lazy=True, workers=3, strategy="flip", mean=[0.5] * 3, std=[0.25] * 3,
        zca=False, val=0.25, download=False,
    )  # fmt: skip
    return data.load("mine", **{**values, **changes})


def test_lazy_images_stand_where_a_tensor_stands(tmp_path):
    real = load(write_folder(tmp_path / "pets"))
    images = real.train.images
    assert (len(real.train), len(real.val), len(real.test)) == (24, 8, 12) and real.train.shape == (3, 16, 16)
    whole = images[torch.arange(24)]
    assert torch.equal(images[torch.tensor([[3, 1], [0, 3]])], whole[[3, 1, 0, 3]].view(2, 2, 3, 16, 16))
    assert torch.equal(images[:5], whole[:5]) and torch.equal(images[::7], whole[::7])
    assert torch.equal(torch.cat(list(images.split(10))), whole)
    assert [int(real.train.labels[i]) for i in real.train.of_class(2)] == [2] * 6
    drawn = real.train.sample(1, 4, torch.Generator().manual_seed(0))
    assert all((drawn_one == whole[real.train.of_class(1)]).flatten(1).all(1).any() for drawn_one in drawn)


def test_the_middle_of_an_image_is_taken_at_its_own_proportions(tmp_path):
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:, 24:40] = 255  # a bar as wide as half the height
    root = write_folder(tmp_path / "pets")
    Image.fromarray(pixels).save(root / "train" / "c0" / "0.png")
    real = load(root, val=0, mean=[0.0] * 3, std=[1.0] * 3, size=28)
    assert real.train.images[torch.tensor([0])][0, 0, 14].mean().item() == pytest.approx(16 / 28, abs=0.03)


def test_a_folder_is_known_by_its_files(tmp_path):
    root = write_folder(tmp_path / "pets")
    first = load(root).fingerprint
    assert load(root, workers=1).fingerprint == first
    assert len({first, *(load(root, **changes).fingerprint for changes in ({"val": 0}, {"crop": False}))}) == 3
    kept = load(root, classes=["c3", "c1"])
    assert kept.train.class_names == ("c3", "c1") and len(kept.test) == 6 and kept.fingerprint != first
    Image.new("RGB", (9, 9)).save(root / "train" / "c0" / "0.png")
    assert load(root).fingerprint != first


def test_a_folder_is_known_by_what_its_files_hold(tmp_path):
    root = write_folder(tmp_path / "pets")
    first = load(root)

    def darker(file):
        """Another image in as many bytes, with the old time of modification."""
        image, old = np.asarray(Image.open(file)), file.stat()
        Image.fromarray(image // 2).save(file, format="BMP")
        os.utime(file, ns=(old.st_atime_ns, old.st_mtime_ns))

    for file in root.rglob("*.png"):
        Image.open(file).save(file, format="BMP")
    bitmaps = load(root)
    assert bitmaps.fingerprint != first.fingerprint
    darker(root / "test" / "c0" / "0.png")
    tested = load(root)
    assert tested.fingerprint == bitmaps.fingerprint and tested.hash != bitmaps.hash
    darker(root / "train" / "c0" / "0.png")
    assert load(root).fingerprint != bitmaps.fingerprint
    for part in ("test", "train"):  # the same files in the same order, one of them of another class
        before = load(root)
        last = max((root / part / "c0").iterdir())
        last.rename(root / part / "c1" / "!.png")
        after = load(root)
        assert after.hash != before.hash and (after.fingerprint == before.fingerprint) == (part == "test")
        (root / part / "c1" / "!.png").rename(last)
    moved = root.rename(tmp_path / "elsewhere")
    assert load(moved).hash != tested.hash and load(moved).fingerprint == load(moved, workers=1).fingerprint
    assert len({load(moved, **changes).hash for changes in ({}, {"strategy": "crop"}, {"size": 17}, {"val": 0})}) == 4


class Watched(type(Path())):
    """A file that tells when it is opened."""

    opened: list[str] = []

    def open(self, *how, **more):
        self.opened.append(self.name)
        return super().open(*how, **more)


def test_the_content_of_files_is_read_again_only_where_one_may_have_changed(tmp_path, monkeypatch):
    files = [tmp_path / name for name in "ab"]
    for file in files:
        file.write_bytes(file.name.encode() * 1000)

    def of(expected):
        Watched.opened.clear()
        found = content.content_of([Watched(file) for file in files], tmp_path / "cache", 1)
        assert "".join(Watched.opened) == expected
        return found

    assert of("ab") == of("ab")  # changed within the last two seconds: nothing is kept
    later = time.time_ns() + 10**11
    monkeypatch.setattr("time.time_ns", lambda: later)
    first = of("ab")
    assert of("") == first
    old = files[1].stat()
    files[1].write_bytes(b"c" * 1000)
    os.utime(files[1], ns=(old.st_atime_ns, old.st_mtime_ns))  # as many bytes, and the old time of modification
    second = of("ab")
    assert second != first and of("") == second
    (kept,) = (path for path in (tmp_path / "cache").iterdir() if second in path.read_text())
    kept.write_text(kept.read_text().replace(second, first))
    assert of("ab") == second  # damaged, so made anew


def test_what_lazy_reading_needs_is_told(tmp_path):
    root = write_folder(tmp_path / "pets")
    for changes in (dict(size=None, crop=False), dict(mean=None, std=None), dict(zca=True)):
        with pytest.raises(ValueError, match="data.lazy needs an image folder .data.path., data.size, data.mean"):
            load(root, **changes)


def test_a_lazy_folder_goes_the_whole_line(line, tmp_path):  # noqa: F811
    write_folder(tmp_path / "pets", side=(40, 50), train=6, test=2)
    folder = ["data=folder", "data.path=pets", "data.size=32", "data.crop=true", "data.lazy=true", "data.val=0.2"]
    student = ["data.mean=[.5,.5,.5]", "data.std=[.2,.2,.2]", "student=[convnet_bn]", "student.convnet_bn.width=8"]
    teachers = ["networks=[convnet_bn]", "recipe.epochs=1", "recipe.lr=0.001", "minimum=0", "recipe.batch=8"]
    asked = [f"{group}.committee.{setting}" for group in ("method", "protocol.labels") for setting in teachers]
    method = ["method=cda", "method.roll=4", "method.iterations=2", "ipc=1", "device=cpu", "compile=false"]
    protocol = ["protocol=sre2l-in", "protocol.recipe.epochs=1", "protocol.students=1", "draws=1"]
    code, _, message = line(*folder, *student, *asked, *method, *protocol)
    assert code == 0, message
    synset = distill.load(tmp_path / "outputs" / "folder-cda-ipc1-seed0")
    assert synset.images.shape == (4, 3, 32, 32) and synset.eight_bit
    rows = json.loads((tmp_path / "outputs" / "report.json").read_text())["rows"]
    assert [row["labels"] for row in rows] == ["stored", "hard"] * 2 + ["kd"]
    assert rows[0]["image_bytes"] == 4 * 3 * 32**2


SRE2L = [
    "method=sre2l", "method.iterations=2", "method.together=1", "method.batch=2", "method.area=0.3", "ipc=2", "seed=3",
    "method.committee.networks=[convnet_bn]", "method.committee.recipe.epochs=1", "method.committee.minimum=0",
    "method.committee.recipe.batch=8", "student=[convnet_bn]", "student.convnet_bn.width=8", "threads=1", "compile=false",
    "data=folder", "data.path=pets", "data.size=32", "data.val=0", "data.mean=[.5,.5,.5]", "data.std=[.2,.2,.2]",
]  # fmt: skip


@pytest.fixture
def both(line, tmp_path):  # noqa: F811
    """The same set recovered from images in memory, at once, and from those that stay in their files, in four shares."""
    write_folder(tmp_path / "pets", side=(40, 40), train=5, test=1)
    for out, lazy in (("memory", "false"), ("files", "true")):
        for task in ("experts", "distill"):
            code, _, message = line(f"task={task}", *SRE2L, f"out={out}", f"data.lazy={lazy}")
            assert code == 0, message
    return [distill.load(tmp_path / out / "folder-sre2l-ipc2-seed3") for out in ("memory", "files")]


def test_a_set_whose_real_images_stay_in_their_files_is_made_share_by_share_and_stays_in_its_own(both, line, tmp_path):  # noqa: F811
    memory, files = both
    assert isinstance(files, StoredSet) and not isinstance(memory, StoredSet)
    assert torch.equal(files.images[:], memory.images) and torch.equal(files.classes, memory.classes)
    assert files.hash == memory.hash and files.record["step"] == memory.record["step"] == 8
    folder = tmp_path / "files" / "folder-sre2l-ipc2-seed3"
    assert not list(folder.glob("share_*")) and not list(folder.glob("snapshots/*"))
    made = (folder / "synset.safetensors").stat().st_mtime_ns
    assert line("task=distill", *SRE2L, "out=files", "data.lazy=true")[0] == 0
    assert (folder / "synset.safetensors").stat().st_mtime_ns == made
    code, _, message = line("task=distill", *SRE2L, "out=files", "data.lazy=true", "method.lr_img=0.5")
    assert code == 1 and "belongs to another configuration: method.lr_img" in message


def test_a_set_that_stays_in_its_file_does_what_one_in_memory_does(both, tmp_path):
    memory, files = both
    index = torch.tensor([[5, 0], [7, -1]])
    assert torch.equal(files.images[index], memory.images[index]) and torch.equal(files[3][0], memory[3][0])
    assert files.image_bytes == memory.image_bytes and files.to(torch.device("cpu")).hash == memory.hash
    assert np.array_equal(np.asarray(files.show()), np.asarray(memory.show())) and files.decoded is files
    one, other = files.subset(1), memory.subset(1)
    assert one.hash == other.hash and torch.equal(one.images, other.images)
    for kind in ("sre2l", "png", "pt", "npz"):
        for synset, out in ((memory, "memory"), (files, "files")):
            synset.export(tmp_path / f"{kind}-{out}", kind)
        exported = [sorted((tmp_path / f"{kind}-{out}").rglob("*.*[gtz]")) for out in ("memory", "files")]
        assert len(exported[0]) == len(exported[1]) > 0
        for a, b in zip(*exported, strict=True):
            assert a.read_bytes() == b.read_bytes(), a
    files.save(tmp_path / "again.safetensors")
    assert distill.load(tmp_path / "again.safetensors").hash == memory.hash
