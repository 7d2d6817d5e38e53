"""A set that is larger than memory: what is held of it does not grow with it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

WALK = """
import resource, sys
from pathlib import Path

import torch

from distill.data.preprocessing import normalised
from distill.methods.shares import join
from distill.page.made import sets
from distill.sets.reading import load
from distill.sets.synthetic import SyntheticSet

torch.set_num_threads(1)
folder, shares, each, side = Path(sys.argv[1]), int(sys.argv[2]), 10, 96
space, names = normalised([0.5] * 3, [0.25] * 3), tuple(f"c{k}" for k in range(each))
record = {"config": {"data": {"lazy": True}}, "step": 1, "seconds": 1.0, "peak_bytes": 1}
g, classes, files, places = torch.Generator().manual_seed(0), torch.arange(each), [], []
for number in range(shares):  # one image of each class
    images = space(torch.rand(each, 3, side, side, generator=g))
    files.append(folder / str(number))
    SyntheticSet(images, classes, classes, names, space, "toy").quantised().save(files[-1] / "synset.safetensors", record)
    places.append(classes * shares + number)
path = join(places, files, folder)
synset = load(path)
assert len(synset) == shares * each and synset.counts == (shares,) * each and torch.equal(synset.classes, synset.labels)
for made in sets([path]):
    assert made.picture is not None and made.facts["hash"] == synset.hash
for index in synset.epoch(0, seed=0)[0].split(each):  # as students read it
    assert synset.images[index].isfinite().all()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def peak(folder: Path, shares: int) -> int:
    """The most memory, in bytes, of a process that puts shares of ten images together, reads them all and shows some."""
    freed = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed is given back at once
    command = [sys.executable, "-c", WALK, str(folder), str(shares)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | freed, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="kilobytes are Linux's")
def test_a_set_six_times_as_large_takes_no_more_memory(tmp_path):
    less, more = peak(tmp_path / "less", 10), peak(tmp_path / "more", 60)
    assert more - less < 500 * 3 * 96**2 / 2  # half of the bytes, not float32, that the larger one has more
