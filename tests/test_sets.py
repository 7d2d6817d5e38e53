"""What a student trains on: synthetic sets, coresets, walks of the real set; images of files stay in their files."""

import doctest

import pytest
import torch
from conftest import batches_of, make_recipe, preset
from test_lazy import load, write_folder

from distill.evaluation.entry import Entry, Network
from distill.evaluation.evaluate import evaluate
from distill.networks.convnet import ConvNet
from distill.report.rows import Report
from distill.sets import coreset
from distill.sets.coreset import Coreset
from distill.sets.synthetic import SyntheticSet
from distill.sets.walks import Rs2
from distill.training.accuracy import accuracy
from distill.training.batch import Batches
from distill.training.gradients import way_to_train
from distill.training.loop import train


class Counted:
    """Images that tell how many of them were asked for at once."""

    def __init__(self, images):
        self.images, self.asked = images, []

    def __getattr__(self, name):
        return getattr(self.images, name)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        found = self.images[index]
        self.asked.append(found.shape[:-3].numel())
        return found

    def split(self, size):
        return (self[first : first + size] for first in range(0, len(self), size))


@pytest.mark.parametrize("labels", ["hard", "own"])
def test_a_row_of_a_whole_folder_never_holds_the_folder(tmp_path, labels):
    from dataclasses import replace

    real = load(write_folder(tmp_path / "pets", train=30, test=2))
    images = Counted(real.train.images)
    real = replace(real, train=replace(real.train, images=images))
    protocol = preset("dcb-none", epochs=1, extra_epochs=0, batch=8, students=2)
    net = Network(lambda: ConvNet((3, 16, 16), 4, depth=2, width=4, norm="instance", pooling="avg", activation="relu"))
    report = Report(tmp_path / "report.json")
    evaluate(Entry([Coreset.whole(real.train)], "whole", None), real, {"net": net}, protocol, report)
    assert max(images.asked) == 8  # a batch
    assert 2 * len(real.train) <= sum(images.asked) <= 2 * len(real.train) + 2 * 8  # two students, an epoch each
    assert report.rows[0]["image_bytes"] == 3 * 16 * 16 * len(real.train)


def test_a_walk_of_a_folder_reads_the_images_of_its_rounds_alone(tmp_path):
    from dataclasses import replace

    real = load(write_folder(tmp_path / "pets", train=30, test=2))
    images = Counted(real.train.images)
    walk = Rs2(replacement=True, stratified=True).on(replace(real.train, images=images), [2] * 4)
    recipe = make_recipe(epochs=3, batch=5)
    net = ConvNet((3, 16, 16), 4, depth=2, width=4, norm="instance", pooling="avg", activation="relu")
    train([net], Batches(walk, recipe, lambda images, draw: images), seeds=[0])
    assert images.asked == [5, 3] * 3 and walk.image_bytes == 3 * 16 * 16 * len(images)
    assert walk.hash != Rs2(replacement=True, stratified=True).on(real.train, [3] * 4).hash


def test_a_coreset_is_the_synthetic_set_of_the_same_images(real, student):
    index = torch.tensor([40, 3, 17, 22])
    picked, copied = Coreset(real.train, index), SyntheticSet.of_images(real.train, index)
    assert torch.equal(picked.images[:], copied.images) and torch.equal(picked.targets, copied.targets)
    for name in ("hash", "counts", "ipc", "label_bytes", "class_names"):
        assert getattr(picked, name) == getattr(copied, name), name
    nets = []
    for data in (picked, copied):
        torch.manual_seed(0)
        nets.append(student())
        train(nets[-1:], Batches(data, make_recipe(), lambda images, draw: images), seeds=[0])
    assert all(torch.equal(a, b) for a, b in zip(*(net.parameters() for net in nets), strict=True))


def test_a_coreset_copies_nothing(real):
    picked = Coreset.whole(real.train)
    assert picked.images.source is real.train.images and len(picked) == len(real.train)
    real.train.images[5] = 7.0
    assert (picked.images[torch.tensor([5])] == 7.0).all()


class Halves(Coreset):
    """A walk of the real set: every epoch the half whose losses were largest, weighed twice."""

    observes = True

    def __init__(self, split):
        super().__init__(split, torch.arange(len(split)))
        self.seen = torch.full((len(split),), float("inf"))

    def epoch(self, number, seed):
        kept = self.seen.argsort(descending=True, stable=True)[: len(self) // 2]
        order, _ = super().epoch(number, seed)
        order = order[torch.isin(order, kept)]
        return order, torch.full((len(order),), 2.0)

    def observe(self, index, losses):
        self.seen[index.flatten()] = losses.flatten()


def test_a_walk_of_its_own_needs_an_epoch_and_hears_the_losses(real, student):
    data, heard = Halves(real.train), []
    recipe = make_recipe(epochs=12, momentum=0.9)
    torch.manual_seed(0)
    net = student()
    batches = Batches(data, recipe, lambda images, draw: images)
    train([net], batches, seeds=[0], after_batch=lambda batch, said: heard.append(batch))
    assert {len(batch.index[0]) for batch in heard} == {16, 8} and len(heard) == 12 * 2
    assert all((batch.weight == 2).all() for batch in heard)
    first, second = (torch.cat([batch.index[0] for batch in heard[2 * e : 2 * e + 2]]) for e in (0, 1))
    assert not torch.isin(first, second).any()  # what was not seen yet goes first
    assert data.seen.isfinite().all() and accuracy(net, real.test, recipe) > 0.8
    assert way_to_train(student, batches, 3, 3, False)[1] == 1  # what hears belongs to one student


def test_weights_of_one_leave_training_as_it_is(real, student):
    class Weighed(Coreset):
        def epoch(self, number, seed):
            order, ones = super().epoch(number, seed)
            return order, 0.5 * ones

    nets = []
    for data, lr in ((Coreset.whole(real.train), 0.05), (Weighed.whole(real.train), 0.1)):
        torch.manual_seed(0)
        nets.append(student())
        train(nets[-1:], Batches(data, make_recipe(lr=lr), lambda images, draw: images), seeds=[0])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*(net.parameters() for net in nets), strict=True))
    torch.manual_seed(0)
    plain = student()
    train([plain], batches_of(real.train, make_recipe(lr=0.05)), seeds=[0])
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), nets[0].parameters(), strict=True))


def test_examples_hold():
    assert doctest.testmod(coreset).failed == 0
