import pytest
import torch
import torch.nn.functional as F
from conftest import make_recipe
from hypothesis import given
from hypothesis import strategies as st

from distill import augment
from distill.students import flatten
from distill.training import accuracy, augmentation, gsam_gradient, train


def trained(student, real, recipe, seed=0, **kw):
    torch.manual_seed(0)
    net = student()
    train(
        net,
        real.train.images,
        real.train.labels,
        recipe,
        seed=seed,
        augment=augmentation(recipe, real.train.strategy),
        **kw,
    )
    return flatten(net)


def test_training_learns_and_is_a_function_of_its_seed_alone(student, real):
    recipe = make_recipe(epochs=15, augment="dsa", momentum=0.9)
    torch.manual_seed(0)
    net = student()
    train(net, real.train.images, real.train.labels, recipe, seed=3, augment=augmentation(recipe, "flip"))
    assert accuracy(net, real.test) > 0.8
    first = trained(student, real, recipe, seed=3)
    torch.rand(17)
    assert torch.equal(first, trained(student, real, recipe, seed=3))
    assert not torch.equal(first, trained(student, real, recipe, seed=4))


def test_a_thousand_epochs_are_502_at_the_base_rate_and_499_after_it():
    recipe = make_recipe(epochs=1000, extra_epochs=1, decay=0.1)
    assert recipe.passes == 1001
    assert recipe.last_epoch_before_decay + 1 == 502
    assert recipe.passes - (recipe.last_epoch_before_decay + 1) == 499


def test_the_optimiser_starts_afresh_at_the_decay(student, real, monkeypatch):
    made = []
    original = type(make_recipe()).make_optimizer

    def watched(self, net, lr):
        optimizer = original(self, net, lr)
        made.append((epochs[-1] if epochs else -1, lr, len(optimizer.state)))
        return optimizer

    epochs: list[int] = []
    recipe = make_recipe(epochs=6, extra_epochs=1, decay=0.1, momentum=0.9, lr=0.2)
    monkeypatch.setattr(type(recipe), "make_optimizer", watched)
    trained(student, real, recipe, after_epoch=epochs.append)
    assert epochs == list(range(7))
    # Made before epoch 0 and after epoch index 6 // 2 + 1 = 4 (whose callback has not run yet), without momentum.
    assert [(epoch, lr) for epoch, lr, _ in made] == [(-1, 0.2), (3, pytest.approx(0.02))]
    assert all(state == 0 for *_, state in made)


def test_every_image_is_seen_once_an_epoch(real, student):
    seen = []

    def watch(images, draw):
        seen.append(images.flatten(1).sum(1))
        return images

    torch.manual_seed(0)
    train(student(), real.train.images, real.train.labels, make_recipe(epochs=2, batch=10), seed=0, augment=watch)
    assert [len(batch) for batch in seen] == [10, 10, 10, 10, 8] * 2
    assert torch.equal(torch.cat(seen[:5]).sort().values, torch.cat(seen[5:]).sort().values)


def quadratic():
    """A loss with known curvature: (gradient at the present values, parameters)."""
    torch.manual_seed(0)
    scale = [torch.rand(4, dtype=torch.float64) + 0.5, torch.rand(3, 2, dtype=torch.float64) + 0.5]
    params = [torch.randn_like(s).requires_grad_() for s in scale]
    return (
        lambda: torch.autograd.grad(sum((s * p**4).sum() for s, p in zip(scale, params, strict=True)), params)
    ), params


def flat(tensors):
    return torch.cat([t.detach().reshape(-1) for t in tensors])


def test_gsam_with_radius_zero_is_sgd():
    gradient, params = quadratic()
    assert torch.allclose(flat(gsam_gradient(gradient, params, rho=0.0, alpha=0.3)), flat(gradient()), atol=1e-14)


def test_gsam_without_its_orthogonal_part_is_adaptive_sam():
    gradient, params = quadratic()
    w, g = flat(params), flat(gradient())
    e = 0.05 * w * w * g / (w.abs() * g).norm()
    assert float((e / w).norm()) == pytest.approx(0.05)  # the radius is in units of the weights
    ours = flat(gsam_gradient(gradient, params, rho=0.05, alpha=0.0))
    shifted = [p.detach().clone() for p in params]
    with torch.no_grad():
        for p, part in zip(params, e.split([4, 6]), strict=True):
            p.add_(part.view_as(p))
    assert torch.allclose(ours, flat(gradient()), atol=1e-12)
    with torch.no_grad():
        for p, before in zip(params, shifted, strict=True):
            p.copy_(before)


def test_what_gsam_subtracts_is_orthogonal_to_the_perturbed_gradient_and_the_weights_return():
    gradient, params = quadratic()
    before = flat(params)
    perturbed = flat(gsam_gradient(gradient, params, rho=0.5, alpha=0.0))
    orthogonal = perturbed - flat(gsam_gradient(gradient, params, rho=0.5, alpha=1.0))
    assert orthogonal.norm() > 0.01
    assert float(orthogonal @ perturbed) == pytest.approx(0.0, abs=1e-9)
    assert torch.equal(flat(params), before)


@given(st.integers(0, 10**6), st.floats(-5, 5))
def test_soft_cross_entropy_is_hard_for_sure_labels_and_blind_to_a_shift_of_the_logits(seed, shift):
    g = torch.Generator().manual_seed(seed)
    z, classes = torch.randn(4, 5, generator=g, dtype=torch.float64), torch.randint(5, (4,), generator=g)
    sure = 50.0 * F.one_hot(classes, 5).double()
    assert float(F.cross_entropy(z, sure.softmax(1))) == pytest.approx(float(F.cross_entropy(z, classes)), abs=1e-12)
    y = torch.randn(4, 5, generator=g, dtype=torch.float64)
    assert float(F.cross_entropy(z, (y + shift).softmax(1))) == pytest.approx(
        float(F.cross_entropy(z, y.softmax(1))), abs=1e-12
    )


@pytest.mark.parametrize("lr", [-0.01, 0.0, float("nan"), 1e6])
def test_rates_that_diverged_are_refused(lr):
    with pytest.raises(ValueError, match="learning rate is .*, expected above 0 and at most 10"):
        make_recipe(lr=lr)


def test_unknown_parts_of_a_recipe_are_told_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown optimizer 'rmsprop': one of sgd, adam, gsam"):
        make_recipe(optimizer="rmsprop")
    with pytest.raises(ValueError, match="needs gsam_rho"):
        make_recipe(optimizer="gsam")
    assert augmentation(make_recipe(), "flip") is augment.none
