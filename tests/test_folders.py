"""Folders as people have them: which pictures are read, as which class, in which part."""

import os
import unicodedata

import numpy as np
import pytest
import torch
from PIL import Image

import distill
from distill.data import real as data
from distill.data.folders import tree
from distill.sets.synthetic import SyntheticSet


def put(root, *names):
    """Small pictures, and text files where another suffix says so."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith((".png", ".JPEG")):
            Image.new("RGB", (4, 4), (len(name), 0, 0)).save(root / name)
        else:
            (root / name).write_text("not a picture")
    return root


def named(root, files):
    return [(file.relative_to(root).as_posix(), cls) for file, cls in files]


def load(path, **changes):
    values = dict(
        root=path, path=path, strategy="flip", mean=[0.5] * 3, std=[0.5] * 3, zca=False, val=0, download=False
    )
    return data.load("mine", **{**values, **changes})


def test_a_class_is_a_folder_of_the_first_level_with_pictures_anywhere_below_it(tmp_path):
    put(tmp_path, "train/animals/cat/1.png", "train/animals/0.png", "train/cars/a/b/c/2.png", "test/cars/3.png")
    found = tree(tmp_path)
    assert found.classes == ["animals", "cars"]
    assert named(tmp_path, found.train) == [
        ("train/animals/0.png", 0),
        ("train/animals/cat/1.png", 0),
        ("train/cars/a/b/c/2.png", 1),
    ]
    assert named(tmp_path, found.test) == [("test/cars/3.png", 1)]


def test_what_systems_and_tools_leave_is_passed_over_and_counted(tmp_path):
    put(tmp_path, "train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "test/dog/1.png")
    put(
        tmp_path, "train/cat/Thumbs.db", "train/dog/Thumbs.db", "train/.DS_Store", "test/cat/._1.png", "train/cat/desktop.ini",
        "__MACOSX/train/cat/1.png", ".git/config", "train/.ipynb_checkpoints/1.png", "labels.csv", "train/cat/md5sums",
        "train/loose.png", "notes/1.png", "test/dog/__MACOSX/2.png",
    )  # fmt: skip
    os.mkfifo(tmp_path / "train" / "cat" / "2.png")
    found = tree(tmp_path)
    assert (len(found.train), len(found.test), found.classes) == (2, 2, ["cat", "dog"])
    (note,) = found.notes
    assert note.startswith(f"passed over in {str(tmp_path)!r}: 2 .db, 2 __MACOSX, ") and note.endswith(", ...")
    put(tmp_path, "train/cat/\x1b[31m\x07.png.x\x1b")
    assert all(each.isprintable() for each in tree(tmp_path).notes)
    assert len(load(tmp_path).train) == 2


def test_links_are_followed_and_loops_are_not(tmp_path):
    put(tmp_path, "elsewhere/1.png", "pets/train/cat/0.png", "pets/test/cat/1.png", "pets/test/dog/2.png")
    (tmp_path / "pets/train/dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "pets/train/cat/loop").symlink_to(tmp_path / "pets/train/cat")
    assert named(tmp_path, tree(tmp_path / "pets").train) == [("pets/train/cat/0.png", 0), ("pets/train/dog/1.png", 1)]


def test_imagenets_layout_is_tested_on_val(tmp_path):
    put(
        tmp_path,
        *(f"{part}/n0{k}/{part}_{k}.JPEG" for part in ("train", "val") for k in (1, 2)),
        "test/a.JPEG",
        "test/b.JPEG",
    )
    found = tree(tmp_path)
    assert named(tmp_path, found.test) == [("val/n01/val_1.JPEG", 0), ("val/n02/val_2.JPEG", 1)]
    assert found.notes == ("test/ is passed over: it has no folders of the classes",)
    put(tmp_path, "test/n01/c.JPEG")
    assert named(tmp_path, tree(tmp_path).test) == [("test/n01/c.JPEG", 0)]
    assert "val/ is passed over: data.val says" in tree(tmp_path).notes[0]


@pytest.mark.parametrize("layout", ["", "train/"])
def test_a_test_part_is_cut_from_every_class_and_is_always_the_same(tmp_path, layout):
    names = [
        f"{layout}{cls}/{i}.png" for cls, count in (("a", 10), ("b", 20), ("c", 2), ("d", 1)) for i in range(count)
    ]
    first, second = (tree(put(tmp_path / name, *names)) for name in ("here", "there"))
    assert np.bincount([cls for _, cls in first.test]).tolist() == [2, 4, 1]
    assert np.bincount([cls for _, cls in first.train]).tolist() == [8, 16, 1, 1]
    assert named(tmp_path / "here", first.test) == named(tmp_path / "there", second.test)
    assert {file for file, _ in first.train} | {file for file, _ in first.test} == {
        tmp_path / "here" / n for n in names
    }
    assert first.notes == (
        f"no test part in {str(tmp_path / 'here')!r}: 7 images (20% of every class, always the same) are kept for it",
    )
    more = tree(put(tmp_path / "here", f"{layout}b/20.png"))
    assert len(set(more.test) - set(first.test)) <= 1  # a new image may take the place of one


def test_a_folder_around_the_folder_is_told(tmp_path):
    put(tmp_path, "pets/train/cat/1.png", "pets/train/dog/1.png")
    with pytest.raises(
        FileNotFoundError,
        match="has 1 class folders with pictures, expected at least 2; if the classes are in 'pets', name",
    ):
        tree(tmp_path)
    put(tmp_path, "flat/1.png", "flat/a/1", "flat/b/2")
    told = (
        "flat' has 0 class folders with pictures, expected at least 2 .2 without suffix, 1 pictures in no class folder"
    )
    with pytest.raises(FileNotFoundError, match=told):
        tree(tmp_path / "flat")
    put(tmp_path, "single/a/1.png", "single/b/1.png")
    with pytest.raises(ValueError, match="no test part in .*single', and no class with two images"):
        tree(tmp_path / "single")


def test_a_class_that_cannot_be_printed_is_refused(tmp_path):
    put(tmp_path, "train/cat/1.png", "train/\x1b[2J/1.png")
    with pytest.raises(ValueError, match="has characters that cannot be printed: rename it"):
        tree(tmp_path)


def test_a_class_may_be_called_train(tmp_path):
    put(tmp_path, *(f"{cls}/{i}.png" for cls in ("bus", "train") for i in range(3)))
    assert tree(tmp_path).classes == ["bus", "train"]
    put(tmp_path, "test/bus/1.png")
    with pytest.raises(ValueError, match="has train/, test/ but no class folders in train/"):
        tree(tmp_path)


@pytest.mark.parametrize("train, test", [("NFD", "NFC"), ("NFC", "NFD")])
def test_names_that_look_alike_are_one_class(tmp_path, train, test):
    for part, form in (("train", train), ("test", test)):
        put(tmp_path, f"{part}/{unicodedata.normalize(form, 'épagneul')}/1.png", f"{part}/chat/1.png")
    real = load(tmp_path, classes=[unicodedata.normalize("NFD", "épagneul"), "chat"])
    assert real.train.class_names == (unicodedata.normalize("NFC", "épagneul"), "chat")
    assert sorted(real.test.labels.tolist()) == [0, 1]
    x, y = np.zeros((2, 2, 2, 3), np.uint8), [0, 1]
    names = [unicodedata.normalize("NFD", "épagneul"), "chat"]
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x, y_test=y, class_names=names)
    made = SyntheticSet.of_images(real.train, torch.arange(2)).with_(class_names=tuple(names))
    made.save(tmp_path / "s.safetensors")
    assert (
        load(tmp_path / "a.npz").train.class_names == distill.load(tmp_path / "s").class_names == real.train.class_names
    )


def test_paths_and_names_may_have_any_characters(tmp_path):
    odd = "a b=c,[d]{e}'é\"$#%"
    real = load(put(tmp_path / odd, f"train/{odd}/1.png", "train/x/1.png", f"test/{odd}/1.png", "test/x/1.png"))
    assert odd in real.train.class_names and len(real.test) == 2
    with pytest.raises(FileNotFoundError, match="'.*/no, such=folder' is not there: data.path names"):
        load(tmp_path / "no, such=folder")


@pytest.mark.parametrize("names", [[str(k) for k in range(1, 11)], [f"{k:03d}" for k in range(1, 11)]])
def test_numbers_are_names_where_classes_are_called_by_numbers(tmp_path, names):
    x, y = np.zeros((10, 2, 2, 3), np.uint8), np.arange(10)
    for order in (sorted(names), names[::-1]):
        np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x, y_test=y, class_names=order)
        assert load(tmp_path / "a.npz", classes=[2, 1]).train.class_names == (names[1], names[0])
        with pytest.raises(ValueError, match="unknown class 0.*: one of "):
            load(tmp_path / "a.npz", classes=[0, 1])


def test_a_class_asked_for_twice_is_refused_and_an_unknown_one_is_told_its_neighbours(tmp_path):
    x, y = np.zeros((1000, 2, 2, 3), np.uint8), np.arange(1000)
    names = [f"class {k}" for k in range(1000)]
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x, y_test=y, class_names=names)
    with pytest.raises(ValueError, match="data.classes is class 1, class 2, class 1, expected"):
        load(tmp_path / "a.npz", classes=["class 1", "class 2", "class 1"])
    with pytest.raises(ValueError, match="unknown class 'clas 77', near it are 'class 77'") as told:
        load(tmp_path / "a.npz", classes=["class 1", "clas 77"])
    assert len(str(told.value)) < 300


def test_classes_without_test_images_are_told_and_those_without_training_images_refused(tmp_path):
    x = np.zeros((4, 2, 2, 3), np.uint8)
    arrays = dict(x_train=x, y_train=[0, 1, 2, 0], x_test=x, y_test=[0, 1, 1, 0], class_names=["a", "b", "c"])
    np.savez(tmp_path / "a.npz", **arrays)
    put(
        tmp_path / "pets",
        "train/a/1.png",
        "train/b/1.png",
        "train/c/1.png",
        "test/a/1.png",
        "test/b/1.png",
        "test/c/x.txt",
    )
    for path in (tmp_path / "a.npz", tmp_path / "pets"):
        for lazy in (False, True)[: 2 if path.is_dir() else 1]:
            real = load(path, lazy=lazy, size=2)
            assert real.notes[-1] == "no test images of c: accuracy is that on the other classes"
    np.savez(tmp_path / "b.npz", **{**arrays, "y_train": [0, 1, 1, 0]})
    (tmp_path / "pets/train/c/1.png").unlink()
    for path in (tmp_path / "b.npz", tmp_path / "pets"):
        with pytest.raises(ValueError, match="class 'c' has 0 training images: every class needs one"):
            load(path)
        assert len(load(path, classes=["a", "b"]).train)
    names = ("train/a/1.png", "train/b/1.png", "train/c/1.png", "test/b/1.png")
    with pytest.raises(ValueError, match="there are no test images of a, c: students are judged on some"):
        load(put(tmp_path / "few", *names), classes=["a", "c"])


def test_every_file_of_a_lazy_folder_is_opened_before_anything_is_trained(tmp_path):
    put(tmp_path, *(f"{part}/{cls}/{i}.png" for part in ("train", "test") for cls in "ab" for i in range(3)))
    (tmp_path / "test/b/2.png").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "test/b/3.png").symlink_to(tmp_path / "pipe")
    with pytest.raises(ValueError, match="test/b/2.png' is not an image that can be read .it is empty"):
        load(tmp_path, lazy=True, size=4)


def test_names_in_bytes_are_text_and_an_empty_test_part_is_told(tmp_path):
    x, y = np.zeros((2, 2, 2, 3), np.uint8), np.arange(2)
    arrays = dict(x_train=x, y_train=y, x_test=x, y_test=y, class_names=np.array([b"chat", "épagneul".encode()]))
    np.savez(tmp_path / "a.npz", **arrays)
    assert load(tmp_path / "a.npz").train.class_names == ("chat", "épagneul")
    np.savez(tmp_path / "b.npz", **{**arrays, "x_test": x[:0], "y_test": y[:0]})
    with pytest.raises(ValueError, match=r"x_test is empty, \(0, 2, 2, 3\): expected at least one image"):
        load(tmp_path / "b.npz")
    np.savez(tmp_path / "d.npz", **{**arrays, "class_names": "ab"})
    with pytest.raises(ValueError, match=r"class_names are \(\), expected one for each class"):
        load(tmp_path / "d.npz")
    np.savez(tmp_path / "c.npz", **{**arrays, "class_names": ["cat", "cat"]})
    with pytest.raises(ValueError, match="two classes are called 'cat'"):
        load(tmp_path / "c.npz")


def test_ipc_above_a_class_says_what_validation_took(tmp_path):
    x, y = np.zeros((20, 2, 2, 3), np.uint8), np.arange(20) % 2
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x, y_test=y, class_names=["a", "b"])
    with pytest.raises(
        ValueError, match=r"class 'a' has 8 training images \(2 more are for validation: data.val=0 keeps them\)"
    ):
        load(tmp_path / "a.npz", val=0.2).train.check_counts((9, 1))
    with pytest.raises(ValueError, match="class 'a' has 10 training images; ipc=upto11 takes what there is$"):
        load(tmp_path / "a.npz").train.check_counts((11, 11))
