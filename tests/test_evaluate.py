from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from conftest import changed, load_npz, preset, write_npz
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.data.split import Split
from distill.evaluation.entry import Entry, Network
from distill.evaluation.evaluate import evaluate
from distill.evaluation.measure import Bench
from distill.evaluation.protocol import Last, OnTest, OnVal, Protocol
from distill.evaluation.statistics import by_class, outer_steps, statistics
from distill.evaluation.trial import Trial
from distill.evaluation.underway import Underway
from distill.files import load_tensors, read_record, save_tensors, write_record
from distill.networks.convnet import ConvNet
from distill.networks.flat import flatten
from distill.report.rows import Published, Report, gap_to_published
from distill.report.table import table
from distill.sets.synthetic import SyntheticSet
from distill.teachers.committee import Committee
from distill.teachers.labels import Hard, OnTheFly, Own, Teaching
from distill.training.loop import Progress


def protocol(**changes) -> Protocol:
    return preset("dcb-dsa", **{"epochs": 6, "lr": 0.1, "batch": 16, "labels": Own(False), "students": 3, **changes})


def judged(synsets, real, nets, with_protocol, report, bench=None, method="m", **entry):
    sets = synsets if isinstance(synsets, list) else [synsets]
    students = {name: Network(*([net] if callable(net) else net)) for name, net in nets.items()}
    return evaluate(Entry(sets, method, 3, **entry), real, students, with_protocol, report, bench)


class Told:
    """A progress that counts the students which were trained."""

    def __init__(self):
        self.events = []

    def __call__(self, text, done, total):
        self.events.append((text, done))

    @property
    def students(self):
        return len(self.events) - len({text for text, _ in self.events})  # each stage says where it begins, too


class Scripted(ConvNet):
    """A student that is trained as any other; each test of it classifies so many images of every class correctly."""

    def __init__(self, labels, tests, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.correct, self.tests = labels, tests

    def forward(self, x):
        if self.training:
            return super().forward(x)
        said, counts = self.correct.clone(), next(self.tests)
        for k, right in enumerate(counts):
            of_class = (self.correct == k).nonzero().flatten()
            said[of_class[right:]] = (k + 1) % len(counts)
        return torch.nn.functional.one_hot(said, len(counts)).float()


class Looked:
    """Images that write into a log when they are looked at."""

    def __init__(self, name, images, log):
        self.name, self.images, self.log = name, images, log

    def __getattr__(self, name):
        return getattr(self.images, name)

    def __len__(self):
        return len(self.images)

    def split(self, size):
        self.log.append(self.name)
        return self.images.split(size)


def subset(real, seed=0, **changes):
    made = SyntheticSet.from_real(real.train, 3, torch.Generator().manual_seed(seed))
    return made.with_(record={"seed": seed}, **changes)


@pytest.fixture
def rows(real, student, tmp_path):
    def measure(synsets, with_protocol, bench=None, **entry):
        report = Report(tmp_path / f"{len(list(tmp_path.iterdir()))}" / "report.json")
        return judged(synsets, real, {"convnet": student}, with_protocol, report, bench, **entry).rows

    return measure


def test_a_row_says_what_was_measured(rows, real):
    (row,) = rows(subset(real), protocol(), about={"command": "python run.py"})
    assert len(row["accuracies"]) == row["students"] == 3
    assert all(0 <= a <= 1 and a == round(a * 30) / 30 for a in row["accuracies"])  # fractions of 30 test images
    assert row["mean"] == pytest.approx(np.mean(row["accuracies"]))
    assert (row["syntheses"], row["selection"], row["labels"], row["command"]) == (1, "last", "hard", "python run.py")
    assert row["image_bytes"] == 9 * 3 * 8 * 8 * 4
    assert row["label_bytes"] == 9 * 8
    assert (row["images"], row["optimizer_steps"], row["seen"], row["saved"]) == (9, 7, 7 * 9, 0)  # one batch an epoch
    assert row["device"].startswith("cpu")
    assert row["seconds"] > 0 and row["peak_bytes"] > 1e8  # torch alone
    multiplied = 64 * 27 * 6 + 16 * 54 * 6 + 24 * 3  # by two convolutions and the head, an image
    assert row["operations"] == 7 * 9 * 3 * 2 * multiplied


def test_students_are_scored_on_validation_too_where_that_is_asked_for(rows, real, student, ran):
    asked = protocol(validate=True, students=2)
    (row,), (plain,) = rows(subset(real), asked), rows(subset(real), protocol(students=2))
    assert row["accuracies"] == plain["accuracies"] and "validation_accuracies" not in plain
    assert row["protocol_hash"] != plain["protocol_hash"]
    for number, found in enumerate(row["validation_accuracies"]):
        synset = subset(real)
        trial = Trial(synset, synset.hash, asked, real.val, 0, "student", 0, (number,), False, False, Teaching())
        (hits,) = ran(trial, student).values()
        assert found == sum(hits) / len(real.val)


def test_a_student_is_the_same_in_whatever_order_and_company(rows, real):
    a, b = subset(real, 0), subset(real, 1)
    both, turned = rows([a, b], protocol())[0]["accuracies"], rows([b, a], protocol())[0]["accuracies"]
    assert both == turned[3:] + turned[:3]
    assert rows(a, protocol())[0]["accuracies"] == both[:3]
    assert rows(a, protocol(students=1))[0]["accuracies"] == both[:1]
    assert rows(a, protocol(), Bench(seed=1))[0]["accuracies"] != both[:3]


def test_a_killed_evaluation_trains_no_student_twice(real, student, tmp_path):
    path = tmp_path / "report.json"

    def measure(bench=None, path=path):
        return judged(subset(real), real, {"convnet": student}, protocol(), Report(path), bench).rows

    expected = measure(path=tmp_path / "b" / "report.json")[0]["accuracies"]

    def stop(text, done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(Bench(progress=stop))
    kept = {each: read_record(each, "") for each in (tmp_path / "rows").glob("*.json")}
    assert all(each.name.startswith("unfinished_") for each in kept) and not Report(path).rows
    trained = [sum(hits) / 30 for record in kept.values() for hits in record["hits"].values()]
    assert sorted(trained) == sorted(expected[:2]) and all(record["spent"] > 0 for record in kept.values())
    for each, record in kept.items():
        write_record(each, {**record, "spent": 1000.0})
    told = Told()
    (row,) = measure(Bench(progress=told))
    assert row["accuracies"] == expected and told.students == 1 and 1000 < row["seconds"] < 1100
    assert read_record(path, "") == {"rows": [row]} and not any(each.exists() for each in kept)


def test_asts_number_is_the_best_of_tests_on_the_way_and_marked(real, student, tmp_path):
    # Of the last epoch; then after epochs 3, 6 and at the end.
    tests = iter([[9, 0, 0], [9, 9, 9], [9, 6, 0], [3, 0, 0]])
    scripted = partial(Scripted, real.test.labels, tests, *student.args, **student.keywords)
    asts, report = protocol(choice=OnTest(3), students=1, epochs=6), Report(tmp_path / "r.json")
    last, best = judged(subset(real), real, {"convnet": scripted}, asts, report).rows
    assert (last["selection"], last["mean"]) == ("last", 0.3)
    assert (best["selection"], best["mean"]) == ("maximum", 0.9)
    assert next(tests, None) is None


def test_tests_on_the_way_are_of_the_weights_of_that_epoch(real, student, ran, monkeypatch):
    data, asts, tested, trained = subset(real), protocol(choice=OnTest(3), epochs=6), [], {}
    trial = Trial(data, data.hash, asts, real.test, 0, "student", 0, (0, 1), False, True, Teaching())
    monkeypatch.setattr("distill.evaluation.trial.hits", lambda net, *how: tested.append(flatten(net)) or [0])
    monkeypatch.setattr(Underway, "keep", lambda self, now: trained.update({now.epochs: now.weights.clone()}))
    ran(trial, student)
    assert len(trained) == 7 and not torch.equal(trained[3], trained[6])
    assert torch.equal(
        torch.stack(tested), torch.cat([trained[3], trained[6], trained[7]])
    )  # the last after the last epoch


def test_students_trained_as_a_stack_are_the_same_students(real, student, ran):
    data = subset(real)

    def right(*students):
        trial = Trial(data, data.hash, protocol(), real.test, 0, "student", 0, students, False, False, Teaching())
        return [sum(hits) for hits in ran(trial, student).values()]

    alone = right(0) + right(1) + right(2)
    assert right(0, 1, 2) == pytest.approx(alone, abs=1) == right(0, 1) + right(2)  # of 30 test images


def test_rows_are_found_again_and_not_trained_twice(real, student, tmp_path):
    def measure(told=None, **kw):
        report = Report(tmp_path / "report.json")
        return judged(subset(real), real, {"convnet": student}, protocol(**kw), report, Bench(progress=told or Told()))

    first = measure().rows
    assert read_record(tmp_path / "report.json", "") == {"rows": first}
    assert len(measure(students=1).rows) == 2  # another protocol is another row, the first stays
    told = Told()
    assert measure(told).rows[0] == first[0] and told.students == 0


def test_a_row_is_made_anew_when_anything_that_its_value_depends_on_changes(tmp_path, student):
    """Each input in turn."""
    constants = dict(mean=[0.5] * 3, std=[0.25] * 3)
    path = write_npz(tmp_path / "toy.npz")
    with np.load(path) as file:
        arrays = dict(file)
    real = load_npz(path, **constants)
    synset, toy = subset(real), protocol(choice=OnVal(), students=1, epochs=1)

    def tests(real=real, protocol=toy, synset=synset, other=1, net=student, seed=0):
        synset = synset.with_(class_names=real.train.class_names)
        snapshots = [{0: subset(real, other).with_(class_names=real.train.class_names), 2: synset}]
        report, told = Report(tmp_path / "report.json"), Told()
        judged(synset, real, {"convnet": net}, protocol, report, Bench(seed, progress=told), iterates=snapshots)
        return told.students

    def with_array(name, place, value):
        values = arrays[name].copy()
        values[place] = value
        return dict(real=load_npz(write_npz(tmp_path / "changed.npz", **{name: values}), **constants))

    held_out = real.val.preprocessing.inverse(real.val.images[0]).mul(255).round().permute(1, 2, 0)
    place = next(i for i, image in enumerate(arrays["x_train"]) if (image == held_out.numpy()).all())
    changes = {
        "test images": with_array("x_test", 0, 7),
        "test labels": with_array("y_test", 0, 1),
        "validation images": with_array("x_train", place, 7),
        "names of the classes": with_array("class_names", 0, "d0"),
        "their order": dict(real=load_npz(path, classes=["c1", "c0", "c2"], **constants)),
        "split": dict(real=load_npz(path, val=0.25, **constants)),
        "strategy": dict(real=load_npz(path, strategy="color_crop_cutout_scale_rotate", **constants)),
        "snapshots": dict(other=2),
        "student": dict(net=partial(student, width=7)),
        "student's configuration": dict(net=(student, {"width": 7})),
        "images": dict(synset=synset.with_(images=synset.images + 1)),
        "seed of the synthesis": dict(synset=synset.with_(record={"seed": 5})),
        "protocol": dict(protocol=changed(toy, momentum=0.8)),
        "version": dict(protocol=toy.with_(version=2)),
        "seed": dict(seed=1),
    }
    assert [tests(), tests()] == [3, 0]  # two snapshots, then the student; nothing the second time
    assert {what: [tests(**change), tests(**change)] for what, change in changes.items()} == dict.fromkeys(
        changes, [3, 0]
    )


@pytest.mark.parametrize("change", [dict(priors=(60.0, 40.0)), dict(names=("a", "c")), dict(weights=2)])
def test_rows_are_known_by_the_teachers_behind_their_labels(real, student, change):
    def committee(names=("a", "b"), priors=(50.0, 50.0), weights=1):
        torch.manual_seed(weights)
        return Committee(names, (student(), student()), priors)

    def inputs(labels, **change):
        return Entry([subset(real)], "m", 3).inputs(labels, "last", Bench(teaching=Teaching(committee(**change))))

    asked = OnTheFly(committee={"mode": "eval"}, temperature=20.0, squared=False, vote_temperature=10.0, twin=True)
    assert inputs(asked) == inputs(asked) != inputs(asked, **change)
    assert inputs(Hard()) == inputs(Hard(), **change)


def test_logits_and_probabilities_of_equal_bytes_are_told_apart(real):
    labels = torch.full((9, 3), 1 / 3)
    kinds = [subset(real).with_(labels=labels, label_kind=kind) for kind in ("logits", "probabilities")]
    assert kinds[0].hash == kinds[1].hash
    first, second = (Entry([kind], "m", 3).inputs(Own(False), "last", Bench()) for kind in kinds)
    assert first != second


def test_a_published_number_stands_beside_the_network_it_was_measured_with(real, student, tmp_path):
    nets, report = {"convnet": student, "other": student}, Report(tmp_path / "r.json")
    judged(subset(real), real, nets, protocol(), report, published=Published("46.9 ± 0.5", "", []))
    assert [row["published"] for row in report.rows] == ["46.9 ± 0.5", None]


def test_vectors_are_no_labels_for_cross_entropy(rows, real):
    vectors = subset(real).with_(labels=torch.zeros(9, 5), label_kind="vectors")
    with pytest.raises(ValueError, match="labels are vectors, expected classes: judge it by transfer"):
        rows(vectors, protocol())
    assert rows(vectors, protocol(labels=Hard()))[0]["labels"] == "hard"


def test_the_learned_rate_is_used_where_the_protocol_says_so(rows, real):
    with_rate = subset(real, lr=torch.tensor(0.05))
    assert rows(with_rate, protocol(artefact_lr=True))[0]["lr"] == [pytest.approx(0.05)]
    assert rows(with_rate, protocol())[0]["lr"] == [0.1]
    assert rows(subset(real), protocol(artefact_lr=True))[0]["lr"] == [0.1]


def test_soft_labels_give_their_own_row_and_a_hard_one_on_request(rows, real):
    hard = subset(real)
    soft = hard.with_(labels=torch.nn.functional.one_hot(hard.labels.roll(3), 3) * 9.0, label_kind="logits")
    both = rows(soft, protocol(labels=Own(True)), published=Published("66.8", "", []))
    assert [row["published"] for row in both] == [
        "66.8",
        None,
    ]  # a paper's number is of its own labels, not of the hard twin
    assert [row["labels"] for row in both] == ["own", "hard"]
    assert [row["label_bytes"] for row in both] == [9 * 3 * 4, 9 * 8]
    assert len(rows(hard, protocol(labels=Own(True)))) == 1
    # Arg-maxed labels of classes moved by one teach the wrong classes.
    assert both[1]["mean"] < rows(hard, protocol())[0]["mean"]


def test_choices_are_made_on_validation_and_recorded(real, student, tmp_path):
    seen = []
    val, test = (
        replace(split, images=Looked(name, split.images, seen))
        for name, split in (("val", real.val), ("test", real.test))
    )
    choosing, report = protocol(candidates={"lr": [1e-5, 0.1], "epochs": [2, 6]}), Report(tmp_path / "report.json")
    synset, watched = subset(real, lr=torch.tensor(0.3)), replace(real, val=val, test=test)
    (row,) = judged(synset, watched, {"convnet": student}, choosing, report).rows
    assert seen == ["val"] * 6 + ["test"] * 3
    assert row["students_for_choices"] == 6
    best = int(np.argmax(row["chosen"]["validation_accuracies"]))
    assert row["chosen"]["candidates"] == {"lr": [1e-5, 0.1, pytest.approx(0.3)], "epochs": [2, 6]}
    assert row["lr"] == [([1e-5, 0.1, pytest.approx(0.3)])[best // 2]]


def iterates_of(real):
    good, bad = subset(real), subset(real)
    bad = bad.with_(labels=(bad.labels + 1) % 3)
    return bad, [{0: bad, 5: good, 9: bad}]  # the last one is bad


def test_the_best_snapshot_is_found_on_validation(rows, real):
    last, iterates = iterates_of(real)
    (row,) = rows(last, protocol(choice=OnVal(), epochs=15), iterates=iterates)
    assert (row["selection"], row["chosen"]["step"]) == ("val", [5])
    assert row["mean"] > 0.5


def test_a_student_killed_within_its_training_says_the_same(real, student, tmp_path, always_due, monkeypatch):
    asked, keep, calls = protocol(students=2), Underway.keep, []

    def measure(folder):
        return judged(subset(real), real, {"convnet": student}, asked, Report(tmp_path / folder / "report.json")).rows

    def kept_and_killed(self, now):
        keep(self, now)
        calls.append(now.epochs)
        if calls[-4:] == [7, 1, 2, 3]:  # of the second student
            raise KeyboardInterrupt

    (whole,) = measure("whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Underway, "keep", kept_and_killed)
        measure("killed")
    (left,) = (tmp_path / "killed" / "rows").glob("unfinished_*.safetensors")
    tensors, state = load_tensors(left)
    assert state["epochs"] == 3 and state["steps"] == 3 and 0 < state["spent"] < 1000
    save_tensors(left, tensors, {**state, "spent": 1000.0})
    (again,) = measure("killed")
    assert all(whole[name] == again[name] for name in ("accuracies", "optimizer_steps", "seen"))
    assert 1000 < again["seconds"] < 1100 and not list((tmp_path / "killed" / "rows").glob("unfinished_*"))


def test_what_a_killed_run_left_is_of_use_to_the_same_students_alone(real, student, tmp_path, always_due):
    own = Underway(tmp_path / "a.safetensors", ["a", "b"], 0.0)
    own.score(0, [5, 1]), own.score(0, [2, 2])
    own.keep(Progress(2, torch.ones(2, 3)))
    same = Underway(own.path, ["a", "b"], 0.0)
    assert same.before(torch.device("cpu")).epochs == 2 and same.found == [[5, 1], [0]]
    assert Underway(own.path, ["a"], 0.0).before(torch.device("cpu")) is None
    save_tensors(own.path, {"weights": torch.ones(3)}, load_tensors(own.path)[1])
    with pytest.raises(ValueError, match=r"weights are \(3,\), of 2 students\): delete it to start its students anew$"):
        own.before(torch.device("cpu"))


def test_the_papers_maximum_stands_beside_the_last_set_and_the_same_snapshot_anew(real, student, tmp_path, ran):
    last, iterates = iterates_of(real)
    papers, number = protocol(choice=OnTest(None), lr=0.03), Published("46.9 ± 0.5", "", [])
    report = judged(
        last, real, {"convnet": student}, papers, Report(tmp_path / "r.json"), iterates=iterates, published=number
    )

    def accuracies(purpose, synset, peak):
        trial = Trial(synset, synset.hash, papers, real.test, 0, purpose, 0, (0, 1, 2), False, peak, Teaching())
        return [sum(hits) / 30 for hits in ran(trial, student).values()]

    measured = {step: accuracies("iterate", synset, True) for step, synset in iterates[0].items()}
    assert max(measured, key=lambda step: np.mean(measured[step])) == 5
    plain, maximum, anew = report.rows
    assert [row["selection"] for row in report.rows] == ["last", "maximum", "test"]
    assert plain["accuracies"] == accuracies("student", last, False) and "step" not in plain["chosen"]
    assert maximum["accuracies"] == measured[5] and maximum["chosen"]["step"] == [5]
    assert anew["accuracies"] == accuracies("student", iterates[0][5], False) != measured[5]
    assert anew["chosen"]["step"] == [5]
    assert maximum["ci95"] is None and maximum["sd"] > 0 and anew["ci95"] > 0
    assert (maximum["students_for_choices"], anew["students_for_choices"]) == (6, 0)
    assert {row["optimizer_steps"] for row in report.rows} == {7}
    assert [row["published"] for row in report.rows] == [None, "46.9 ± 0.5", None]  # the paper's is the maximum
    marks = [cell.plain[-1] for cell in table(report).columns[6].cells]
    assert marks[1:] == ["†", "‡"] and marks[0].isdigit()


def test_a_set_that_was_picked_on_test_is_marked(rows, real):
    (leaked,) = rows(subset(real).with_(record={"seed": 0, "picked_on": "test"}), protocol())
    assert leaked["selection"] == "test"


def test_accuracy_by_class_and_its_balanced_mean(real):
    test = real.test
    uneven = Split(test.images[:16], test.labels[:16], ("a", "b", "c"), "toy", test.preprocessing, test.strategy)
    assert torch.bincount(uneven.labels).tolist() == [10, 6]
    found = by_class([[10, 0, 0], [5, 3, 0]], uneven)
    assert found["accuracy_by_class"] == {"a": 0.75, "b": 0.25, "c": None}
    assert found["balanced_accuracy"] == 0.5  # where the plain one is 18 of 32


def test_a_row_counts_every_class_in_one_pass(rows, real):
    (row,) = rows(subset(real), protocol())
    assert list(row["accuracy_by_class"]) == list(real.test.class_names)
    assert np.mean(list(row["accuracy_by_class"].values())) == pytest.approx(row["mean"]) == row["balanced_accuracy"]


@pytest.mark.parametrize(
    "records, finished",
    [
        ([{"step": 150, "steps": 2000}], False),
        ([{"step": 2000, "steps": 2000}], True),
        ([{"step": 2000, "steps": 2000}, {"step": 150, "steps": 2000}], False),
        ([{"step": 150, "config": {"method": {"steps": 2000}}}], False),
        ([{"step": 150, "config": {"method": {"steps": None}}}], None),
        ([{}], None),
        ([{"step": "x", "steps": [1], "config": 5}], None),
    ],
)
def test_a_set_whose_run_was_cut_says_so(real, records, finished):
    assert outer_steps([subset(real).with_(record=record) for record in records])["finished"] is finished


@pytest.mark.parametrize(
    "record, choice, change",
    [
        ({"step": 9, "steps": 9}, Last(), None),
        ({"step": 3, "steps": 9}, Last(), "step 3 of 9"),
        ({"step": 9, "steps": 9}, OnTest(None), "selection maximum -> last"),  # no snapshots to choose from
    ],
)
def test_a_published_number_is_not_of_a_cut_set_nor_of_another_selection(rows, real, record, choice, change):
    synset = subset(real).with_(record={"seed": 0, **record})
    (row,) = rows(synset, protocol(choice=choice, students=1), published=Published("46.9", "cell", []))
    assert row["cell_changes"] == ([change] if change else [])
    assert (gap_to_published(row) is None) == bool(change)


def test_validation_choices_need_a_validation_split(npz, student, tmp_path):
    real = load_npz(npz, val=0.0)
    choosing, report = protocol(candidates={"lr": [0.1]}), Report(tmp_path / "r.json")
    with pytest.raises(ValueError, match="validation split, which is empty: set data.val=0.1"):
        judged(subset(real), real, {"convnet": student}, choosing, report)


def test_a_set_of_another_space_size_or_class_list_is_refused(npz, real, student, tmp_path):
    def judge(synset):
        judged(synset, real, {"convnet": student}, protocol(), Report(tmp_path / "r.json"))

    with pytest.raises(ValueError, match="lives in zca:.*, the real images in normalised:"):
        judge(subset(load_npz(npz, zca=True)))
    constants = dict(mean=[0.5] * 3, std=[0.2] * 3)
    real = load_npz(npz, **constants)
    with pytest.raises(ValueError, match="2 classes there, 3 here, the first that one has alone is 'c1'"):
        judge(subset(load_npz(npz, classes=[0, 2], **constants)))
    with pytest.raises(ValueError, match=r"synthetic images are \(3, 10, 10\), real ones \(3, 8, 8\)"):
        judge(subset(load_npz(write_npz(tmp_path / "big.npz", side=10), **constants)))


def test_a_report_that_is_none_is_not_overwritten(tmp_path):
    (tmp_path / "report.json").write_text("not json")
    with pytest.raises(ValueError, match="report.json is not readable .*: move it away"):
        Report(tmp_path / "report.json")
    assert (tmp_path / "report.json").read_text() == "not json"


def test_statistics_of_a_known_table():
    table = np.array([[0.5, 0.7], [0.8, 0.8], [0.9, 1.1]])  # means .6 .8 1.0
    row = statistics(table)
    assert row["mean"] == pytest.approx(0.8)
    assert row["sd"] == pytest.approx(0.2)
    assert row["ci95"] == pytest.approx(4.302653 * 0.2 / 3**0.5, rel=1e-5)
    assert row["sd_student"] == pytest.approx(((0.02 + 0 + 0.02) / 3) ** 0.5)
    assert row["sd_synthesis"] == pytest.approx((0.04 - row["sd_student"] ** 2 / 2) ** 0.5)
    one = statistics(np.array([[0.5, 0.6, 0.7]]))
    assert one["sd"] == pytest.approx(0.1)
    assert one["sd_synthesis"] is None
    assert statistics(np.array([[0.5]]))["ci95"] is None


@given(st.integers(0, 1000))
@settings(max_examples=5)
def test_the_interval_covers_the_true_mean_nineteen_times_in_twenty_and_students_alone_do_not(seed):
    g = np.random.default_rng(seed)
    hit = {1: 0, 5: 0}
    for _ in range(600):
        for syntheses in hit:
            table = 0.6 + 0.004 * g.standard_normal((syntheses, 1)) + 0.003 * g.standard_normal((syntheses, 5))
            row = statistics(table)
            hit[syntheses] += abs(row["mean"] - 0.6) <= row["ci95"]
    assert 0.92 < hit[5] / 600 < 0.98
    assert hit[1] / 600 < 0.7  # 57 % in the specification's simulation


def test_a_student_that_diverged_is_told_and_counts(real, student, tmp_path, monkeypatch, capsys):
    def train(nets, *rest, **more):
        torch.nn.utils.vector_to_parameters(
            torch.full((sum(p.numel() for p in nets[0].parameters()),), torch.nan), nets[0].parameters()
        )

    monkeypatch.setattr("distill.evaluation.trial.train", train)
    report = judged(subset(real), real, {"toy": student}, protocol(epochs=1), Report(tmp_path / "report.json"))
    assert len(report.rows[0]["accuracies"]) == protocol().students
    assert (
        "warning: student 0 of synthesis 0 diverged, and counts as it is: lower protocol.recipe.lr"
        in capsys.readouterr().err
    )
