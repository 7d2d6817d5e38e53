import numpy as np
import pytest
import torch
from conftest import load_npz, write_npz
from PIL import Image

from distill.data import preprocessing
from distill.data import real as data
from distill.data.preprocessing import Preprocessing
from distill.progress import heard_by


def test_digits_come_in_one_fixed_stratified_split(tmp_path):
    real = data.load(
        "digits", root=tmp_path, strategy="crop", mean=[0.3056], std=[0.3769], zca=False, val=0.1, download=False
    )
    assert (len(real.train), len(real.val), len(real.test)) == (1293, 144, 360)
    assert real.train.shape == (1, 8, 8) and real.train.class_names == tuple("0123456789")
    assert abs(float(real.train.images.mean())) < 0.02 and float(real.train.images.std()) == pytest.approx(1, abs=0.02)
    for split in (real.train, real.val, real.test):
        shares = torch.bincount(split.labels).float() / len(split)
        assert (shares - 0.1).abs().max() < 0.01


def test_val_is_cut_from_train_and_shares_no_image_with_it(npz):
    whole, cut = load_npz(npz, val=0.0), load_npz(npz, val=0.2)
    assert len(cut.train) + len(cut.val) == len(whole.train) == 60 and len(whole.val) == 0
    pixels = [
        tuple(x.flatten().tolist())
        for part in (cut.train, cut.val)
        for x in part.preprocessing.inverse(part.images).mul(255).round()
    ]
    assert len(set(pixels)) == 60
    assert torch.bincount(cut.val.labels).tolist() == [4, 4, 4]


def test_a_subset_of_classes_is_renumbered_in_the_order_asked_and_keeps_the_constants_of_the_whole(npz):
    whole, part = load_npz(npz), load_npz(npz, classes=["c2", 0])
    assert part.train.class_names == ("c2", "c0") and set(part.train.labels.tolist()) == {0, 1}
    assert part.train.preprocessing.fingerprint == whole.train.preprocessing.fingerprint
    assert torch.equal(part.test.images[part.test.labels == 0], whole.test.images[whole.test.labels == 2])


def test_the_fingerprint_changes_with_images_split_classes_and_preprocessing(tmp_path):
    path = write_npz(tmp_path / "a.npz")
    prints = {
        load_npz(path, **kw).fingerprint
        for kw in ({}, {"val": 0.1}, {"classes": [0, 1]}, {"zca": True}, {"mean": [0.5] * 3, "std": [1.0] * 3})
    }
    prints.add(load_npz(write_npz(tmp_path / "b.npz", per_class=21)).fingerprint)
    assert len(prints) == 6
    assert load_npz(path).fingerprint == load_npz(path).fingerprint


def test_zca_equals_kornia_and_whitens_to_lambda_over_lambda_plus_eps():
    from kornia.enhance import ZCAWhitening

    torch.manual_seed(0)
    pixels = torch.rand(400, 3, 4, 4) @ torch.rand(4, 4) / 2  # correlated columns
    ours = preprocessing.fit_zca(pixels)
    kornia = ZCAWhitening(eps=0.1, unbiased=True).fit(pixels)
    assert torch.allclose(ours(pixels), kornia(pixels), atol=1e-4)
    values = torch.linalg.eigvalsh(torch.cov(pixels.flatten(1).T.double()))
    whitened = torch.linalg.eigvalsh(torch.cov(ours(pixels).flatten(1).T.double()))
    assert torch.allclose(whitened, values / (values + 0.1), atol=1e-5)
    assert torch.allclose(ours.inverse(ours(pixels)), pixels, atol=1e-4)


def test_zca_is_fit_on_train_computed_once_and_read_back(npz):
    told = []
    with heard_by(lambda *stage: told.append(stage)):
        real = load_npz(npz, zca=True)
        assert told == [("fitting ZCA", done, 1) for done in (0, 1)]
        assert load_npz(npz, zca=True).fingerprint == real.fingerprint and len(told) == 2
    again_pixels = load_npz(npz, mean=[0.0] * 3, std=[1.0] * 3)
    expected = preprocessing.fit_zca(again_pixels.train.images)
    assert torch.allclose(real.test.images, expected(again_pixels.test.images), atol=1e-5)


def test_normalisation_inverts(real):
    assert torch.allclose(
        real.train.preprocessing.inverse(real.train.images) * 255,
        (real.train.preprocessing.inverse(real.train.images) * 255).round(),
        atol=1e-3,
    )


def test_a_named_set_is_read_from_its_npz(tmp_path):
    write_npz(tmp_path / "cifar10.npz")
    real = data.load("cifar10", root=tmp_path, strategy="flip", mean=None, std=None, zca=False, val=0.0, download=False)
    assert len(real.train) == 60 and real.train.class_names == ("c0", "c1", "c2")


@pytest.mark.parametrize(
    "name, reader, stored, on",
    [
        ("mnist", "MNIST", torch.zeros(20, 28, 28, dtype=torch.uint8), "train"),
        ("fashion_mnist", "FashionMNIST", torch.zeros(20, 28, 28, dtype=torch.uint8), "train"),
        ("svhn", "SVHN", np.zeros((20, 3, 32, 32), np.uint8), "split"),
        ("cifar10", "CIFAR10", np.zeros((20, 32, 32, 3), np.uint8), "train"),
        ("cifar100", "CIFAR100", np.zeros((20, 32, 32, 3), np.uint8), "train"),
    ],
)
def test_torchvision_sets_become_nhwc_arrays_in_their_own_order(tmp_path, monkeypatch, name, reader, stored, on):
    from torchvision import datasets

    labels = [i % 10 for i in range(20)]

    class ByTrain:
        def __init__(self, root, train=True, download=False):
            self.data, self.targets, self.classes = stored, labels, [f"n{k}" for k in range(10)]

    class BySplit:
        def __init__(self, root, split="train", download=False):
            self.data, self.labels = stored, np.array(labels)

    monkeypatch.setattr(datasets, reader, ByTrain if on == "train" else BySplit)
    settings = dict(strategy="crop", mean=None, std=None, zca=False, val=0.0, download=False)
    real = data.load(name, root=tmp_path, **settings)
    side, channels = (28, 1) if "mnist" in name else (32, 3)
    assert real.train.shape == (channels, side, side)
    assert real.train.labels.tolist() == labels
    assert real.train.class_names == tuple(f"{'n' if on == 'train' else ''}{k}" for k in range(10))


def folder_of(root, sizes=((8, 8),) * 4):
    for part in ("train", "test"):
        for cls in ("cat", "dog"):
            (root / part / cls).mkdir(parents=True)
            for i, size in enumerate(sizes):
                Image.new("RGB", size, (40 * i, 10, 10)).save(root / part / cls / f"{i}.png")
    return root


def test_an_image_folder_is_read_and_resized(tmp_path):
    root = folder_of(tmp_path / "pets", sizes=((8, 8), (9, 12)))
    settings = dict(root=tmp_path, path=root, strategy="flip", mean=None, std=None, zca=False, val=0.0, download=False)
    with pytest.raises(ValueError, match="is 9x12, the first image 8x8: .*data.size=SIDE"):
        data.load("folder", **settings)
    real = data.load("folder", size=16, **settings)
    assert real.train.images.shape == (4, 3, 16, 16) and real.train.class_names == ("cat", "dog")


def test_tiny_imagenet_is_read_as_it_unpacks(tmp_path):
    root = tmp_path / "tiny-imagenet-200"
    for wnid in ("n1", "n2"):
        (root / "train" / wnid / "images").mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (64, 64)).save(root / "train" / wnid / "images" / f"{i}.JPEG")
    (root / "train" / "n1" / "images" / "Thumbs.db").touch()
    (root / "train" / ".DS_Store").touch()
    (root / "val" / "images").mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(root / "val" / "images" / "val_0.JPEG")
    (root / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn2\t0\t0\t1\t1\n")
    (root / "words.txt").write_text("n1\tgoldfish, Carassius auratus\nn2\tfire salamander\n")
    real = data.load(
        "tiny_imagenet",
        root=tmp_path,
        strategy="flip",
        mean=[0.5] * 3,
        std=[0.2] * 3,
        zca=False,
        val=0.0,
        download=False,
    )
    assert real.train.class_names == ("goldfish", "fire salamander") and real.test.labels.tolist() == [1]


X = np.zeros((6, 8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(x_train=np.full((60, 8, 8, 3), np.nan)), "NaN pixels"),
        (dict(x_train=X.astype(np.float32), y_train=np.zeros(6, int)), "is float32 .* expected uint8"),
        (dict(y_train=np.full(60, 3)), "y_train spans 3 to 3, expected 0 to 2"),
        (dict(y_train=np.full(60, -1)), "y_train spans -1"),
        (dict(y_train=np.zeros(60, int)), "1 class in the training set, expected at least 2"),
        (dict(y_train=np.zeros(5, int)), "expected 60 integers"),
        (dict(x_test=np.zeros((30, 9, 9, 3), np.uint8)), "expected one size"),
        (dict(x_train=np.array([np.zeros((8, 8, 3)), np.zeros((9, 9, 3))], dtype=object)), "images of one size"),
    ],
)
def test_unusable_arrays_are_refused_by_name(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        load_npz(write_npz(tmp_path / "bad.npz", **changes))


def test_damaged_and_incomplete_files_are_refused(tmp_path):
    path = write_npz(tmp_path / "toy.npz")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="cannot read"):
        load_npz(path)
    np.savez(tmp_path / "part.npz", x_train=X)
    with pytest.raises(ValueError, match="y_train is missing"):
        load_npz(tmp_path / "part.npz")
    with pytest.raises(FileNotFoundError, match="no file"):
        load_npz(tmp_path / "none.npz")


def test_missing_sets_say_where_they_were_sought_and_what_to_put_there(tmp_path):
    for name in ("cifar10", "mnist", "svhn", "tiny_imagenet"):
        with pytest.raises(FileNotFoundError, match=rf"no {name} under .*{name}.npz"):
            data.load(name, root=tmp_path, strategy="flip", mean=None, std=None, zca=False, val=0.0, download=False)
    with pytest.raises(ValueError, match="unknown data set 'cifar11': one of digits, mnist"):
        data.load("cifar11", root=tmp_path, strategy="flip", mean=None, std=None, zca=False, val=0.0, download=False)


def test_bad_splits_and_classes_are_refused(npz):
    with pytest.raises(ValueError, match=r"data.val is 1.5, expected a number in \[0, 1\)"):
        load_npz(npz, val=1.5)
    with pytest.raises(ValueError, match="unknown class 'dog': one of c0, c1, c2"):
        load_npz(npz, classes=["dog", 1])
    with pytest.raises(ValueError, match="data.classes is 1, expected two different classes"):
        load_npz(npz, classes=[1])


def test_drawn_images_are_different_and_of_their_class(real):
    g = torch.Generator().manual_seed(0)
    index = real.train.draw(1, 10, g)
    assert len(index.unique()) == 10 and (real.train.labels[index] == 1).all()


def test_spaces_need_their_constants():
    with pytest.raises(ValueError, match="unknown space 'x'"):
        Preprocessing("x")
    with pytest.raises(ValueError, match=r"expected \['matrix', 'mean'\]"):
        Preprocessing("zca", {"mean": torch.zeros(2)})


def test_constants_are_one_for_each_channel(npz):
    for mean, std, said in (
        ([0.5], [0.2], "data.mean and data.std have 1 values, toy has 3 channels: give one for each"),
        ([0.5] * 3, None, "give one of each for every channel, or null for both"),
        ([0.5] * 3, [0.2] * 2, "give one of each for every channel"),
        ([1, 2, 3], [1, 1, 1], r"data.mean is \[1, 2, 3\], expected null or a list, each item a number in \[0, 1\]"),
    ):
        with pytest.raises(ValueError, match=said):
            load_npz(npz, mean=mean, std=std)
