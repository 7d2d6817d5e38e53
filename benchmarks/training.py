"""Training of students and experts beside the plain loops of ``benchmarks/plain.py``; a part of ``benchmarks/speed.py``."""

import ctypes
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor, nn

from benchmarks import plain
from distill.augment.families import DSA
from distill.data.preprocessing import Preprocessing
from distill.data.split import Split
from distill.networks.convnet import ConvNet
from distill.sets.coreset import Coreset
from distill.training.batch import Batches
from distill.training.loop import train
from distill.training.recipe import Recipe

ROOT = Path(__file__).resolve().parent.parent
AUGMENT = DSA("color_crop_cutout_flip_scale_rotate")


def net(shape: tuple[int, int, int] = (3, 32, 32), width: int = 128) -> nn.Module:
    return ConvNet(shape, 10, depth=None, width=width, norm="instance", pooling="avg", activation="relu")


def recipe(name: str, precision: str):
    """A recipe of the configs: ``protocol`` for students, ``experts`` for experts."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("config", ["data=cifar10", "method=mtt", "protocol=mtt", f"precision={precision}"])
    return instantiate(cfg.protocol.recipe if name == "protocol" else cfg.method.experts.recipe)


def batches(images: Tensor, labels: Tensor, recipe: Recipe) -> Batches:
    """Of images that stand for a training set."""
    split = Split(images, labels, tuple("abcdefghij"), "random", Preprocessing("pixel01"), "flip")
    return Batches(Coreset.whole(split), recipe, AUGMENT)


def compare(title: str, ways: dict[str, Callable[[], object]], repeat: int) -> None:
    """Print each way's median time and its gain over the first, after a warm-up that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeat + 1):
        for name, work in ways.items():
            began = time.perf_counter()
            work()
            if turn:
                times[name].append(time.perf_counter() - began)
    first = statistics.median(next(iter(times.values())))
    for name, each in times.items():
        median = statistics.median(each)
        print(
            f"{title:44} {name:26} {median:8.3f} s   {first / median:5.2f} x   ({min(each):.3f} to {max(each):.3f})",
            flush=True,
        )


def added(work: Callable[[], object]) -> int:
    """Kilobytes that ``work`` adds to this process at its peak (Linux)."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # freed memory that is kept would hide the peak
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = _kilobytes("VmRSS")
    work()
    return _kilobytes("VmHWM") - before


def _kilobytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def students(repeat: int) -> None:
    """Epochs of a student at ipc 1 and 10; one epoch is one step on the whole synthetic set."""
    for ipc, epochs in ((1, 20), (10, 4)):
        images, labels = torch.randn(10 * ipc, 3, 32, 32), torch.arange(10).repeat_interleave(ipc)
        ways = {"plain": partial(plain.train, [net()], images, labels, epochs=epochs, batch=256)}
        for precision in ("fp32", "bf16"):
            short = recipe("protocol", precision).with_(epochs=epochs, extra_epochs=0)
            ways[f"compiled {precision}"] = partial(
                train, [net()], batches(images, labels, short), seeds=[0], compiled=True
            )
        compare(f"student, {epochs} epochs, ipc {ipc}", ways, repeat)


def experts(repeat: int) -> None:
    """Steps of an expert on batches of 256 real-sized images."""
    images, labels = torch.randn(4 * 256, 3, 32, 32), torch.arange(4 * 256) % 10
    ways = {"plain": partial(plain.train, [net()], images, labels, epochs=1, batch=256)}
    for precision in ("fp32", "bf16"):
        short = recipe("experts", precision).with_(epochs=1)
        ways[f"compiled {precision}"] = partial(
            train, [net()], batches(images, labels, short), seeds=[0], compiled=True
        )
    compare("expert, 4 steps of 256 images", ways, repeat)


def stack(repeat: int) -> None:
    """Five students of digits' size: one after another, or as one stack; each way wins somewhere."""
    for ipc in (1, 10):
        images, labels = torch.randn(10 * ipc, 1, 8, 8), torch.arange(10).repeat_interleave(ipc)
        short = recipe("protocol", "fp32").with_(epochs=20, extra_epochs=0)

        def run(compiled: bool, stacked: bool, images: Tensor = images, labels: Tensor = labels, short=short) -> None:
            nets = [net((1, 8, 8), 32) for _ in range(5)]
            for group in [nets] if stacked else [[each] for each in nets]:
                train(group, batches(images, labels, short), seeds=range(len(group)), compiled=compiled)

        ways = {
            "plain": partial(plain.train, [net((1, 8, 8), 32) for _ in range(5)], images, labels, epochs=20, batch=256)
        }
        for compiled in (False, True):
            for stacked in (False, True):
                name = f"{'compiled' if compiled else 'eager'}{', stacked' if stacked else ''}"
                ways[name] = partial(run, compiled, stacked)
        compare(f"5 students of 8x8 images, 20 epochs, ipc {ipc}", ways, repeat)
