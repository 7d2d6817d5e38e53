"""Attacks and corruptions: what they may change, and what the mathematics says they reach."""

import doctest

import pytest
import torch
from conftest import batches_of, make_recipe
from torch import nn

from distill import rng
from distill.evaluation import attacks, corruptions
from distill.evaluation.attacks import L2, LOSSES, Attack, Linf, cross_entropy, fgsm, inside, length, margin, pgd
from distill.evaluation.corruptions import KINDS, Corruption
from distill.evaluation.kept import PixelStudent
from distill.training.loop import train

RADII = [0.0, 1 / 255, 2 / 255, 4 / 255, 8 / 255, 0.1, 0.3]


def seeded():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def trained(real, teacher):
    """A trained network with batch norm that takes pixels, and the pixels and classes of the test split."""
    with rng.seeded(0, "net"):
        net = teacher()
    train([net], batches_of(real.train, make_recipe(epochs=30, lr=0.05, momentum=0.9)), seeds=[0])
    return PixelStudent(real.test.preprocessing, net, {}).eval(), pixels_of(real.test), real.test.labels


def pixels_of(split):
    return (split.preprocessing.inverse(split.images) * 255).round().clamp(0, 255) / 255


def right(model, images, labels):
    with torch.no_grad():
        return int((model(images).argmax(1) == labels).sum())


def under(model, images, labels, attack):
    return right(model, attack(model, images, labels, seeded()), labels)


def every(radius, steps=20):
    for loss in LOSSES.values():
        yield fgsm(radius, loss)
        yield pgd(radius, loss, ball=Linf(), steps=steps)
        yield pgd(radius, loss, ball=L2(), steps=steps, restarts=2)


def test_a_radius_of_nothing_changes_nothing(trained):
    model, images, labels = trained
    for attack in every(0.0):
        assert torch.equal(attack(model, images, labels, seeded()), images)


@pytest.mark.parametrize("radius", RADII[1:])
def test_changes_are_within_the_radius_and_images_within_their_range(trained, radius):
    model, images, labels = trained
    extremes = torch.cat([images, torch.zeros_like(images[:1]), torch.ones_like(images[:1])])
    classes = torch.cat([labels, model(extremes[-2:]).argmax(1)])

    def watched(pixels):
        assert pixels.min() >= -1e-6 and pixels.max() <= 1 + 1e-6
        return model(pixels)

    for attack in every(radius):
        found = attack(watched, extremes, classes, seeded())
        change = found - extremes
        size = length(change) if isinstance(attack.ball, L2) else change.abs()
        assert size.max() <= radius + 1e-6 and change.abs().max() > 0
        assert found.min() >= 0 and found.max() <= 1


def test_accuracy_falls_with_the_radius_and_with_the_steps(trained):
    model, images, labels = trained
    for make in (
        lambda radius: fgsm(radius),
        lambda radius: pgd(radius, ball=Linf(), steps=20),
        lambda radius: pgd(20 * radius, ball=L2(), steps=20),
    ):
        found = [under(model, images, labels, make(radius)) for radius in RADII]
        assert found[0] == right(model, images, labels) > found[-1]
        assert all(larger <= smaller + 1 for smaller, larger in zip(found, found[1:], strict=False)), found
    steps = [under(model, images, labels, pgd(0.25, ball=Linf(), steps=steps)) for steps in (1, 2, 5, 20, 100)]
    assert all(more <= fewer + 1 for fewer, more in zip(steps, steps[1:], strict=False)), steps
    assert steps[-1] < steps[0]


def test_many_steps_of_half_the_range_leave_nothing(trained):
    model, images, labels = trained
    for loss in LOSSES.values():
        assert under(model, images, labels, pgd(0.5, loss, ball=Linf(), steps=1000)) == 0


@pytest.mark.parametrize("radius", RADII[1:])
def test_one_step_does_no_more_than_many(trained, radius):
    model, images, labels = trained
    one, many = (under(model, images, labels, each) for each in (fgsm(radius), pgd(radius, ball=Linf(), steps=20)))
    assert many <= one + 1


def test_restarts_only_find_more(trained):
    model, images, labels = trained
    found = [under(model, images, labels, pgd(0.06, ball=Linf(), steps=2, restarts=n)) for n in (1, 2, 5)]
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("loss", LOSSES.values())
def test_of_a_linear_model_the_attacks_are_the_closed_form(loss):
    with rng.seeded(0, "net"):
        linear = nn.Linear(12, 2).double()
    images = 0.3 + 0.4 * torch.rand(20, 3, 2, 2, generator=seeded()).double()  # farther from the ends than the radius
    labels = linear(images.flatten(1)).argmax(1)

    def model(pixels):
        return linear(pixels.flatten(1))

    way = linear.weight[1 - labels] - linear.weight[labels]  # raises the other class
    radius = 0.2
    expected = {
        fgsm(radius, loss): radius * way.sign(),
        pgd(radius, loss, ball=Linf(), steps=20): radius * way.sign(),
        Attack(L2(), radius, loss, steps=1, step=1.0, starts=0): radius * way / way.norm(dim=1, keepdim=True),
    }
    for attack, change in expected.items():
        found = attack(model, images, labels, seeded()) - images
        assert torch.allclose(found.flatten(1), change, atol=1e-6), attack
    found = (pgd(radius, loss, ball=L2(), steps=20)(model, images, labels, seeded()) - images).flatten(1)
    assert torch.cosine_similarity(found, way).min() > 0.9  # from a random start it comes near
    assert torch.allclose(found.norm(dim=1), torch.full((20,), radius, dtype=torch.double))


def test_an_attack_leaves_the_statistics_and_gradients_of_the_network_alone(trained):
    model, images, labels = trained
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert any("running_mean" in name for name in before)
    for attack in every(0.1, steps=3):
        attack(model, images, labels, seeded())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_an_attack_of_one_image_does_not_depend_on_the_others(trained):
    model, images, labels = trained
    whole = fgsm(0.1)(model, images, labels, seeded())
    assert torch.allclose(fgsm(0.1)(model, images[3:7], labels[3:7], seeded()), whole[3:7])


def test_random_starts_fill_the_ball():
    like = torch.zeros(4000, 1, 1, 2)
    square, disc = (ball.draw(like, 0.5, seeded()) for ball in (Linf(), L2()))
    assert square.abs().max() <= 0.5 and length(disc).max() <= 0.5 + 1e-6
    assert square.square().mean().item() == pytest.approx(0.5**2 / 3, rel=0.05)  # uniform in an interval
    assert (length(disc) < 0.25).float().mean().item() == pytest.approx(0.25, abs=0.03)  # a quarter of the area


def test_losses_rise_where_the_class_is_lost():
    logits, labels = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 3.0]]), torch.tensor([0, 1])
    assert margin(logits, labels).tolist() == [-1.0, 2.0]
    assert cross_entropy(logits, labels).tolist() == pytest.approx([0.4076, 2.1698], abs=1e-4)


def test_projections_are_the_nearest_changes_and_the_range_only_shrinks_them():
    change = torch.tensor([3.0, -4.0]).view(1, 2, 1, 1)
    assert Linf().project(change, 2).flatten().tolist() == [2, -2]
    assert L2().project(change, 2.5).flatten().tolist() == pytest.approx([1.5, -2])
    assert torch.equal(L2().project(change, 5.5), change) and not L2().project(0 * change, 1).any()
    assert not L2().direction(0 * change).isnan().any()
    assert inside(torch.tensor([0.9, 0.1]), torch.tensor([0.5, -0.05])).tolist() == pytest.approx([0.1, -0.05])


# --- corruptions ---------------------------------------------------------------------------------------------------------


def pictures(channels=3, side=32):
    ramp = torch.linspace(0, 1, side)
    images = (ramp[:, None] * ramp[None, :]).expand(4, channels, side, side).clone()
    images[:, :, side // 4 : side // 2, side // 4 : side // 2] = 1
    return images + 0.05 * torch.rand(images.shape, generator=seeded()) * (images < 0.9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels, side", [(3, 32), (1, 8), (3, 64)])
def test_corruptions_stay_in_range_and_each_strength_changes_more(kind, channels, side):
    images = pictures(channels, side)
    distances = []
    for strength in range(1, 6):
        found = Corruption(kind, strength)(None, images, None, seeded())
        assert found.shape == images.shape and found.dtype == images.dtype and 0 <= found.min() <= found.max() <= 1
        assert torch.equal(found, Corruption(kind, strength)(None, images, None, seeded()))
        distances.append((found - images).square().mean().item())
    assert distances[0] > 0 and distances == sorted(distances)


def test_what_each_corruption_keeps():
    images = pictures()
    assert torch.allclose(
        Corruption("contrast", 3)(None, images, None, seeded()).mean((1, 2, 3)), images.mean((1, 2, 3)), atol=1e-5
    )
    even = torch.full((1, 3, 32, 32), 0.5)
    assert torch.allclose(Corruption("blur", 5)(None, even, None, seeded()), even, atol=1e-6)
    noisy = Corruption("noise", 2)(None, even, None, seeded()) - even
    assert noisy.std().item() == pytest.approx(0.08, rel=0.05) and abs(noisy.mean().item()) < 0.01
    assert (Corruption("jpeg", 5)(None, even, None, seeded()) - even).abs().max() < 0.02


def test_what_is_no_corruption_is_refused():
    with pytest.raises(ValueError, match="strength is 6, expected a whole number in"):
        Corruption("noise", 6)
    with pytest.raises(ValueError, match="unknown kind 'fog'"):
        Corruption("fog", 1)


@pytest.mark.parametrize("module", [attacks, corruptions])
def test_examples_hold(module):
    found = doctest.testmod(module)
    assert found.attempted and not found.failed
