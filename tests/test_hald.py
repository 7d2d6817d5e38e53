"""HALD's labels: logits, then classes, then logits again."""

import pytest
import torch
from conftest import composed
from hydra.utils import instantiate
from test_labels import ASKED, batches, synset  # noqa: F401

from distill.networks.flat import flatten
from distill.teachers.calibrated import SoftHardSoft
from distill.teachers.labels import SmoothedHard, Teaching, told
from distill.teachers.stored import Stored
from distill.training.loop import train
from distill.training.losses import Calibrated
from distill.training.views import CutMix


def labels(start, stop, kept=1.0):
    return SoftHardSoft(**ASKED, top_k=None, kept=kept, start=start, stop=stop, smoothing=0.2)


def test_the_loss_is_the_divergence_but_between_its_epochs_smoothed_cross_entropy():
    student, teacher = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    shares = torch.tensor([[1, 0, 0], [0, 0.3, 0.7], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0]]).double()
    targets = torch.cat([shares, teacher], 1)
    p, q = (teacher / 4).softmax(1), (student / 4).softmax(1)
    soft = 16 * (p * (p / q).log()).sum(1)
    hard = -((0.8 * shares + 0.2 / 3) * student.log_softmax(1)).sum(1)
    loss = Calibrated(4.0, True, 2, 4, 0.2)
    for epoch, plain in enumerate([soft, soft, hard, hard, soft]):
        ours = loss(lambda x: x, student, student, targets, torch.tensor(float(epoch)))
        assert torch.allclose(ours, plain, rtol=1e-12), epoch


def test_without_classes_it_is_a_stores_training_and_with_nothing_else_that_of_smoothed_classes(
    synset,  # noqa: F811
    committee,
    teacher,
    tmp_path,
):
    weights = []
    kinds = (
        labels(0.5, 0.5),
        Stored(**ASKED, top_k=None, kept=1.0),
        labels(0.0, 1.0),
        SmoothedHard(0.2),
        labels(0.25, 0.75),
    )
    for kind in kinds:
        own, _ = told(kind, batches(synset, epochs=4, mix=CutMix(1.0)), 11, Teaching(committee, tmp_path))
        torch.manual_seed(0)
        net = teacher()
        train([net], own, seeds=[11])
        weights.append(flatten(net))
    soft, stored, hard, smoothed, between = weights
    assert torch.equal(soft, stored) and torch.allclose(hard, smoothed, atol=1e-4)
    assert not torch.allclose(between, soft, atol=1e-3) and not torch.allclose(between, hard, atol=1e-3)


def test_the_epochs_are_those_of_the_training_and_few_of_them_are_stored(synset, committee, tmp_path):  # noqa: F811
    own, about = told(labels(0.4, 0.8, kept=0.2), batches(synset, epochs=10), 11, Teaching(committee, tmp_path))
    about.prepare()
    assert (own.loss.first, own.loss.last, own.cycle) == (4, 8, 2)
    assert len(list(tmp_path.rglob("epoch_*"))) == 2
    stored = sum(path.stat().st_size for path in tmp_path.rglob("epoch_*"))
    assert about.bytes() == pytest.approx(stored + 8 * len(synset), abs=2000) and about.bytes() > stored
    targets = next(own.epoch([11], 0)).targets[0]
    assert targets.shape[1] == 6 and torch.allclose(targets[:, :3].sum(1), torch.ones(len(targets)))
    assert labels(0.4, 0.8, kept=0.2).takes(12, 3, 10, 0) == 2 * 12 * (4 + 6) + 8 * 12


def test_the_configuration_makes_it_and_what_it_cannot_be_is_refused():
    kind = instantiate(
        composed("protocol=cvdd", "protocol/labels=hald", "data=cifar10").protocol.labels, _convert_="all"
    )
    assert (kind.name, kind.start, kind.stop) == ("hald", 0.4, 0.8)
    with pytest.raises(ValueError, match=r"protocol.labels.stop is 0.3, expected at least start, 0.5"):
        labels(0.5, 0.3)
    with pytest.raises(ValueError, match=r"protocol.labels.stop is 1.2, expected a number in \[0, 1\]"):
        labels(0.5, 1.2)
