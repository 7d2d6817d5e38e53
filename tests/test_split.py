"""An outer step split over peers is that of one process; real processes, slices of unequal size."""

import os
import signal
import socket
import subprocess
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
import torch
import torch.distributed as dist
from conftest import STRATEGY, load_npz, made, toy_settings
from safetensors.torch import load_file
from test_crew import TORCHRUN
from test_faults import forked, in_a_process, run_line
from test_line import ROOT, line, toy  # noqa: F401
from test_unroll import ALL, plan_of, relative, toy_of, unrolled

from distill import augment
from distill.augment.families import DSA
from distill.methods.matching.ast import AST
from distill.methods.matching.datm import DATM
from distill.methods.matching.dm import DistributionMatching
from distill.methods.matching.gradient import GradientMatching
from distill.methods.matching.idc import IDC
from distill.methods.matching.ncfm import NCFM
from distill.methods.matching.sliced import Sliced
from distill.methods.matching.trajectory import TrajectoryMatching
from distill.methods.matching.unroll import MODES, Derivatives
from distill.methods.peers import ALONE, Peers
from distill.networks.convnet import ConvNet

SIZES = (2, 3)  # peers; batches of 7 and 4 images have no equal slices for three


def together(find, size, folder):
    """What ``find(peers)`` gives in each of ``size`` processes."""
    processes = [forked(one_of, find, rank, size, folder) for rank in range(size)]
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * size
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(size)]


def one_of(find, rank, size, folder):
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / f"store-{size}"), size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timedelta(seconds=60))
    torch.save(find(Peers(rank, size, dist.group.WORLD)), folder / f"{rank}.pt")
    dist.destroy_process_group()


# --- gradients, in float64 --------------------------------------------------------------------------------------------


def unrolls(peers=ALONE):
    """By mode and momentum: where five steps on 4 of 7 images, or on 3, lead, and the gradients of how far that is off."""
    loss, start, images, labels, lr = toy_of(depth=2)
    derivatives = Derivatives(loss) if peers is ALONE else Sliced(Derivatives(loss), peers)
    found = {}
    for mode in MODES:
        for loop in ({},) if mode == "tesla" else ({}, {"momentum": 0.9, "stops": [2, 5]}):
            shared = peers.shared(images), peers.shared(labels), lr
            landed = unrolled(derivatives, start, *shared, plan_of(5), mode, augment=DSA(ALL), **loop)
            slopes = torch.autograd.grad((landed - start - 0.01).square().sum(), (images, labels, lr))
            found[f"{mode} {loop}"] = [landed.detach(), *slopes]
    return found


@pytest.mark.parametrize("size", SIZES)
def test_an_unroll_that_peers_share_is_that_of_one_process(size, tmp_path):
    alone = unrolls()
    for found in together(unrolls, size, tmp_path):
        for way, expected in alone.items():
            for own, one in zip(found[way], expected, strict=True):
                assert relative(own, one) < 1e-10, way


class Experts:
    """Of two trajectories with four epochs, in float64."""

    folder, count, epochs = "here", 2, 4

    def complete(self):
        return self

    def row(self, expert, epoch, size):
        return torch.randn(size, generator=torch.Generator().manual_seed(7)) * 0.2 + 0.01 * (1 + expert) * epoch


UNEQUAL = {"c0": 3, "c1": 5, "c2": 4}  # images of each class
METHODS = {
    "mtt": (TrajectoryMatching, {"memory": "recompute"}),
    "tesla": (TrajectoryMatching, {"memory": "tesla", "soft_label_assignment": True}),
    "datm": (DATM, {"memory": "segments", "init": "real"}),
    "ast": (AST, {"memory": "full", "init": "real", "student_momentum": 0.5, "expert_epochs": 2, "max_start_epoch": 2}),
    "dm": (DistributionMatching, {}),
    "dm of unequal classes": (DistributionMatching, {"ipc": UNEQUAL}),
    "dc": (GradientMatching, {"augment": augment.none, "distance": "rows"}),
    "dsa of unequal classes": (GradientMatching, {"ipc": UNEQUAL, "distance": "cosine"}),
    "dcc": (GradientMatching, {"collective": True, "warmup_networks": 0, "distance": "squared"}),
    "dsac of unequal classes": (
        GradientMatching,
        {"collective": True, "warmup_networks": 0, "ipc": UNEQUAL},
    ),
    "ncfm": (NCFM, {"batch_real": 7, "sampler": True, "lr_sampler": 0.1}),
    "ncfm of unequal classes at random frequencies": (NCFM, {"ipc": UNEQUAL, "init": "noise", "sampler": False}),
    "idc": (IDC, {"batch_synthetic": 7}),
}


def steps(folder, peers=ALONE):
    """By method: the losses of two outer steps and the gradients of all that is learned."""
    torch.set_default_dtype(torch.float64)
    real = load_npz(folder / "toy.npz").train
    real = replace(real, images=real.images.double())
    shared = dict(seed=0, real=real, student=network, experts=Experts(), ipc=4, augment=augment.DSA(STRATEGY))
    found = {}
    for name, (kind, values) in METHODS.items():
        method = made(kind, **{**toy_settings(kind), **shared, **values})
        method.begin()
        method.peers = peers
        for step in range(2):
            loss = method.update(step)
            leaves = [each for group in method.configure_optimizers().param_groups for each in group["params"]]
            slopes = [each.flatten() for each in getattr(method, "slopes", [])]  # of what makes NCFM's frequencies
            sampled = [torch.cat(slopes)] if slopes else []  # of biases before a batch norm they are rounding alone
            found[f"{name} {step}"] = [loss.detach(), *torch.autograd.grad(loss, leaves), *sampled]
    return found


def network():
    net = ConvNet((3, 8, 8), 3, depth=2, width=6, norm="instance", pooling="avg", activation="softplus")
    return net.double()


@pytest.mark.parametrize("size", SIZES)
def test_an_outer_step_that_peers_share_is_that_of_one_process(size, npz):
    (alone,) = together(partial(steps, npz.parent), 1, npz.parent)
    for found in together(partial(steps, npz.parent), size, npz.parent):
        for step, expected in alone.items():
            for own, one in zip(found[step], expected, strict=True):
                assert own.dtype == torch.float64 and relative(own, one) < 1e-6, step


# --- the line -----------------------------------------------------------------------------------------------------------

MTT = [
    *(
        "ipc=3",
        "method.batch_syn=8",
        "method.memory=recompute",
        "syntheses=2",
    ),  # a step of six of 30 images is among them
    *("task=distill", "experts_path=e"),
]


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A folder with MTT's experts, and what one process makes of them, ``one``, and what a pair does, ``two``."""
    folder = tmp_path_factory.mktemp("begun")
    assert in_a_process(toy("mtt", *MTT, "task=experts"), folder) == 0
    assert in_a_process(toy("mtt", *MTT, "out=one"), folder) == 0
    assert in_processes(2, "two", folder) == [0, 0]
    return folder


def in_processes(size, out, folder, before=None):
    """MTT in so many processes of a torchrun, two of which go together; how each ends."""
    with closing(socket.socket()) as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    befores = [partial(of_world, rank, size, port, before) for rank in range(size)]
    processes = [forked(run_line, pair(out), folder, None, each) for each in befores]
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]


def pair(out):
    """The words of a run whose processes go together two by two."""
    return [*(each for each in toy("mtt", *MTT) if each != "workers=1"), "split=2", f"out={out}"]


def of_world(rank, size, port, before):
    world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in world.items()}
    if before:
        before(rank)


def sets(folder):
    return {path.parent.name: load_file(path) for path in folder.glob("digits-mtt-*/synset.safetensors")}


def assert_close(found, expected):
    assert found.keys() == expected.keys() and len(found) == 2
    for name in found:
        assert all(relative(found[name][key], expected[name][key]) < 1e-6 for key in ("images", "lr"))


def test_pairs_of_a_torchrun_make_the_sets_of_one_process(begun):
    assert in_processes(4, "four", begun) == [0] * 4
    one = sets(begun / "one")
    for out in ("two", "four"):
        assert_close(sets(begun / out), one)
        assert len(list(begun.glob(f"{out}/*/metrics/*/metrics.csv"))) == 2  # one of a pair writes
    for name, whole in one.items():
        start = load_file(begun / "one" / name / "snapshots" / "step_000000.safetensors")
        assert relative(start["images"], whole["images"]) > 1e-3  # they learned something


@pytest.mark.parametrize("dies", [0, 1])
def test_a_pair_goes_on_where_one_of_it_was_killed(dies, begun):
    out = f"killed-{dies}"
    ends = in_processes(2, out, begun, partial(dies_in_step, dies, 3))
    assert ends[dies] == -9 and ends[1 - dies] == 1
    assert "a process that goes along with this one has ended" in (begun / "heard").read_text()
    assert len(sets(begun / out)) == 1  # the first set, after two of four steps
    assert in_processes(2, out, begun) == [0, 0]
    whole, found = sets(begun / "two"), sets(begun / out)
    assert all(torch.equal(whole[name][key], found[name][key]) for name in whole for key in ("images", "lr"))


def dies_in_step(rank, step, own):
    """Let process ``rank`` be killed in an outer step, before it has worked out its part."""
    update = TrajectoryMatching.update

    def fatal(self, number):
        if own == rank and number == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return update(self, number)

    TrajectoryMatching.update = fatal


def test_torchrun_begins_a_pair(begun):
    done = subprocess.run([*TORCHRUN, str(ROOT / "run.py"), *pair("run")], cwd=begun, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_close(sets(begun / "run"), sets(begun / "one"))


@pytest.mark.parametrize(
    "method, words, told",
    [
        (
            "mtt",
            ["split=2"],
            "expected a divisor of the processes, which are 1: begin them by torchrun --nproc-per-node=2",
        ),
        (
            "mtt",
            ["split=7", "method.batch_syn=8"],
            "expected at most 6: an inner step has 6 images, more with another ipc or",
        ),
        ("mtt", ["split=31"], "split is 31, expected at most 30: an inner step has 30 images"),
        (
            "lgm",
            ["split=2"],
            "split is 2, expected at most 1: an outer step of this method is one process's, leave split out",
        ),
        ("mtt", ["split=2", "student.convnet.norm=batch"], "norm=instance"),
        (
            "dm",
            ["split=4"],
            "split is 4, expected at most 3: a step sees 3 images of a class, more with another ipc or",
        ),
        (
            "dm",
            ["split=2", "student.convnet.norm=batch"],
            "at most 1: the network's batch norm or dropout wants whole batches",
        ),
        ("dc", ["split=3", "method.batch_real=2"], "split is 3, expected at most 2: a step sees 2 images of a class"),
        ("mtt", ["split=0"], "split is 0, expected a whole number"),
    ],
)
def test_what_cannot_be_split_is_told_before_anything_is_trained(method, words, told, line):  # noqa: F811
    code, _, message = line(*toy(method, "ipc=3"), *words)
    assert code == 1 and told in message
