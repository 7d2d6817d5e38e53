"""FKD's files, written as their writers do (PIL, torchvision, a sampler of torch): replayed views have their labels."""

import pytest
import torch
import torchvision.transforms.functional as TF
from conftest import changed, preset
from PIL import Image
from torch.utils.data import DataLoader, RandomSampler, TensorDataset
from torchvision.transforms import RandomResizedCrop

from distill.data.preprocessing import Preprocessing
from distill.runs.importing import importer
from distill.runs.labelled import LabelWords, permutations
from distill.sets.synthetic import SyntheticSet
from distill.teachers.given import Given, GivenStore
from distill.teachers.labels import Teaching, told
from distill.training.batch import Batches

EPOCHS, SIZE, N, K, SIDE = 3, 8, 20, 4, 16
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


@pytest.fixture(scope="module")
def synset() -> SyntheticSet:
    """Eight-bit images whose class is a bright channel, or none, with smooth noise."""
    g = torch.Generator().manual_seed(0)
    pixels = torch.rand(N, 3, 4, 4, generator=g).mul(0.4)
    classes = torch.arange(K).repeat_interleave(N // K)
    for image, cls in zip(pixels, classes.tolist(), strict=True):
        image[cls : cls + 1] += 0.5
    pixels = torch.nn.functional.interpolate(pixels, (SIDE, SIDE), mode="bilinear").mul(255).round().div(255)
    space = Preprocessing("normalised", {"mean": torch.tensor(MEAN), "std": torch.tensor(STD)})
    return SyntheticSet(space(pixels), classes, classes, tuple("abcd"), space, "made")


def teacher(views):
    """Logits that tell the channels' brightness, and a little of every pixel."""
    channels = torch.nn.functional.pad(views.mean((2, 3)), (0, 1))
    fine = torch.linspace(-1, 1, views[0].numel()).mul(7).sin().reshape(views[0].shape)
    return 4 * channels + 0.01 * torch.stack([(views * fine.roll(k, 2)).sum((1, 2, 3)) for k in range(K)], 1)


def write(folder, synset, mix="cut", form=lambda held, images: held, sampled=None):
    """Files of FKD, and the views (N, C, H, W) of each epoch in the order of its batches."""
    torch.manual_seed(1)
    pictures = [TF.to_pil_image(image.mul(255).round().byte()) for image in synset.pixels]
    sampler = RandomSampler(synset.images, generator=torch.Generator().manual_seed(42))
    loader = DataLoader(TensorDataset(torch.arange(N)), batch_size=SIZE, sampler=sampler)
    shown = []
    for epoch in range(EPOCHS):
        own = folder / f"epoch_{epoch}"
        own.mkdir(parents=True)
        order = torch.cat([images for (images,) in loader]) if sampled is None else sampled[epoch]
        for number, images in enumerate(order.split(SIZE)):
            coords, flip, views = [], torch.rand(len(images)) < 0.5, []
            for place, image in enumerate(images.tolist()):
                top, left, height, width = RandomResizedCrop.get_params(pictures[image], [0.5, 1.0], [3 / 4, 4 / 3])
                coords.append([top / SIDE, left / SIDE, height / SIDE, width / SIDE])
                view = TF.resized_crop(pictures[image], top, left, height, width, [SIDE, SIDE])
                view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip[place] else view
                views.append(TF.normalize(TF.to_tensor(view), MEAN, STD))
            views, partner, share, box = torch.stack(views), torch.randperm(len(images)), 1.0, None
            if mix == "cut":
                box, share = (2, 5, 9, 16), 1 - 7 * 11 / SIDE**2
                views = views.clone()
                views[:, :, 2:9, 5:16] = views[partner][:, :, 2:9, 5:16].clone()
            elif mix == "up":
                share = 0.7
                views = share * views + (1 - share) * views[partner]
            held = [torch.tensor(coords), flip, partner, share, box, teacher(views).half()]
            torch.save(form(held, images), own / f"batch_{number}.tar")
            shown.append(views)
    return shown


def brought(tmp_path, synset, **words):
    synset.save(tmp_path / "set" / "synset.safetensors")
    own = {"path": str(tmp_path / "fkd"), "synset": str(tmp_path / "set"), "out": str(tmp_path / "out"), **words}
    return importer("fkd").bring(LabelWords.of(**own))


def batches(synset, tmp_path, **values):
    recipe = changed(preset("sre2l-in").recipe, **{"epochs": EPOCHS, "batch": SIZE, **values})
    given = Given(20.0, False)
    return told(given, Batches(synset, recipe, lambda images, draw: images), 0, Teaching(folder=tmp_path / "out"))


@pytest.mark.parametrize("mix", ["none", "cut", "up"])
def test_a_replayed_view_is_what_its_label_was_made_for(tmp_path, synset, mix):
    shown = iter(write(tmp_path / "fkd", synset, mix))
    assert "draws=2" in brought(tmp_path, synset)[0]
    own, _ = batches(synset, tmp_path, mix=None)
    for epoch in range(EPOCHS):
        for batch in own.epoch([0, 7], epoch):  # two students see the same
            theirs = next(shown)
            assert torch.equal(batch.views[0], batch.views[1])
            assert (batch.views[0] - theirs).abs().max() < 1.5 / 255 / min(STD)  # theirs are rounded to eight bits
            assert (theirs - theirs.flip(3)).abs().max() > 0.5 and (theirs - theirs.roll(1, 0)).abs().max() > 0.5
            assert (teacher(batch.views[0]) - batch.targets[0]).abs().max() < 0.1
            assert (teacher(batch.views[0].roll(1, 0)) - batch.targets[0]).abs().max() > 1
    assert next(shown, None) is None


def test_the_order_is_what_torch_draws_or_what_the_files_say(tmp_path, synset):
    before = permutations(N, 1)
    orders = [next(before) for _ in range(EPOCHS)]
    write(tmp_path / "fkd", synset, sampled=orders)
    lines = brought(tmp_path, synset)
    assert "draws=1" in lines[0]
    assert torch.equal(GivenStore(tmp_path / "out")[2].order, orders[2])
    named = tmp_path / "named"
    said = [torch.randperm(N) for _ in range(EPOCHS)]
    write(named / "fkd", synset, form=lambda held, images: [*held, images], sampled=said)
    assert "read in the files" in brought(named, synset)[0]
    assert torch.equal(GivenStore(named / "out")[1].order, said[1])


def test_kept_logits_stand_at_their_classes(tmp_path, synset):
    def form(held, images):
        values, classes = held[5].topk(2, 1)
        return [*held[:5], values, classes.short()]

    write(tmp_path / "whole" / "fkd", synset)
    write(tmp_path / "some" / "fkd", synset, form=form)
    for folder in ("whole", "some"):
        brought(tmp_path / folder, synset)
    whole, some = (GivenStore(tmp_path / each / "out")[0].said(slice(None), K) for each in ("whole", "some"))
    kept, classes = whole.topk(2, 1)
    assert torch.equal(some.gather(1, classes), kept)
    rest = some.scatter(1, classes, torch.inf).min(1).values
    assert torch.equal(rest, kept[:, 1])


def test_what_does_not_fit_is_refused_in_one_line(tmp_path, synset):
    write(tmp_path / "fkd", synset)
    write(tmp_path / "wrong" / "fkd", synset.with_(images=synset.images.flip(0)), mix="none")
    with pytest.raises(ValueError, match="expected 50%: another set"):
        brought(tmp_path / "wrong", synset, draws=2)
    forms = {
        "has 5 entries": lambda held, images: held[:5],
        "expected coords, flip": lambda held, images: [*held, images, images],
        "nothing says which ones": lambda held, images: [*held[:5], held[5][:, :2]],
        "not in their batch": lambda held, images: [*held[:2], held[2] + 5, *held[3:]],
        "no tensor": lambda held, images: [*held[:5], print],
        "expected each of 20 images once": lambda held, images: [*held, torch.zeros_like(images)],
    }
    for number, (match, form) in enumerate(forms.items()):
        write(tmp_path / str(number) / "fkd", synset, form=form)
        with pytest.raises(ValueError, match=match) as error:
            brought(tmp_path / str(number), synset)
        assert "\n" not in str(error.value) and not (tmp_path / str(number) / "out" / "labels.json").exists()
    with pytest.raises(ValueError, match="labels of 20 images, .* has 12"):
        brought(tmp_path, synset.subset(3))
    (tmp_path / "fkd" / "epoch_1").rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="epoch_1"):
        brought(tmp_path, synset)


def test_students_take_just_these_batches_of_these_images(tmp_path, synset):
    write(tmp_path / "fkd", synset)
    brought(tmp_path, synset)
    for values, match in {
        "mix": "protocol.recipe.mix=null",
        "batch": "protocol.recipe.batch=8",
        "epochs": "recipe.epochs=3",
    }.items():
        wrong = {"mix": {}, "batch": {"mix": None, "batch": 4}, "epochs": {"mix": None, "epochs": 4}}[values]
        with pytest.raises(ValueError, match=match):
            batches(synset, tmp_path, **wrong)
    with pytest.raises(ValueError, match=r"baselines=\[\]"):
        batches(synset.with_(images=synset.images * 0.9), tmp_path, mix=None)
    with pytest.raises(FileNotFoundError, match="import kind=fkd"):
        batches(synset, tmp_path / "nowhere", mix=None)
