"""Which way through the inner loop is taken: the fastest whose graphs fit into the machine's memory."""

import pytest
import torch
import torch.nn.functional as F

from distill.methods.matching import ways
from distill.methods.matching.unroll import Derivatives
from distill.methods.matching.ways import Case, choose, fitting, graph_bytes
from distill.networks.convnet import ConvNet
from distill.networks.flat import FlatStudent, flatten
from distill.parallel import Crew, working_in


def case_of(images, steps=9, loops=1000):
    net = ConvNet((3, 8, 8), 3, depth=2, width=6, norm="instance", pooling="avg", activation="relu")
    flat = FlatStudent(net)

    def loss(theta, views, labels):
        return F.cross_entropy(flat(theta, views), labels)

    return Case(
        loss, flatten(net), torch.randn(images, 3, 8, 8), torch.arange(images) % 3, steps, loops, {"net": "toy"}
    )


@pytest.fixture
def chosen(tmp_path, monkeypatch, taking):
    """``chosen("auto", graphs=3, full=0.5)``: the mode that is taken where graphs of so many steps fit."""
    calls = []

    def run(memory, graphs, **seconds):
        calls.append(1)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / str(len(calls))))
        case = case_of(4)
        monkeypatch.setattr(ways, "memory_of", lambda device: (graphs + 0.1) * graph_bytes(case) / ways.SHARE)
        work = taking(**{"recompute": 1.0, "full": 1.0, "segments": 1.0, **seconds})[0]
        monkeypatch.setattr(ways, "step", lambda case, way: work[way.mode]())
        way = choose(case, memory, compile=False)
        assert type(way.derivatives) is Derivatives
        return way.mode

    return run


def test_auto_takes_the_fastest_mode_whose_graphs_fit(chosen):
    assert chosen("auto", 9) == "recompute"
    assert chosen("auto", 9, full=0.5, segments=0.8) == "full"
    assert chosen("auto", 9, full=0.9, segments=0.5) == "segments"
    assert chosen("auto", 8, full=0.5, segments=0.8) == "segments"
    assert chosen("auto", 2, full=0.5, segments=0.8) == "recompute"


def test_a_mode_that_is_named_is_taken_whatever_fits(chosen):
    assert chosen("full", 0, full=5.0) == "full"
    assert chosen("segments", 0, segments=5.0) == "segments"


def test_a_single_step_has_nothing_to_keep_for_later():
    assert fitting(case_of(4, steps=1)) == ["recompute"]


def test_what_a_step_keeps_grows_with_its_images():
    few, many = graph_bytes(case_of(4)), graph_bytes(case_of(40))
    maps = 36 * 6 * (8 * 8 + 4 * 4) * 4  # of the 36 images more, each convolution's output
    assert many - few > maps


@pytest.mark.parametrize("mode", ["full", "segments", "recompute", "tesla"])
def test_a_measured_step_does_the_work_of_its_mode(mode):
    asked = []

    class Watched(Derivatives):
        def gradient(self, theta, views, labels, graph):
            asked.append(graph)
            return super().gradient(theta, views, labels, graph)

    ways.step(case_of(4), ways.Way(Watched(case_of(4).loss), mode))
    assert asked == {"full": [True], "segments": [False, True]}.get(mode, [False, True])


def test_processes_beside_each_other_share_the_memory(monkeypatch):
    case = case_of(4)
    monkeypatch.setattr(ways, "memory_of", lambda device: 9.1 * graph_bytes(case) / ways.SHARE)
    assert fitting(case) == ["recompute", "segments", "full"]
    for processes, modes in ((2, ["recompute", "segments"]), (4, ["recompute"])):
        with working_in(Crew(processes)):
            assert fitting(case) == modes
