"""A training step beside what its convolutions alone would take; a part of ``benchmarks/speed.py``."""

import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.training import batches, net, recipe
from distill.training.loop import train
from distill.training.recipe import PRECISIONS

SIZES = (10, 100, 256)
WIDTH, SIDES = 128, (16, 8)  # of the maps between ConvNet-3's blocks at 32 px
SECONDS = 0.3  # of work in a turn, at least, at 100 GFLOP/s


def rate(repeat: int) -> None:
    """Students' and experts' steps on one thread, as fractions of the rate of convolutions forward and backward."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    print(f"{'':8}{'images':>6} {'':5}{'':9}{'ms':>8}{'GFLOP/s of convolutions':>26}{'fraction':>10}")
    for images in SIZES:
        for precision in PRECISIONS:
            case(images, precision, repeat)
    torch.set_num_threads(threads)


def case(images: int, precision: str, repeat: int) -> None:
    """All ways with so many images, taking turns; the best turn of each counts."""
    work = operations(lambda: step("student", images, "fp32", False, 1)())
    steps = max(1, round(SECONDS * 1e11 / work))
    ways = {
        (what, compiled): step(what, images, precision, compiled, steps)
        for what in ("student", "expert")
        for compiled in (False, True)
    }
    alone = {
        layout: convolutions(images, precision, layout) for layout in (torch.contiguous_format, torch.channels_last)
    }
    best: dict[object, float] = {}
    for turn in range(repeat + 1):
        for name, each in [*alone.items(), *ways.items()]:
            began = time.perf_counter()
            each()
            if turn:  # the first one warms up
                best[name] = min(best.get(name, float("inf")), time.perf_counter() - began)
    per_second = max(operations(each) / best[layout] for layout, each in alone.items())
    for what, compiled in ways:
        took = best[what, compiled] / steps
        print(
            f"{what:8}{images:6} {precision:5}{'compiled' if compiled else 'eager':9}{took * 1e3:8.1f}"
            f"{per_second / 1e9:26.0f}{work / per_second / took:10.2f}",
            flush=True,
        )


def step(what: str, images: int, precision: str, compiled: bool, steps: int) -> Callable[[], None]:
    """So many steps of a student or an expert, each on all images."""
    pixels, labels = torch.randn(images, 3, 32, 32), torch.arange(images) % 10
    name = "protocol" if what == "student" else "experts"
    short = recipe(name, precision).with_(epochs=steps, extra_epochs=0, batch=images)
    return partial(train, [net()], batches(pixels, labels, short), seeds=[0], compiled=compiled)


def convolutions(images: int, precision: str, layout: torch.memory_format) -> Callable[[], None]:
    """The inner convolutions' outputs and gradients, by PyTorch alone."""
    dtype = PRECISIONS[precision] or torch.float32
    sets = []
    for side in SIDES:
        maps, weight = torch.randn(images, WIDTH, side, side), torch.randn(WIDTH, WIDTH, 3, 3)
        inputs = [each.to(dtype).contiguous(memory_format=layout).requires_grad_() for each in (maps, weight)]
        sets.append((inputs, torch.randn_like(inputs[0])))

    def both() -> None:
        for inputs, gradient in sets:
            torch.autograd.grad(F.conv2d(*inputs, padding=1), inputs, gradient)

    return both


def operations(work: Callable[[], object]) -> float:
    """Floating-point operations of convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()
