"""timm's networks: the library's own up to the classifier, for images of any shape that it takes."""

import sys

import pytest
import torch

from distill.methods.matching.lgm import LinearGradientMatching
from distill.networks.backbone import Timm
from distill.networks.base import restart
from distill.teachers.committee import Committee

timm = pytest.importorskip("timm")


def test_features_are_timms_own():
    torch.manual_seed(0)
    net = Timm((1, 16, 16), 5, name="resnet10t", weights=None).eval()
    torch.manual_seed(0)
    own = timm.create_model("resnet10t", num_classes=0, in_chans=1).eval()
    images = torch.rand(2, 1, 16, 16)
    assert torch.equal(net.features(images), own(images)) and net(images).shape == (2, 5)


def test_a_transformer_is_made_for_the_images_size():
    net = Timm((3, 32, 32), 5, name="vit_tiny_patch16_224", weights=None)
    assert net.features.patch_embed.num_patches == 4 and net(torch.zeros(2, 3, 32, 32)).shape == (2, 5)


def test_what_timm_cannot_give_is_told(monkeypatch):
    with pytest.raises(ValueError, match="'resnet1000', and timm has no such network"):
        Timm((3, 32, 32), 5, name="resnet1000", weights=None)
    with pytest.raises(ValueError, match="timm's weights of resnet18 are a1_in1k, "):
        Timm((3, 32, 32), 5, name="resnet18", weights="mine")
    with pytest.raises(ValueError, match="Timm cannot be restarted in place"):
        restart(Timm((3, 32, 32), 5, name="resnet10t", weights=None))

    def unreachable(*args, **settings):
        raise FileNotFoundError("several\nlines")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(
        OSError, match=r"resnet18.a1_in1k could not be fetched \(FileNotFoundError\): is there a network"
    ):
        Timm((3, 32, 32), 5, name="resnet18", weights="a1_in1k")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"need the package timm, .* pip install 'distill\[vision\]'"):
        Timm((3, 32, 32), 5, name="resnet18", weights=None)


def test_gradients_of_a_linear_classifier_are_matched_on_its_features(asked_on):
    torch.manual_seed(0)
    net = Timm((3, 8, 8), 3, name="resnet10t", weights=None)
    method = asked_on(LinearGradientMatching, committee=Committee(("timm",), (net,), (50.0,)))
    method.begin()
    method.update(0).backward()
    assert float(method.levels[0].grad.abs().sum()) > 0
