"""Committee: votes as the paper weighs them, labels of a batch or of single views, and teachers that are no good."""

import pytest
import torch

from distill.teachers.committee import Committee

# Section 10, check G: softmax of the published priors over 10.
VOTES = {
    "CIFAR-10": ((63.0, 65.3, 68.5, 67.6, 67.4), (0.140, 0.177, 0.243, 0.222, 0.218)),
    "CIFAR-100": ((64.0, 60.6, 51.6, 59.4, 56.4), (0.323, 0.230, 0.093, 0.204, 0.151)),
    "Tiny-ImageNet": ((46.5, 28.3, 43.6, 44.8, 41.5), (0.298, 0.048, 0.223, 0.251, 0.180)),
    "ImageNette": ((62.4, 52.0, 57.2, 54.0, 60.8), (0.309, 0.109, 0.184, 0.134, 0.264)),
    "ImageNet-1K": ((56.4, 42.3, 52.5, 44.2, 40.6), (0.413, 0.101, 0.279, 0.122, 0.085)),
}


@pytest.mark.parametrize("data", VOTES)
def test_votes_are_those_of_the_table(data, teacher):
    priors, votes = VOTES[data]
    committee = Committee(tuple("abcde"), tuple(teacher() for _ in priors), priors)
    assert committee.votes(10.0).tolist() == pytest.approx(votes, abs=1e-3)
    if data == "ImageNet-1K":
        assert committee.members([0, 2]).votes(5.0).tolist() == pytest.approx((0.686, 0.314), abs=1e-3)


def test_a_label_depends_on_its_company_in_batch_mode_alone_and_within_its_part(committee):
    views = torch.randn(8, 3, 8, 8)
    other = torch.cat([views[:4], torch.randn(4, 3, 8, 8)])
    for mode, parts, same in (("eval", 1, True), ("batch", 1, False), ("batch", 2, True)):
        one, two = (committee.logits(each, 10.0, mode, parts)[:4] for each in (views, other))
        assert torch.allclose(one, two, atol=1e-6) == same


def test_asking_leaves_the_running_statistics_alone(committee):
    before = {name: buffer.clone() for name, buffer in committee.nets[0].named_buffers()}
    one = committee.logits(torch.randn(4, 3, 8, 8), 10.0, "batch")
    assert one.shape == (4, 3)
    assert all(torch.equal(before[name], buffer) for name, buffer in committee.nets[0].named_buffers())


def test_logits_are_the_members_weighed_by_their_votes(committee):
    views, votes = torch.randn(4, 3, 8, 8), committee.votes(10.0)
    parts = [vote * net(views) for vote, net in zip(votes, committee.nets, strict=True)]
    assert torch.allclose(committee.logits(views, 10.0), sum(parts), atol=1e-6)


def test_a_teacher_that_knows_the_classes_in_another_order_is_told_with_both(committee, real):
    assert min(committee.check(real.train, 0.9)) > 0.9
    for net in committee.nets:
        net.classifier.weight.data, net.classifier.bias.data = (
            part.data[[1, 2, 0]] for part in (net.classifier.weight, net.classifier.bias)
        )
    with pytest.raises(
        ValueError,
        match="first knows the classes in another order .*: 3 of 3 classes differ, the first is class 0: 'c1' there, 'c0' here",
    ):
        committee.check(real.train, 0.9)


def test_a_weak_teacher_and_priors_that_do_not_fit_are_refused(teacher, real):
    torch.manual_seed(0)
    weak = Committee(("weak",), (teacher(),), (0.0,))
    with pytest.raises(ValueError, match="teacher weak classifies .* expected at least 90.0%: it is too weak"):
        weak.check(real.train, 0.9)
    with pytest.raises(ValueError, match="2 prior accuracies for 1 teachers"):
        Committee(("a",), (teacher(),), (1.0, 2.0))
    with pytest.raises(ValueError, match="unknown committee.mode 'train': one of eval, batch"):
        weak.logits(torch.zeros(2, 3, 8, 8), 1.0, "train")
