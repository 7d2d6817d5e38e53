"""NRR-DD: where a class is seen, which crops are taken, and that refinement leaves these places as they are."""

import pytest
import torch
import torch.nn.functional as F

from distill.augment.crops import boxes, resize_boxes
from distill.methods.base import Method
from distill.methods.decoupled.critical import activation_maps, critical_composites, last_maps, mass_in
from distill.methods.decoupled.nrr import NRR
from distill.methods.decoupled.recovery import Recovery
from distill.methods.synthesis import distill
from distill.networks.convnet import ConvNet
from distill.networks.resnet import ResNet
from distill.sets.reading import load


@pytest.mark.parametrize("pooled", [False, True], ids=["a weight for each place", "pooled"])
def test_a_map_is_what_each_place_adds_to_the_logit_of_the_class(pooled):
    """By hand, in float64: the sum over a map that is neither cut at 0 nor scaled is the logit less its bias."""
    torch.manual_seed(0)
    shape = (3, 16, 16)
    net = ResNet(shape, 4, depth=18, norm="batch") if pooled else ConvNet(
        shape, 4, depth=2, width=5, norm="batch", pooling="avg", activation="relu"
    )  # fmt: skip
    net = net.double().eval()
    images, classes = torch.randn(3, *shape, dtype=torch.float64), torch.tensor([2, 0, 3])
    with torch.no_grad():
        maps = last_maps(net, images).double()
        height, width = maps.shape[2:]
        weight = net.classifier.weight.tolist()
        for n, cls in enumerate(classes.tolist()):
            plain = torch.zeros(height, width, dtype=torch.float64)
            for i in range(height):
                for j in range(width):
                    for k in range(maps.shape[1]):
                        place = k if pooled else k * height * width + i * width + j
                        plain[i, j] += weight[cls][place] * maps[n, k, i, j]
            logit = net(images[n : n + 1])[0, cls] - net.classifier.bias[cls]
            assert float(plain.sum() / (height * width if pooled else 1)) == pytest.approx(float(logit), abs=1e-5)
            cut = plain.relu()
            unit = (cut - cut.min()) / (cut.max() - cut.min()).clamp_min(1e-12)
            large = F.interpolate(unit[None, None], (16, 16), mode="bilinear").clamp(0, 1)
            assert torch.allclose(activation_maps(net, images, classes)[n].double(), large[0], atol=1e-5)


def test_a_network_whose_last_maps_are_one_place_says_so():
    net = ConvNet((3, 8, 8), 3, depth=3, width=4, norm="batch", pooling="avg", activation="relu").eval()
    with pytest.raises(ValueError, match=r"ConvNet has last maps of \(4, 1, 1\), expected some of more than one place"):
        last_maps(net, torch.zeros(1, 3, 8, 8))


def test_the_mass_in_a_box_is_its_share_of_the_map():
    maps, found = torch.rand(20, 1, 9, 12), boxes(20, torch.zeros(1, 3, 9, 12), 0.08, torch.Generator().manual_seed(0))
    plain = [
        float(one[0, t : t + h, x : x + w].sum() / one.sum())
        for one, (t, x, h, w) in zip(maps, found.tolist(), strict=True)
    ]
    assert mass_in(maps, found).tolist() == pytest.approx(plain, abs=1e-6)
    whole = torch.tensor([[0, 0, 9, 12]]).expand(20, -1)
    assert mass_in(maps, whole).tolist() == pytest.approx([1.0] * 20) and mass_in(0 * maps, whole).max() == 0


@pytest.mark.parametrize("factor", [1, 2])
def test_taken_are_of_the_crops_that_hold_most_the_least_sure(real, committee, factor):
    """Anew for one class, crop by crop."""
    net, split = committee.nets[0], real.train
    count, pool, patches, critical = 2 if factor == 1 else 1, 12, 4, 6
    images = critical_composites(split, net, (count,) * 3, 0, pool, patches, factor, critical)
    from distill import rng

    own = split.sample(1, pool, rng.generator(0, "pool", 1))
    g = rng.generator(0, "patches", 1)
    found = [boxes(pool, own, 0.08, g, stretch=1.0) for _ in range(patches)]
    maps = activation_maps(net, own, torch.ones(pool, dtype=torch.long))
    rows = []
    for n in range(pool):
        shares = [float(mass_in(maps[n : n + 1], each[n : n + 1])) for each in found]
        best = max(range(patches), key=shares.__getitem__)
        crop = resize_boxes(own[n : n + 1], found[best][n : n + 1], (8 // factor, 8 // factor))
        frame, edge = torch.zeros(1, 3, 8, 8), (8 - 8 // factor) // 2
        frame[:, :, edge : edge + 8 // factor, edge : edge + 8 // factor] = crop
        with torch.no_grad():
            rows.append((shares[best], float(F.cross_entropy(net(frame), torch.tensor([1]))), crop))
    largest = sorted(rows, key=lambda row: -row[0])[:critical]
    taken = sorted(largest, key=lambda row: -row[1])[: count * factor**2]
    made = images[count : 2 * count]
    for rank, (_, _, crop) in enumerate(taken):
        tile, image = divmod(rank, count)
        row, column = (8 // factor * each for each in divmod(tile, factor))
        assert torch.allclose(
            made[image, :, row : row + 8 // factor, column : column + 8 // factor], crop[0], atol=1e-5
        )
    rest = [row[1] for row in largest if row not in taken]
    assert min(row[1] for row in taken) >= max(rest)


def run(method, folder):
    return load(distill(method, folder, {"method": "nrr"}, [], "cpu", lambda *a: None))


def test_critical_pixels_stay_bit_for_bit_and_others_go_as_far_as_their_weight(asked_on, tmp_path):
    method = asked_on(NRR, iterations=8, together=4, lr_img=0.5)
    method.begin()
    before, weights = method.synset.images.detach().clone(), method.weights.clone()
    assert 0.1 < (weights == 0).float().mean() < 0.9 and weights.max() <= 0.5
    maps = activation_maps(method.committee.nets[0], before, method.synset.classes)
    assert torch.equal(weights, (0.5 - maps).clamp_min(0))
    run(method, tmp_path)
    after = method.synset.images.detach()
    frozen = (weights == 0).expand_as(before)
    assert torch.equal(after[frozen], before[frozen])
    assert (after[~frozen] != before[~frozen]).float().mean() > 0.9


def test_the_first_step_is_adams_times_the_weight(asked_on):
    """Adam's first step is lr times the gradient's sign, whatever constant the gradient has."""
    method = asked_on(NRR, iterations=8, together=4, lr_img=0.01, pairs="all")
    method.begin()
    method.configure_optimizers()
    start = method.pixels.detach().clone()
    (gradient,) = torch.autograd.grad(method.update(0), method.pixels)
    with torch.no_grad():
        method.pixels.sub_(0.01 * gradient.sign())
        method.settle()
    weights = method.weights[method.places]
    low, high = method.bounds
    expected = (start - weights * 0.01 * gradient.sign()).maximum(low).minimum(high)
    moved = weights.expand_as(start) > 0
    assert torch.allclose(method.pixels[moved], expected[moved], atol=1e-6)
    assert torch.equal(method.pixels.detach()[~moved], start[~moved])


def test_a_threshold_above_every_map_is_recovery_with_smaller_steps_and_zero_changes_nothing(asked_on, tmp_path):
    still = asked_on(NRR, threshold=0.0, iterations=3)
    still.begin()
    before = still.synset.images.detach().clone()
    run(still, tmp_path / "still")
    assert torch.equal(still.synset.images.detach(), before)
    own, plain = (asked_on(kind, init="noise", iterations=2, roll=0, area=None) for kind in (NRR, Recovery))
    for method in (own, plain):
        method.begin()
    own.weights = torch.ones_like(own.weights)
    assert torch.equal(own.synset.images, plain.synset.images)
    own.begin, plain.begin = (lambda *each: None), (lambda *each: None)
    run(own, tmp_path / "own")
    run(plain, tmp_path / "plain")
    assert torch.allclose(own.synset.images, plain.synset.images, atol=1e-6)


def test_a_killed_run_ends_in_the_same_set(asked_on, tmp_path, monkeypatch):
    values = dict(iterations=6, together=2, snapshot_every=2, lr_img=0.5)
    whole = run(asked_on(NRR, **values), tmp_path / "whole")
    step_of = Method.training_step

    def power_cut(method, step):
        if int(step) == 3:
            raise RuntimeError("power cut")
        step_of(method, step)

    with monkeypatch.context() as patch:
        patch.setattr(Method, "training_step", power_cut)
        with pytest.raises(RuntimeError, match="power cut"):
            run(asked_on(NRR, **values), tmp_path / "cut")
    again = run(asked_on(NRR, **values), tmp_path / "cut")
    assert again.hash == whole.hash and again.record["step"] == whole.record["step"] > 3


def test_what_cannot_be_refined_is_refused(asked_on):
    for changes, message in [
        (dict(critical=1), r"method.critical is 1, expected ipc x factor\^2 = 2 to method.pool = 16"),
        (dict(critical=20), r"method.critical is 20, expected ipc x factor\^2 = 2 to method.pool = 16"),
        (dict(pool=1, critical=1), r"method.pool is 1, expected at least ipc x factor\^2 = 2"),
        (dict(factor=3), "method.factor is 3: images of 8x8 do not divide by it"),
        (dict(threshold=2.0), r"method.threshold is 2.0, expected a number in \[0, 1\]"),
        (dict(init="x"), "unknown method.init 'x': one of noise, real, composite, critical"),
    ]:
        with pytest.raises(ValueError, match=message):
            asked_on(NRR, **changes)
