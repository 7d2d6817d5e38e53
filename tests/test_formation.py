"""Several images in one: what sets store, what students train on, and what rows tell of both."""

from dataclasses import replace

import pytest
import torch
from conftest import load_npz, preset
from torch.autograd import gradcheck

from distill.evaluation.entry import Entry, Network
from distill.evaluation.evaluate import evaluate
from distill.report.rows import Report
from distill.report.table import lines
from distill.sets.formation import decoded, tiled
from distill.sets.reading import load
from distill.sets.synthetic import SyntheticSet
from distill.sets.union import united


@pytest.fixture
def stored(real):
    """Two images of each class, four in one."""
    first = torch.cat([real.train.of_class(cls)[:8] for cls in range(3)])
    pixels = real.train.preprocessing.inverse(real.train.images[first])
    images = real.train.preprocessing(tiled(pixels, 2))
    classes = torch.arange(3).repeat_interleave(2)
    own = (real.train.class_names, real.train.preprocessing, real.train.name)
    return SyntheticSet(images, classes, classes.clone(), *own, factors=(2,))


def test_tiles_of_flat_images_decode_to_these_images():
    flat = torch.rand(8, 3, 1, 1).expand(8, 3, 6, 6)
    again = decoded(tiled(flat, 2), [2])  # cell by cell, of one image after the other
    assert torch.allclose(again, flat.unflatten(0, (2, 4)).transpose(0, 1).flatten(0, 1), atol=1e-6)


def test_a_cell_that_the_border_cuts_holds_a_whole_image():
    """Four images of 7x7, numbered pixel by pixel: the middle row and column as IDC's code starts them."""
    image = tiled(torch.arange(196.0).view(4, 1, 7, 7), 2)[0, 0]
    assert image[3].tolist() == [35, 36, 38, 40, 84, 86, 88]
    assert image[:, 4].tolist() == [49, 56, 70, 84, 147, 161, 175]
    assert tiled(torch.rand(16, 3, 5, 5), 4).shape == (1, 3, 5, 5)  # cells of 2, of which the last row is not there


def test_a_cell_is_interpolated_alone():
    image = torch.zeros(1, 1, 6, 6)
    image[:, :, :3, :3] = 1
    assert decoded(image, [2]).flatten(1).mean(1).tolist() == pytest.approx([1, 0, 0, 0])


def test_the_gradient_through_decoding_is_right():
    pixels = torch.rand(2, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: decoded(x, [1, 2, 3]), pixels)


def test_a_set_is_stored_small_and_trained_on_whole(stored, tmp_path):
    stored.save(tmp_path / "synset.safetensors")
    again = load(tmp_path)
    assert again.factors == (2,) and again.hash == stored.hash != replace(stored, factors=(1,)).hash
    assert (again.ipc, again.decoded.ipc, again.subset(1).decoded.ipc) == (2, 8, 4)
    assert torch.equal(again.decoded.classes, torch.arange(3).repeat_interleave(8))
    assert torch.equal(again.decoded.labels, again.decoded.classes)
    for name in ("image_bytes", "label_bytes", "class_bytes"):
        assert getattr(again.decoded, name) == getattr(stored, name) > 0
    pixels = stored.preprocessing.inverse(again.decoded.images)
    expected = decoded(stored.preprocessing.inverse(stored.images), [2])
    assert torch.allclose(pixels[:8], expected.unflatten(0, (4, 6))[:, :2].flatten(0, 1), atol=1e-5)


def test_whitened_sets_decode_their_pixels(npz):
    real = load_npz(npz, zca=True).train
    pixels = torch.rand(3, 3, 8, 8)
    classes = torch.arange(3)
    own = (real.class_names, real.preprocessing, real.name)
    synset = SyntheticSet(real.preprocessing(pixels), classes, classes.clone(), *own, factors=(2,))
    assert torch.allclose(synset.decoded.pixels[:4], decoded(pixels[:1], [2]), atol=1e-3)


def test_rows_count_both_and_students_are_those_of_the_decoded_images(stored, real, student, tmp_path):
    rows, protocol = [], preset("dsa", epochs=2, students=1, batch=8)
    for synset in (stored, stored.decoded):
        report = Report(tmp_path / synset.hash / "report.json")
        evaluate(Entry([synset], "idc", synset.ipc), real, {"net": Network(student)}, protocol, report)
        rows += report.rows
    small, whole = rows
    assert small["accuracies"] == whole["accuracies"] and small["optimizer_steps"] == whole["optimizer_steps"] == 9
    assert (small["images"], small["decoded"], small["image_bytes"], small["label_bytes"]) == (6, 24, 6 * 192 * 4, 48)
    assert (small["ipc"], whole["ipc"], "decoded" in whole) == (2, 8, False)
    assert [cells["images"] for cells in lines(rows).cells] == ["6 (as 24)", "24"]


def test_other_tools_get_what_students_train_on(stored, tmp_path):
    stored.export(tmp_path / "out", "mtt")
    images = torch.load(tmp_path / "out" / "images_best.pt", weights_only=True)
    assert torch.equal(images, stored.decoded.images)


def test_factors_that_fit_no_image_or_no_union_are_told(stored):
    for factors in ((9,), (0,), (2, 2), ()):
        with pytest.raises(ValueError, match="the set's factors are .*expected different whole numbers from 1 to 8"):
            replace(stored, factors=factors)
    names = ("c0",), ("c1", "c2")
    parts = [
        replace(stored, images=stored.images[own], labels=stored.labels[own] - first, classes=stored.classes[own] - first,
                class_names=names[first])
        for first, own in ((0, slice(0, 2)), (1, slice(2, 6)))
    ]  # fmt: skip
    assert united(parts, stored.class_names).hash == stored.hash
    with pytest.raises(ValueError, match="a union is with factors 2, 1: expected one"):
        united([parts[0], replace(parts[1], factors=(1,))], stored.class_names)
