"""Ranges: which values an interval takes, and what is said of the others."""

import pytest

from distill.ranges import check_ranges, inside


@pytest.mark.parametrize(
    "interval, taken, refused",
    [
        ("(0, 1]", [0.5, 1, 1.0], [0, -1, 1.1, None, "0.5", True, float("nan")]),
        ("[0, 1)", [0, 0.99], [1, -0.01]),
        ("whole [1, inf)", [1, 10**9], [0, 1.0, 2.5, None, "3", float("inf")]),
        ("null or (0, inf)", [None, 1e-9], [0.0, "x"]),
        ("null or whole [1, inf)", [None, 7], [0, 7.0]),
    ],
)
def test_an_interval_takes_what_it_says(interval, taken, refused):
    assert [value for value in taken + refused if inside(value, interval)] == taken


def test_the_first_value_outside_of_its_range_is_told():
    with pytest.raises(ValueError, match=r"^method\.area is 1\.5, expected null or a number in \(0, 1\]$"):
        check_ranges("method", {"roll": 4, "area": 1.5}, {"roll": "whole [0, inf)", "area": "null or (0, 1]"})
    with pytest.raises(ValueError, match=r"^seed is 'x', expected a whole number in \[0, inf\)$"):
        check_ranges("", {"seed": "x"}, {"seed": "whole [0, inf)"})
