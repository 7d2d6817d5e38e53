"""Time and memory of the hot loops as ratios to the plain ones of ``benchmarks/plain.py``, measured in turn in one run.

python benchmarks/speed.py [--repeat 3] [--only PART,PART]   (parts: those of `main`)

What is compared: ConvNet-3 at CIFAR-10 size with DSA, `distill` in the fastest setting of docs/speed.md
(torch.compile, bf16 for experts and students, fp32 in the inner loop). Ratios above 1 are gains.
"""

import argparse
import copy
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks import plain, sweeps
from benchmarks.decoupled import decoupled
from benchmarks.rate import rate
from benchmarks.selection import selection
from benchmarks.training import AUGMENT, added, compare, experts, net, stack, students
from benchmarks.transfer import transfer
from benchmarks.workers import workers
from distill import rng
from distill.augment.families import DSA
from distill.autotune import fuse
from distill.data.preprocessing import Preprocessing
from distill.data.split import Split
from distill.methods.base import Inputs
from distill.methods.decoupled.recovery import Recovery
from distill.methods.matching.classes import WAYS
from distill.methods.matching.dm import class_means
from distill.methods.matching.gradient import with_gradient
from distill.methods.matching.lgm import LinearGradientMatching
from distill.methods.matching.matcher import Matcher, row_distance
from distill.methods.matching.trajectory import inner_loss, trajectory_error
from distill.methods.matching.unroll import CompiledDerivatives, Derivatives, InnerLoop, InnerStep, unroll
from distill.networks.base import restart
from distill.networks.convolution import differentiable_twice
from distill.networks.cvdd import MobileNetV2
from distill.networks.flat import FlatStudent, flatten
from distill.networks.resnet import ResNet
from distill.runs.errands import keep_freed_memory
from distill.teachers.committee import Committee


def matching(ipc: int, steps: int, derivatives: type[Derivatives], mode: str) -> Callable[[], None]:
    """One outer step of ours, its gradients included."""
    network = differentiable_twice(net())
    start, flat = flatten(network), FlatStudent(network)
    target = start + 0.01 * torch.randn_like(start)
    images = torch.randn(10 * ipc, 3, 32, 32, requires_grad=True)
    labels, lr = torch.arange(10).repeat_interleave(ipc), torch.tensor(0.01, requires_grad=True)
    loss = inner_loss(flat, "hard")
    made = derivatives(loss, len(images)) if derivatives is CompiledDerivatives else derivatives(loss)
    plan = [InnerStep(torch.arange(len(images)), rng.derive(0, "bench", i)) for i in range(steps)]

    def step() -> None:
        (landed,) = unroll(InnerLoop(made, plan, AUGMENT), start, images, labels, lr, mode)
        trajectory_error(landed, start, target).backward()

    return step


def outer(repeat: int) -> None:
    """One outer step with fp32 throughout."""
    for ipc, steps in ((1, 20), (10, 5)):
        network = net()
        start = flatten(network)
        images = torch.randn(10 * ipc, 3, 32, 32, requires_grad=True)
        lr, labels = torch.tensor(0.01, requires_grad=True), torch.arange(10).repeat_interleave(ipc)
        target = start + 0.01 * torch.randn_like(start)
        ways: dict[str, Callable[[], object]] = {
            "plain": partial(plain.outer_step, network, start, target, images, labels, lr, steps),
            "recompute": matching(ipc, steps, Derivatives, "recompute"),
            "recompute, compiled": matching(ipc, steps, CompiledDerivatives, "recompute"),
            "full, compiled": matching(ipc, steps, CompiledDerivatives, "full"),
            "tesla, compiled": matching(ipc, steps, CompiledDerivatives, "tesla"),
        }
        compare(f"outer step, ipc {ipc}, {steps} inner steps", ways, repeat)


def matching_update(kind: str, ipc: int, way: tuple[bool, int] | None, precision: str) -> Callable[[], object]:
    """One image update at CIFAR-10 size with 256 real images of each class; way None is the plain loop."""
    torch.manual_seed(0)
    real = torch.randn(10, 256, 3, 32, 32)
    synthetic = torch.randn(10, ipc, 3, 32, 32, requires_grad=True)
    network = net()
    if way is None:
        if kind == "dm":
            return partial(plain.mean_features, net, real, synthetic)
        return partial(plain.class_gradients, network, real, synthetic, kind == "dsac")
    siamese = DSA("color_crop_cutout_flip_scale_rotate", siamese=True)
    compiled, together = way
    features = fuse(network.features) if compiled else network.features
    means = partial(class_means, features, together=together)
    matcher = Matcher(FlatStudent(network), row_distance, *way)

    def update() -> None:
        views, own = (
            torch.cat([siamese(part, draw) for draw, part in enumerate(images)]) for images in (real, synthetic)
        )
        if kind == "dm":
            restart(network)
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                target = means(views, [256] * 10)
            (means(own, [ipc] * 10) - target).square().sum().backward()
            return
        match = matcher.collective if kind == "dsac" else matcher.class_wise
        loss, gradient = match(flatten(network), views.view_as(real), own.detach(), [ipc] * 10)
        with_gradient(own, loss, gradient).backward()

    return update


def class_gradients(kind: str, repeat: int) -> None:
    """One image update of DSA or DSAC at ipc 10."""
    ways = {"plain": matching_update(kind, 10, None, "fp32")}
    ways |= {name: matching_update(kind, 10, way, "fp32") for name, way in WAYS.items()}
    compare(f"{kind}, image update, ipc 10", ways, repeat)


def mean_features(repeat: int) -> None:
    """One iteration of DM at ipc 10."""
    ways = {"plain": matching_update("dm", 10, None, "fp32")}
    for precision in ("fp32", "bf16"):
        ways |= {f"{name}, {precision}": matching_update("dm", 10, way, precision) for name, way in WAYS.items()}
    compare("dm, iteration, ipc 10", ways, repeat)


def linear_gradients(repeat: int) -> None:
    """One step of linear gradient matching at ipc 1: ten views of each image, 256 real ones."""
    network, classes = net().eval().requires_grad_(False), torch.arange(10)
    real = random_split(256)
    images = torch.rand(10, 3, 32, 32, requires_grad=True)
    plainly = partial(plain.linear_gradients, network, real.images, real.labels, images, classes, 10)
    committee = Committee(("convnet",), (copy.deepcopy(network),), (50.0,))

    def ours(precision: str) -> Callable[[], None]:
        with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            own = f"method=lgm method.precision={precision} method.batch_real=256"
            words = [*own.split(), "data=cifar10", "precision=fp32"]
            make = instantiate(compose("config", words).method)
        method = LinearGradientMatching.make(Inputs(real, 1, net, 0, committee=committee), make.keywords)
        method.log = lambda *values, **named: None
        method.begin()
        return lambda: method.update(5000).backward()

    compare("lgm, step, ipc 1", {"plain": plainly, "fp32": ours("fp32"), "bf16": ours("bf16")}, repeat)


def random_split(images: int) -> Split:
    """So many random images of CIFAR-10's shape."""
    labels = torch.arange(images) % 10
    return Split(torch.rand(images, 3, 32, 32), labels, tuple("abcdefghij"), "random", Preprocessing("pixel01"), "flip")


def recover(repeat: int) -> None:
    """One iteration on four groups of ten images (ipc indices of CIFAR-10) by a committee of two; plain: group by group."""
    nets = (ResNet((3, 32, 32), 10, depth=18, norm="batch"), MobileNetV2((3, 32, 32), 10))
    labels, groups = torch.arange(10), [torch.randn(10, 3, 32, 32, requires_grad=True) for _ in range(4)]
    optimizers = [torch.optim.Adam([images], 0.25, (0.5, 0.9)) for images in groups]
    as_built = [copy.deepcopy(net).eval().requires_grad_(False) for net in nets]  # the committee's are channels last

    def plainly() -> None:
        for images, optimizer in zip(groups, optimizers, strict=True):
            plain.recover(as_built, images, labels, optimizer)

    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        make = instantiate(compose("config", ["method=cda", "data=cifar10", "precision=fp32"]).method)
    real = random_split(40)
    committee = Committee(("resnet18", "mobilenet_v2"), nets, (50.0, 50.0))

    def ours(together: int) -> Callable[[], None]:
        inputs = Inputs(real=real, ipc=4, student=net, seed=0, committee=committee)
        method = Recovery.make(inputs, {**make.keywords, "together": together, "init": "real"})
        method.log_dict = lambda *values, **named: None
        method.begin()
        return iteration_of(method, method.configure_optimizers())

    ways = {"plain": plainly, "one group at a time": ours(1), "four groups stacked": ours(4)}
    compare("recovery, 40 images, two teachers", ways, repeat)


def iteration_of(method: Recovery, optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """One iteration of recovery on every stack of a method that has begun."""

    def iteration() -> None:
        for number in range(len(method.stacks)):
            method.open(number)
            optimizer.param_groups[0]["params"] = [method.pixels]
            optimizer.zero_grad()
            method.update(0).backward()
            optimizer.step()

    return iteration


def memory(repeat: int) -> None:
    """Peak memory that an outer step of ipc 1, or an image update of ipc 10, adds to the process; each in one of its own."""
    for steps in (10, 30):
        compare_peaks(f"memory, ipc 1, {steps} inner steps", [f"{mode},{steps}" for mode in ("full", "recompute")])
    for kind in ("dsa", "dsac", "dm"):
        compare_peaks(f"memory, {kind}, image update, ipc 10", [f"{way},{kind}" for way in ("plain", *WAYS)])


def compare_peaks(title: str, works: list[str]) -> None:
    """Print the peak memory of every work and its share of the first one's."""
    added = []
    for work in works:
        command = [sys.executable, __file__, "--peak", work]
        added.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
        print(
            f"{title:44} {work.split(',')[0]:26} {added[-1] / 1024:8.0f} MB  {added[-1] / added[0]:5.2f} of the first"
        )


def peak(way: str, what: str) -> None:
    """Print the kilobytes that one outer step or image update adds to this process at its peak (Linux)."""
    if what.isdigit():
        matching(1, 1, Derivatives, way)()
        work: Callable[[], object] = matching(1, int(what), Derivatives, way)
    else:
        work = matching_update(what, 10, WAYS.get(way), "fp32")
        work()  # compiles
    print(added(work))


def main() -> None:
    parts = {
        "rate": rate,
        "students": students,
        "experts": experts,
        "outer": outer,
        "dsa": partial(class_gradients, "dsa"),
        "dsac": partial(class_gradients, "dsac"),
        "dm": mean_features,
        "lgm": linear_gradients,
        "idc": sweeps.idc,
        "ncfm": sweeps.ncfm,
        "recover": recover,
        "memory": memory,
        "stack": stack,
        "workers": workers,
        "selection": selection,
        "decoupled": decoupled,
        "krrst": transfer,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", default=",".join(parts))
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    if arguments.peak:
        return peak(*arguments.peak.split(","))
    keep_freed_memory()
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, median of {arguments.repeat}; gain over the first way"
    )
    for name in arguments.only.split(","):
        parts[name](arguments.repeat)


if __name__ == "__main__":
    main()
