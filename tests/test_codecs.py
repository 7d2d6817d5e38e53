"""Codecs of the label store: what survives them, what they take, and the loss of two distances."""

import math

import pytest
import torch
from conftest import preset
from test_labels import ASKED, batches, synset  # noqa: F401

from distill import rng
from distill.files import load_tensors, save_tensors
from distill.teachers.codecs import Distances, Half, Quantised, TopK
from distill.teachers.labels import Teaching, told
from distill.teachers.stored import Stored, StoredDistances, StoredLevels
from distill.training.loop import train
from distill.training.losses import TwoDistances

CODECS = {
    "half": Half(), "top-k": TopK(4, 20.0), "levels": Quantised(None, 20.0), "top levels": Quantised(4, 20.0),
    "distances": Distances(),
}  # fmt: skip
WITHOUT = {name: value for name, value in ASKED.items() if name not in ("temperature", "squared")}


def kinds(kept=1.0):
    return {
        "stored": Stored(**ASKED, top_k=None, kept=kept),
        "top-k": Stored(**ASKED, top_k=2, kept=kept),
        "quantised": StoredLevels(**ASKED, top_k=2, kept=kept),
        "all levels": StoredLevels(**ASKED, top_k=None, kept=kept),
        "dbr": StoredDistances(**WITHOUT, alpha=1.0, kept=kept),
    }


def logits(n=50, classes=12, scale=5.0):
    return scale * torch.randn(n, classes, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", CODECS)
def test_what_a_codec_packs_is_laid_out_as_it_says_in_so_many_bytes(name):
    codec, said = CODECS[name], logits()
    own, other = torch.arange(50) % 12, (torch.arange(50) + 5) % 12
    packed = codec.pack(said, own, other)
    codec.check(packed, 12, 50)
    assert sum(each.numel() * each.element_size() for each in packed.values()) == 50 * codec.bytes(12)
    again = codec.unpack(packed, 12)
    assert again.dtype == torch.float32 and len(again) == 50


def test_levels_are_off_by_a_510th_of_the_range_at_most_and_keep_the_order():
    said = logits()
    codec = Quantised(None, 20.0)
    again = codec.unpack(codec.pack(said, *[torch.zeros(50).long()] * 2), 12)
    below = said - said.amax(1, keepdim=True)
    spans = -below.amin(1)
    off = (again - below).abs().amax(1) / spans
    assert off.max() < 1 / 510 + 2**-11 and off.max() > 1 / 1020  # half a step, and the half precision of the range
    assert torch.equal(again.argmax(1), said.argmax(1))
    alike = torch.full((3, 12), 7.0)
    assert torch.equal(codec.unpack(codec.pack(alike, *[torch.zeros(3).long()] * 2), 12), torch.zeros(3, 12))


def test_a_store_of_some_logits_is_of_one_temperature_which_the_others_share_depends_on():
    logits = torch.randn(5, 9, generator=torch.Generator().manual_seed(0)) * 9
    ones, others = (TopK(4, tau).pack(logits, logits[:, 0], logits[:, 0])["rest"] for tau in (20.0, 4.0))
    assert not torch.allclose(ones, others, atol=0.1)
    assert TopK(4, 20.0).about == {"top_k": 4} != TopK(4, 4.0).about  # as stores of before, which are of 20
    assert Quantised(4, 20.0).about != Quantised(4, 4.0).about
    assert Quantised(None, 20.0).about == Quantised(None, 4.0).about and Half().about == {"top_k": None}


@pytest.mark.parametrize("codec, tolerance", [(TopK(4, 20.0), 1e-3), (Quantised(4, 20.0), 5e-3)])
def test_the_largest_keep_their_probabilities_and_the_others_share_the_rest(codec, tolerance):
    said = logits().double().float()
    own = torch.zeros(50).long()
    one, two = ((each / 20.0).softmax(1) for each in (said, codec.unpack(codec.pack(said, own, own), 12)))
    places = said.topk(4, 1).indices
    assert torch.allclose(one.gather(1, places), two.gather(1, places), atol=tolerance)
    rest = torch.ones_like(one).scatter(1, places, 0).bool()
    shared = two[rest].view(50, 8)
    assert torch.allclose(shared, shared[:, :1].expand_as(shared), atol=1e-6)
    assert torch.allclose(shared.sum(1), one[rest].view(50, 8).sum(1), atol=4 * tolerance)


def test_distances_are_the_cross_entropies_of_two_classes():
    said, own, other = logits(), torch.arange(50) % 12, (torch.arange(50) + 5) % 12
    found = Distances().unpack(Distances().pack(said, own, other), 12)
    plain = torch.tensor(
        [[math.log(sum(math.exp(z) for z in row)) - row[k] for k in (a, b)]
         for row, a, b in zip(said.double().tolist(), own.tolist(), other.tolist(), strict=True)]
    )  # fmt: skip
    assert torch.allclose(found, plain, rtol=2**-10)
    assert ((-found).exp().sum(1) <= 1 + 1e-3).all()  # section 10, check M


def test_a_student_that_says_what_the_teacher_said_has_no_distance_and_the_loss_is_that_of_the_formula():
    said = logits().double()
    own, other, share = torch.arange(50) % 12, (torch.arange(50) + 5) % 12, 0.7
    distances = -said.log_softmax(1).gather(1, torch.stack([own, other], 1))
    targets = torch.cat([torch.stack([own, other, torch.full((50,), share)], 1).double(), distances], 1)
    plain = torch.tensor([share * d[0] + (1 - share) * d[1] for d in distances.tolist()], dtype=torch.float64)
    assert torch.allclose(TwoDistances(3.0)(None, None, said, targets, None), plain)
    student = (said + torch.randn(50, 12, dtype=torch.float64)).requires_grad_()
    theirs = -student.log_softmax(1).gather(1, torch.stack([own, other], 1))
    expected = share * theirs[:, 0] + (1 - share) * theirs[:, 1] + 3.0 * (theirs - distances).abs().sum(1)
    loss = TwoDistances(3.0)(None, None, student, targets, None)
    assert torch.allclose(loss, expected)
    # d|d_S - d_T| / dz = sign (p - e_y), by hand.
    (gradient,) = torch.autograd.grad(loss.sum(), student)
    p, signs = student.softmax(1).detach(), (theirs - distances).sign().detach()
    eye = torch.eye(12).double()
    weights = torch.tensor([share, 1 - share]) + 3.0 * signs
    by_hand = weights[:, :1] * (p - eye[own]) + weights[:, 1:] * (p - eye[other])
    assert torch.allclose(gradient, by_hand)


@pytest.mark.parametrize("name", kinds())
def test_a_store_takes_what_was_foreseen_and_is_the_same_when_it_is_read_again(tmp_path, synset, committee, name):  # noqa: F811
    labels = kinds()[name]
    once, about = told(labels, batches(synset), 11, Teaching(committee, tmp_path))
    about.prepare()
    takes = labels.takes(12, 3, 2, 0)
    assert takes < about.bytes() < takes + 2 * 1000
    again, _ = told(labels, batches(synset), 11, Teaching(committee, tmp_path))
    for one, two in zip(once.epoch([11], 1), again.epoch([11], 1), strict=True):
        assert torch.equal(one.views, two.views) and torch.equal(one.targets, two.targets)
        assert one.targets.isfinite().all()


def test_kinds_of_labels_do_not_share_a_store(tmp_path, synset, committee):  # noqa: F811
    for labels in kinds().values():
        told(labels, batches(synset), 11, Teaching(committee, tmp_path))[1].prepare()
    assert len(list(tmp_path.glob("*/labels.json"))) == 5


def test_distances_are_those_of_the_view_and_its_partner(tmp_path, synset, committee):  # noqa: F811
    own, _ = told(kinds()["dbr"], batches(synset), 11, Teaching(committee, tmp_path))
    for place, batch in enumerate(own.epoch([11], 0)):
        seen = own.seen(batch.images[0], batch.index[0], rng.derive(11, "augment", 0, place), 0)
        y, other, share, d_own, d_other = batch.targets[0].unbind(1)
        assert torch.equal(y.long(), synset.labels[seen.index]) and torch.equal(
            other.long(), synset.labels[seen.partner]
        )
        assert (share == seen.share).all() and 0 < seen.share < 1
        logs = -committee.logits(batch.views[0], 10.0).log_softmax(1)
        assert torch.allclose(d_own, logs.gather(1, y.long()[:, None])[:, 0], rtol=2**-9, atol=1e-4)
        assert torch.allclose(d_other, logs.gather(1, other.long()[:, None])[:, 0], rtol=2**-9, atol=1e-4)


def test_without_a_mix_both_distances_are_the_images_own(tmp_path, synset, committee):  # noqa: F811
    own, _ = told(kinds()["dbr"], batches(synset, mix=None), 11, Teaching(committee, tmp_path))
    targets = next(iter(own.epoch([11], 0))).targets[0]
    assert torch.equal(targets[:, 0], targets[:, 1]) and torch.equal(targets[:, 3], targets[:, 4])
    assert (targets[:, 2] == 1).all()


@pytest.mark.parametrize("name", ["stored", "dbr"])
def test_a_pruned_store_shows_its_epochs_again_and_reads_those_of_a_whole_one(tmp_path, synset, committee, name):  # noqa: F811
    own, about = told(kinds(kept=0.3)[name], batches(synset, epochs=5), 11, Teaching(committee, tmp_path))
    about.prepare()
    (folder,) = (each.parent for each in tmp_path.glob("*/labels.json"))
    assert len(list(folder.glob("epoch_*"))) == 2 and about.bytes() < 2 * (12 * (4 + 6) + 1000)
    shown = [[(b.views, b.targets) for b in own.epoch([11], epoch)] for epoch in range(5)]
    for epoch, other, same in ((0, 2, True), (1, 3, True), (2, 4, True), (0, 1, False)):
        assert all(
            torch.equal(a, c) == same and torch.equal(b, d) == same
            for (a, b), (c, d) in zip(shown[epoch], shown[other], strict=True)
        )
    whole, _ = told(kinds()[name], batches(synset, epochs=5), 11, Teaching(committee, tmp_path))
    list(whole.epoch([11], 4))
    assert len(list(tmp_path.glob("*/labels.json"))) == 1  # one store, of which the pruned one is a part
    if name == "stored":
        keys = list(own.targets.keys())
        assert len(keys) == len(own.targets) == 15 and keys[6] == (0, 0)


def test_students_learn_by_every_codec(tmp_path, synset, committee, teacher):  # noqa: F811
    for name, labels in kinds().items():
        own, _ = told(labels, batches(synset, epochs=40, lr=0.01), 11, Teaching(committee, tmp_path / name))
        torch.manual_seed(0)
        net, losses = teacher(), []
        train(
            [net],
            own,
            seeds=[11],
            after_batch=lambda batch, outputs, kept=losses: kept.append(float(outputs.losses.mean())),
        )
        assert sum(losses[-12:]) < 0.9 * sum(losses[:12]), name


def test_altered_stores_are_refused_in_one_line(tmp_path, synset, committee):  # noqa: F811
    own, about = told(kinds()["dbr"], batches(synset), 11, Teaching(committee, tmp_path))
    about.prepare()
    path = next(tmp_path.rglob("epoch_00000.safetensors"))
    tensors, _ = load_tensors(path)
    for changes, error in [
        ({"distances": tensors["distances"].float()}, "holds .*distances.*, expected"),
        ({"distances": tensors["distances"] * float("nan")}, "NaN or infinite"),
        ({"order": tensors["order"].flip(0)}, "another order of the images"),
    ]:
        save_tensors(path, {**tensors, **changes})
        fresh, _ = told(kinds()["dbr"], batches(synset), 11, Teaching(committee, tmp_path))
        with pytest.raises(ValueError, match=f"epoch_00000.safetensors .*{error}.*: delete .* anew"):
            list(fresh.epoch([11], 0))


def test_imagenet_at_200_images_of_a_class_fits_into_a_gigabyte():
    whole = preset("sre2l-in").labels.takes(200_000, 1000, 300, 0)
    assert whole / 1e9 == pytest.approx(120.2, abs=0.1)  # the papers' 120 GB, and the order
    few = {name: labels.takes(200_000, 1000, 300, 0) / 1e9 for name, labels in kinds().items()}
    assert few["dbr"] == pytest.approx(0.48)
    assert StoredLevels(**ASKED, top_k=10, kept=0.4).takes(200_000, 1000, 300, 0) < 1e9
    assert Stored(**ASKED, top_k=10, kept=0.25).takes(200_000, 1000, 300, 0) < 1e9
