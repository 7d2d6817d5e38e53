"""Every kind of file that the program writes and reads again: `KINDS` says how each is written and what is read of it.

``tests/formats/<kind>/v<format>[-what]/`` has such files of every format, and in ``said.json`` what they hold, as the version
that wrote them had it. ``python tests/written.py`` writes those of the present format, before another takes its place.
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from conftest import ROOT, load_npz
from torch import Tensor

from distill import files
from distill.comparison.results import Result
from distill.evaluation.kept import Kept, load_student
from distill.evaluation.underway import Underway
from distill.files import load_tensors, save_tensors
from distill.methods.synthesis import _Home, claim, iterates
from distill.networks.convnet import ConvNet
from distill.ranking.space import N54
from distill.ranking.truth import Measured, Truth
from distill.report.rows import Report
from distill.report.unfinished import Unfinished
from distill.sets.reading import load
from distill.sets.synthetic import SyntheticSet
from distill.teachers.given import GivenStore, Views
from distill.teachers.shelf import Shelf
from distill.teachers.store import ExpertStore
from distill.training.loop import Progress

FORMATS = ROOT / "tests" / "formats"
Said = dict[str, Any]

NETWORK = {"_target_": "distill.networks.convnet.ConvNet", "width": 2, "depth": 1, "norm": "none", "pooling": "avg"}
NETWORK |= {"activation": "relu"}
RECIPE = {"name": "toy", "epochs": 2, "extra_epochs": 0}
EXPERTS = {"data": {"name": "toy"}, "preprocessing": "x", "shape": [1, 8, 8], "student": NETWORK, "recipe": RECIPE}
ROW = {
    **dict(method="dm", data="toy", student="convnet", protocol="ours", labels="hard", selection="val", ipc=3, seed=0),
    **dict(accuracies=[0.5, 0.25], syntheses=1, students=2, mean=0.375, sd=0.125, ci95=None, seconds=3.5, command="a"),
    **dict(synset_hash="0" * 12, written="2026-11-29T12:00:00.000000+00:00"),
}


def told(tensors: Mapping[str, Tensor]) -> Said:
    """Sums, by which tensors are told apart, and shapes."""
    return {name: [*each.shape, round(float(each.double().sum()), 4)] for name, each in sorted(tensors.items())}


def ramp(*shape: int) -> Tensor:
    return torch.arange(torch.Size(shape).numel()).reshape(shape) / 8


def real():
    return load_npz(ROOT / "tests" / "former" / "toy.npz", mean=[0.5], std=[0.25], val=0.0).train


def write_run(folder: Path) -> None:
    """Set, snapshot and state."""
    synset = SyntheticSet.of_images(real(), torch.tensor([0, 1, 2]))
    synset = synset.with_(images=ramp(3, 1, 8, 8) / 32, labels=ramp(3, 3), label_kind="logits", lr=torch.tensor(0.5))
    peers, extra = SimpleNamespace(first=True), {"network": ramp(2)}
    method = SimpleNamespace(synset=synset, artefact=lambda: synset, peers=peers, extra_tensors=lambda: extra)
    vars(method).update(skips=1, skips_in_a_row=0)
    _Home(folder, {"method": "dm"}, 4, 2, print).write(method, 2, {"0.momentum": ramp(3)})
    for name in ("grid.png", "synset.json"):
        (folder / name).unlink()


def write_set(folder: Path) -> None:
    write_run(folder)
    (folder / "state.safetensors").unlink()


def write_state(folder: Path) -> None:
    write_run(folder)
    (folder / "synset.safetensors").unlink()
    shutil.rmtree(folder / "snapshots")


def read_set(folder: Path) -> Said:
    synset = load(folder)
    own = {name: getattr(synset, name) for name in ("hash", "data", "label_kind", "tiles")}
    own |= {"method": synset.record["method"], "names": list(synset.class_names), "factors": list(synset.factors)}
    snapshots = {str(step): each.hash for step, each in iterates(folder / "synset.safetensors").items()}
    return own | {"tensors": told(synset.tensors), "snapshots": snapshots}


def read_state(folder: Path) -> Said:
    home, found = _Home(folder, {}, 4, 2, print), SimpleNamespace(real=real())
    found.begin = lambda synset: setattr(found, "synset", synset)
    found.restore = lambda extra: setattr(found, "extra", extra)
    home.begin(found)
    state = {"step": found.start_step, "skips": found.skips, "in_a_row": found.skips_in_a_row}
    own = {name: each for name, each in found.synset.tensors.items() if "." not in name}
    return state | {"tensors": told(own), "momentum": told(home.momentum), "extra": told(found.extra)}


def write_config(folder: Path) -> None:
    claim(folder, {"data": "toy", "student": NETWORK, "method": {"steps": 4, "betas": [0.5, None]}})


def read_config(folder: Path) -> Said:
    record = files.read_record(folder / "config.json", "")
    claim(folder, record)
    return record


def write_experts(folder: Path) -> None:
    files.write_record(folder / "manifest.json", EXPERTS)
    store = ExpertStore(folder, EXPERTS, 1)
    dynamics = {name: ramp(2, 5) for name in ("margins", "errors")}
    store.write(0, ramp(3, 7), 0.25, {"norm.mean": ramp(2)}, dynamics)
    store.keep([1], ramp(1, 3, 7), {"0.momentum": ramp(1, 7)})


def read_experts(folder: Path) -> Said:
    identity = json.loads((folder / "manifest.json").read_text())
    store = ExpertStore(folder, identity, 1)
    statistics, accuracy = store.statistics(0), store.accuracy(0)
    rows = {"first": store.row(0, 0), "last": store.row(0, -1)}
    found = {"epochs": store.epochs, "rows": told(rows), "statistics": told(statistics), "accuracy": round(accuracy, 4)}
    left = store.unfinished([1])
    return found | ({} if left is None else {"left": told({"weights": left[0], **left[1]})})


def read_proxy(folder: Path) -> Said:
    return told(ExpertStore(folder, EXPERTS, 1).dynamics(0, 5))


class Kind(Shelf):
    """A shelf that asks nobody."""

    kind, count = "epoch", 1

    def asked(self, number: int) -> dict[str, Tensor]:
        return {"order": torch.arange(3).int(), "logits": ramp(3, 3).half(), "seen": ramp(3, 4).half()}


def write_labels(folder: Path) -> None:
    shelf = Kind(folder, {"images": "0" * 12, "views": {"epochs": 1}})
    shelf.fill()
    for path in shelf.folder.iterdir():
        path.rename(folder / path.name)
    shelf.folder.rmdir()


def read_labels(folder: Path) -> Said:
    shelf = Kind(folder, {})
    identity = files.read_record(folder / "labels.json", "")
    return {"images": identity["images"], "epochs": identity["views"]["epochs"], "tensors": told(shelf.load(0))}


def write_given(folder: Path) -> None:
    order, hole = torch.tensor([1, 0, 2]), torch.zeros(3, 4, dtype=torch.long)
    GivenStore.write(folder, 0, Views(order, ramp(3, 4), order > 0, order, ramp(3), hole, ramp(3, 3)))
    GivenStore.finish(folder, {"images": "0" * 12, "batch": 3, "epochs": 1})


def read_given(folder: Path) -> Said:
    store = GivenStore(folder)
    return {"about": store.about, "tensors": told(store[0].tensors)}


def write_row(folder: Path) -> None:
    Report(folder / "report.json").add(ROW)


def write_report(folder: Path) -> None:
    """As it is where its rows are elsewhere."""
    files.write_record(folder / "report.json", {"rows": [ROW]})


def read_rows(folder: Path) -> Said:
    names = ("method", "data", "ipc", "labels", "synset_hash", "accuracies", "mean", "sd", "ci95", "chosen")
    return {"rows": [{name: row[name] for name in names if name in row} for row in Report(folder / "report.json").rows]}


def write_students(folder: Path) -> None:
    own = Unfinished(folder / "unfinished_0.json")
    own.keep({"dm/0/1": [3, 0, 9]}, {"dm/0/1": [7, 112]}, 12.5, device="cpu", peak_bytes=64)


def read_students(folder: Path) -> Said:
    own = Unfinished(folder / "unfinished_0.json")
    return {"hits": own.hits, "took": own.took, "spent": own.spent, "peak": own.peak_bytes, "on": sorted(own.devices)}


def write_underway(folder: Path) -> None:
    own = Underway(folder / "unfinished_0.safetensors", ["dm/0/0", "dm/0/1"], time.monotonic() - 12.5)
    own.found, own.steps, own.seen, own.due.at = [[3, 0, 9], [2, 1, 9]], 7, 112, -1.0
    rest = {"statistics.norm.mean": ramp(2), "steps": torch.tensor(7), "mean": ramp(2, 7), "losses": ramp(16)}
    own.keep(Progress(2, ramp(2, 7), {"0.momentum_buffer": ramp(2, 7)}, rest))


def read_underway(folder: Path) -> Said:
    own = Underway(folder / "unfinished_0.safetensors", ["dm/0/0", "dm/0/1"], time.monotonic())
    now = own.before(torch.device("cpu"))
    assert now is not None
    tensors = told({"weights": now.weights, **now.tensors})
    counts = {"found": own.found, "steps": own.steps, "seen": own.seen, "spent": round(own.spent, 1)}
    return {"epochs": now.epochs, "tensors": tensors} | counts


def network() -> ConvNet:
    own = {name: value for name, value in NETWORK.items() if name != "_target_"}
    net = ConvNet((1, 8, 8), 3, **own)
    net.load_state_dict({name: ramp(*each.shape) / 64 for name, each in net.state_dict().items()})
    return net


def write_kept(folder: Path) -> None:
    row = {**dict.fromkeys(Report.KEY), "protocol": "ours", "seed": 0}
    Kept(folder, row, NETWORK, real()).keep(network(), 0, 1, 5, 0.25)


def read_kept(folder: Path) -> Said:
    student = load_student(folder / "0-1.safetensors")
    told = {name: student.record[name] for name in ("class_names", "accuracy", "number", "synthesis_seed")}
    return told | {"logits": [round(each, 3) for each in student(ramp(1, 1, 8, 8) / 8)[0].tolist()]}


def write_pretrained(folder: Path) -> None:
    save_tensors(folder / "0.safetensors", network().features.state_dict())


def read_pretrained(folder: Path) -> Said:
    net = network()
    net.features.load_state_dict(load_tensors(folder / "0.safetensors")[0])
    return told(net.features.state_dict())


def write_truth(folder: Path) -> None:
    networks = {each.name: Measured(9, 5, [k / 64], [k / 60], 1.5) for k, each in enumerate(N54)}
    Truth("toy", "0" * 12, 30, {"epochs": 1}, "a", "2.6", "cpu", networks).write(folder / "n54_toy.json")


def read_truth(folder: Path) -> Said:
    truth = Truth.read(folder / "n54_toy.json")
    return {
        "data": truth.data,
        "val": round(truth.val.sum(), 4),
        "test": round(truth.test.sum(), 4),
        "hash": truth.hash,
    }


def write_result(folder: Path) -> None:
    made = {"seed": 0, "hash": "0" * 12, "file": None, "torch": "2.6", "seconds": 1.5, "steps": 4}
    Result("toy", "distill method=dm", "2026-11-29", "one core", None, ["ipc 1 -> 3"], [ROW], [made]).write(folder)


def read_result(folder: Path) -> Said:
    (path,) = folder.glob("[!s]*.json")
    found = Result.read(path)
    own = {name: getattr(found, name) for name in ("cell", "date", "hardware", "mark", "deviations", "sets")}
    return own | {"means": [row["mean"] for row in found.rows]}


@dataclass(frozen=True)
class Pair:
    write: Callable[[Path], None]
    read: Callable[[Path], Said]


KINDS = {
    "set": Pair(write_set, read_set),
    "state": Pair(write_state, read_state),
    "config": Pair(write_config, read_config),
    "experts": Pair(write_experts, read_experts),
    "proxy": Pair(write_experts, read_proxy),
    "labels": Pair(write_labels, read_labels),
    "given": Pair(write_given, read_given),
    "row": Pair(write_row, read_rows),
    "report": Pair(write_report, read_rows),
    "unfinished": Pair(write_students, read_students),
    "underway": Pair(write_underway, read_underway),
    "student": Pair(write_kept, read_kept),
    "pretrained": Pair(write_pretrained, read_pretrained),
    "truth": Pair(write_truth, read_truth),
    "result": Pair(write_result, read_result),
}


def main() -> None:
    for kind, pair in KINDS.items():
        folder = FORMATS / kind / f"v{files.FORMAT}"
        shutil.rmtree(folder, ignore_errors=True)
        pair.write(folder)
        for lock in folder.rglob(".*lock"):
            lock.unlink()
        (folder / "said.json").write_text(json.dumps(pair.read(folder), indent=1) + "\n")


if __name__ == "__main__":
    main()
