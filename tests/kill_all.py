"""Thirty kills at random moments over the engines, of which test_kills.py gives a few. Run by ``make faults``."""

from importlib.util import find_spec

import pytest
from test_kills import under_fire
from test_slurm import one, slurm  # noqa: F401  # fixtures


@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed")
def test_six_kills_of_workers_and_drivers_of_a_ray(one, tmp_path):  # noqa: F811
    under_fire("ray", 6, one, tmp_path, {})


def test_four_kills_of_jobs_and_drivers_of_a_slurm(one, slurm, tmp_path):  # noqa: F811
    under_fire("slurm", 4, one, tmp_path, slurm)


def test_twenty_kills_of_workers_and_drivers_of_this_machine(one, tmp_path):  # noqa: F811
    under_fire("local", 20, one, tmp_path, {}, seed=1)
