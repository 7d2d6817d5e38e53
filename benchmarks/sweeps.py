"""Sweeps of IDC and NCFM beside the plain loops of ``benchmarks/plain.py``; a part of ``benchmarks/speed.py``."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import nn

from benchmarks import plain
from benchmarks.training import ROOT, compare, net
from distill.data.preprocessing import Preprocessing
from distill.data.split import Split
from distill.methods.base import Inputs
from distill.methods.matching.idc import IDC
from distill.methods.matching.ncfm import NCFM
from distill.methods.matching.pixels import PixelMatching
from distill.networks.flat import flatten
from distill.teachers.store import ExpertStore

IPC, SHAPE, WIDTH = 1, (1, 8, 8), 32  # of digits


def split(each: int) -> Split:
    """So many random images of each of ten classes, of CIFAR-10's shape."""
    labels = torch.arange(10).repeat_interleave(each)
    families = "color_crop_cutout_flip_scale_rotate"
    return Split(
        torch.rand(10 * each, *SHAPE), labels, tuple("abcdefghij"), "random", Preprocessing("pixel01"), families
    )


def ours(cls: type[PixelMatching], name: str, real: Split, *words: str, experts: ExpertStore | None = None):
    """A method that has begun, and one of its sweeps with the step of its optimiser."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        make = instantiate(compose("config", [f"method={name}", "data=cifar10", "precision=fp32", *words]).method)
    method = cls.make(Inputs(real, IPC, lambda: net(SHAPE, WIDTH), 0, experts=experts), make.keywords)
    method.log = method.log_dict = lambda *values, **named: None
    method.begin()
    method.slopes = []

    def sweep() -> None:
        method.pixels.grad = None
        method.update(0).backward()
        method.take()

    return method, sweep


def loop(work: Callable[..., None], optimizer: Callable, real: Split, each: int, *more: int) -> Callable[[], None]:
    """The plain sweep on real images of the split."""
    network: nn.Module = net(SHAPE, WIDTH)
    pixels = torch.rand(10 * IPC, *SHAPE, requires_grad=True)
    made = optimizer([pixels])

    def sweep() -> None:
        batch = torch.stack([real.images[real.labels == cls][torch.randperm(each)] for cls in range(10)])
        work(network, batch, pixels, made, *more)

    return sweep


def idc(repeat: int) -> None:
    """The matching of one sweep of IDC at ipc 1, without the network's training between two of them."""
    real = split(64)
    ways = {"plain": loop(plain.idc_sweep, lambda p: torch.optim.SGD(p, 5e-4, 0.5), real, 64)}
    _, ways["ours"] = ours(IDC, "idc", real, "method.compile=false")
    compare("idc, sweep, ipc 1", ways, repeat)


def ncfm(repeat: int, each: int = 128, frequencies: int = 1024) -> None:
    """One sweep of NCFM at ipc 1: 128 real images of a class, 1,024 frequencies."""
    real = split(each)
    words = ["method.compile=false", f"method.batch_real={each}", f"method.frequencies={frequencies}"]
    optimizer = lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=5e-4)  # noqa: E731
    ways = {"plain": loop(plain.ncfm_sweep, optimizer, real, each, frequencies)}
    with tempfile.TemporaryDirectory() as folder:
        about = {
            "data": {"name": "random", "fingerprint": ""},
            "preprocessing": "",
            "shape": [],
            "student": "",
            "seed": 0,
        }
        store = ExpertStore(Path(folder), {**about, "recipe": {"name": "ncfm", "epochs": 1, "extra_epochs": 0}}, 1)
        store.write(0, torch.stack([flatten(net(SHAPE, WIDTH)) for _ in range(2)]), 0.5)
        method, ways["ours"] = ours(NCFM, "ncfm", real, *words, experts=store)
        compare("ncfm, sweep, ipc 1", ways, repeat)
