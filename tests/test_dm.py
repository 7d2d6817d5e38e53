"""Distribution matching: the loss of mean features, with what it must be in closed form."""

from dataclasses import replace
from functools import partial

import pytest
import torch
import torchvision.models as tv
from torch import nn

from distill import augment
from distill.methods.matching.dm import DistributionMatching, class_means
from distill.networks.base import Student, restart
from distill.networks.convnet import ConvNet
from distill.networks.resnet import ImageNetResNet


def linear(width=12):
    """A student whose feature is W x."""
    return Student((3, 8, 8), 3, nn.Sequential(nn.Flatten(), nn.Linear(192, width, bias=False)))


def test_the_mean_feature_of_a_class_is_that_of_its_images_alone():
    net, images = (
        ConvNet((3, 8, 8), 3, depth=2, width=6, norm="instance", pooling="avg", activation="relu"),
        torch.randn(15, 3, 8, 8),
    )
    for counts in ((5, 5, 5), (6, 1, 8), (9, 3, 3)):
        alone = torch.stack([net.features(part).flatten(1).mean(0) for part in images.split(counts)])
        for together in (2, 5, 100):
            assert torch.allclose(class_means(net.features, images, counts, together), alone, atol=1e-6)


@pytest.mark.parametrize("counts", [(2, 2, 2), (3, 1, 2), (4, 1, 1)])
def test_with_a_linear_feature_loss_and_gradient_are_closed_forms(matching_on, counts):
    ipc = {f"c{cls}": count for cls, count in enumerate(counts)}
    method = matching_on(DistributionMatching, student=linear, augment=augment.none, ipc=ipc)
    loss = method.update(0)
    loss.backward()
    w = method.net.features[1].weight.detach()
    real, synthetic = (images.detach().flatten(-3) for images in method.batches(0))
    gaps = [(own.mean(0) - other.mean(0)) @ w.T for own, other in zip(synthetic.split(counts), real, strict=True)]
    assert loss.item() == pytest.approx(float(sum(gap.square().sum() for gap in gaps)), rel=1e-5)
    for count, gap, gradient in zip(counts, gaps, method.synset.images.grad.flatten(1).split(counts), strict=True):
        assert torch.allclose(
            gradient, (2 / count * gap @ w).expand(count, -1), atol=1e-5
        )  # the same for all of a class


def test_equal_batches_under_one_draw_are_at_no_distance(matching_on, real):
    two = torch.cat([real.train.of_class(cls)[:2] for cls in range(3)])
    few = replace(real.train, images=real.train.images[two], labels=real.train.labels[two])
    method = matching_on(DistributionMatching, real=few, batch_real=2)  # both batches are all there is
    for step in range(6):
        assert method.update(step) < 1e-10


def test_every_step_has_a_fresh_network_that_is_not_trained(matching_on):
    method = matching_on(DistributionMatching)
    method.update(0)
    first = [p.clone() for p in method.net.parameters()]
    method.update(1).backward()
    assert all(p.grad is None for p in method.net.parameters())
    assert not torch.equal(first[0], next(method.net.parameters()))
    method.update(0)
    assert all(torch.equal(a, b) for a, b in zip(first, method.net.parameters(), strict=True))


def test_batch_norm_sees_all_classes_of_a_side_together(matching_on):
    net, images = (
        ConvNet((3, 8, 8), 3, depth=2, width=6, norm="batch", pooling="avg", activation="relu"),
        torch.randn(12, 3, 8, 8),
    )
    counts = (4, 4, 4)
    together = net.features(images).flatten(1).view(3, 4, -1).mean(1)
    method = matching_on(DistributionMatching, student=lambda: net, batch_real=4)
    assert torch.allclose(method.means(images, counts), together, atol=1e-6)
    assert not torch.allclose(method.means(images[:4], counts[:1]), together[:1], atol=1e-3)


def test_compiled_means_have_the_eager_ones_gradient(matching_on):
    eager, compiled = (matching_on(DistributionMatching, compile=compile) for compile in (False, True))
    for method in (eager, compiled):
        method.update(1).backward()
    expected = eager.synset.images.grad
    assert (compiled.synset.images.grad - expected).norm() < 1e-5 * expected.norm()


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_a_restarted_network_is_a_newly_built_one(norm):
    make = partial(ConvNet, (3, 32, 32), 10, depth=None, width=16, norm=norm, pooling="avg", activation="relu")
    used = make()
    used(torch.randn(8, 3, 32, 32))
    for parameter in used.parameters():
        nn.init.ones_(parameter)
    torch.manual_seed(5)
    restart(used)
    torch.manual_seed(5)
    assert all(torch.equal(a, b) for a, b in zip(used.state_dict().values(), make().state_dict().values(), strict=True))


def test_published_weights_are_no_fresh_network(matching_on, monkeypatch):
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *a, **k: tv.resnet18().state_dict())
    net = ImageNetResNet((3, 32, 32), 10, depth=18, weights="IMAGENET1K_V1")
    with pytest.raises(ValueError, match="weights=IMAGENET1K_V1 are not drawn anew"):
        matching_on(DistributionMatching, student=lambda: net)  # before anything is distilled


def test_a_network_with_parameters_of_its_own_is_refused():
    net = linear()
    net.token = nn.Parameter(torch.zeros(3))
    with pytest.raises(ValueError, match="Student cannot be restarted"):
        restart(net)
