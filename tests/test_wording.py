"""Messages about a thousand names stay short and say what differs."""

from types import SimpleNamespace

import pytest
import torch

from distill.evaluation.evaluate import check_fits
from distill.teachers.committee import _complaint
from distill.teachers.store import ExpertStore
from distill.wording import difference, differing, listed

NAMES = tuple(f"a class with a long name, number {k}" for k in range(1000))
SWAPPED = (*NAMES[:17], NAMES[18], NAMES[17], *NAMES[19:])
TOLD = "2 of 1000 classes differ, the first is class 17: 'a class with a long name, number 18' there, .*17' here"


def test_what_differs_is_counted_and_the_first_is_named():
    assert difference(["a", "b"], ["a", "b"]) == ""
    assert difference(["a", "c", "b"], ["a", "b", "c"]) == (
        "2 of 3 classes differ, the first is class 1: 'c' there, 'b' here"
    )
    assert difference(["a", "b"], ["a", "x", "b"]) == "2 classes there, 3 here, the first that one has alone is 'x'"
    assert difference(["a", "a"], ["a"]) == "2 classes there, 1 here"
    assert listed(["a", "b"]) == "a, b" and len(listed(NAMES)) < 200
    assert differing({"seed": 1, "data": {"classes": ["a"]}}, {"seed": 0, "data": {"classes": ["a"]}}) == [
        "seed (1 there, 0 here)"
    ]


def messages(tmp_path):
    fits = dict(preprocessing=SimpleNamespace(fingerprint="x"))
    yield lambda: check_fits(SimpleNamespace(class_names=SWAPPED, **fits), SimpleNamespace(class_names=NAMES, **fits))
    identity = {
        "data": {"name": "toy", "fingerprint": "x", "classes": list(SWAPPED)}, "preprocessing": "x", "shape": [3, 8, 8],
        "student": "convnet", "recipe": {"name": "mtt", "epochs": 1, "extra_epochs": 0}, "seed": 0,
    }  # fmt: skip
    ours = {**identity, "data": {**identity["data"], "classes": list(NAMES)}}
    there = ExpertStore(tmp_path / "experts", identity, 1)
    there.write(0, torch.zeros(2, 3), 0.5)
    yield lambda: ExpertStore(there.folder, ours, 1)
    yield lambda: ExpertStore(tmp_path / "experts", ours, 1).complete()


def test_two_swapped_names_among_a_thousand_make_a_short_line(tmp_path):
    for message in messages(tmp_path):
        with pytest.raises((ValueError, FileNotFoundError), match=TOLD) as told:
            message()
        assert len(str(told.value)) < 500
    counts = torch.eye(1000)[[SWAPPED.index(name) for name in NAMES]]
    assert len(_complaint(counts, NAMES, 0.998, 0.5)) < 500
