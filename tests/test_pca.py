"""PCA: which images are kept, how they stand in one, and that no view leaves its tile."""

import json

import pytest
import torch
from conftest import composed, made, preset
from hydra.utils import instantiate
from test_line import line, succeeds  # noqa: F401
from test_selecting import TOY

import distill
from distill.augment.tiles import one_tile, stitched
from distill.methods.decoupled.pca import PCA, combined
from distill.sets.reading import load
from distill.sets.synthetic import SyntheticSet
from distill.sets.union import joined
from distill.teachers.committee import Committee
from distill.teachers.proxies import Proxies
from distill.teachers.reinforced import ViewStore
from distill.training.batch import Batches
from distill.training.dynamics import Dynamics


@pytest.fixture
def pca_on(real, student):
    """PCA on the toy set, with the errors (E, N) of a proxy's training: ``pca_on(errors, ipc=2)``."""

    def build(errors, **changes):
        values = dict(instantiate(composed("method=pca", "data=cifar10").method, _convert_="all").keywords)
        log = Dynamics.of({"margins": 1 - errors, "errors": errors})
        proxies = Proxies(Committee(("toy",), (student(),), (50.0,)), (log,))
        method = made(
            PCA,
            **{**values, "real": real.train, "ipc": 2, "student": student, "seed": 0, "proxies": proxies, **changes},
        )
        method.begin()
        return method

    return build


def test_kept_are_as_many_of_each_class_and_easier_than_the_class(pca_on, real):
    errors = torch.rand(12, len(real.train), generator=torch.Generator().manual_seed(0))
    synset = pca_on(errors).synset
    assert synset.counts == (2, 2, 2) and len(synset.record["selected"]) == 24
    early = errors[:10].mean(0)
    for cls, own in enumerate(torch.tensor(synset.record["selected"]).split(8)):
        of_class = real.train.of_class(cls)
        least = early[of_class].sort().values[:8]
        assert torch.equal(early[own], least)  # the first epochs alone count; easiest first
        assert early[own].mean() < early[of_class].mean()


def test_every_source_stands_whole_in_a_tile_of_its_own():
    sources = torch.rand(8, 3, 8, 8, dtype=torch.float64)
    images = combined(sources, 2)
    assert images.shape == (2, 3, 8, 8)
    for rank, source in enumerate(sources):
        tile, image = divmod(rank, 2)
        row, column = divmod(tile, 2)
        there = images[image, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        small = torch.nn.functional.interpolate(source[None], (4, 4), mode="bilinear", antialias=True)[0]
        assert torch.allclose(there, small)
        assert there.mean() == pytest.approx(float(source.mean()), abs=0.02)
    assert torch.equal(combined(sources, 1), sources)


def test_a_tile_is_taken_out_as_it_was_put_in_and_every_one_has_its_turn():
    tiles = torch.rand(4, 400, 3, 4, 4)
    g = torch.Generator().manual_seed(0)
    shown = one_tile(stitched(tiles, 2), 2, g)
    large = torch.nn.functional.interpolate(tiles.flatten(0, 1), (8, 8), mode="bilinear").unflatten(0, (4, 400))
    same = (large - shown).abs().amax((2, 3, 4)) < 1e-6
    assert (same.sum(0) == 1).all()  # each is one of its four
    assert (same.sum(1) > 70).all()  # 100 expected, sd 8.7


@pytest.mark.parametrize("protocol", ["rth-hard", "rth-soft", "rded"])
def test_every_view_lies_inside_one_tile(real, protocol):
    """Each tile is of one colour; a crop over a border would have two."""
    colours = torch.tensor([-2.0, -1.0, 1.0, 2.0])
    images = stitched(colours.view(4, 1, 1, 1, 1).expand(4, 3, 3, 4, 4), 2)
    synset = SyntheticSet.blank(real.train, 1).with_(images=images, tiles=2)
    recipe = preset(protocol).recipe.with_(mix=None)
    batches = Batches(synset, recipe, recipe.views.on(real.train))
    views = torch.cat([batch.views[0] for epoch in range(20) for batch in batches.epoch([0], epoch)])
    assert torch.allclose(views, views[:, :1, :1, :1].expand_as(views), atol=1e-5)
    assert set(views[:, 0, 4, 4].round(decimals=3).tolist()) == set(colours.tolist())


def test_stored_views_lie_inside_one_tile_too(real, tmp_path):
    colours = torch.tensor([-2.0, -1.0, 1.0, 2.0])
    images = stitched(colours.view(4, 1, 1, 1, 1).expand(4, 3, 3, 4, 4), 2)
    synset = SyntheticSet.blank(real.train, 1).with_(images=images, tiles=2)
    recipe = preset("rth-hard").recipe
    store = ViewStore(tmp_path, Batches(synset, recipe, recipe.views.on(real.train)), 8, 2, lambda views: views, {})
    views = torch.cat([store.views_of(torch.arange(3), number) for number in range(8)])
    assert torch.allclose(views, views[:, :1, :1, :1].expand_as(views), atol=1e-5)


def test_tiles_are_part_of_a_set_and_of_its_file(real, tmp_path):
    whole = SyntheticSet.from_real(real.train, 2, torch.Generator().manual_seed(0))
    tiled = whole.with_(tiles=2)
    assert tiled.hash != whole.hash
    tiled.save(tmp_path / "synset.safetensors")
    again = load(tmp_path)
    assert again.tiles == again.subset(1).tiles == again.quantised().tiles == 2 and again.hash == tiled.hash
    assert "2x2 tiles" in (tiled.export(tmp_path / "png", "png") / "README.md").read_text()
    one, two = (
        SyntheticSet(
            whole.images[:1],
            torch.zeros(1).long(),
            torch.zeros(1).long(),
            (name,),
            whole.preprocessing,
            "toy",
            tiles=tiles,
        )
        for name, tiles in (("c0", 2), ("c1", 1))
    )
    with pytest.raises(ValueError, match="a union is of tiles 2x2, 1x1: expected one"):
        joined([one, two], ["c0", "c1"])
    assert joined([one], ["c0", "c1"]).tiles == 2
    with pytest.raises(ValueError, match="the set has 3x3 tiles in images of 8x8: expected sides that divide by it"):
        whole.with_(tiles=3)


def test_what_cannot_be_combined_is_refused(pca_on, real):
    errors = torch.rand(12, len(real.train))
    with pytest.raises(ValueError, match="method.factor is 3: images of 8x8 do not divide by it"):
        pca_on(errors, factor=3)
    with pytest.raises(
        ValueError, match="ipc is 5, expected at most 4 here: class 'c0' has 16 .* a synthetic one takes 4"
    ):
        pca_on(errors, ipc=5)
    with pytest.raises(
        ValueError, match="EL2N cannot pick 8 of 16 images of class 'c0': el2n sums 10 epochs, the log has 3"
    ):
        pca_on(errors[:3])


def test_pca_goes_the_whole_line_stands_as_a_baseline_and_is_not_made_twice(line, tmp_path):  # noqa: F811
    words = [each for each in TOY if not each.startswith(("protocol=", "baselines"))]
    words += ["method.rule.epochs=2", "method.factor=2", "ipc=2", "draws=2"]
    succeeds(line("method=pca", *words, "baselines=[random,herding]"))
    rows = json.loads((tmp_path / "outputs" / "report.json").read_text())["rows"]
    assert [(row["method"], row["protocol"], row["labels"]) for row in rows] == [
        (name, "rth-hard+", "hard") for name in ("pca", "random real", "herding")
    ]
    assert {(row["images"], row["image_bytes"]) for row in rows} == {(20, 20 * 64)}  # equal storage
    home = tmp_path / "outputs" / "digits-pca-ipc2-seed0"
    synset, real = distill.load(home), distill.load_data("digits").train
    places = torch.tensor(synset.record["selected"])
    assert synset.tiles == 2 and synset.eight_bit and len(places.unique()) == 80
    assert torch.equal(real.labels[places].view(20, 4)[:, 0], synset.classes)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "outputs").rglob("*.safetensors")}
    succeeds(line("method=pca", *words, "baselines=[random,herding]"))
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "outputs").rglob("*.safetensors")}
    # Killed before the set was written whole: the same proxy, the same set bit for bit.
    for file in home.rglob("*.*"):
        file.unlink()
    succeeds(line("method=pca", *words, "baselines=[random,herding]"))
    assert distill.load(home).hash == synset.hash
    assert len(list((tmp_path / "outputs" / "experts").glob("*"))) == 1
