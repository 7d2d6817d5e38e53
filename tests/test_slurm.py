"""Units on a real SLURM of this machine alone: what its jobs leave is what one process leaves."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
from test_crew import contents
from test_faults import in_a_process
from test_line import ROOT, toy

WORDS = [
    *(word for word in toy("mtt", "method.experts.count=2", "draws=1", "baselines=[]") if word != "workers=1"),
    "threads=1",
]
FILES = ("experts/*/expert_*", "digits-mtt-*/synset")


def started(out, folder, words, environment):
    """The run, in a process of its own."""
    command = [sys.executable, str(ROOT / "run.py"), *WORDS, *words, f"out={out}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
    with (folder / f"{out}.log").open("w") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


def whole(process, out, folder):
    assert process.wait(400) == 0, (folder / f"{out}.log").read_text()


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """What one process leaves."""
    folder = tmp_path_factory.mktemp("one")
    assert in_a_process([*WORDS, "workers=1", "out=one"], folder) == 0
    return folder / "one"


def alike(one, out):
    """Whether what is there is that of one process."""
    return all(contents(out, each).items() <= contents(one, each).items() for each in FILES)


@pytest.fixture(scope="module")
def slurm():
    """The environment of a SLURM of one node."""
    if shutil.which("slurmctld", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        pytest.skip("slurm-wlm is not installed")
    folder = Path(tempfile.mkdtemp(prefix="slurm"))  # not pytest's, which is closed to other users, as munge is
    with ExitStack() as free:
        sockets = [free.enter_context(closing(socket.socket())) for _ in range(2)]
        for each in sockets:
            each.bind(("localhost", 0))
        ports = [str(each.getsockname()[1]) for each in sockets]
    home = ROOT / "tests" / "slurm"
    done = subprocess.run([home / "start", folder, *ports], capture_output=True, text=True, timeout=240)
    own = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": f"{home}:{os.environ['PATH']}"}
    try:
        assert done.returncode == 0, done.stderr
        yield own
    finally:
        with suppress(subprocess.TimeoutExpired):  # steps of a test that failed
            subprocess.run(["scancel", "--user=root", "--signal=KILL"], env={**os.environ, **own}, timeout=10)
        for pid in map(int, reversed((folder / "pids").read_text().split())):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        shutil.rmtree(folder, ignore_errors=True)


SLURM = ["task=experts", "engine=slurm", "engine.poll=1", "engine.gigabytes=1"]


def test_jobs_of_a_slurm_leave_what_one_process_leaves_though_one_is_killed_and_one_is_queued_again(
    one, slurm, tmp_path
):
    environment, queue = {**os.environ, **slurm}, ["squeue", "-h", "-r", "-t", "running", "-o", "%i"]
    process = started("out", tmp_path, SLURM, slurm)

    def running():
        return subprocess.run(queue, env=environment, capture_output=True, text=True).stdout.split()

    ended = []
    for ending in (["--signal=KILL"], ["--signal=USR2", "--batch"]):
        while not (jobs := [job for job in running() if job not in ended]):
            assert process.poll() is None, (tmp_path / "out.log").read_text()
            time.sleep(0.2)
        ended.append(jobs[0])
        subprocess.run(["scancel", *ending, jobs[0]], env=environment)
        while jobs[0] in running():
            time.sleep(0.2)
    whole(process, "out", tmp_path)
    assert alike(one, tmp_path / "out") and len(contents(tmp_path / "out", FILES[0])) == 2
