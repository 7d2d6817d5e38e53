"""Workers and drivers that are killed at random moments: what is there at the end is what one process leaves."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
from test_crew import accuracies, contents
from test_slurm import FILES, alike, one, started  # noqa: F401  # a fixture

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

LONGEST = 4.0  # seconds between two kills
DRIVERS = 0.25  # of the kills are of a driver, whose workers have begun


def below(pid, word):
    """Processes that ``pid`` began, or one of those, with a word in their command line."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            parents[int(path.name)] = int(re.findall(r"PPid:\s+(\d+)", (path / "status").read_text())[0])
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    found = []
    for each in sorted(family - {pid}):
        with suppress(OSError):
            found += [each] * (word in Path(f"/proc/{each}/cmdline").read_text())
    return found


def processes(word, driver, environment):
    """Ends of the workers below the driver."""
    return [partial(os.kill, each, signal.SIGKILL) for each in below(driver, word)]


def jobs(driver, environment):
    """Ends of the processes of jobs."""
    queue, environment = ["squeue", "-h", "-r", "-t", "running", "-o", "%i"], {**os.environ, **environment}
    running = subprocess.run(queue, env=environment, capture_output=True, text=True).stdout.split()
    return [partial(subprocess.run, ["scancel", "--signal=KILL", job], env=environment) for job in running]


ENGINES = {
    "local": (["workers=2"], partial(processes, "spawn_main")),
    "ray": (["engine=ray"], partial(processes, "ray::distill")),
    "slurm": (["engine=slurm", "engine.poll=1", "engine.gigabytes=1"], jobs),
}


def under_fire(engine, kills, one, folder, environment, seed=0):  # noqa: F811
    """Lines one after another, until so many processes were killed; each ends, perhaps begun anew, as one process does."""
    words, workers = ENGINES[engine]
    draw, left, lines = random.Random(seed), kills, 0
    while left:
        lines += 1
        out = f"{engine}{lines}"
        process = started(out, folder, words, environment)
        while (code := process.poll()) != 0:
            if code is not None:
                said = (folder / f"{out}.log").read_text()
                assert code == -signal.SIGKILL or "failed 3 times" in said, said
                process = started(out, folder, words, environment)
            time.sleep(draw.uniform(0, LONGEST))
            ends = workers(process.pid, environment) if left else []
            if ends and draw.random() < DRIVERS:
                process.kill()
                process.wait()
                left -= 1
            elif ends:
                with suppress(ProcessLookupError):  # it has ended meanwhile
                    draw.choice(ends)()
                    left -= 1
        assert alike(one, folder / out) and accuracies(folder / out) == accuracies(one)
        assert [len(contents(folder / out, each)) for each in FILES] == [2, 1]


def test_workers_and_drivers_of_this_machine_are_killed(one, tmp_path):  # noqa: F811
    under_fire("local", 4, one, tmp_path, {})


def test_a_driver_that_is_killed_goes_on_from_the_first_expert(one, tmp_path):  # noqa: F811
    words, _ = ENGINES["local"]
    process = started("out", tmp_path, words, {})
    while not contents(tmp_path / "out", FILES[0]):
        assert process.poll() is None, (tmp_path / "out.log").read_text()
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (tmp_path / "out" / "report.json").exists()
    there = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob(f"{FILES[0]}.safetensors")}
    process = started("out", tmp_path, words, {})
    assert process.wait(300) == 0, (tmp_path / "out.log").read_text()
    assert alike(one, tmp_path / "out") and accuracies(tmp_path / "out") == accuracies(one)
    assert all(path.stat().st_mtime_ns == when for path, when in there.items())


@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed")
def test_a_node_of_a_ray_is_lost(one, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("RAY_worker_niceness", "0")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 100_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=small)
    try:
        nodes = [cluster.head_node, cluster.add_node(**small)]
        raylets = [node.all_processes["raylet"][0].process.pid for node in nodes]
        words = ["task=experts", "engine=ray", f"engine.address={cluster.address}"]
        process = started("out", tmp_path, words, {})
        while not all(below(raylet, "ray::distill") for raylet in raylets):
            assert process.poll() is None, (tmp_path / "out.log").read_text()
            time.sleep(0.05)
        cluster.remove_node(nodes[1], allow_graceful=False)
        assert process.wait(300) == 0, (tmp_path / "out.log").read_text()
    finally:
        cluster.shutdown()
    assert alike(one, tmp_path / "out") and len(contents(tmp_path / "out", FILES[0])) == 2
