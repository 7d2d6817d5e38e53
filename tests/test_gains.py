"""Gain over random real images, with its interval."""

import numpy as np
import pytest
from scipy import stats

from distill.report.gains import gains
from distill.report.rows import RANDOM, WHOLE
from distill.report.table import lines


def row(method, values, students=1, **changes):
    common = {
        "data": "toy",
        "data_hash": "d",
        "ipc": 1,
        "student": "convnet",
        "student_hash": "s",
        "protocol_hash": "p",
        "seed": 0,
    }
    told = {
        "labels": "hard",
        "selection": "last",
        "protocol": "dc",
        "sd": None,
        "ci95": None,
        "seconds": 1.0,
        "command": "",
    }
    means = {
        "values": values,
        "mean": float(np.mean(values)),
        "syntheses": len(values) // students,
        "students": students,
    }
    return {"method": method, **common, **told, **means, **changes}


RANDOMS = [0.30, 0.34, 0.29, 0.33, 0.31]


def test_a_gain_is_the_difference_of_means_with_welchs_interval():
    learned = [0.40, 0.44, 0.43]
    (gain, half), none = gains([row("dm", learned), row(RANDOM, RANDOMS)])
    assert none is None and gain == pytest.approx(np.mean(learned) - np.mean(RANDOMS))
    a, b = np.var(learned, ddof=1) / 3, np.var(RANDOMS, ddof=1) / 5
    degrees = (a + b) ** 2 / (a**2 / 2 + b**2 / 4)
    assert half == pytest.approx(stats.t.ppf(0.975, degrees) * np.sqrt(a + b))


def test_students_of_one_synthesis_stand_for_it_and_several_syntheses_for_themselves():
    two = row("dm", [0.4, 0.5, 0.40, 0.51], students=2)  # means 0.45 and 0.455: students differ, syntheses do not
    one = row("dm", [0.4, 0.5, 0.40, 0.51], students=4)
    beside = row(RANDOM, RANDOMS)
    assert gains([two, beside])[0][1] < gains([one, beside])[0][1]
    assert gains([row("dm", [0.4]), beside])[0] == (pytest.approx(0.086), None)


@pytest.mark.parametrize(
    "changes",
    [
        {"ipc": 10},
        {"counts": [1, 3]},
        {"student": "mlp"},
        {"protocol_hash": "q"},
        {"data_hash": "e"},
        {"selection": "test"},
        {"seed": 1},
    ],
)
def test_only_what_was_judged_alike_is_compared(changes):
    assert gains([row("dm", [0.4, 0.5], **changes), row(RANDOM, RANDOMS)])[0] is None


def test_how_many_students_there_are_sets_nothing_apart():
    learned = row("dm", [0.4, 0.5], protocol_hash="five", training_hash="t")
    beside = row(RANDOM, RANDOMS, protocol_hash="one", training_hash="t")
    assert gains([learned, beside])[0] is not None
    assert gains([{**learned, "training_hash": "u"}, beside])[0] is None
    before = row("dc", [0.4, 0.5], protocol_hash="five")  # a row of before is known by the protocol that it shares
    assert gains([before, learned, beside])[0] is not None and gains([before, beside])[0] is None


def test_soft_labels_are_compared_with_their_like_or_else_with_hard_ones():
    soft, hard = row(RANDOM, [0.2, 0.22], labels="stored"), row(RANDOM, RANDOMS)
    learned = row("rded", [0.4, 0.42], labels="stored")
    assert gains([learned, hard, soft])[0][0] == pytest.approx(0.41 - 0.21)
    assert gains([learned, hard])[0][0] == pytest.approx(0.41 - np.mean(RANDOMS))


def test_the_table_has_the_column_where_there_is_a_gain():
    seen = lines([row("dm", [0.40, 0.44, 0.43]), row(RANDOM, RANDOMS), row(WHOLE, [0.9])])
    assert [cells["gain"] for cells in seen.cells] == ["+10.9 ± 4.1", "", ""] and "gain" in seen.columns
    assert "gain" not in lines([row("dm", [0.4])]).columns
