"""Each method's accuracy on handwritten digits is what it was when it was last looked at. Run by ``make golden``."""

import pytest

from distill.comparison.results import GOLDEN, results
from distill.comparison.verdicts import repeated
from distill.runs.composed import compose
from distill.runs.line import Line
from distill.runs.pipeline import at_work
from distill.runs.results import Again, told

ERRORS = 3  # of the difference
# Beside: another way may be the fastest and rounds otherwise, and sets share their experts (AST moved by 2.5).
POINTS = 3.0
HERE = ["threads=1", "workers=1", "compile=false", "baselines=[]"]  # random images were judged beside the first run


@pytest.mark.parametrize("cell", [each.cell for each in results(GOLDEN)])
def test_a_method_keeps_its_golden_accuracy(cell, tmp_path):
    again = Again.of(cell, [*HERE, f"out={tmp_path}"], GOLDEN)
    with at_work() as progress:
        line = Line(compose(*again.words), progress)
    row = again.carry_out(line)
    found = repeated(row, again.former.row)
    assert abs(found.difference) <= ERRORS * found.error + POINTS, told(cell, row, again.verdicts(row))
