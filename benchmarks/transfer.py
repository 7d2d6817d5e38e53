"""An outer step of KRR-ST beside a plain loop, and its memory by the number of bodies; a part of ``benchmarks/speed.py``."""

import copy
from dataclasses import replace
from functools import partial

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from benchmarks import plain
from benchmarks.training import ROOT, added, compare
from distill.data.preprocessing import Preprocessing
from distill.data.split import Split
from distill.methods.base import Inputs
from distill.methods.selfsupervised.krrst import KRRST
from distill.networks.base import with_head
from distill.networks.convnet import ConvNet
from distill.networks.resnet import ResNet
from distill.teachers.committee import Committee

SHAPE, REAL = (3, 32, 32), 64


def body() -> ConvNet:
    """The paper's at 32 px."""
    return ConvNet(SHAPE, 10, depth=None, width=[128, 256, 512], norm="batch", pooling="avg", activation="relu")


def begun(target: ResNet, count: int) -> KRRST:
    """The method on random images, with so many bodies that took a step each."""
    labels = torch.arange(REAL) % 10
    real = Split(torch.rand(REAL, *SHAPE), labels, tuple("abcdefghij"), "random", Preprocessing("pixel01"), "flip")
    words = [
        "method=krrst",
        "precision=fp32",
        "data=cifar10",
        f"method.pool.count={count}",
        "method.pool.steps=2",
        f"method.batch_real={REAL}",
    ]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        make = instantiate(compose("config", words).method)
    committee = Committee(("resnet18",), (copy.deepcopy(target),), (50.0,))
    method = KRRST.make(Inputs(real, 5, body, 0, committee=committee), make.keywords)
    method.begin()
    method.pool.how = replace(method.pool.how, steps=10**6)  # a step always trains a body
    method.log = lambda *values, **named: None
    optimizer = method.configure_optimizers()
    method.optimizers, method.manual_backward = lambda: optimizer, lambda loss: loss.backward()
    return method


def transfer(repeat: int) -> None:
    """A step on 50 images of 32x32 and 64 real ones: ridge regression, AdamW, and one step of the body."""
    target = ResNet(SHAPE, 10, depth=18, norm="batch").eval()
    method, net = begun(target, 2), with_head(body(), 512)
    images, vectors = (each.clone().requires_grad_() for each in method.pair)
    outer = torch.optim.AdamW([images, vectors], 1e-4, weight_decay=0.0)
    inner = torch.optim.SGD(net.parameters(), 0.1, 0.9, weight_decay=1e-3)
    loop = partial(plain.ridge_step, net, target, method.real.images, images, vectors, outer, inner)
    compare("krrst, step, 50 images, 64 real", {"plain": loop, "ours": partial(method.learn, 0)}, repeat)
    for count in (1, 5, 10):
        method = begun(target, count)
        method.learn(0)  # momentum and moments are there
        print(f"krrst, memory that a step adds, {count:2} bodies   {added(partial(method.learn, 0)) / 1e3:8.0f} MB")
