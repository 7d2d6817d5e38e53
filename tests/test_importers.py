"""Other projects' files: each fact is read, stated or refused, nothing is run, and what contradicts the numbers is told."""

import doctest
import re
from importlib import import_module
from pathlib import Path

import foreign
import numpy as np
import pytest
import torch

import distill as dd
from distill.cli.main import main
from distill.data.preprocessing import Preprocessing, fit_constants, fit_kip, fit_zca
from distill.presets import options
from distill.runs.checks import check_values, plain
from distill.runs.composed import compose
from distill.runs.importing import importer, kind_of
from distill.sets.formation import decoded
from distill.sets.importers.base import Words
from distill.sets.importers.evidence import check_order, check_seams, check_space, seam, tiled
from distill.sets.importers.safe import read_npz, read_torch


def imported(path, kind, **words):
    return dd.load(path, kind=kind, data="digits", **words)


def facts(synset):
    return {name: (fact["value"], fact["how"]) for name, fact in synset.record["imported"]["facts"].items()}


# --- files are read safely -----------------------------------------------------------------------------------------------


def test_a_pickle_that_asks_for_code_is_refused_and_nothing_is_run(tmp_path):
    mark = tmp_path / "ran"
    torch.save([torch.zeros(1), foreign.Evil(f"touch {mark}")], tmp_path / "evil.pt")
    torch.save(
        [torch.zeros(1), foreign.Evil(f"touch {mark}")], tmp_path / "old.pt", _use_new_zipfile_serialization=False
    )
    for name in ("evil.pt", "old.pt"):
        with pytest.raises(ValueError, match=r"nothing of it was run: where you trust it") as told:
            read_torch(tmp_path / name)
        assert "\n" not in str(told.value) and str(tmp_path / name) in str(told.value)
    with pytest.raises(ValueError, match=r"asks for (posix|os)\.system"):
        read_torch(tmp_path / "evil.pt")
    np.savez(tmp_path / "evil.npz", images=np.array([foreign.Evil(f"touch {mark}")], dtype=object))
    with pytest.raises(ValueError, match="no .npz of numbers"):
        read_npz(tmp_path / "evil.npz")
    assert not mark.exists()


@pytest.mark.parametrize("new", [b"numpy._core.multiarray", b"numpy.core.multiarray"])
def test_numbers_of_numpy_are_read_in_both_spellings_and_stay_refused_elsewhere(tmp_path, new):
    torch.save({"accuracy": np.float64(0.25), "box": [np.int64(7), None]}, tmp_path / "numbers.pt")
    path = foreign.respelt(tmp_path / "numbers.pt", new=new)
    assert read_torch(path) == {"accuracy": 0.25, "box": [7, None]}
    with pytest.raises(Exception, match="Weights only load failed"):  # nothing was registered for the whole process
        torch.load(path, weights_only=True)
    torch.save({"array": np.zeros(2)}, tmp_path / "array.pt")
    with pytest.raises(ValueError, match="asks for numpy._core.multiarray._reconstruct"):
        read_torch(tmp_path / "array.pt")


def test_what_is_damaged_or_missing_is_told_in_one_line(tmp_path):
    torch.save(torch.zeros(100), tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.pt").write_text("no tensor")
    (tmp_path / "cut.npz").write_bytes(whole[:200])
    for name, read in (("cut.pt", read_torch), ("text.pt", read_torch), ("cut.npz", read_npz)):
        with pytest.raises(ValueError) as told:
            read(tmp_path / name)
        assert "\n" not in str(told.value) and name in str(told.value)
    with pytest.raises(FileNotFoundError, match="no file"):
        read_torch(tmp_path / "none.pt")


def test_a_set_of_torch_save_is_told_its_way_in(tmp_path):
    path = foreign.write_pair(tmp_path, foreign.learned())
    with pytest.raises(ValueError, match=r"is a file of torch.save.*import kind=\.\.\. data="):
        dd.load(path)


# --- each project's files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zca", [False, True])
def test_mtts_pair_is_read_whitened_or_normalised(tmp_path, zca):
    synset = foreign.learned(zca)
    foreign.write_pair(tmp_path, synset)
    again = imported(tmp_path, "mtt", zca=zca, lr=0.02)
    assert torch.equal(again.images, synset.images) and torch.equal(again.labels, synset.labels)
    assert again.preprocessing.fingerprint == synset.preprocessing.fingerprint
    assert float(again.lr) == pytest.approx(0.02) and again.record["picked_on"] == "test"
    known = facts(again)
    assert known["space"] == ("zca" if zca else "normalised", "stated") and known["rate"] == (0.02, "stated")
    assert {how for _, how in known.values()} == {"read", "stated"}
    assert sorted(again.record["imported"]["files"]) == ["images_best.pt", "labels_best.pt"]


def test_what_mtts_files_do_not_say_must_be_stated(tmp_path):
    foreign.write_pair(tmp_path, foreign.learned())
    with pytest.raises(ValueError, match="space .* is in no file of mtt's: state zca=true"):
        imported(tmp_path, "mtt", lr=0.02)
    with pytest.raises(ValueError, match="the rate .* is in no file: state lr=NUMBER"):
        imported(tmp_path, "mtt", zca=False)
    assert imported(tmp_path, "mtt", zca=False, lr="none").lr is None
    foreign.write_pair(tmp_path / "two", foreign.learned(), "100")
    foreign.write_pair(tmp_path / "two", foreign.learned(), "200")
    with pytest.raises(ValueError, match="images_100.pt, images_200.pt: name one with images=PATH"):
        imported(tmp_path / "two", "mtt", zca=False, lr=0.02)
    one = imported(None, "mtt", images=str(tmp_path / "two" / "images_100.pt"), zca=False, lr=0.02)
    assert one.record["picked_on"] == "last"


def test_an_unwhitened_copy_is_no_whitened_set(tmp_path):
    synset = foreign.learned(zca=True)
    foreign.write_pair(tmp_path, synset, "100")
    torch.save(synset.preprocessing.inverse(synset.images), tmp_path / "images_zca_100.pt")
    assert torch.equal(imported(tmp_path, "mtt", zca=True, lr=0.1).images, synset.images)  # the other is passed over
    with pytest.raises(ValueError, match="space is zca as stated, but pixel01 by images_zca_100.pt"):
        imported(tmp_path / "images_zca_100.pt", "mtt", zca=True, lr=0.1)


def test_datm_keeps_its_logits_and_its_rate(tmp_path):
    synset = foreign.learned(zca=True)
    path = foreign.write_datm(tmp_path, synset)
    again = imported(path, "datm", zca=True)
    assert again.label_kind == "logits" and float(again.lr) == pytest.approx(0.03)
    assert not again.labels.requires_grad and torch.equal(
        again.labels, torch.load(tmp_path / "labels_best.pt", weights_only=True)
    )
    assert facts(again)["rate"][1] == "read"


def test_dcs_five_entries_are_five_syntheses(tmp_path):
    synsets = [foreign.learned(seed=i) for i in range(5)]
    foreign.write_result(tmp_path / "res_DM_DIGITS_ConvNet_2ipc.pt", synsets)
    again = imported(tmp_path / "res_DM_DIGITS_ConvNet_2ipc.pt", "dm")
    assert [torch.equal(a.images, b.images) for a, b in zip(again, synsets, strict=True)] == [True] * 5
    assert len({each.hash for each in again}) == 5 and again[0].lr is None
    with pytest.raises(ValueError, match="is DM's by its name, kind says DSA"):
        imported(tmp_path / "res_DM_DIGITS_ConvNet_2ipc.pt", "dsa")
    foreign.write_result(tmp_path / "res_DM_DIGITS_ConvNet_10ipc.pt", synsets, numpy=False)
    with pytest.raises(ValueError, match="each class has 2 images, ipc is 10 by the file's name"):
        imported(tmp_path / "res_DM_DIGITS_ConvNet_10ipc.pt", "dm")
    foreign.write_result(tmp_path / "res_DM_MNIST_ConvNet_2ipc.pt", synsets)
    with pytest.raises(ValueError, match="is of MNIST by its name, data is digits"):
        imported(tmp_path / "res_DM_MNIST_ConvNet_2ipc.pt", "dm")


def test_cells_come_out_in_order_with_their_labels():
    image = torch.arange(4.0).view(1, 1, 2, 2).repeat_interleave(4, 2).repeat_interleave(4, 3)
    cells = decoded(torch.cat([image, image + 10]), [2])
    assert cells.flatten(1)[:, 0].tolist() == [0, 10, 1, 11, 2, 12, 3, 13]
    assert bool((cells == cells[:, :, :1, :1]).all())  # a constant cell stays constant
    assert torch.equal(decoded(image, [1, 2]), torch.cat([image, decoded(image, [2])]))
    odd = decoded(torch.zeros(1, 1, 7, 7), [2])
    assert odd.shape == (4, 1, 7, 7) and float(odd[3, 0, -1, -1]) == 0.5 and not odd[0].any()


@pytest.mark.parametrize("kind, folder", [("idc", "conv3in_factor2_cut_ipc2"), ("ncfm", "distilled_data")])
def test_tiles_are_decoded_by_the_folders_name_or_as_stated(tmp_path, kind, folder):
    own = tmp_path / folder
    own.mkdir()
    pixels = foreign.learned().pixels
    torch.save([pixels, foreign.learned().labels], own / "data.pt")
    if kind == "ncfm":
        with pytest.raises(ValueError, match="factor is neither in the folder's name nor stated"):
            imported(own, kind)
    said = {} if kind == "idc" else {"factor": 2, "decode": "single"}
    again = imported(own, kind, ipc=2, **said)
    assert (
        again.counts == (2,) * 10
        and again.factors == (2,)
        and facts(again)["decoding"] == ("single, factor 2", "stated" if said else "read")
    )
    real = foreign.digits().train.preprocessing
    first = decoded(pixels, [2])[foreign.learned().labels.repeat(4) == 0]
    assert again.decoded.counts == (8,) * 10 and torch.allclose(again.decoded.images[:8], real(first), atol=1e-5)
    with pytest.raises(ValueError, match="takes no lr"):
        imported(own, kind, lr=0.1)


FOLDERS = {
    "sre2l": ("new{:03d}", "class{:03d}_id{:03d}.jpg"),
    "cvdd": ("new{:03d}", "class{:03d}_id{:03d}.jpg"),
    "fadrm": ("new{:03d}", "class{:03d}_id{:03d}.png"),
    "rded": ("{:05d}", "class{:05d}_id{:05d}.jpg"),
    "edc": ("new{:03d}", "class{:03d}_id{:03d}.png"),
    "d4m": ("{}", "{0}-image{1}{1}.png"),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_folders_of_pictures_are_of_the_class_that_their_number_says(tmp_path, kind):
    foreign.write_folder(tmp_path, *FOLDERS[kind])
    words = {"factor": 1} if kind in ("rded", "edc") else {}
    again = imported(tmp_path, kind, **words)
    real = foreign.digits().train
    expected = torch.cat([real.images[real.of_class(cls)[:2]] for cls in range(10)])
    assert again.eight_bit and again.counts == (2,) * 10
    far = (again.pixels - real.preprocessing.inverse(expected)).abs().mean()
    assert far < (0.01 if FOLDERS[kind][1].endswith("png") else 0.05)  # JPEG loses something, and nothing more is lost


def test_numbers_without_zeros_are_numbers(tmp_path):
    from distill.sets.importers.base import Words

    root = tmp_path / "d4m"
    for cls in range(12):
        (root / str(cls)).mkdir(parents=True)
        foreign.save_image(torch.full((1, 8, 8), cls / 20), root / str(cls) / f"{cls}-image00.png")
    (found,) = kind_of("d4m").read(Words(path=str(root)))
    assert found.labels.tolist() == list(range(12))
    assert found.images[:, 0, 0, 0].tolist() == pytest.approx([255 * cls / 20 for cls in range(12)], abs=1)


def test_folders_that_lack_something_are_refused(tmp_path):
    root = foreign.write_folder(tmp_path / "a", *FOLDERS["sre2l"])
    (root / "new003" / "class003_id001.jpg").unlink()
    with pytest.raises(ValueError, match="class '3' has 1 images, others up to 2: a file may be missing; uneven=true"):
        imported(root, "sre2l")
    assert imported(root, "sre2l", uneven=True).counts[3] == 1
    (root / "new003" / "class003_id000.jpg").unlink()
    with pytest.raises(ValueError, match="no images of 3: expected all classes"):
        imported(root, "sre2l")
    (root / "new009").rename(root / "new0009")
    with pytest.raises(ValueError, match=r"numbers of \[3, 4\] digits, expected one width"):
        imported(root, "sre2l")
    with pytest.raises(ValueError, match="has the folder 'new000', expected names like"):
        imported(root, "rded", factor=1)
    wrong = foreign.write_folder(tmp_path / "b", "new{:03d}", "class000_id{1:03d}.jpg")
    with pytest.raises(ValueError, match="is no picture of class 1"):
        imported(wrong, "sre2l")


def test_the_release_of_dc_bench_is_a_tree(tmp_path):
    synset = foreign.learned()
    folder = tmp_path / "DM" / "digits" / "IPC2"
    folder.mkdir(parents=True)
    foreign.write_result(folder / "res_DM_digits_ConvNet_2ipc.pt", [foreign.learned(seed=1), synset])
    assert torch.equal(imported(folder, "dcbench").images, synset.images)  # the last
    folder = tmp_path / "TM" / "digits" / "IPC2"
    half = len(synset) // 2
    folder.mkdir(parents=True)
    for i, part in enumerate((slice(0, half), slice(half, None))):
        torch.save(synset.images[part], folder / f"images_best_{i}.pt")
        torch.save(synset.labels[part].float(), folder / f"labels_best_{i}.pt")
    assert torch.equal(imported(folder, "dcbench").images, synset.images)


def test_lgms_dictionary_is_pixels(tmp_path):
    synset = foreign.learned()
    torch.save({"images": synset.pixels, "labels": synset.labels}, tmp_path / "data.pth")
    again = imported(tmp_path / "data.pth", "lgm")
    assert torch.allclose(again.pixels, synset.pixels, atol=1e-6)


def test_kips_images_are_of_its_own_whitening_and_students_see_theirs_in_it(tmp_path):
    real = foreign.digits().train
    pixels = real.preprocessing.inverse(real.images)
    kip = fit_kip(pixels)
    white = kip(pixels).flatten(1).double()
    moment = white.T @ white / len(white)
    values = torch.linalg.eigvalsh(moment)
    assert float(values.max()) < 1 and float(moment.diagonal().mean()) > 0.3  # l / (l + 0.1 mean l)
    brighter = (0.5 * pixels + 0.2).clamp(0, 1)
    assert torch.allclose(kip(brighter), kip(pixels), atol=1e-3)  # an image's own mean and contrast are no matter
    again = kip.inverse(kip(pixels))
    assert torch.allclose(kip(again), kip(pixels), atol=1e-3)
    index = torch.cat([real.of_class(cls)[:2] for cls in range(10)])
    labels = torch.eye(10)[real.labels[index]] - 0.1
    arrays = {"images": kip(pixels[index]).permute(0, 2, 3, 1).numpy(), "labels": labels.numpy()}
    np.savez(tmp_path / "kip.npz", **arrays)
    synset = imported(tmp_path / "kip.npz", "kip")
    assert torch.allclose(synset.images, kip(pixels[index]), atol=1e-4) and synset.counts == (2,) * 10
    synset.save(tmp_path / "out.safetensors")
    judged = dd.load_data("digits", val=0, like=dd.load(tmp_path / "out.safetensors"))
    assert torch.allclose(judged.train.images[index], synset.images, atol=1e-4)
    with pytest.raises(ValueError, match="space is zca as stated, but kip by the format of kip"):
        imported(tmp_path / "kip.npz", "kip", zca=True)


# --- mistakes are noticed ------------------------------------------------------------------------------------------------


def test_a_space_is_told_by_deviations_of_the_users_own_images(tmp_path):
    foreign.write_pair(tmp_path / "white", foreign.learned(zca=True))
    with pytest.raises(ValueError, match="looks like zca .* but space is normalised .stated.: state space=zca"):
        imported(tmp_path / "white", "mtt", zca=False, lr=0.1)
    foreign.write_pair(tmp_path / "plain", foreign.learned())
    with pytest.raises(ValueError, match="looks like normalised .* but space is zca"):
        imported(tmp_path / "plain", "mtt", zca=True, lr=0.1)
    pixels = foreign.learned().with_(images=foreign.learned().pixels)
    foreign.write_pair(tmp_path / "pixels", pixels)
    with pytest.raises(ValueError, match="looks like pixel01"):
        imported(tmp_path / "pixels", "mtt", zca=False, lr=0.1)
    assert torch.allclose(
        imported(tmp_path / "pixels", "mtt", space="pixel01", lr=0.1).pixels, pixels.images, atol=1e-6
    )


def photographs(count=64, side=32):
    """Smooth colours, as photographs have them."""
    g = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, side + 24, side + 24, generator=g)
    for _ in range(3):
        images = torch.nn.functional.avg_pool2d(images, 9, 1)
    return (0.5 + 10 * (images - images.mean())).clamp(0, 1)


def test_a_wider_set_still_fits_its_space():
    pixels = photographs(side=16)
    spaces = {"pixel01": Preprocessing("pixel01"), "normalised": fit_constants(pixels), "zca": fit_zca(pixels)}
    for name in ("normalised", "zca"):
        assert "fits" in check_space(1.5 * spaces[name](pixels), name, "stated", pixels, spaces)
    with pytest.raises(ValueError, match="looks like"):
        check_space(spaces["normalised"](pixels), "zca", "stated", pixels, spaces)


def test_seams_tell_tiles_from_whole_images():
    whole, tiles = photographs(), tiled(photographs(), 2)
    assert seam(whole, 2) < 1.5 < 2 * seam(whole, 2) < seam(tiles, 2)
    assert "fits" in check_seams(tiles, 2, whole) and "fits" in check_seams(whole, 1, whole)
    with pytest.raises(ValueError, match="but factor is 1: state factor=2"):
        check_seams(tiles, 1, whole)
    with pytest.raises(ValueError, match="but factor is 2: state factor=1"):
        check_seams(whole, 2, whole)
    black = torch.nn.functional.pad(photographs(side=16), (8, 8, 8, 8))
    assert "cannot tell" in check_seams(tiled(black, 2), 2, black)  # borders of digits are all black


def test_a_better_order_of_classes_is_named():
    classes = torch.arange(4).repeat_interleave(5)
    turned, same = torch.tensor([1, 2, 3, 0]), torch.arange(4)
    assert "100%" in check_order(classes, classes, same, tuple("abcd"))
    with pytest.raises(ValueError, match=r"state class_order=\[b,c,d,a\]"):
        check_order(turned[classes], classes, same, tuple("abcd"))
    with pytest.raises(ValueError, match=r"state class_order=\[a,b,c,d\]"):  # what was stated, turned, is undone
        check_order(torch.arange(4).repeat_interleave(5), turned[classes], turned, tuple("abcd"))
    assert "cannot tell" in check_order(torch.zeros(20, dtype=torch.long), classes, same, tuple("abcd"))


def test_classes_in_another_order_are_put_into_ours_and_a_classifier_finds_them(tmp_path, monkeypatch):
    monkeypatch.setattr("distill.runs.importing.LEARNED", 600)
    synset = foreign.learned(ipc=10)
    names = list(synset.class_names)
    turned = names[1:] + names[:1]
    theirs = torch.tensor([turned.index(names[cls]) for cls in synset.labels])
    foreign.write_pair(tmp_path, synset, labels=theirs)
    said = dict(zca=False, lr=0.1)
    again = imported(tmp_path, "mtt", class_order=turned, **said)
    assert torch.equal(again.images, synset.images) and torch.equal(again.labels, synset.labels)
    with pytest.raises(ValueError, match=r"state class_order=\[1,2,3,4,5,6,7,8,9,0\]"):
        imported(tmp_path, "mtt", classifier=True, **said)
    with pytest.raises(ValueError, match="class_order names other classes than digits has"):
        imported(tmp_path, "mtt", class_order=["cat", *turned[1:]], **said)
    foreign.write_datm(tmp_path / "soft", synset)
    soft = imported(tmp_path / "soft", "datm", zca=False, class_order=turned)
    assert torch.equal(soft.labels.argmax(1), soft.classes) and soft.classes[:10].tolist() == [0] * 10


SOFT = torch.eye(10).repeat_interleave(2, 0)
WRONG = {
    "labels of another ipc": (dict(labels=torch.arange(10).repeat_interleave(3)), "20 images and 30 labels"),
    "other classes": (dict(labels=torch.arange(20)), "labels span 0 to 19, the data have 10 classes"),
    "other columns": (dict(labels=torch.rand(20, 7)), "soft labels have 7 columns, the data 10 classes"),
    "never learned": (dict(labels=torch.ones(20, 10)), "never learned"),
    "of other images": (dict(labels=SOFT.roll(6, 0)), "0% of the soft labels are largest at their class"),
    "a fraction": (dict(labels=torch.full((20,), 0.5)), r"expected classes \(N,\) or soft labels"),
    "a missing class": (dict(labels=torch.arange(9).repeat_interleave(2).tolist() + [8, 8]), "no images of 9"),
    "another size": (dict(images=torch.randn(20, 1, 28, 28)), "the images are 1x28x28, those of digits 1x8x8"),
    "NaN": (dict(images=torch.full((20, 1, 8, 8), float("nan"))), "NaN"),
    "no images": (dict(images=torch.zeros(20)), r"expected \(N, C, H, W\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_the_real_images_is_refused_in_one_line(tmp_path, name):
    changes, told = WRONG[name]
    synset = foreign.learned()
    torch.save(changes.get("images", synset.images), tmp_path / "images_best.pt")
    labels = torch.as_tensor(changes.get("labels", synset.labels))
    torch.save(labels, tmp_path / "labels_best.pt")
    with pytest.raises(ValueError, match=told) as error:
        imported(tmp_path, "tesla", zca=False, lr=0.1)
    assert "\n" not in str(error.value)


# --- words, exports, subsets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", options("kind"))
def test_every_kind_says_what_it_is(name):
    kind = importer(name)
    assert kind.brings != "sets" or kind.protocol in options("protocol")
    assert re.match(r"# .*\n_target_: ", (Path("configs/kind") / f"{name}.yaml").read_text())


def test_tiles_that_training_shuffles_are_told_to_the_protocol(tmp_path, monkeypatch, capsys):
    foreign.write_folder(tmp_path / "in", *FOLDERS["rded"])
    words = ["import", "kind=rded", f"path={tmp_path}/in", "data=digits", "factor=1", f"out={tmp_path}/out"]
    monkeypatch.setattr("sys.argv", ["distill", *words])
    main()
    assert capsys.readouterr().out.strip().endswith("protocol=rded")  # of whole images nothing else
    told = importer("rded").beside(Words(factor=2))
    cfg = compose("protocol=rded", *told).cfg
    check_values(plain(cfg))
    assert cfg.protocol.recipe.views.shuffle == 2 and cfg.protocol.recipe.views.area == 0.5


def test_an_unknown_word_is_told_its_neighbours(tmp_path):
    with pytest.raises(ValueError, match="unknown kind 'mt': did you mean mtt"):
        imported(tmp_path, "mt")
    with pytest.raises(ValueError, match="unknown word of an import 'image': did you mean images"):
        imported(tmp_path, "mtt", image="x")
    with pytest.raises(ValueError, match="kind=dm takes no lr"):
        imported(tmp_path, "dm", lr=0.1)
    with pytest.raises(ValueError, match="zca=true and space=normalised contradict"):
        imported(tmp_path, "mtt", zca=True, space="normalised")
    with pytest.raises(ValueError, match="data without kind"):
        dd.load(tmp_path, data="digits")


EXPORTS = {
    "mtt": ("", dict(zca=False, lr="none")),
    "dc": ("res_DC_DIGITS_ConvNet_2ipc.pt", {}),
    "rded": ("", None),
    "sre2l": ("", None),
}


@pytest.mark.parametrize("kind", EXPORTS)
def test_what_is_exported_is_what_is_imported(tmp_path, kind):
    synset = foreign.learned()
    file, words = EXPORTS[kind]
    folder = synset.export(tmp_path / "out", kind)
    if words is not None:
        again = imported(folder / file, kind, **words)
        assert torch.equal(again.images, synset.images)
    else:  # pictures are PNG here, and their own projects' loaders read any
        (folder / "README.md").unlink()
        again = imported(folder, "fadrm") if kind == "sre2l" else None
        assert again is None or (again.pixels - synset.pixels).abs().max() <= 0.5 / 255 + 1e-6
    assert again is None or torch.equal(again.labels, synset.labels)
    with pytest.raises(FileExistsError):
        synset.export(tmp_path / "out", kind)


def test_datms_export_is_read_back_and_what_it_cannot_hold_is_refused(tmp_path):
    foreign.write_datm(tmp_path / "a", foreign.learned(zca=True))
    synset = imported(tmp_path / "a", "datm", zca=True)
    again = imported(synset.export(tmp_path / "b", "datm"), "datm", zca=True)
    assert again.hash == synset.hash
    with pytest.raises(ValueError, match="export=datm holds logits and a learned rate"):
        foreign.learned().export(tmp_path / "c", "datm")
    with pytest.raises(ValueError, match="mtt holds hard labels, this set has logits"):
        synset.export(tmp_path / "c", "mtt")
    assert not (tmp_path / "c").exists()
    folder = synset.export(tmp_path / "d", "ddranking")
    assert imported(None, "datm", images=str(folder / "images.pt"), zca=True).hash == synset.hash
    uneven = dd.SyntheticSet.from_real(
        foreign.digits().train, {str(k): 1 + (k > 0) for k in range(10)}, torch.Generator().manual_seed(0)
    )
    with pytest.raises(ValueError, match="this set has 1 to 2 of a class and hard labels: use pt or npz"):
        uneven.export(tmp_path / "e", "ddranking")


def test_a_subset_is_the_first_images_of_each_class_and_says_so(tmp_path):
    synset = foreign.learned(ipc=3).with_(record={"method": "dm", "ipc": 3, "hash": "of the whole"})
    cut = synset.subset(1)
    assert torch.equal(cut.images, synset.images[::3]) and cut.counts == (1,) * 10
    cut.save(tmp_path / "synset.safetensors")
    record = dd.load(tmp_path).record
    assert (record["method"], record["ipc"], record["subset_of"]) == ("dm subset", 1, synset.hash)
    assert record["hash"] == cut.hash != synset.hash
    assert synset.subset(3).hash == synset.hash
    with pytest.raises(ValueError, match="ipc is 4, but class '0' of the set has 3 images"):
        synset.subset(4)


def test_the_command_line_imports_cuts_and_exports_and_overwrites_nothing(tmp_path, monkeypatch, capsys):
    foreign.write_result(tmp_path / "res_DM_DIGITS_ConvNet_2ipc.pt", [foreign.learned(seed=i) for i in range(2)])

    def said(*words):
        monkeypatch.setattr("sys.argv", ["distill", *words])
        main()
        return capsys.readouterr().out

    words = [
        "import",
        "kind=dm",
        f"path={tmp_path}/res_DM_DIGITS_ConvNet_2ipc.pt",
        "data=digits",
        f"out={tmp_path}/out",
    ]
    told = said(*words)
    for part in ("space", "constants", "class order", "decoding", "labels", "rate", "protocol=dm"):
        assert re.search(rf"{part}", told)
    assert sorted(path.name for path in (tmp_path / "out").glob("*/*")) == sorted(
        2 * ["grid.png", "synset.json", "synset.safetensors"]
    )
    before = {path: path.read_bytes() for path in (tmp_path / "out").glob("*/*")}
    with pytest.raises(SystemExit, match="exists: name a new folder with out=DIR"):
        said(*words)
    assert before == {path: path.read_bytes() for path in (tmp_path / "out").glob("*/*")}
    said("subset", f"synset={tmp_path}/out/synthesis_0", "ipc=1", f"out={tmp_path}/one")
    assert len(dd.load(tmp_path / "one")) == 10
    said("export", f"synset={tmp_path}/one", "kind=mtt", f"out={tmp_path}/mtt")
    assert (tmp_path / "mtt" / "images_best.pt").exists()
    with pytest.raises(SystemExit, match="unknown kind 'dmm': did you mean dm"):
        said("import", "kind=dmm", "data=digits")
    with pytest.raises(SystemExit, match="ipc is missing: .*subset synset=... ipc=... out=..."):
        said("subset", f"synset={tmp_path}/one", "out=x")


DOCUMENTED = [
    "artefacts",
    "cli.artefacts",
    *(f"sets.importers.{name}" for name in ("evidence", "tensors")),
    "sets.formation",
]


@pytest.mark.parametrize("name", [*DOCUMENTED, "sets.importers.assembling"])
def test_examples_hold(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(import_module(f"distill.{name}"))
    assert found.attempted and not found.failed
