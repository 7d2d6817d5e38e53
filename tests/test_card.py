"""The script that measures a GPU goes through all of its cases on a CPU, small."""

import re
import subprocess
import sys

from conftest import ROOT


def test_a_card_is_measured_line_by_line():
    parts = "rate,training,graphs,outer,recovery,evaluation"
    command = [sys.executable, str(ROOT / "benchmarks" / "card.py"), "--tiny", "--only", parts]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "torch" in said[0]
    assert all(re.search(r"\d\.\d{3} ms", line) for line in said[1:]), said
    assert len(said) == 1 + 2 + 2 + 1 + 2 + 1 + 2
    assert sum("of rate" in line for line in said) == 3


def test_what_does_not_fit_into_the_time_is_told():
    command = [sys.executable, str(ROOT / "benchmarks" / "card.py"), "--tiny", "--only", "evaluation", "--seconds", "0"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.count("left out: the time is over") == 2
