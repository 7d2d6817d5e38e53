"""Files with right hashes and wrong content: a set, a label store and an expert that a stranger made up."""

import copy
import json
import os
import random

import pytest
import torch
from test_evaluate import judged, protocol, subset
from test_integrity import label_store, write_expert

from distill.data.preprocessing import Preprocessing
from distill.files import hash_tensors, load_tensors, save_tensors, sealed, write_record, write_safetensors
from distill.methods.synthesis import _Home, iterates
from distill.page.made import Made, Share
from distill.page.written import write_page
from distill.report.rows import Report
from distill.report.table import table
from distill.sets.reading import load
from distill.sets.synthetic import SyntheticSet
from distill.teachers.committee import Committee
from distill.teachers.store import ExpertStore, _crc

MUTANTS = int(os.environ.get("DISTILL_MUTANTS", 300))
DEEP = "[" * 100_000 + "]" * 100_000
ODD = [
    None, True, -1, 0, 3, 2.5, 1e308, -1e308, float("nan"), float("inf"), 10**400, "", "x", "../../x", "\x1b[31m", [], [5],
    ["a", "a", "a"], ["a", "b", "c"], ["a", 5, None], [[]], {}, {"a": 1}, {"data": 5}, {"data": {"crop": "x"}}, "0" * 10_000,
    [f"class {i}" for i in range(1000)],
]  # fmt: skip


def made_sets():
    """Valid ones of each space and kind of labels."""
    torch.manual_seed(0)
    names, classes = ("a", "b", "c"), torch.tensor([0, 1, 2])
    constants = {"mean": torch.rand(3), "std": torch.rand(3) + 0.1}
    root = torch.randn(8, 8)
    whitening = {"mean": torch.rand(8), "matrix": root @ root.T + torch.eye(8)}
    record = {
        "method": "dm",
        "seed": 0,
        "step": 5,
        "overrides": ["data=cifar10"],
        "config": {"data": {"crop": True, "test_resize": 5}},
    }
    make = SyntheticSet
    return [
        make(torch.randn(3, 3, 4, 4), torch.randn(3, 3), classes, names, Preprocessing("normalised", constants), "toy",
             "logits", torch.tensor(0.1), record),
        make(torch.randn(3, 1, 2, 4), classes.clone(), classes, names, Preprocessing("zca", whitening), "toy", record=record),
        make(torch.rand(3, 3, 4, 4), torch.eye(3), classes, names, Preprocessing("pixel01"), "toy", "probabilities",
             None, record, True),
    ]  # fmt: skip


def craft(path, tensors, record: str):
    """A file whose hash is right."""
    tensors = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    write_safetensors(path, tensors, sealed({"record": record}, hash_tensors(tensors)))


def leaves(node, path=()):
    yield path
    if isinstance(node, dict | list):
        for key in node if isinstance(node, dict) else range(len(node)):
            yield from leaves(node[key], (*path, key))


def changed(record, path, value):
    if not path:
        return value
    record = copy.deepcopy(record)
    node = record
    for key in path[:-1]:
        node = node[key]
    if value is DEEP:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return record


def mutant(draw, tensor):
    """Another tensor in the place of one."""
    flat = tensor.reshape(-1).clone()
    kinds = ["value"] * 4 * bool(len(flat)) + ["type", "shape", "empty", "few", "all"]
    kind = draw.choice(kinds)
    if kind == "value":
        values = (
            [float("nan"), float("inf"), 1e38, -1e38, -1.0, 0.0, 7.0] if flat.is_floating_point() else [-1, 3, 7, 255]
        )
        flat[draw.randrange(len(flat))] = draw.choice(values)
        return flat.view(tensor.shape)
    if kind == "all":
        return torch.full_like(tensor, draw.choice([0, 1, 2, 100]))
    if kind == "type":
        types = [
            torch.float64,
            torch.float16,
            torch.bfloat16,
            torch.int32,
            torch.int64,
            torch.uint8,
            torch.bool,
            torch.complex64,
        ]
        return tensor.to(draw.choice(types))
    if kind == "shape":
        return draw.choice([flat, tensor[None], tensor[..., None], tensor.T if tensor.ndim == 2 else flat[None]])
    return tensor[:0] if tensor.ndim and kind == "empty" else flat[:2]


def mutants(number):
    """(tensors, record as text) of sets with one thing changed."""
    draw, sets = random.Random(0), made_sets()
    for i in range(number):
        synset = sets[i % len(sets)]
        tensors = dict(synset.stored)
        record = {**synset.record, "data": synset.data, "class_names": list(synset.class_names)}
        record |= {"space": synset.preprocessing.space, "label_kind": synset.label_kind}
        if draw.random() < 0.5:
            name = draw.choice([*tensors, "preprocessing.mean.x", "extra", "lr"])
            if draw.random() < 0.15:
                tensors.pop(name, None)
            else:
                tensors[name] = mutant(draw, tensors.get(name, torch.tensor(0.1)))
        else:
            record = changed(
                record, draw.choice(list(leaves(record))), draw.choice([*ODD, DEEP, "hard", "zca", "logits"])
            )
        yield tensors, json.dumps(record)


def check_usable(path):
    """All that reads a set without asking whether it is one."""
    synset = load(path)
    assert synset.images.isfinite().all() and synset.images.abs().max() <= 1e4
    assert synset.pixels.isfinite().all() and synset.preprocessing.inverse(synset.images).isfinite().all()
    targets = synset.targets if synset.label_kind != "hard" else torch.eye(synset.num_classes)[synset.labels]
    assert torch.allclose(targets.sum(1), torch.ones(len(synset)), atol=1e-3) and (targets >= 0).all()
    assert int(synset.hard.min()) >= 0 and int(synset.hard.max()) < synset.num_classes
    shape = synset.images.shape[1:]
    image = torch.zeros(*shape[1:], shape[0], dtype=torch.uint8).numpy()
    assert synset.transform(image).shape == shape and synset.transform(image).isfinite().all()
    assert int(synset.record.get("seed", 0)) >= 0
    shown = Made(path, synset, "", Share.of(1))
    return shown.facts, shown.config, list(shown.classes), shown.caption, shown.stages


def test_a_crafted_set_is_refused_in_one_line_or_usable(tmp_path):
    path, refused, number = tmp_path / "synset.safetensors", 0, MUTANTS
    for synset in made_sets():
        synset.save(path)
        check_usable(path)
    for tensors, record in mutants(number):
        craft(path, tensors, record)
        try:
            check_usable(path)
        except ValueError as error:
            assert "\n" not in str(error) and "synset.safetensors" in str(error) and len(str(error)) < 600, str(error)
            refused += 1
    assert 0.5 * number < refused < 0.9 * number


@pytest.mark.parametrize("record", ["null", "[]", "5", DEEP, '{"a":' * 70 + "1" + "}" * 70])
def test_a_record_that_is_none_is_refused_at_once(record, tmp_path):
    craft(tmp_path / "synset.safetensors", made_sets()[0].stored, record)
    with pytest.raises(ValueError, match="synset.safetensors was altered or not written by distill .*") as told:
        load(tmp_path)
    assert len(str(told.value)) < 300


@pytest.mark.parametrize(
    "said",
    [
        {"overrides": ["data=digits"] * 100_001},
        {"overrides": 5},
        {"choices": {"student": ["convnet"] * 100_001}},
        {"choices": 5},
    ],
)
def test_choices_without_end_are_refused_at_once(said, tmp_path):
    made_sets()[0].save(tmp_path / "synset.safetensors", said)
    with pytest.raises(
        ValueError, match="synset.safetensors is not a usable synthetic set: (overrides|choices)"
    ) as told:
        load(tmp_path)
    assert len(str(told.value)) < 300


LABELS = {
    "nan": lambda t: {**t, "logits": t["logits"] * float("nan")},
    "another type": lambda t: {**t, "logits": t["logits"].float()},
    "another width": lambda t: {**t, "logits": t["logits"][:, :2]},
    "fewer rows": lambda t: {**t, "logits": t["logits"][:2]},
    "no logits": lambda t: {"order": t["order"]},
    "no order": lambda t: {"logits": t["logits"]},
    "no permutation": lambda t: {**t, "order": torch.zeros_like(t["order"])},
    "outside": lambda t: {**t, "order": t["order"] + 1},
    "scalar": lambda t: {**t, "logits": torch.tensor(1.0).half()},
    "classes without rest": lambda t: {**t, "classes": torch.zeros(3, 3, dtype=torch.int32)},
    "a class twice": lambda t: {**t, **top(t, [[0, 0], [1, 2], [0, 1]])},
    "a class outside": lambda t: {**t, **top(t, [[0, 3], [1, 2], [0, 1]])},
    "a class below": lambda t: {**t, **top(t, [[0, -1], [1, 2], [0, 1]])},
    "infinite rest": lambda t: {**t, **top(t, [[0, 1]] * 3), "rest": torch.full((3,), float("inf")).half()},
    "scalar classes": lambda t: {**t, **top(t, [[0, 1]] * 3), "classes": torch.tensor(1, dtype=torch.int32)},
}


def top(tensors, classes):
    classes = torch.tensor(classes, dtype=torch.int32)
    return {"logits": tensors["logits"][:, :2], "classes": classes, "rest": torch.zeros(3).half()}


@pytest.mark.parametrize("name", LABELS)
def test_crafted_labels_are_refused_in_one_line(name, tmp_path):
    store = label_store(tmp_path, made_sets()[0])
    store.read(0)
    path = store.folder / "epoch_00000.safetensors"
    tensors, _ = load_tensors(path)
    save_tensors(path, {name: each.contiguous() for name, each in LABELS[name](tensors).items()})
    with pytest.raises(ValueError, match="epoch_00000.safetensors .*: delete .* to have it made anew$") as told:
        store.read(0)
    assert "\n" not in str(told.value) and len(str(told.value)) < 700


def test_a_label_stores_record_is_compared_whatever_it_holds(tmp_path):
    store = label_store(tmp_path, made_sets()[0])
    store.read(0)
    for value in ODD:
        if isinstance(value, float) and not abs(value) < float("inf"):
            continue  # no JSON
        write_record(store.folder / "labels.json", {**store.identity, "views": value})
        with pytest.raises(ValueError, match="were made for views .*, this run has .*: name another labels_path"):
            label_store(store.folder, made_sets()[0])


EXPERTS = {
    "crc32": ["[", "null", "[]", "5", "[1, 2, 3]", '{"a": 1}', DEEP, '["a", "b", "c"]'],
    "accuracy": ["nan", "inf", "-0.1", "1.1", "x", ""],
    "statistics": ["", "0" * 64],
}


@pytest.mark.parametrize("field", EXPERTS)
def test_a_crafted_expert_is_refused_in_one_line(field, tmp_path):
    _, read = write_expert(tmp_path, None)
    path = tmp_path / "expert_0000.safetensors"
    weights = {"weights": torch.zeros(3, 7), "statistics.norm.mean": torch.zeros(2)}
    header = {
        "crc32": json.dumps([_crc(torch.zeros(7))] * 3),
        "accuracy": "0.5",
        "statistics": hash_of_statistics(weights),
    }
    write_safetensors(path, weights, sealed(header))
    assert read()[2] == 0.5
    for value in EXPERTS[field]:
        write_safetensors(path, weights, sealed({**header, field: value}))
        with pytest.raises(ValueError, match="expert_0000.safetensors cannot be used .*: delete it and train") as told:
            read()
        assert "\n" not in str(told.value) and len(str(told.value)) < 700


def test_experts_of_odd_tensors_are_refused_in_one_line(tmp_path):
    _, read = write_expert(tmp_path, None)
    path = tmp_path / "expert_0000.safetensors"
    odd = [
        torch.zeros(3, 6), torch.zeros(3, 7).half(), torch.zeros(21), torch.full((3, 7), float("nan")),
        torch.zeros(3, 7, 1), torch.tensor(0.0), None,
    ]  # fmt: skip
    for each in odd:
        rows = [] if each is None or not each.ndim else [0] * len(each)
        header = {"crc32": json.dumps(rows), "accuracy": "0.5", "statistics": hash_tensors({})}
        write_safetensors(path, {"x": torch.zeros(1)} if each is None else {"weights": each}, sealed(header))
        with pytest.raises(ValueError, match="expert_0000.safetensors cannot be used .*: delete it and train"):
            read()


@pytest.mark.parametrize("change", ["short", "long", "no statistics", "other statistics"])
def test_a_teacher_of_another_network_is_refused(change, tmp_path, teacher):
    write_expert(tmp_path, None)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    store, net = ExpertStore(tmp_path, manifest, 1), teacher()
    size, buffers = sum(each.numel() for each in net.parameters()), dict(net.named_buffers())
    size += {"short": -1, "long": 1}.get(change, 0)
    if change == "no statistics":
        buffers = {}
    if change == "other statistics":
        buffers = {name: torch.zeros(2) for name in buffers}
    store.write(0, torch.zeros(3, size), 0.5, buffers)
    with pytest.raises(ValueError, match="cannot be used as an expert|statistics of another network"):
        Committee.load({"convnet": store}, lambda name: teacher(), torch.device("cpu"))


def hash_of_statistics(tensors):
    return hash_tensors({name: each for name, each in tensors.items() if name.startswith("statistics.")})


@pytest.mark.parametrize(
    "tensors, record",
    [
        ({"images": torch.zeros(3, 3, 8, 8)}, {}),
        ({"extra": torch.zeros(1)}, {}),
        ({"classes": torch.zeros(2, dtype=torch.int64)}, {}),
        ({}, {"step": "1"}),
        ({}, {"step": -1}),
        ({}, {"step": True}),
        ({}, {"label_kind": None}),
        ({}, {"skips": 0.5}),
    ],
)
def test_a_crafted_state_or_snapshot_is_refused_in_one_line(tensors, record, matching_on, tmp_path):
    from distill.methods.matching.dm import DistributionMatching

    home = _Home(tmp_path, {}, 4, 2, lambda text, done, total: None)
    home.begin(matching_on(DistributionMatching))
    for path in (home.state_path, tmp_path / "snapshots" / "step_000000.safetensors"):
        own, about = load_tensors(path)
        save_tensors(path, {**own, **tensors}, {**about, **record})
    with pytest.raises(
        ValueError, match="state.safetensors is not what a run keeps .*: .*; or delete it to start anew"
    ):
        home.begin(matching_on(DistributionMatching))
    if "skips" not in record:
        with pytest.raises(ValueError, match="step_000000.safetensors is not what a run keeps of itself"):
            iterates(home.synset_path)


def test_a_crafted_report_is_refused_in_one_line_or_shown(real, student, tmp_path):
    path, draw, refused = tmp_path / "report.json", random.Random(0), 0
    report = Report(tmp_path / "judged" / "report.json")
    measured = judged(subset(real), real, {"convnet": student}, protocol(epochs=1), report)
    rows = {
        "rows": [*measured.rows, {**measured.rows[0], "published": "46.2 ± 0.8", "cell_changed": False}],
        "spent": 1.0,
    }
    for _ in range(MUTANTS // 10):
        record = changed(rows, draw.choice(list(leaves(rows))), draw.choice([*ODD, DEEP]))
        path.write_text(json.dumps(record))
        try:
            report = Report(path)
            table(report)
            write_page(report, [report], "")
        except ValueError as error:
            assert "\n" not in str(error) and "report.json" in str(error) and len(str(error)) < 600, str(error)
            refused += 1
    assert MUTANTS // 100 < refused < MUTANTS // 11
