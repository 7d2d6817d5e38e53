"""Scores that rank images, and the strata of CCS: directions, ties, identities and exact numbers."""

import doctest

import pytest
import torch
import torch.nn.functional as F

from distill.methods.selection import coverage, geometry, scores
from distill.methods.selection.coverage import ccs, strata_between
from distill.methods.selection.scores import aum, el2n, entropy, forgetting, grand, least_confidence, margin, ranked


def draws(seed):
    return torch.Generator().manual_seed(seed)


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=draws(seed))


@pytest.mark.parametrize("module", [coverage, geometry, scores])
def test_the_examples_are_true(module):
    found = doctest.testmod(module)
    assert found.failed == 0 < found.attempted


SEQUENCES = {"0101": 1, "0000": 0, "1111": 0, "1010": 2, "0001": 0, "1000": 1}


def test_forgetting_counts_moves_from_right_to_wrong_and_never_right_as_the_rule_says():
    correct = torch.tensor([[int(epoch) for epoch in each] for each in SEQUENCES]).bool().T
    assert forgetting(correct, "zero").tolist() == list(SEQUENCES.values())
    infinite = [float("inf") if each == "0000" else count for each, count in SEQUENCES.items()]
    assert forgetting(correct, "infinite").tolist() == infinite


def test_el2n_takes_the_first_epochs_and_aum_all():
    log = numbers(12, 7)
    assert torch.allclose(el2n(log, 10), sum(log[:10])) and torch.allclose(aum(log), sum(log))
    with pytest.raises(ValueError, match="el2n sums 13 epochs, the log has 12: train the proxy longer"):
        el2n(log, 13)


@pytest.mark.parametrize("block", [1, 2**22])  # image by image, and all at once
def test_grand_is_the_norm_of_each_images_own_gradient(monkeypatch, block):
    monkeypatch.setattr(scores, "BLOCK", block)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body, last = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh()), torch.nn.Linear(5, 4)
    images, labels = numbers(12, 6), torch.arange(12) % 4
    norms = []
    for image, label in zip(images, labels, strict=True):
        gradients = torch.autograd.grad(F.cross_entropy(last(body(image)), label), [last.weight, last.bias])
        norms.append(torch.cat([each.flatten() for each in gradients]).norm())
    with torch.no_grad():
        assert torch.allclose(grand(body(images), last(body(images)), labels), torch.stack(norms), atol=1e-5)


@pytest.mark.parametrize("measure", [entropy, margin, least_confidence])
def test_what_a_network_is_unsure_of_comes_first(measure):
    logits = F.one_hot(torch.arange(12) % 3, 3) * (6 + torch.rand(12, 1, generator=draws(0)))
    logits[[2, 5, 11]] = 0.01 * numbers(3, 3)  # between all classes
    logits[7] = torch.tensor([6.1, 6.0, -9.0]) / 2  # between two of them
    assert sorted(ranked(measure(logits), 4, highest=False).tolist()) == [2, 5, 7, 11]


def test_measures_of_uncertainty_are_those_of_their_probabilities():
    p = torch.tensor([[0.5, 0.3, 0.2], [0.9, 0.05, 0.05]])
    logits = p.log() + torch.tensor([[3.0], [-1.0]])
    assert torch.allclose(entropy(logits), torch.stack([sum(x * x.log() for x in row) for row in p]))
    assert torch.allclose(margin(logits), torch.tensor([0.2, 0.85]))
    assert torch.allclose(least_confidence(logits), torch.tensor([0.5, 0.9]).log() + torch.tensor([3.0, -1.0]))
    sure = torch.tensor([[1000.0, -1000.0, 0.0]])
    assert entropy(sure).item() == 0 and margin(sure).item() == 1  # zero times minus infinity is nowhere


@pytest.mark.parametrize("highest", [True, False])
def test_equal_scores_are_ranked_by_place_at_either_end(highest):
    values = torch.randint(0, 3, (200,), generator=draws(0)).float()
    sign = -1 if highest else 1
    expected = sorted(range(200), key=lambda i: (sign * values[i].item(), i))
    assert all(ranked(values, count, highest).tolist() == expected[:count] for count in (1, 50, 200))
    assert ranked(torch.tensor([1.0, torch.inf]), 1, highest).tolist() == [int(highest)]


def test_an_image_without_a_score_is_refused():
    with pytest.raises(ValueError, match="el2n is NaN for 2 of 4 images, expected a number for each: .*learning rate"):
        scores.check_scores("el2n", torch.tensor([1.0, torch.nan, torch.inf, torch.nan]))
    scores.check_scores("forgetting", torch.tensor([1.0, torch.inf]))


def test_ccs_returns_as_many_different_images_as_asked_and_the_same_again():
    for trial in range(30):  # scores heaped at one end, as those of a trained network are
        values = numbers(200, seed=trial) ** (1 + trial % 5)
        for count in (1, 7, 100, 160):
            picked = ccs(values, values, count, 0.2, 11, draws(trial))
            assert picked.tolist() == sorted(set(picked.tolist())) and len(picked) == count
            assert torch.equal(picked, ccs(values, values, count, 0.2, 11, draws(trial)))
    assert not torch.equal(picked, ccs(values, values, 150, 0.2, 11, draws(99)))


def test_ccs_draws_every_stratum_alike_where_they_are_alike():
    picked = ccs(torch.arange(100.0), torch.arange(100.0), 30, 0.0, 10, draws(0))
    assert (picked // 10).bincount().tolist() == [3] * 10  # of 100 places, ten strata of ten


def test_small_strata_go_whole_and_their_share_to_larger_ones():
    values = torch.cat([torch.full((2,), 0.0), torch.full((50,), 5.0), torch.full((7,), 9.9), torch.full((60,), 10.0)])
    picked = ccs(values, values, 48, 0.0, 3, draws(0))  # strata of 2, 50 and 67
    assert strata_between(values, 3).bincount().tolist() == [2, 50, 67]
    assert strata_between(values, 3)[picked].bincount().tolist() == [2, 23, 23]
    assert strata_between(values, 3)[ccs(values, values, 49, 0.0, 3, draws(0))].bincount().tolist() == [2, 23, 24]


def test_the_range_is_cut_at_equal_widths_with_its_right_end_inside():
    assert strata_between(torch.tensor([-4.0, -3.1, -3.0, -2.5, -1.0, 0.0]), 4).tolist() == [0, 0, 1, 1, 3, 3]
    assert strata_between(torch.tensor([0.0, 2.5, 7.5, 10.0]), 4).tolist() == [0, 1, 3, 3]
    assert strata_between(torch.tensor([-4.0, -2.0]), 50).tolist() == [0, 49]  # a maximum below zero
    assert strata_between(torch.full((3,), 0.7), 50).tolist() == [0, 0, 0]


def test_without_a_cut_off_all_images_are_all():
    for values in (numbers(12), torch.full((12,), 0.7)):
        assert ccs(values, values, 12, 0.0, 50, draws(0)).tolist() == list(range(12))


def test_the_cut_off_takes_exactly_the_images_of_lowest_aum_whatever_the_score_is():
    hardness, score = numbers(100, seed=1), numbers(100, seed=2)
    hardest = set(hardness.argsort()[:29].tolist())
    assert set(ccs(score, hardness, 71, 0.29, 5, draws(0)).tolist()) == set(range(100)) - hardest  # .29 * 100 < 29
    first = set(range(30))  # of equal ones
    assert set(ccs(score, torch.zeros(100), 70, 0.3, 5, draws(0)).tolist()) == set(range(100)) - first


def test_every_image_of_a_stratum_may_be_drawn():
    seen = {int(i) for seed in range(60) for i in ccs(torch.zeros(12), torch.zeros(12), 2, 0.25, 50, draws(seed))}
    assert seen == set(range(3, 12))


def test_a_cut_off_that_leaves_too_few_and_infinite_scores_are_refused():
    with pytest.raises(
        ValueError, match="choose 8 of 10 images after a cut-off of 0.3, expected at most the 7 left: a smal"
    ):
        ccs(numbers(10), numbers(10), 8, 0.3, 5, draws(0))
    with pytest.raises(ValueError, match="some scores are infinite or NaN, expected numbers: .*unlearned=zero"):
        ccs(torch.tensor([1.0, torch.inf]), numbers(2), 1, 0.0, 5, draws(0))
