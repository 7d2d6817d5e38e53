"""Work that the processes of a torchrun share: two end with the files and the numbers of one."""

import json
import os
import platform
import re
import socket
import subprocess
import sys
from contextlib import closing
from functools import partial

import pytest
import torch
from safetensors.torch import load_file
from test_faults import forked, in_a_process, run_line
from test_line import ROOT, toy

from distill.files import hash_tensors
from distill.parallel import Crew, Ranks, Unit
from distill.runs.checks import placed

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def in_two_processes(arguments, folder):
    """run.py in two processes that find in their environment what a torchrun puts there."""
    with closing(socket.socket()) as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    befores = [partial(of_two, rank, port) for rank in range(2)]
    pair = [forked(run_line, arguments, folder, None, before) for before in befores]
    for process in pair:
        process.join(300)
    assert [process.exitcode for process in pair] == [0, 0], (folder / "heard").read_text()


def of_two(rank, port):
    world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in world.items()}


def contents(out, pattern):
    """Hashes of the tensors in files below a folder."""
    return {str(path.relative_to(out)): hash_tensors(load_file(path)) for path in out.glob(f"{pattern}.safetensors")}


def accuracies(out):
    rows = json.loads((out / "report.json").read_text())["rows"]
    return {(row["method"], row["student"], row["labels"], row["ipc"]): row["accuracies"] for row in rows}


def test_units_are_shared_without_overlap_or_gap(monkeypatch):
    monkeypatch.setattr(Ranks, "agree", lambda self, decide, name="": decide())
    monkeypatch.setattr(Ranks, "wait", lambda self: None)
    made = {rank: [] for rank in range(3)}
    for rank in range(3):
        units = [Unit(key, lambda tell, k=key, r=rank: made[r].append(k), lambda k=key: k == "b") for key in "abcdefgh"]
        Ranks(3, rank=rank).make(units)
    assert sorted(unit for share in made.values() for unit in share) == list("acdefgh")
    assert max(map(len, made.values())) - min(map(len, made.values())) <= 1


def test_a_crew_is_what_torchrun_says():
    assert Crew.of({}) == Crew()
    assert Crew.of({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}) == Ranks(8, 1, rank=5)


def test_each_process_has_the_card_of_its_local_rank():
    assert [placed("auto", rank, 2) for rank in range(3)] == [torch.device("cuda", card) for card in (0, 1, 0)]
    assert placed("cpu", 1, 2) == placed("auto", 1, 0) == torch.device("cpu")
    with pytest.raises(ValueError, match="this machine has no CUDA device"):
        placed("cuda", 0, 0)


HOW = {"torchrun": (TORCHRUN, []), "workers": ([sys.executable], ["workers=2"])}


@pytest.mark.parametrize("how", HOW)
def test_experts_sets_and_students_of_two_processes_are_those_of_one(how, tmp_path):
    arguments = toy("mtt", "ipc=[1,2]", "protocol.students=4", "method.experts.count=3")
    one, two = tmp_path / "one", tmp_path / "two"
    assert in_a_process([*arguments, "out=one"], tmp_path) == 0
    environment, (program, words) = {**os.environ, "OMP_NUM_THREADS": "1"}, HOW[how]
    command = [*program, str(ROOT / "run.py"), *[each for each in arguments if each != "workers=1"], *words, "out=two"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    heard = {"one": (tmp_path / "heard").read_text(), "two": done.stderr}
    for pattern, count in (("experts/*/expert_*", 3), ("digits-mtt-*/synset", 2)):
        assert len(contents(one, pattern)) == count
        assert contents(one, pattern) == contents(two, pattern)
    assert accuracies(one) == accuracies(two) and len(accuracies(one)) == 4
    devices = {row["device"] for row in json.loads((two / "report.json").read_text())["rows"]}
    assert devices == {f"cpu {platform.machine()}, 2 x 1 threads"}
    assert heard["two"].count("training experts") == heard["one"].count("training experts") > 0  # one process speaks
    shares = {out: [int(n) for n in re.findall(r"\w: students, 0 of (\d+)", said)] for out, said in heard.items()}
    told = {"torchrun": [2, 4], "workers": [4, 8]}[how]  # a driver hears its workers
    assert shares == {"one": [4, 8] * 2, "two": told * 2}  # of the set's row and of that of two random subsets
    assert len(list(two.glob("digits-mtt-*/metrics/*/metrics.csv"))) == 2


def test_teachers_labels_and_students_of_two_processes_are_those_of_one(tmp_path):
    arguments, one, two = toy("rded", "protocol=cvdd"), tmp_path / "one", tmp_path / "two"
    assert in_a_process([*arguments, "out=one"], tmp_path) == 0
    in_two_processes([*arguments, "out=two"], tmp_path)
    for pattern, count in (("experts/*/expert_*", 2), ("digits-rded-*/synset", 1), ("labels/*/epoch_*", 6)):
        assert len(contents(one, pattern)) == count
        assert contents(one, pattern) == contents(two, pattern)
    assert accuracies(one) == accuracies(two) and len(accuracies(one)) == 5
