"""Time of the inner loop and its gradient in the three memory modes, as ratios to `full` (autograd's graph) in one run.

python benchmarks/unroll.py [--side 32 --width 128 --images 20 --steps 10 --repeat 3]
"""

import argparse
import statistics
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.students import ConvNet, FlatStudent, flatten
from distill.unroll import MODES, InnerStep, unroll


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"side": 32, "width": 128, "images": 20, "steps": 10, "repeat": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    a = parser.parse_args()
    torch.manual_seed(0)
    shape = (3, a.side, a.side)
    net = ConvNet(shape, 10, depth=None, width=a.width, norm="instance", pooling="avg", activation="relu")
    start, student = flatten(net), FlatStudent(net)
    images = torch.randn(a.images, *shape, requires_grad=True)
    labels, lr = torch.arange(a.images) % 10, torch.tensor(0.01, requires_grad=True)
    plan = [InnerStep(torch.arange(a.images), i) for i in range(a.steps)]

    def loss(theta: Tensor, x: Tensor, y: Tensor, draw: int) -> Tensor:
        return F.cross_entropy(student(theta, x), y)

    seconds: dict[str, list[float]] = {mode: [] for mode in MODES}
    for _ in range(a.repeat):
        for mode in MODES:
            began = time.perf_counter()
            unroll(loss, start, images, labels, lr, plan, mode=mode).square().sum().backward()
            seconds[mode].append(time.perf_counter() - began)
    print(
        f"ConvNet width {a.width}, {a.images} images of {a.side} px, {a.steps} inner steps, {torch.get_num_threads()} threads"
    )
    full = statistics.median(seconds["full"])
    for mode in MODES:
        median = statistics.median(seconds[mode])
        print(f"{mode:10} {median:7.2f} s  {median / full:5.2f} x full")


if __name__ == "__main__":
    main()
