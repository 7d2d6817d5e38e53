"""Trainings on the real set: subsets that change with every round, rounds that follow losses, and what they are matched on."""

import doctest
import math
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from conftest import make_recipe, preset
from torch import nn

from distill.evaluation.entry import Entry, Network
from distill.evaluation.evaluate import evaluate
from distill.files import read_record
from distill.report.rows import Report
from distill.report.table import lines
from distill.report.unfinished import Unfinished
from distill.sets import walks
from distill.sets.coreset import Coreset
from distill.sets.walks import InfoBatch, Rs2, SeTa, Short, grouped
from distill.training.batch import Batches
from distill.training.loop import train

COUNTS = [4, 4, 4]  # of 16 training images of each class


def rounds(rule, real, number, counts=COUNTS, batch=1, seed=0):
    """The rounds of a training, a list of indices each."""
    walk = rule.on(real.train, counts).walk(number, batch, batch)
    return [walk.epoch(each, seed)[0].tolist() for each in range(number)]


@pytest.mark.parametrize("stratified", [True, False])
def test_without_replacement_every_image_is_seen_once_in_as_many_rounds_as_a_shuffle_has(real, stratified):
    for first in (0, 4, 8):  # the next shuffles too
        seen = rounds(Rs2(False, stratified), real, 12)[first : first + 4]
        assert Counter(sum(seen, [])) == Counter(range(len(real.train)))
    shuffles = [sum(rounds(Rs2(False, stratified), real, 8)[first : first + 4], []) for first in (0, 4)]
    assert shuffles[0] != shuffles[1]


def test_what_does_not_fill_a_round_is_left_out_and_the_next_shuffle_follows(real):
    seen = rounds(Rs2(False, False), real, 4, [7, 7, 6])  # 20 of 48
    assert not set(seen[0]) & set(seen[1]) and not set(seen[2]) & set(seen[3])
    assert len(set(seen[0]) | set(seen[1])) == 40 and set(seen[0]) | set(seen[1]) != set(seen[2]) | set(seen[3])


@pytest.mark.parametrize("stratified", [True, False])
def test_with_replacement_every_image_is_seen_as_often_as_coins_would_fall(real, stratified):
    number, share = 400, 12 / 48
    seen = rounds(Rs2(True, stratified), real, number)
    assert all(len(set(each)) == 12 for each in seen)  # no image twice in a round
    counts = torch.tensor([Counter(sum(seen, []))[i] for i in range(len(real.train))], dtype=torch.double)
    assert counts.mean() == number * share
    spread = math.sqrt(number * share * (1 - share))
    assert 0.7 * spread < counts.std() < 1.3 * spread and (counts - number * share).abs().max() < 4 * spread


def test_a_stratified_round_has_its_images_of_every_class(real):
    def of_classes(rule, counts):
        return {
            tuple(torch.bincount(real.train.labels[each], minlength=3).tolist())
            for each in rounds(rule, real, 9, counts)
        }

    for replacement in (True, False):
        assert of_classes(Rs2(replacement, True), [5, 2, 0]) == {(5, 2, 0)}
        assert len(of_classes(Rs2(replacement, False), COUNTS)) > 3
        batches = [real.train.labels[each].tolist() for each in rounds(Rs2(replacement, True), real, 9)]
        assert all(each != sorted(each) for each in batches)  # classes are not seen one after the other


def steps(rule, real, student, counts=COUNTS, **recipe):
    """Optimiser steps of each epoch, and the batches they were taken on."""
    heard = []
    recipe = make_recipe(epochs=3, **recipe)
    batches = Batches(rule.on(real.train, counts), recipe, lambda images, draw: images)
    train([student()], batches, seeds=[0], after_batch=lambda batch, said: heard.append(batch))
    return Counter(batch.epoch for batch in heard), heard


@pytest.mark.parametrize(
    "rule, each",
    [(Rs2(True, True), 3), (Rs2(True, False), 3), (Short(), 3), (Rs2(False, False), 2), (Rs2(False, True), 2)],
)
def test_the_last_smaller_batch_is_dropped_without_replacement_alone(real, student, rule, each):
    taken, _ = steps(rule, real, student, batch=5)  # 12 images a round
    assert taken == {0: each, 1: each, 2: each}
    assert steps(rule, real, student, batch=12)[0] == {0: 1, 1: 1, 2: 1}


def test_a_short_training_sees_everything_equally_often_and_leaves_nothing_out(real):
    seen = sum(rounds(Short(), real, 12, [7, 7, 6]), [])  # 240 images in rounds of 20: five times all 48
    assert len(seen) == 240 and set(Counter(seen).values()) == {5}
    for first in range(0, 240, 48):
        assert len(set(seen[first : first + 48])) == 48


@pytest.mark.parametrize(
    "rule", [Rs2(True, True), Rs2(False, False), Short(), InfoBatch(0.5, 1.0), SeTa(0.1, 1.0, 5, 0.9)]
)
def test_a_walk_is_a_function_of_its_seed(real, rule):
    first, again, other = (rounds(rule, real, 3, seed=seed) for seed in (1, 1, 2))
    assert first == again and all(a != b for a, b in zip(first, other, strict=True))


def test_a_walk_stores_everything_and_is_as_long_as_a_round(real):
    subsets, everything = Rs2(True, True).on(real.train, [4, 3, 2]), InfoBatch(0.5, 0.9).on(real.train, COUNTS)
    assert (len(subsets), subsets.counts, subsets.ipc) == (9, (4, 3, 2), 3) and len(everything) == 48
    assert subsets.image_bytes == everything.image_bytes == 48 * 3 * 8 * 8 and subsets.label_bytes == 48 * 8
    assert subsets.images.source is real.train.images
    hashes = {
        each.hash
        for each in (subsets, everything, Rs2(True, True).on(real.train, COUNTS), Short().on(real.train, COUNTS))
    }
    assert len(hashes) == 4 and subsets.images_hash == everything.images_hash not in hashes
    assert Rs2(True, True).on(real.train, [4, 3, 2]).hash == subsets.hash
    with pytest.raises(ValueError, match="ipc is 17, expected at most 16"):
        Short().on(real.train, [17, 17, 17])


# InfoBatch


def test_infobatch_keeps_the_gradient_of_an_epoch_in_expectation(real):
    """On a linear model: the mean over many draws of sum_i w_i grad l_i is that of all images."""
    torch.manual_seed(0)
    images, labels = real.train.images.flatten(1).double(), real.train.labels
    net = nn.Linear(images.shape[1], 3).double()
    losses = nn.functional.cross_entropy(net(images), labels, reduction="none")
    slopes = torch.stack([torch.autograd.grad(each, net.weight, retain_graph=True)[0].flatten() for each in losses])
    walk = InfoBatch(0.5, 1.0).on(real.train, COUNTS).walk(10, 1, 1)
    walk.observe(torch.arange(48), losses.detach().float())
    drawn = [walk.epoch(3, seed) for seed in range(2000)]
    sums = torch.stack([(weights[:, None] * slopes[index]).sum(0) for index, weights in drawn])
    noise = sums.std(0) / math.sqrt(len(drawn))
    assert ((sums.mean(0) - slopes.sum(0)).abs() <= 5 * noise + 1e-12).all() and (noise > 0).all()
    unweighted = torch.stack([slopes[index].sum(0) for index, _ in drawn])
    assert ((unweighted.mean(0) - slopes.sum(0)).abs() > 5 * noise).any()  # what the weights are for


def test_infobatch_leaves_out_what_is_below_the_mean_and_weighs_what_is_left_of_it(real):
    walk = InfoBatch(0.75, 0.5).on(real.train, COUNTS).walk(10, 1, 1)
    index, weights = walk.epoch(0, 0)
    assert sorted(index.tolist()) == list(range(48)) and (weights == 1).all()  # nothing is known of any
    walk.observe(torch.arange(48), torch.arange(48.0))
    sizes = []
    for number in range(5):
        index, weights = walk.epoch(number, 0)
        assert set(range(24, 48)) <= set(index.tolist()) and ((weights == 4) == (index < 24)).all()
        sizes.append(len(index) - 24)
    assert max(sizes) < 14 and min(sizes) > 0 and len(set(sizes)) > 1  # a quarter of 24 is 6
    for number in range(5, 10):  # the last (1 - delta) E epochs
        index, weights = walk.epoch(number, 0)
        assert sorted(index.tolist()) == list(range(48)) and (weights == 1).all()


# SeTa


def test_groups_are_of_like_losses_from_easy_to_hard():
    g = torch.Generator().manual_seed(0)
    centres = torch.tensor([0.1, 0.9, 2.0, 4.0, 7.0])
    truth = torch.randint(5, (300,), generator=g)
    losses = centres[truth] + 0.02 * torch.randn(300, generator=g)
    assert torch.equal(grouped(losses, 5, seed=1), truth)
    group = grouped(torch.rand(200, generator=g), 5, seed=0)
    assert len(group.unique()) == 5


def test_setas_window_slides_from_easy_to_hard_over_all_groups_and_wraps(real):
    rule = SeTa(0.0, 0.875, 5, 0.6)  # three of five groups: three windows
    walk = rule.on(real.train, COUNTS).walk(16, 1, 1)
    group = torch.arange(48) % 5
    walk.observe(torch.arange(48), group.float())
    windows = [sorted(set(group[walk.epoch(number, 0)[0]].tolist())) for number in range(16)]
    assert windows[0] == [0, 1, 2, 3, 4]
    cycle = [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
    assert windows[1:14] == (cycle * 5)[:13] and set(sum(cycle, [])) == set(range(5))
    assert windows[14:] == [[0, 1, 2, 3, 4]] * 2  # the last (1 - delta) E epochs
    assert all(
        len(walk.epoch(number, 0)[0]) == (torch.isin(group, torch.tensor(cycle[number - 1]))).sum()
        for number in (1, 2, 3)
    )


def test_setas_published_window_is_four_groups_of_five(real):
    walk = SeTa(0.0, 1.0, 5, 0.9).on(real.train, COUNTS).walk(10, 1, 1)
    walk.observe(torch.arange(48), (torch.arange(48) % 5).float())
    assert [sorted(set((walk.epoch(number, 0)[0] % 5).tolist())) for number in (1, 2)] == [[0, 1, 2, 3], [1, 2, 3, 4]]


def test_seta_drops_a_random_share_of_everything_without_weighing_it(real):
    walk = SeTa(0.25, 0.5, 1, 1.0).on(real.train, COUNTS).walk(400, 1, 1)
    seen = [walk.epoch(number, 0) for number in range(400)]
    assert all(len(set(index.tolist())) == 36 and (weights == 1).all() for index, weights in seen)
    counts = torch.bincount(torch.cat([index for index, _ in seen]), minlength=48).double()
    assert (counts - 300).abs().max() < 4 * math.sqrt(400 * 0.25 * 0.75)


# Both listen


LISTENERS = [InfoBatch(0.5, 0.875), SeTa(0.1, 0.875, 3, 0.7)]


@pytest.mark.parametrize("rule", LISTENERS)
def test_a_round_follows_the_losses_of_the_very_training(real, student, rule):
    said = {}
    recipe = make_recipe(epochs=4)
    batches = Batches(rule.on(real.train, COUNTS), recipe, lambda images, draw: images)

    def hear(batch, outputs):
        said.setdefault(batch.epoch, {}).update(zip(batch.index[0].tolist(), outputs.losses[0].tolist(), strict=True))

    train([student()], batches, seeds=[7], after_batch=hear)
    by_hand = rule.on(real.train, COUNTS).walk(4, 16, 16)
    for number in range(4):
        assert set(by_hand.epoch(number, 7)[0].tolist()) == set(said[number])
        by_hand.observe(torch.tensor(list(said[number])), torch.tensor(list(said[number].values())))
    assert sum(map(len, said.values())) < 4 * 48


@pytest.mark.parametrize("rule", LISTENERS)
def test_a_student_trained_after_another_is_the_one_trained_alone(real, student, rule):
    def trained(batches, seed):
        torch.manual_seed(seed)
        net = student()
        train([net], batches, seeds=[seed])
        return torch.cat([each.flatten() for each in net.parameters()])

    def batches():
        return Batches(rule.on(real.train, COUNTS), make_recipe(epochs=4), lambda images, draw: images)

    shared = batches()
    first, second = (trained(shared, seed) for seed in (1, 2))
    assert torch.equal(second, trained(batches(), 2)) and not torch.equal(first, second)


@pytest.mark.parametrize("rule", LISTENERS)
def test_no_batch_is_left_with_a_single_image_which_has_no_statistics(real, rule):
    class Left(type(rule)):
        def pruned(self, losses, number, seed, active):
            return torch.arange(number + 1), torch.ones(number + 1)

    walk = Left(**vars(rule)).on(real.train, COUNTS).walk(40, 8, 4)
    sizes = [len(walk.epoch(number, 0)[0]) for number in range(40)]
    assert sizes == [1, *(size - (size % 8 % 4 == 1) for size in range(2, 41))]


def test_networks_that_lose_their_way_do_not_end_a_walk(real):
    walk = SeTa(0.0, 1.0, 5, 0.5).on(real.train, COUNTS).walk(10, 1, 1)
    walk.observe(torch.arange(48), torch.full((48,), float("nan")))
    assert len(walk.epoch(1, 0)[0]) == 48
    walk.observe(torch.arange(24), torch.linspace(0, 1, 24))
    assert 0 < len(walk.epoch(2, 0)[0]) < 48


# What rows say that they are matched on


def judged(rule, real, student, path, **changes):
    protocol = preset("dcb-none", **{"epochs": 5, "extra_epochs": 0, "lr": 0.1, "batch": 9, "students": 2, **changes})
    entry = Entry([rule.on(real.train, COUNTS)], "walk", 4)
    return evaluate(entry, real, {"net": Network(student)}, protocol, Report(path)).rows[-1]


@pytest.mark.parametrize("rule", LISTENERS)
def test_a_row_says_what_its_students_really_saw(real, student, tmp_path, monkeypatch, rule):
    seen, drawn = [], type(rule).pruned
    monkeypatch.setattr(type(rule), "pruned", lambda *args: seen.append(drawn(*args)) or seen[-1])
    row = judged(rule, real, student, tmp_path / "report.json")
    _, *trained = seen  # the first was drawn to measure the way to train, and no student saw it
    sizes = [len(index) - (len(index) % 9 == 1) for index, _ in trained]
    assert len(sizes) == 2 * 5 and row["seen"] == sum(sizes) / 2
    assert row["optimizer_steps"] == sum(math.ceil(size / 9) for size in sizes) / 2
    assert row["saved"] == pytest.approx(1 - row["seen"] / (5 * 48)) and 0.05 < row["saved"] < 0.5
    assert (row["images"], row["image_bytes"], row["label_bytes"]) == (48, 48 * 3 * 8 * 8, 48 * 8)


def test_rows_of_subsets_are_matched_in_steps_and_not_in_storage(real, student, tmp_path):
    rules = [Rs2(True, True), Rs2(False, False), Short()]
    subset = Coreset(real.train, torch.cat([real.train.of_class(cls)[:4] for cls in range(3)]))
    path = tmp_path / "report.json"
    rows = [judged(SimpleNamespace(on=lambda *_: subset), real, student, path)]
    rows += [judged(rule, real, student, path) for rule in rules]
    assert [row["optimizer_steps"] for row in rows] == [10, 10, 5, 10] and [row["images"] for row in rows] == [
        12,
        *[48] * 3,
    ]
    assert [row["seen"] for row in rows] == [60, 60, 45, 60] and rows[2]["saved"] == 0.25
    shown = lines(rows)
    assert [[cells[name] for name in ("images", "steps")] for cells in shown.cells] == [
        ["12", "10"], ["48", "10"], ["48", "5"], ["48", "10"],
    ]  # fmt: skip
    assert [cells["MB"] for cells in shown.cells] == ["0.0024", *["0.0096"] * 3]
    alike = lines(rows[1:2] * 2)
    assert not {"images", "MB", "steps"} & set(alike.columns) and alike.notes == [
        "Every row: 48 images, 0.0096 MB, 10 steps."
    ]
    before = [{k: v for k, v in row.items() if k not in ("images", "image_bytes", "optimizer_steps")} for row in rows]
    assert not lines(before).notes and set(lines(before).columns) == set(alike.columns)
    mixed = lines([rows[0], before[1]])  # of now and of before
    assert [cells["steps"] for cells in mixed.cells] == ["10", ""]


def test_a_row_that_was_killed_says_the_same_as_one_that_was_not(real, student, tmp_path, monkeypatch):
    rule = InfoBatch(0.5, 0.875)
    whole = judged(rule, real, student, tmp_path / "whole" / "report.json")
    keep = Unfinished.keep

    def kept_and_killed(*args, **about):
        keep(*args, **about)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Unfinished, "keep", kept_and_killed)
        judged(rule, real, student, tmp_path / "killed" / "report.json")
    (left,) = (tmp_path / "killed" / "rows").glob("unfinished_*.json")
    assert len(read_record(left, "")["took"]) == 1
    again = judged(rule, real, student, tmp_path / "killed" / "report.json")
    assert all(whole[name] == again[name] for name in ("accuracies", "optimizer_steps", "seen", "saved"))


def test_students_that_an_earlier_version_trained_are_kept_and_leave_steps_unsaid(real, student, tmp_path, monkeypatch):
    keep = Unfinished.keep
    monkeypatch.setattr(Unfinished, "keep", lambda self, hits, took, spent, **more: keep(self, hits, {}, spent, **more))
    row = judged(Short(), real, student, tmp_path / "report.json")
    assert len(row["accuracies"]) == 2 and not {"optimizer_steps", "seen", "saved"} & row.keys() and row["images"] == 48


def test_values_out_of_range_are_refused():
    for wrong, told in (
        (lambda: InfoBatch(1.0, 0.5), r"walk.ratio is 1.0, expected a number in \[0, 1\)"),
        (lambda: SeTa(0.1, 1.1, 5, 0.5), "walk.delta is 1.1"),
        (lambda: SeTa(0.1, 1.0, 0, 0.5), "walk.groups is 0"),
        (lambda: SeTa(0.1, 1.0, 5, 0.0), "walk.window is 0.0"),
        (lambda: Rs2("yes", True), "walk.replacement is 'yes'"),
    ):
        with pytest.raises(ValueError, match=told):
            wrong()


def test_examples_hold():
    assert doctest.testmod(walks).failed == 0
