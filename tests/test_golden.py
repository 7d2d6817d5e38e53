"""What `make golden` holds: a number for each method, from which a worse one can be told."""

import pytest
from golden_all import ERRORS, POINTS

from distill.comparison.results import GOLDEN, results
from distill.comparison.verdicts import repeated
from distill.presets import options

FOUND = {each.row["method"]: each for each in results(GOLDEN)}
CONTROLS = {"krrst_full", "krrst_initial", "krrst_targets"}  # of krrst


def test_each_method_that_makes_images_has_a_golden_accuracy_and_no_other():
    assert FOUND.keys() == {name.removeprefix("small_") for name in options("sizes")} - CONTROLS | {"pca"}


@pytest.mark.parametrize("method", FOUND)
def test_a_method_that_lost_thirty_points_is_told(method):
    row = FOUND[method].row
    worse = repeated({**row, "mean": row["mean"] - 0.3}, row)
    assert abs(worse.difference) > ERRORS * worse.error + POINTS
