"""One outer step of one process, and of several that go through it together: seconds, and the memory of a process.

python benchmarks/split.py [--sizes 1,2] [--ipc 50] [--repeat 3] [--only mtt,dm,dsa] [--device cpu]

The methods of the configs on random images of CIFAR-10's shape, ConvNet-3 of width 128, fp32, without torch.compile, each
process with one thread. Of MTT's inner steps, with all images, there are two. Processes share a card where there is one.
Beside the time by the clock stands what a process computed, which others on the machine do not lengthen.
"""

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from hydra.utils import instantiate
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks.speed import random_split
from benchmarks.training import net
from distill.effort import peak_bytes
from distill.methods.base import Inputs, Method
from distill.methods.peers import Peers
from distill.runs.composed import compose
from distill.runs.errands import keep_freed_memory

WORDS = {"mtt": ["method.student_steps=2", "method.memory=recompute"], "dm": [], "dsa": []}
REAL = 2560


class Experts:
    """Two trajectories that move a little."""

    folder, count, epochs = "random", 2, 50

    def row(self, expert: int, epoch: int, size: int) -> Tensor:
        return (0.05 + 1e-4 * epoch) * torch.randn(size, generator=torch.Generator().manual_seed(expert))


def method(name: str, ipc: int, peers: Peers, device: str) -> Method:
    """Ready to update."""
    words = [f"method={name}", "data=cifar10", "precision=fp32", "compile=false", *WORDS[name]]
    node = instantiate(compose(*words).cfg.method)
    real = random_split(REAL)
    real = replace(real, images=real.images.to(device), labels=real.labels.to(device))
    made = node.func.make(Inputs(real, ipc, net, 0, experts=Experts()), node.keywords)  # type: ignore[arg-type]
    made.peers = peers
    made.log = made.log_dict = lambda *values, **named: None
    made.begin()
    return made.to(device)


def one_of(rank: int, size: int, name: str, ipc: int, repeat: int, device: str, folder: Path) -> None:
    """Measure in one of ``size`` processes, and leave what was found in ``folder``."""
    keep_freed_memory()
    torch.set_num_threads(1)
    torch.manual_seed(0)  # of the real images, the same in all
    dist.init_process_group("gloo", store=dist.FileStore(str(folder / "store"), size), rank=rank, world_size=size)
    peers = Peers(rank, size, dist.group.WORLD)
    work, times = method(name, ipc, peers, device), []
    before = peak_bytes(torch.device(device))
    for _ in range(repeat + 1):
        work.synset.images.grad = None
        dist.barrier()
        began = time.perf_counter(), time.process_time()
        work.update(0).backward()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append([time.perf_counter() - began[0], time.process_time() - began[1]])
    most, gradient = peak_bytes(torch.device(device)), work.synset.images.grad.cpu()
    found = {"seconds": times[1:], "before": before / 2**30, "added": (most - before) / 2**30, "gradient": gradient}
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


def measured(size: int, *case: object) -> list[dict]:
    """What each of ``size`` processes found."""
    with tempfile.TemporaryDirectory() as folder:
        make = multiprocessing.get_context("spawn").Process
        processes = [make(target=one_of, args=(rank, size, *case, Path(folder))) for rank in range(size)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in range(size)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", default="1,2")
    parser.add_argument("--ipc", type=int, default=50)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", default=",".join(WORDS))
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    for name in asked.only.split(","):
        first = None
        for size in map(int, asked.sizes.split(",")):
            found = measured(size, name, asked.ipc, asked.repeat, asked.device)
            clock, busy = (statistics.median(column) for column in zip(*found[0]["seconds"], strict=True))
            before, added = (max(each[key] for each in found) for key in ("before", "added"))
            now, gradient = (clock, busy, added), found[0]["gradient"]
            first = first or (*now, gradient)
            pairs = zip(first[:3], now, strict=True)
            by_clock, computed, memory = (f"{now:.2f} ({one / now:.2f} x)" for one, now in pairs)
            apart = float((gradient - first[-1]).norm() / first[-1].norm())
            print(
                f"{name}, ipc {asked.ipc}, {size} processes: {by_clock} s, of each {computed} s computed and {memory} GiB "
                f"beside {before:.2f}; gradients differ by {apart:.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
