"""Units on a real Ray, started for the run: what its workers leave is what one process leaves."""

from importlib.util import find_spec

import pytest
from test_crew import contents
from test_slurm import FILES, alike, one, started, whole  # noqa: F401  # a fixture


@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed")
def test_workers_of_a_ray_leave_what_one_process_leaves(one, tmp_path):  # noqa: F811
    whole(started("out", tmp_path, ["task=experts", "engine=ray"], {}), "out", tmp_path)
    assert alike(one, tmp_path / "out") and len(contents(tmp_path / "out", FILES[0])) == 2
