"""Knowledge distillation: a class and a committee's logits side by side."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import batches_of, composed, make_recipe, preset
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax

from distill.evaluation.entry import Entry, Network
from distill.evaluation.evaluate import evaluate, plan
from distill.evaluation.measure import Bench
from distill.networks.flat import flatten
from distill.report.rows import Report
from distill.runs.checks import check_values, plain
from distill.sets.coreset import Coreset
from distill.sets.synthetic import SyntheticSet
from distill.teachers.committee import Committee
from distill.teachers.labels import Hard, KnowledgeDistillation, Teaching, told
from distill.training.loop import train
from distill.training.losses import Distillation, Regression
from distill.training.views import CutMix

COMMAND = "protocol=deepcore", "protocol/labels=kd", "protocol.labels.committee.networks=[convnet_bn]"


def labels(alpha, temperature=4.0):
    asked = instantiate(composed(*COMMAND).protocol.labels, _convert_="all")
    return replace(asked, alpha=alpha, temperature=temperature)


def trained(real, net, kind, committee, mix=None, **recipe):
    """Weights after some epochs on views of the training images, told in this way."""
    own = batches_of(real.train, make_recipe(augment="dsa", momentum=0.9, mix=mix, **recipe))
    batches, about = told(kind, own, 0, Teaching(committee))
    train([net], batches, seeds=[0])
    return flatten(net), about


@pytest.mark.parametrize("mix", [None, CutMix(1.0)])
def test_without_the_teachers_share_it_is_plain_training_bit_by_bit(real, teacher, committee, mix):
    weights = []
    for kind in (labels(0.0), Hard(), labels(0.5)):
        torch.manual_seed(0)
        weights.append(trained(real, teacher(), kind, committee, mix)[0])
    assert torch.equal(weights[0], weights[1]) and not torch.allclose(weights[0], weights[2], atol=1e-3)


@given(st.integers(0, 1000), st.sampled_from([0.0, 0.3, 1.0]), st.sampled_from([1.0, 4.0]))
def test_the_loss_is_the_mixture_of_cross_entropy_and_a_softened_divergence(seed, alpha, tau):
    student, teacher = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    classes = torch.tensor([0, 2, 1, 1, 0])
    targets = torch.cat([F.one_hot(classes, 3).double(), teacher], 1)
    losses = Distillation(tau, True, alpha)(lambda x: x, torch.zeros(5, 1), student, targets, torch.tensor(0.0))
    for loss, cls, own, theirs in zip(losses, classes, student, teacher, strict=True):
        p, q = ((each / tau).exp() / (each / tau).exp().sum() for each in (theirs, own))
        hard = own.exp().sum().log() - own[cls]
        soft = sum(p[k] * (p[k] / q[k]).log() for k in range(3))
        assert float(loss) == pytest.approx(float((1 - alpha) * hard + alpha * tau**2 * soft), rel=1e-9)


def test_a_regression_is_a_mean_square_and_a_little_cross_entropy(real, teacher, committee):
    student, theirs = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    shares = torch.tensor([[1, 0, 0], [0, 0.3, 0.7], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0]]).double()
    targets = torch.cat([shares, theirs], 1)
    losses = Regression(0.025)(lambda x: x, torch.zeros(5, 1), student, targets, torch.tensor(0.0)).numpy()
    own, told_of = student.numpy(), theirs.numpy()
    by_hand = ((own - told_of) ** 2).sum(1) / 3 - 0.025 * (shares.numpy() * log_softmax(own, 1)).sum(1)
    np.testing.assert_allclose(losses, by_hand, rtol=1e-12)
    # All teachers count alike, however good they are; the class alone takes bytes.
    kind = instantiate(composed("protocol=edc", COMMAND[2]).protocol.labels, _convert_="all")
    asked = replace(committee, priors=(90.0, 10.0))
    batches, about = told(kind, batches_of(real.train, make_recipe()), 0, Teaching(asked))
    assert list(about.votes.values()) == pytest.approx([0.5, 0.5], abs=1e-4)
    assert about.bytes() == real.train.labels.numel() * 8
    first = next(batches.epoch([0], 0))
    mean = torch.stack([net(first.views[0]) for net in committee.nets]).mean(0)
    torch.testing.assert_close(first.targets[0, :, 3:], mean, atol=1e-3, rtol=1e-3)


def test_a_student_that_equals_its_teacher_has_nothing_to_learn_from_it_alone():
    teacher = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    targets = torch.cat([F.one_hot(torch.tensor([0, 2, 1, 1, 0]), 3).double(), teacher], 1)
    for alpha, still in ((1.0, True), (0.9, False)):
        student = teacher.clone().requires_grad_()
        Distillation(1.0, True, alpha)(lambda x: x, student, student, targets, torch.tensor(0.0)).sum().backward()
        assert (student.grad.abs().max() < 1e-12) == still


def test_the_teachers_look_at_the_very_view_and_stay_as_they_are(real, teacher, committee):
    before = committee.fingerprint
    own = batches_of(real.train, make_recipe(augment="dsa"))
    batches, about = told(labels(0.5), own, 0, Teaching(committee))
    (batch, *_) = batches.epoch([7], 0)
    one_hot, logits = batch.targets[0].chunk(2, 1)
    assert torch.equal(one_hot, F.one_hot(real.train.labels[batch.index[0]], 3).float())
    assert torch.equal(logits, committee.logits(batch.views[0], 10.0)) and not logits.requires_grad
    assert not torch.allclose(logits, committee.logits(batch.images[0], 10.0), atol=1e-3)
    assert about.bytes() == 48 * 8 and set(about.votes) == {"first", "second"}
    trained(real, teacher(), labels(0.5), committee)
    assert Committee(committee.names, committee.nets, committee.priors).fingerprint == before


def test_soft_labels_of_a_set_are_its_classes(real, committee):
    soft = SyntheticSet.from_real(real.train, 4, torch.Generator().manual_seed(0))
    soft = soft.with_(labels=torch.randn(12, 3, generator=torch.Generator().manual_seed(1)), label_kind="logits")
    own = batches_of(real.train, make_recipe())
    (batch,) = told(labels(0.5), replace(own, data=soft), 0, Teaching(committee))[0].epoch([0], 0)
    assert torch.equal(batch.targets[0, :, :3].argmax(1), soft.labels[batch.index[0]].argmax(1))


@pytest.mark.parametrize("per_class, kept", [(4, 0.25), (8, 0.5), (16, 1.0)])
def test_the_teachers_share_grows_where_less_is_kept(real, teacher, committee, per_class, kept):
    entry = Entry([Coreset(real.train, torch.arange(48).view(3, 16)[:, :per_class].flatten())], "random", per_class)
    students, bench = {"net": Network(teacher)}, Bench(teaching=Teaching(committee))
    for stated, alpha in ((None, 1 - kept / 2), (0.7, 0.7)):
        protocol = preset("deepcore").with_(labels=labels(stated))
        sized, rows = plan(entry, real, students, protocol, bench)
        assert sized.labels.alpha == alpha
        assert {each.labels.alpha for each in rows if each.row["labels"] == "kd"} == {alpha}


def test_a_row_of_it_has_a_plain_twin_beside_it(real, teacher, committee, tmp_path):
    entry = Entry([Coreset(real.train, torch.arange(0, 48, 4))], "random", 4)
    plainly = preset("deepcore", epochs=3, batch=8, students=1, lr=0.05, test_every=None)
    students, bench = {"net": Network(teacher)}, Bench(teaching=Teaching(committee))
    found = []
    for kind in (labels(None), labels(0.875), Hard()):  # a quarter of the images
        report = Report(tmp_path / str(len(found)) / "report.json")
        evaluate(entry, real, students, plainly.with_(labels=kind), report, bench)
        found.append([(row["labels"], row["accuracies"], list(row["committee"])) for row in report.rows])
    followed, stated, hard = found
    assert [row[0] for row in followed] == ["kd", "hard"] and [row[2] for row in followed] == [["first", "second"], []]
    assert followed == stated and followed[1:] == hard


def test_its_configuration_is_complete_and_any_preset_takes_it():
    cfg = composed(*COMMAND)
    check_values(plain(cfg))
    protocol = instantiate(cfg.protocol, _convert_="all")
    values = {name: value for name, value in vars(protocol.labels).items() if name != "committee"}
    assert type(protocol.labels) is KnowledgeDistillation
    assert values == {"temperature": 4.0, "squared": True, "vote_temperature": 10.0, "alpha": None, "twin": True}
    assert protocol.labels.committee["networks"] == ["convnet_bn"]
    hashes = {protocol.with_(labels=each).hash for each in (protocol.labels, labels(0.5), labels(0.5, 2.0), Hard())}
    assert len(hashes) == 4
