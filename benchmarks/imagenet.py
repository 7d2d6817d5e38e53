"""What decoupled methods take on ImageNet-1K, counted: operations, memory and bytes by stage. Nothing is trained.

    python benchmarks/imagenet.py --rate 25        # TFLOP/s that a card is said to reach

Operations and memory are those of steps of the very networks on 2 and 4 empty images of 224 px, forward and back, and go
up in proportion; bytes are those of the codecs and of what a recovery keeps. See ``docs/imagenet.md``.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torchvision.models as tv
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from distill.effort import Allocations
from distill.methods.decoupled.moments import gathered_statistics, statistics_distance
from distill.teachers.codecs import Codec, Distances, Half, Quantised, TopK
from distill.teachers.stored import ORDER

REAL, CLASSES, SIDE = 1_281_167, 1000, 224
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "ResNet-18": tv.resnet18,
    "ResNet-50": tv.resnet50,
    "ShuffleNetV2": tv.shufflenet_v2_x1_0,
    "MobileNetV2": tv.mobilenet_v2,
    "DenseNet-121": tv.densenet121,
}
CODECS: dict[str, Codec] = {
    "all, half precision": Half(),
    "all, 256 levels": Quantised(None, 20.0),
    "largest 10": TopK(10, 20.0),
    "largest 10, 256 levels": Quantised(10, 20.0),
    "two distances": Distances(),
}
EPOCHS, ITERATIONS = 300, 4000


@dataclass(frozen=True)
class Step:
    """Of an image: operations, and bytes that are held at the most."""

    operations: float
    bytes: float


def label(net: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        net.eval()(images)


def recover(net: nn.Module, images: Tensor) -> None:
    """The loss of SRe2L and its gradient to the images."""
    net.eval().requires_grad_(False)
    images.requires_grad_()
    with gathered_statistics(net, 1) as moments:
        logits = net(images)
    (logits.logsumexp(1).mean() + statistics_distance(moments, 10.0).sum()).backward()


def train(net: nn.Module, images: Tensor) -> None:
    net.train()(images).logsumexp(1).mean().backward()


def step(make: Callable[[], nn.Module], work: Callable[[nn.Module, Tensor], None]) -> Step:
    """Of ``work`` on a network, of its steps on 2 and on 4 images."""
    counted, held = [], []
    for count in (2, 4):
        net, images = make(), torch.zeros(count, 3, SIDE, SIDE)
        with FlopCounterMode(display=False) as counter:
            work(net, images.clone())
        counted.append(counter.get_total_flops())
        net = make()
        with Allocations() as kept:
            work(net, images.clone())
        held.append(max(kept.levels))
    return Step(*((large - small) / 2 for small, large in (counted, held)))


def networks(steps: dict[str, tuple[Step, Step]]) -> None:
    """A row for each network."""
    print("| network | labels, GFLOP | recovery, GFLOP | recovery, MB |\n|---|---|---|---|")
    for name, (labels, recovery) in steps.items():
        print(
            f"| {name} | {labels.operations / 1e9:.2f} | {recovery.operations / 1e9:.2f} | {recovery.bytes / 1e6:.0f} |"
        )


def stages(steps: dict[str, tuple[Step, Step]], training: Step, rate: float) -> None:
    """A row for each stage and size; a ResNet-18 is trained."""
    label18, recover18 = (each.operations for each in steps["ResNet-18"])
    train18 = training.operations
    of_five = [[each.operations for each in own] for own in steps.values()]
    label5, recover5 = (sum(own[what] for own in of_five) for what in (0, 1))
    print("| stage | images x passes | PFLOP | hours |\n|---|---|---|---|")
    row("teacher, ResNet-18, 90 epochs", 90 * REAL, train18, rate)
    for ipc in (10, 50, 200):
        views, made = EPOCHS * ipc * CLASSES, ITERATIONS * ipc * CLASSES
        row(f"ipc {ipc}: recovery, SRe2L", made, recover18, rate)
        row(f"ipc {ipc}: recovery, CV-DD, two of five", made, 2 / 5 * recover5, rate)
        row(f"ipc {ipc}: labels, ResNet-18", views, label18, rate)
        row(f"ipc {ipc}: labels, five teachers", views, label5, rate)
        row(f"ipc {ipc}: a student, ResNet-18", views, train18, rate)


def row(text: str, images: float, each: float, rate: float) -> None:
    print(
        f"| {text} | {images / 1e6:,.0f} M | {images * each / 1e15:,.0f} | {images * each / rate / 1e12 / 3600:,.1f} |"
    )


def disk() -> None:
    """Bytes of sets and labels."""
    print("| | ipc 10 | ipc 50 | ipc 200 |\n|---|---|---|---|")
    pixels, sizes = 3 * SIDE**2, (10, 50, 200)
    print(f"| set | {' | '.join(f'{ipc * CLASSES * pixels / 1e9:.2f} GB' for ipc in sizes)} |")
    for name, codec in CODECS.items():
        each = EPOCHS * (ORDER + codec.bytes(CLASSES))
        print(f"| labels: {name} | {' | '.join(f'{ipc * CLASSES * each / 1e9:.3g} GB' for ipc in sizes)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=25.0, help="TFLOP/s")
    found = parser.parse_args()
    torch.set_num_threads(1)
    steps = {name: (step(make, label), step(make, recover)) for name, make in NETWORKS.items()}
    training = step(NETWORKS["ResNet-18"], train)
    networks(steps)
    print(
        f"\nA training step of ResNet-18: {training.operations / 1e9:.2f} GFLOP and {training.bytes / 1e6:.0f} MB an image.\n"
    )
    stages(steps, training, found.rate)
    print()
    disk()


if __name__ == "__main__":
    main()
