"""What students are told: mixes, committees at hand and stored, and the loss at its limits."""

import copy
from dataclasses import replace

import pytest
import torch
from conftest import changed, preset
from torch.utils.data import DataLoader

from distill import augment, rng
from distill.augment.mixing import cutmix, mixup
from distill.data.split import Split
from distill.files import load_tensors, save_tensors
from distill.networks.flat import flatten
from distill.sets.synthetic import SyntheticSet
from distill.sets.walks import InfoBatch, Rs2
from distill.teachers.committee import Committee
from distill.teachers.label_store import LabelStore
from distill.teachers.labels import Hard, Own, Teaching, told
from distill.teachers.once import Fixed, Once
from distill.teachers.stored import Stored
from distill.training.batch import Batch, Batches
from distill.training.gradients import Gradients
from distill.training.loop import train
from distill.training.losses import CrossEntropy, divergence
from distill.training.optimizers import AdamW
from distill.training.schedules import Cosine, WarmCosine
from distill.training.views import Augmented, RandAugment


@pytest.fixture
def synset(real):
    return SyntheticSet.from_real(real.train, 4, torch.Generator().manual_seed(0))


def recipe(**changes):
    return changed(preset("rded", area=0.5).recipe, **{"epochs": 2, "batch": 5, **changes})


def batches(synset, strategy="flip", **changes):
    own = recipe(**changes)
    return Batches(synset, own, own.views.on(as_split(synset, strategy)))


ASKED = dict(committee={"mode": "eval"}, temperature=20.0, squared=False, vote_temperature=10.0, twin=True)


def test_a_cutmix_view_is_its_own_outside_one_box_and_its_partners_inside():
    images, g = torch.randn(6, 3, 16, 16), torch.Generator().manual_seed(4)
    views, partner, share = cutmix(images, g, 1.0)
    own = (views == images).all(1)
    other = (views == images[partner]).all(1)
    assert (own | other).all()
    taken = ~own[partner != torch.arange(6)]
    assert (taken == taken[0]).all() and taken[0].float().mean().item() == pytest.approx(1 - share)
    alike = images[:1].expand(6, -1, -1, -1)
    assert torch.equal(cutmix(alike, g, 1.0)[0], alike)


def test_shares_of_a_mix_are_uniform_for_alpha_one():
    images, g = torch.zeros(2, 3, 32, 32), torch.Generator().manual_seed(0)
    shares = torch.tensor([mixup(images, g, 1.0)[2] for _ in range(800)])
    assert shares.mean().item() == pytest.approx(0.5, abs=0.04) and shares.std().item() == pytest.approx(
        0.289, abs=0.03
    )
    boxes = torch.tensor([1 - cutmix(images, g, 1.0)[2] for _ in range(800)])
    assert boxes.mean() < 0.5  # what lies beyond the border is lost


def test_hard_labels_are_mixed_as_the_views_are(synset):
    own, _ = told(Hard(), replace(batches(synset), augment=augment.none), 0, Teaching())
    index = torch.tensor([3, 1, 4, 0, 9])
    seen = own.seen(synset.images[index], index, 7, 0)
    views, partner, share = cutmix(synset.images[index], torch.Generator().manual_seed(rng.derive(7, "mix")), 1.0)
    assert torch.equal(seen.views, views) and torch.equal(seen.partner, index[partner]) and seen.share == share
    expected = torch.zeros(5, 3)
    for i in range(5):
        expected[i, synset.labels[index[i]]] += share
        expected[i, synset.labels[index[partner[i]]]] += 1 - share
    assert torch.allclose(own.told(seen), expected)


def test_labels_made_once_mix_in_probability(synset, committee):
    labels = Once(**{**ASKED, "temperature": 4.0})
    own, about = told(labels, replace(batches(synset), augment=augment.none), 0, Teaching(committee))
    seen = own.seen(synset.images[:5], torch.arange(5), 3, 0)
    known = (committee.logits(synset.images, 10.0) / 4).softmax(1)
    mixed = seen.share * known[:5] + (1 - seen.share) * known[seen.partner]
    assert torch.allclose((own.told(seen) / 4).softmax(1), mixed, atol=1e-6)
    assert about.bytes() == 12 * 3 * 4 and own.loss.temperature == 4.0


def test_an_image_of_tiles_has_no_label_that_is_made_once(synset, committee):
    tiled = batches(synset.with_(tiles=2))
    for kind in (Once, Fixed):
        with pytest.raises(
            ValueError, match=f"labels is {kind.name}, one label for each image, and students are shown one"
        ):
            told(kind(**{**ASKED, "temperature": 4.0}), tiled, 0, Teaching(committee))
    soft = synset.with_(tiles=2, labels=torch.randn(12, 3), label_kind="logits")
    told(Fixed(**{**ASKED, "temperature": 1.0}), batches(soft), 0, Teaching(committee))  # the set's own


def test_fixed_labels_are_the_sets_own_where_these_are_soft_and_else_a_committees(synset, committee):
    fixed, teaching = Fixed(**{**ASKED, "temperature": 1.0}), Teaching(committee)
    soft = synset.with_(labels=torch.randn(12, 3, generator=torch.Generator().manual_seed(1)), label_kind="logits")
    for data, same in ((soft, Own(twin=False)), (synset, Once(**{**ASKED, "temperature": 1.0}))):
        (own, about), (other, beside) = (told(labels, batches(data), 0, teaching) for labels in (fixed, same))
        seen = own.seen(data.images[:5], torch.arange(5), 3, 0)
        assert torch.equal(own.told(seen), other.told(seen))
        assert (own.loss, about.bytes()) == (other.loss, beside.bytes())


def test_a_row_with_hard_labels_stands_beside_unless_it_is_left_out():
    with_, without = Once(**ASKED), Once(**{**ASKED, "twin": False})
    assert with_.rows(False) == [with_, Hard()] and without.rows(False) == [without]
    preset_ = preset("rth-soft")
    assert preset_.hash == "4d02d06fefab" != preset_.with_(labels=replace(preset_.labels, twin=False)).hash


def store(folder, synset, teachers, strategy="flip", **changes):
    names = {"top_k", "committee", "temperature", "vote_temperature", "kept"}
    labels = Stored(
        **{**ASKED, "top_k": None, "kept": 1.0, **{name: changes.pop(name) for name in names & changes.keys()}}
    )
    own, _ = told(labels, batches(synset, strategy, **changes), 11, Teaching(teachers, folder))
    assert isinstance(own.targets, LabelStore)
    return own.targets


def as_split(synset, strategy="flip"):
    return Split(synset.images, synset.labels, synset.class_names, synset.data, synset.preprocessing, strategy)


@pytest.mark.parametrize("top_k", [None, 1])
def test_what_a_store_takes_is_known_before(tmp_path, synset, committee, top_k):
    labels = Stored(**ASKED, top_k=top_k, kept=1.0)
    _, about = told(labels, batches(synset), 11, Teaching(committee, tmp_path))
    about.prepare()
    takes = labels.takes(12, 3, 2, 0)
    assert takes == 2 * 12 * (4 + 2 * 3 if top_k is None else 4 + 2 + 4 + 2)
    assert takes < about.bytes() < takes + 2 * 1000  # and what tells each of two files


@pytest.mark.parametrize("mode, parts", [("eval", 1), ("batch", 2)])
def test_a_replayed_store_gives_the_same_views_and_labels_bit_for_bit(tmp_path, synset, committee, mode, parts):
    settings = dict(committee={"mode": mode}, micro_batches=parts)
    first, second = (store(tmp_path, synset, committee, **settings) for _ in range(2))
    for one, two in zip(
        *(DataLoader(each, sampler=each.keys(), batch_size=None) for each in (first, second)), strict=True
    ):
        assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
    assert len(list(first.keys())) == len(first) == 6
    views, told = second[1, 2]
    asked = committee.logits(views, 10.0, mode, parts)
    assert torch.allclose(told, asked, rtol=2**-10, atol=1e-4)  # half precision
    files = list(first.folder.glob("epoch_*"))
    assert len(files) == 2 and first.bytes == sum(file.stat().st_size for file in files)
    assert first.bytes >= 2 * 12 * (2 * 3 + 4)


def test_an_epoch_that_two_processes_label_is_the_same_whoever_writes_it_last(tmp_path, synset, committee):
    one, other = (store(tmp_path, synset, committee) for _ in range(2))
    path = one.folder / "epoch_00000.safetensors"
    one.write(0)
    before = load_tensors(path)[0]
    other.write(0)
    assert one.folder == other.folder and all(torch.equal(each, before[k]) for k, each in load_tensors(path)[0].items())
    assert torch.equal(one.read(0), other.read(0))


def test_what_training_sees_is_what_the_store_holds(tmp_path, synset, committee, teacher):
    held = store(tmp_path, synset, committee)
    heard = []
    train([teacher()], replace(held.batches, targets=held), seeds=[11], after_batch=lambda *each: heard.append(each))
    for key, (batch, _) in zip(held.keys(), heard, strict=True):
        assert torch.equal(held[key][0], batch.views[0]) and torch.equal(held[key][1], batch.targets[0])


def test_a_store_holds_the_rounds_of_a_walk_that_does_not_listen(tmp_path, real, committee):
    labels = Stored(**ASKED, top_k=None, kept=1.0)
    walk, own = Rs2(replacement=False, stratified=True).on(real.train, [2, 2, 2]), recipe(batch=4)
    made = Batches(walk, own, own.views.on(real.train))
    taught, about = told(labels, made, 11, Teaching(committee, tmp_path))
    about.prepare()
    store = taught.targets
    assert len(store) == len(list(store.keys())) == 2  # two epochs of six images, of which two fill no batch
    for key, (views, logits) in zip(
        store.keys(), DataLoader(store, sampler=store.keys(), batch_size=None), strict=True
    ):
        seen = store.seen(*key)
        assert torch.equal(views, seen.views) and len(logits) == 4
        assert torch.allclose(logits, committee.logits(views, 10.0), atol=2e-2)
    walk = InfoBatch(ratio=0.5, delta=0.875).on(real.train, [2, 2, 2])
    with pytest.raises(ValueError, match="follows a student's losses"):
        told(labels, Batches(walk, own, own.views.on(real.train)), 11, Teaching(committee, tmp_path))


def test_an_interrupted_store_goes_on(tmp_path, synset, committee):
    whole = store(tmp_path / "whole", synset, committee)
    for epoch in (0, 1):
        whole.read(epoch)
    part = store(tmp_path / "part", synset, committee)
    part.read(0)
    again = store(tmp_path / "part", synset, committee)
    assert all(torch.equal(again.read(epoch), whole.read(epoch)) for epoch in (0, 1))


def test_top_k_keeps_the_softmax_of_the_k_and_the_mass_of_the_rest(tmp_path, synset, committee):
    full, kept = store(tmp_path, synset, committee), store(tmp_path, synset, committee, top_k=1)
    tau = 20.0
    one, two = ((each.read(0) / tau).softmax(1) for each in (full, kept))
    assert torch.allclose(one.max(1).values, two.max(1).values, atol=1e-3)
    assert (one.argmax(1) == two.argmax(1)).all()
    assert kept.folder != full.folder


def test_labels_of_other_views_images_or_teachers_are_refused(tmp_path, synset, committee, real):
    held = store(tmp_path, synset, committee)
    held.read(0)
    for changes, key in [
        (dict(area=0.3), "views"),
        (dict(batch=4), "views"),
        (dict(vote_temperature=3.0), "committee"),
        (dict(top_k=2), "top_k"),
    ]:
        with pytest.raises(
            ValueError, match=f"labels in .* were made for {key} .*, this run has .*: name another labels_path"
        ):
            store(held.folder, synset, committee, **changes)
    other = SyntheticSet.from_real(real.train, 4, torch.Generator().manual_seed(1))
    with pytest.raises(ValueError, match="were made for images"):
        store(held.folder, other, committee)
    first, second = committee.nets
    altered = copy.deepcopy(second)
    altered.classifier.bias += 1.0
    with pytest.raises(ValueError, match="were made for committee"):  # of the same names and votes
        store(held.folder, synset, Committee(committee.names, (first, altered), committee.priors))


def test_labels_of_other_mirroring_are_refused_and_files_of_before_are_read(tmp_path, synset, committee):
    held = store(tmp_path, synset, committee)
    logits = held.read(0)
    with pytest.raises(ValueError, match="epoch_00000.safetensors was made for other views: .*: delete .* anew"):
        store(held.folder, synset, committee, "crop").read(0)
    path = held.folder / "epoch_00000.safetensors"
    tensors, _ = load_tensors(path)
    save_tensors(path, {name: tensor for name, tensor in tensors.items() if name != "seen"})
    assert torch.equal(store(held.folder, synset, committee).read(0), logits)


# Section 10, check J.
def test_a_hot_divergence_is_the_squared_distance_of_centred_logits():
    student, teacher = torch.randn(2, 7, 10).double().mul(2)
    tau, centred = 200.0, (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    expected = centred.square().sum(1) / (2 * 10 * tau**2)
    assert divergence(student, teacher, tau).tolist() == pytest.approx(expected.tolist(), rel=0.05)
    assert divergence(teacher, teacher, 20.0).tolist() == pytest.approx([0.0] * 7, abs=1e-12)


# Section 10, check F.
def test_a_stretched_cosine_has_the_papers_mean_and_end():
    for stretch, mean, last in ((1.0, 0.5, 0.0), (2.0, 0.818, 0.5)):
        asked = recipe(epochs=3000, stretch=stretch)
        rates = [asked.rate(epoch, 3000) / asked.lr for epoch in range(3000)]
        assert sum(rates) / 3000 == pytest.approx(mean, abs=1e-3) and rates[-1] == pytest.approx(last, abs=1e-2)
    warm = recipe(epochs=20, schedule=WarmCosine(1.0, 5, 0.01))
    assert warm.rate(0, 20) == pytest.approx(0.01 * warm.lr) and warm.rate(5, 20) == warm.lr


@pytest.mark.parametrize("everywhere", [False, True])
def test_decoupled_decay_is_adamws_on_kernels_alone_or_on_everything(teacher, synset, everywhere):
    parts = dict(optimizer=AdamW(0.1, everywhere), schedule=Cosine(None), views=Augmented("none"), mix=None)
    own = batches(synset, epochs=3, batch=100, lr=0.01, **parts)
    torch.manual_seed(0)
    net, reference = teacher(), teacher()
    reference.load_state_dict(net.state_dict())
    train([net], own, seeds=[0])
    kernels = [p for p in reference.parameters() if p.dim() > 1]
    others = [p for p in reference.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": kernels, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.1 * everywhere}], 0.01
    )
    for epoch in range(3):
        order = torch.randperm(12, generator=rng.generator(0, "batches", epoch))
        optimizer.zero_grad()
        # Adam makes steps of the rounding in a bias before a batch norm: the layout is that of training.
        views = synset.images[order].contiguous(memory_format=torch.channels_last)
        torch.nn.functional.cross_entropy(reference(views), synset.labels[order]).backward()
        optimizer.step()
    for one, two in zip(net.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(one, two, atol=1e-5)


def test_micro_batches_are_averaged_and_have_statistics_of_their_own(teacher, synset):
    torch.manual_seed(0)
    net, labels = teacher(), torch.eye(3)[synset.labels]
    weights = flatten(net)[None]

    def gradient(parts, index):
        images, ones = synset.images[index][None], torch.ones(1, len(index))
        batch = Batch(images, images, labels[index][None], ones, index[None], 0)
        return Gradients([net], recipe(micro_batches=parts, batch=12), CrossEntropy(), None).on(batch)(weights)

    every = torch.arange(12)
    halves = (gradient(1, every[:6]) + gradient(1, every[6:])) / 2
    assert torch.allclose(gradient(2, every), halves, atol=1e-6)
    assert not torch.allclose(gradient(1, every), halves, atol=1e-3)
    # A last, smaller batch goes whole where it fits into one part, else in parts of the same size; each weighs the same.
    for last in (every[:4], every[:6]):
        assert torch.allclose(gradient(2, last), gradient(1, last) / 2, atol=1e-7)
    unequal = (gradient(1, every[:6]) + gradient(1, every[6:9])) / 2
    assert torch.allclose(gradient(2, every[:9]), unequal, atol=1e-6)


def test_a_mean_of_weights_is_what_is_measured(teacher, synset):
    nets = [teacher(), teacher()]
    nets[1].load_state_dict(nets[0].state_dict())
    start = [p.clone() for p in nets[0].parameters()]
    for net, ema in zip(nets, (None, 1.0), strict=True):
        train([net], batches(synset, ema=ema), seeds=[0])
    assert all(torch.equal(a, b) for a, b in zip(nets[1].parameters(), start, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(nets[0].parameters(), start, strict=True))


def test_rded_batches_follow_ipc_and_classes():
    asked = preset("rded")
    found = [asked.sized(ipc * classes, classes, 50000).recipe.batch for classes in (10, 100) for ipc in (1, 10, 50)]
    assert found == [10, 50, 100, 20, 100, 200]


def test_labels_of_another_strength_of_views_are_another_store(tmp_path, synset, committee):
    stores = [
        store(
            tmp_path,
            synset,
            committee,
            views=RandAugment(operations=2, level=level, whole_batch=False, eight_bits=False),
        )
        for level in (5, 9)
    ]
    assert stores[0].folder != stores[1].folder
    assert (
        stores[0].folder
        == store(
            tmp_path, synset, committee, views=RandAugment(operations=2, level=5, whole_batch=False, eight_bits=False)
        ).folder
    )
