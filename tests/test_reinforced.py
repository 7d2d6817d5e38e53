"""Dataset Reinforcement: stored views and their labels, replayed as they were made, and plain training beside them."""

import doctest
from dataclasses import replace

import pytest
import torch
from conftest import changed, make_recipe, preset

from distill.evaluation.entry import Entry, Network
from distill.evaluation.evaluate import evaluate
from distill.evaluation.measure import Bench
from distill.files import load_tensors, save_tensors
from distill.report.rows import Report
from distill.sets.coreset import Coreset
from distill.sets.walks import Rs2
from distill.teachers import reinforced
from distill.teachers.labels import Hard, Teaching, told
from distill.teachers.reinforced import Reinforced, ViewStore, densified
from distill.training.batch import Batches
from distill.training.loop import train
from distill.training.losses import CrossEntropy

SETTINGS = dict(committee={"mode": "eval"}, vote_temperature=10.0, twin=True, stored_views=3, top_k=2, probability=0.7)


class Heard:
    """A committee that remembers what it was asked."""

    def __init__(self, committee):
        self.committee, self.asked = committee, []

    def __getattr__(self, name):
        return getattr(self.committee, name)

    def logits(self, views, *args):
        self.asked.append(views.clone())
        return self.committee.logits(views, *args)


def taught(data, committee, folder, split, augment="dsa", **changes):
    """Batches with reinforced labels, and what is told."""
    recipe = make_recipe(augment=augment, batch=16)
    made = Batches(data, recipe, recipe.views.on(split))
    return told(Reinforced(**{**SETTINGS, **changes}), made, 5, Teaching(committee, folder))


def shown(batches, number=0, seed=0):
    """What one network sees in an epoch, image by image: view, label, place, number of the stored view."""
    order = batches.walk.epoch(number, seed)[0].split(16)
    for place, index in enumerate(order):
        seen = batches.seen(batches.data.images[index], index, seed + place, number)
        yield from zip(seen.views, batches.told(seen), seen.index.tolist(), seen.stored.tolist(), strict=True)


@pytest.mark.parametrize("augment", ["dsa", "crop_flip"])
def test_stored_views_are_replayed_bit_for_bit_with_the_labels_that_the_committee_gave_them(
    tmp_path, real, committee, augment
):
    heard = Heard(committee)
    batches, about = taught(Coreset.whole(real.train), heard, tmp_path, real.train, augment)
    about.prepare()
    views = torch.cat(heard.asked).unflatten(0, (3, 48))  # by number of the view and place of the image
    said = committee.logits(views.flatten(0, 1), 10.0).softmax(1).view(3, 48, 3)
    replayed = [each for each in shown(batches) if each[3] >= 0]
    assert {stored for *_, stored in replayed} == {0, 1, 2} and 24 < len(replayed) < 44  # of 48, with probability 0.7
    for view, label, place, stored in replayed:
        assert torch.equal(view, views[stored, place])
        most = said[stored, place].topk(2)
        assert torch.allclose(label[most.indices], most.values, atol=1e-3) and label.sum().item() == pytest.approx(1)
    assert len({tuple(view.flatten().tolist()) for view in views[:, 0]}) == 3  # views of one image differ
    assert len(heard.asked) == 3  # nobody was asked again


def test_what_is_not_replayed_is_what_plain_training_shows(tmp_path, real, committee):
    batches, _ = taught(Coreset.whole(real.train), committee, tmp_path, real.train)
    plain = replace(batches, replay=None)
    own = [plain.seen(real.train.images[i], i, n, 0).views for n, i in enumerate(plain.walk.epoch(0, 0)[0].split(16))]
    count = 0
    for own_view, (view, label, place, stored) in zip(torch.cat(own), shown(batches), strict=True):
        if stored < 0:
            assert torch.equal(view, own_view) and label.tolist() == [
                float(k == real.train.labels[place]) for k in range(3)
            ]
            count += 1
        else:
            assert not torch.equal(view, own_view)
    assert count > 4


def trained(batches, student):
    torch.manual_seed(0)
    net = student()
    train([net], batches, seeds=[3])
    return torch.cat([each.flatten() for each in net.parameters()])


def test_with_probability_zero_training_is_plain_and_otherwise_it_is_not(tmp_path, real, committee, student):
    whole = Coreset.whole(real.train)
    nothing, something = (taught(whole, committee, tmp_path, real.train, probability=p)[0] for p in (0.0, 1.0))
    plain, _ = told(Hard(), replace(nothing, replay=None), 5, Teaching())
    assert isinstance(nothing.loss, CrossEntropy)
    assert torch.allclose(trained(nothing, student), trained(plain, student), atol=1e-6)
    assert not torch.allclose(trained(something, student), trained(plain, student), atol=1e-3)


def test_densified_labels_sum_to_one_keep_what_was_kept_and_share_the_rest_evenly():
    g = torch.Generator().manual_seed(0)
    said = (4 * torch.randn(200, 12, generator=g)).softmax(1)
    kept, classes = said.topk(5, 1)
    full = densified(classes, kept.half().float(), 12)
    assert torch.allclose(full.sum(1), torch.ones(200)) and (full >= 0).all()
    assert torch.allclose(full.gather(1, classes), kept, atol=1e-3)
    others = full.scatter(1, classes, torch.nan).nanmean(1)
    assert torch.allclose(others, (1 - kept.sum(1)) / 7, atol=2e-4)
    rest = full.scatter(1, classes, -1.0)
    assert ((rest.max(1).values - others).abs() < 1e-6).all()  # evenly
    everything, order = said.topk(12, 1)
    assert torch.allclose(densified(order, everything.half().float(), 12), said, atol=2e-3)


def test_the_store_is_filled_once_and_shared_by_students_sets_and_larger_stores(tmp_path, real, committee):
    whole, heard = Coreset.whole(real.train), Heard(committee)
    _, about = taught(whole, heard, tmp_path / "labels", real.train, stored_views=2)
    about.prepare()
    (folder,) = (tmp_path / "labels").iterdir()
    files = sorted(folder.glob("view_*.safetensors"))
    labels = 48 * 8  # the classes of the set
    assert len(files) == 2 and about.bytes() == sum(path.stat().st_size for path in files) + labels
    walk = Rs2(True, True).on(real.train, [4, 4, 4])
    _, other = taught(walk, heard, tmp_path / "labels", real.train, stored_views=3)
    other.prepare()
    assert len(heard.asked) == 3 and list((tmp_path / "labels").iterdir()) == [folder]  # one more view of each image
    assert other.bytes() > about.bytes() == sum(path.stat().st_size for path in files) + labels
    for changes, data in (
        ({"top_k": 1}, whole),
        ({"augment": "crop_flip"}, whole),
        ({}, Coreset(real.train, torch.arange(40))),
    ):
        taught(data, heard, tmp_path / "labels", real.train, **changes)[1].prepare()
    assert len(list((tmp_path / "labels").iterdir())) == 4  # other labels, other views, other images


def test_a_store_that_was_killed_goes_on(tmp_path, real, committee, monkeypatch):
    whole, asked = Coreset.whole(real.train), ViewStore.asked

    def killed(self, number):
        if number == 2:
            raise KeyboardInterrupt
        return asked(self, number)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ViewStore, "asked", killed)
        taught(whole, committee, tmp_path / "killed", real.train)[1].prepare()
    heard = Heard(committee)
    for folder, voices in (("killed", heard), ("whole", committee)):
        taught(whole, voices, tmp_path / folder, real.train)[1].prepare()
    assert len(heard.asked) == 1
    files = [sorted((tmp_path / folder).glob("*/view_*")) for folder in ("killed", "whole")]
    assert [len(each) for each in files] == [3, 3]
    for one, two in zip(*files, strict=True):
        own, other = (load_tensors(path)[0] for path in (one, two))
        assert all(torch.equal(own[name], other[name]) for name in ("probabilities", "classes", "seen"))


def test_a_file_that_is_not_of_these_views_is_refused(tmp_path, real, committee):
    batches, about = taught(Coreset.whole(real.train), committee, tmp_path, real.train)
    about.prepare()
    (path,) = tmp_path.glob("*/view_00001.safetensors")
    sound, _ = load_tensors(path)
    for changes, wrong in (
        ({"probabilities": sound["probabilities"][:5]}, "other shapes than 48 images with 2 classes each"),
        ({"probabilities": sound["probabilities"] * torch.nan}, "probabilities outside"),
        ({"classes": sound["classes"] * 0}, "names classes twice"),
        ({"classes": sound["classes"] + 2}, "outside 0 to 2"),
        ({"seen": sound["seen"] + 1}, "was made for other views"),
    ):
        save_tensors(path, {**sound, **changes})
        with pytest.raises(ValueError, match=f"view_00001.*{wrong}.*delete .* to have it made anew"):
            list(shown(replace(taught(Coreset.whole(real.train), committee, tmp_path, real.train)[0])))


def test_mixed_views_are_refused(tmp_path, real, committee):
    recipe = changed(preset("rded", area=0.5).recipe, batch=8)
    batches = Batches(Coreset.whole(real.train), recipe, recipe.views.on(real.train))
    with pytest.raises(ValueError, match="mixes them with CutMix: protocol.recipe.mix=null"):
        told(Reinforced(**SETTINGS), batches, 0, Teaching(committee, tmp_path))


def test_a_row_counts_what_is_stored_and_has_a_twin_with_hard_labels(tmp_path, real, committee, student):
    labels = Reinforced(**{**SETTINGS, "committee": preset("rded").labels.committee})
    protocol = preset("dcb-dsa", epochs=2, extra_epochs=0, batch=16, students=2).with_(labels=labels)
    bench = Bench(teaching=Teaching(committee, tmp_path / "labels"))
    entry = Entry([Coreset.whole(real.train)], "whole", None)
    rows = evaluate(entry, real, {"net": Network(student)}, protocol, Report(tmp_path / "report.json"), bench).rows
    stored = sum(path.stat().st_size for path in (tmp_path / "labels").glob("*/view_*"))
    assert [row["labels"] for row in rows] == ["reinforced", "hard"] and stored > 0
    assert [row["label_bytes"] for row in rows] == [stored + 48 * 8, 48 * 8]
    assert rows[0]["committee"].keys() == set(committee.names)
    assert rows[0]["optimizer_steps"] == rows[1]["optimizer_steps"] == 6


def test_examples_hold():
    assert doctest.testmod(reinforced).failed == 0
