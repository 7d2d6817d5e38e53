"""What a GPU reaches with students, experts and outer steps, beside its convolutions alone, within ten minutes.

python benchmarks/card.py [--tiny] [--eager] [--seconds 540] [--only rate,training,graphs,outer,updates,recovery,evaluation]

ConvNet-3 of width 128 at 32 px. ``of rate`` is the time of the step's convolutions alone, forward and backward, measured in
the same run, over the time of the step: 1 is the limit. Of a GPU the most memory is told, too. ``--tiny`` goes through
everything small, on a CPU too; ``--eager`` leaves the compiler out, which takes most of the time.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from hydra.utils import instantiate

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks import speed, training
from distill.autotune import EAGER
from distill.data.preprocessing import Preprocessing
from distill.data.split import Split
from distill.effort import peak_bytes
from distill.methods.base import Inputs
from distill.methods.decoupled.recovery import Recovery
from distill.methods.matching.unroll import CompiledDerivatives, Derivatives
from distill.networks.cvdd import MobileNetV2
from distill.networks.flat import flatten
from distill.networks.resnet import ResNet
from distill.runs.composed import compose
from distill.teachers.committee import Committee
from distill.training.accuracy import hits
from distill.training.batch import Batch
from distill.training.gradients import Gradients
from distill.training.loop import train
from distill.training.losses import CrossEntropy

Work = Callable[[], object]

LAYERS = ((3, 32), (128, 16), (128, 8))  # channels that come in, and side, of each convolution
GFLOP = (
    3 * 2 * sum(9 * channels * 128 * side**2 for channels, side in LAYERS) / 1e9
)  # of an image: forward, and twice that
KINDS = ("fp32", "tf32", "bf16")


class Card:
    """One device, and how long the measurements on it may still take.

    Attributes:
        rates: seconds of the convolutions alone, by (images, precision).
    """

    def __init__(self, device: torch.device, seconds: float, tiny: bool, eager: bool):
        self.device, self.tiny, self.end = device, tiny, time.monotonic() + seconds
        self.warm, self.repeat, self.images = (1, 1, [2]) if tiny else (3, 20, [10, 100, 256, 1024])
        self.kinds = KINDS if device.type == "cuda" else ("fp32", "bf16")
        self.usual = self.kinds[-2]  # what torch makes of float32 here, unless it is told otherwise
        self.compiled = (False,) if tiny or eager else (False, True)
        self.rates: dict[tuple[int, str], float] = {}

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, work: Work) -> float:
        """Median of up to 20 calls or about a second of them, after some that warm up."""
        times: list[float] = []
        for _ in range(self.warm + self.repeat):
            self.wait()
            began = time.perf_counter()
            work()
            self.wait()
            times.append(time.perf_counter() - began)
            if sum(times[self.warm :]) > 1:
                break
        return statistics.median(times[self.warm :])

    def line(self, what: str, make: Callable[[], Work], steps: int = 1, rate: tuple[int, str] | None = None) -> None:
        """Measure and print one case: ``make`` gives the work, of so many steps; one that fails takes none with it."""
        if time.monotonic() > self.end:
            print(f"{what:52} left out: the time is over", flush=True)
            return
        try:
            if self.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(self.device)
            with self.device:
                work = make()
            taken = self.seconds(work) / steps
        except Exception as error:  # whatever the compiler or a full memory raises
            print(f"{what:52} fails: {str(error).strip().splitlines()[0][:120]}", flush=True)
            return
        share = f"{self.rates[rate] / taken:6.2f} of rate" if rate in self.rates else ""
        memory = f"{peak_bytes(self.device) / 1e6:10,.0f} MB" if self.device.type == "cuda" else ""
        print(f"{what:52} {1000 * taken:10.3f} ms{memory}  {share}", flush=True)


def rate(card: Card) -> None:
    """The convolutions alone, forward and backward, in the faster of two layouts."""
    for kind in card.kinds:
        for images in card.images:
            times = {}
            for layout in (torch.contiguous_format, torch.channels_last):
                with card.device:
                    work = convolutions(images, torch.bfloat16 if kind == "bf16" else torch.float32, layout)
                with precision(kind):
                    times[layout] = card.seconds(work)
            best = min(times, key=lambda layout: times[layout])
            card.rates[images, kind] = times[best]
            told = f"{1000 * times[best]:10.3f} ms  {images * GFLOP / times[best] / 1000:8.2f} TFLOP/s"
            print(
                f"{f'convolutions, {images} images, {kind}':52} {told}  {str(best).removeprefix('torch.')}", flush=True
            )


def convolutions(images: int, dtype: torch.dtype, layout: torch.memory_format) -> Work:
    """Of the three layers, each on maps of its own; the first needs no gradient of the images."""
    maps = [torch.randn(images, c, side, side, dtype=dtype).contiguous(memory_format=layout) for c, side in LAYERS]
    weights = [torch.randn(128, c, 3, 3, dtype=dtype, requires_grad=True) for c, _ in LAYERS]
    slopes = [torch.randn(images, 128, side, side, dtype=dtype).contiguous(memory_format=layout) for _, side in LAYERS]
    for each in maps[1:]:
        each.requires_grad_()

    def work() -> None:
        found = [F.conv2d(x, w, padding=1) for x, w in zip(maps, weights, strict=True)]
        torch.autograd.grad(found, [*weights, *maps[1:]], slopes)

    return work


@contextmanager
def precision(kind: str) -> Iterator[None]:
    """TF32 for what is float32, or not."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = kind == "tf32"
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def steps(card: Card) -> None:
    """Steps of training with DSA: students on all of a set, experts on batches of 256, or as many as there are."""
    for kind in card.kinds:
        for images in card.images:
            for compiled in card.compiled if kind == card.usual or kind == "bf16" else (False,):
                who = "student" if images <= 100 else "expert"
                what = f"{who}'s step, {images} images, {kind}, {'compiled' if compiled else 'eager'}"
                count = 2 if card.tiny else 10
                with precision(kind):
                    card.line(what, partial(training_of, images, kind, compiled, count), count, (images, kind))


def training_of(images: int, kind: str, compiled: bool, count: int) -> Work:
    """So many steps on batches of so many images."""
    recipe = training.recipe("protocol" if images <= 100 else "experts", "bf16" if kind == "bf16" else "fp32")
    recipe = recipe.with_(epochs=count, extra_epochs=0, batch=images)
    batches = training.batches(torch.randn(images, 3, 32, 32), torch.arange(images) % 10, recipe)
    network = training.net()
    return lambda: train([network], batches, seeds=[0], compiled=compiled)


def graphs(card: Card) -> None:
    """One gradient, launched operation by operation, and replayed as a CUDA graph: what small batches lose to launches."""
    for images in card.images[:2]:
        card.line(f"gradient, {images} images, bf16, eager", partial(gradient, images), 1, (images, "bf16"))
        if card.device.type == "cuda":
            what = f"gradient, {images} images, bf16, eager, CUDA graph"
            card.line(what, lambda images=images: captured(gradient(images)), 1, (images, "bf16"))


def gradient(images: int) -> Work:
    network, loss = training.net(), CrossEntropy()
    recipe = training.recipe("protocol", "bf16").with_(batch=images)
    shown, labels = torch.randn(1, images, 3, 32, 32), (torch.arange(images) % 10)[None]
    batch = Batch(shown, shown, labels, torch.ones(1, images), torch.arange(images)[None], 0)
    step, weights = Gradients([network], recipe, loss, None).on(batch), flatten(network)[None]
    return lambda: step(weights)


def captured(work: Work) -> Work:
    """``work`` as a graph of the card's."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def outer(card: Card) -> None:
    """Outer steps of MTT, in fp32 as torch does it by default."""
    for ipc, inner in ((1, 2),) if card.tiny else ((1, 50), (10, 10)):
        for mode in ("recompute", "full"):
            for compiled in card.compiled:
                what = f"MTT, ipc {ipc}, {inner} inner steps, {mode}, {'compiled' if compiled else 'eager'}"
                card.line(
                    what, partial(speed.matching, ipc, inner, CompiledDerivatives if compiled else Derivatives, mode)
                )


def updates(card: Card) -> None:
    """Image updates at ipc 10 with 256 real images of each class."""
    for kind in ("dm",) if card.tiny else ("dsa", "dsac", "dm"):
        for name, way in speed.WAYS.items():
            if name == EAGER or (not card.tiny and "wide" in name and way[0] in card.compiled):
                card.line(f"{kind}, ipc 10, {name}", partial(speed.matching_update, kind, 10, way, "fp32"))


def recovery(card: Card) -> None:
    """Iterations of CDA on four units of ten images by a committee of two."""
    for kind in ("bf16",) if card.tiny else ("fp32", "bf16"):
        for together in (4,) if card.tiny else (1, 4):
            what = f"recovery, 40 images, two teachers, {kind}, {together} together"
            card.line(what, partial(recovery_of, kind, together))


def recovery_of(kind: str, together: int) -> Work:
    images = torch.rand(40, 3, 32, 32)
    preprocessing = Preprocessing("pixel01")
    real = Split(images, torch.arange(10).repeat(4), tuple("abcdefghij"), "random", preprocessing, "flip")
    nets = (ResNet((3, 32, 32), 10, depth=18, norm="batch"), MobileNetV2((3, 32, 32), 10))
    with torch.device("cpu"):  # draws are made there
        values = instantiate(compose("method=cda", "data=cifar10", f"precision={kind}").cfg.method).keywords
        committee = Committee(("resnet18", "mobilenet_v2"), nets, (50.0, 50.0))
        inputs = Inputs(real=real, ipc=4, student=training.net, seed=0, committee=committee)
        method = Recovery.make(inputs, {**values, "together": together, "init": "real"})
        method.begin()
        optimizer = method.configure_optimizers()
    return speed.iteration_of(method, optimizer)


def evaluation(card: Card) -> None:
    """A student's test on 10,000 images."""
    count = 500 if card.tiny else 10_000
    for kind in ("fp32", "bf16"):
        for compiled in card.compiled:
            what = f"test of a student, {count} images, {kind}, {'compiled' if compiled else 'eager'}"
            card.line(what, partial(test_of, count, kind, compiled))


def test_of(count: int, kind: str, compiled: bool) -> Work:
    images, labels = torch.randn(count, 3, 32, 32), torch.arange(count) % 10
    split = Split(images, labels, tuple("abcdefghij"), "random", Preprocessing("pixel01"), "flip")
    return partial(hits, training.net(), split, training.recipe("protocol", kind), compiled)


PARTS = {
    "rate": rate,
    "training": steps,
    "graphs": graphs,
    "outer": outer,
    "updates": updates,
    "recovery": recovery,
    "evaluation": evaluation,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--eager", action="store_true")
    parser.add_argument("--seconds", type=float, default=540)
    parser.add_argument("--only", default=",".join(PARTS))
    arguments = parser.parse_args()
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    print(f"{name}, torch {torch.__version__}, CUDA {torch.version.cuda}; medians")
    card = Card(device, arguments.seconds, arguments.tiny, arguments.eager)
    torch.manual_seed(0)
    for part in arguments.only.split(","):
        PARTS[part](card)


if __name__ == "__main__":
    main()
