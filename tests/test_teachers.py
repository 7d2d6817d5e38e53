"""Teachers: what is kept of them, and a training that is killed."""

import pytest
import torch
from conftest import identity, make_recipe
from test_line import line, toy  # noqa: F401

from distill.experts.train import teachers
from distill.networks.flat import put
from distill.parallel import crew
from distill.runs.composed import compose
from distill.runs.line import Line
from distill.runs.progress import Shown
from distill.teachers.committee import Committee
from distill.teachers.store import ExpertStore
from distill.training.accuracy import accuracy


def quiet(text, done, total):
    pass


@pytest.fixture
def recipe():
    return make_recipe(epochs=3, momentum=0.9)


def test_a_teacher_comes_back_with_weights_statistics_and_accuracy(real, teacher, recipe, tmp_path):
    store = ExpertStore(tmp_path, identity(real), 2)
    crew().make(teachers(store, real, teacher, recipe, 0), quiet)
    assert not store.missing
    committee = Committee.load({"convnet": store}, lambda name: teacher(), torch.device("cpu"))
    assert committee.names == ("convnet 0", "convnet 1")
    for net, prior in zip(committee.nets, committee.priors, strict=True):
        assert 100 * accuracy(net, real.val, recipe) == pytest.approx(prior)
        assert net.features[1].running_mean.abs().sum() > 0
    given = Committee.load({"convnet": store}, lambda name: teacher(), torch.device("cpu"), [42.0])
    assert given.priors == (42.0, 42.0)
    with pytest.raises(ValueError, match="2 prior accuracies for the networks convnet: give one for each"):
        Committee.load({"convnet": store}, lambda name: teacher(), torch.device("cpu"), [1.0, 2.0])


def test_a_killed_training_ends_in_the_same_teacher(real, teacher, recipe, tmp_path, always_due):
    whole, broken = (ExpertStore(tmp_path / name, identity(real), 1) for name in ("whole", "broken"))
    crew().make(teachers(whole, real, teacher, recipe, 0), quiet)

    def cut(text, done, total):
        if done == 2:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        crew().make(teachers(broken, real, teacher, recipe, 0), cut)
    assert broken.missing and broken.unfinished([0])
    epochs = []
    crew().make(teachers(broken, real, teacher, recipe, 0), lambda text, done, total: epochs.append(done))
    assert epochs == [2, 3] and broken.unfinished([0]) is None  # told where it stands, then trained for the third
    assert torch.equal(whole.row(0, -1), broken.row(0, -1))
    for name, buffer in whole.statistics(0).items():
        assert torch.equal(buffer, broken.statistics(0)[name])


def test_what_is_kept_of_a_teacher_is_its_last_state_in_one_file_of_its_own(
    real, teacher, recipe, tmp_path, always_due
):
    store, told = ExpertStore(tmp_path, identity(real), 1), []
    crew().make(teachers(store, real, teacher, recipe, 0), lambda *how_far: told.append(store.unfinished([0])))
    before, *kept = told
    assert before is None and len(kept) == 3
    buffers = {f"statistics.{name}" for name, _ in teacher().named_buffers()}
    for epochs, (weights, tensors) in enumerate(kept, 1):
        assert weights.shape[:2] == (1, 1) and tensors["epochs"] == epochs and buffers < tensors.keys()
    assert torch.equal(kept[-1][0][0], store.row(0, -1)[None])


def test_no_epochs_keep_the_network_as_it_is_made(real, teacher, recipe, tmp_path):
    store = ExpertStore(tmp_path, identity(real), 1)
    crew().make(teachers(store, real, teacher, recipe.with_(epochs=0), 0), quiet)
    assert store.row(0, -1).isfinite().all() and 0 <= store.accuracy(0) <= 1


def test_missing_and_altered_teachers_are_told(real, teacher, recipe, tmp_path):
    store = ExpertStore(tmp_path, identity(real), 1)
    with pytest.raises(FileNotFoundError, match="0 of 1 experts in .*: train them with `python run.py task=experts`"):
        Committee.load({"convnet": store}, lambda name: teacher(), torch.device("cpu"))
    crew().make(teachers(store, real, teacher, recipe, 0), quiet)
    (file,) = store.folder.glob("expert_*")
    content = file.read_bytes()
    payload = 8 + int.from_bytes(content[:8], "little")
    for at in range(payload, len(content), 199):
        file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(ValueError, match="altered"):
            store.row(0, -1), store.accuracy(0), store.statistics(0)


@pytest.mark.parametrize("share, images, split", [("0.2", "validation", "val"), ("0", "training", "train")])
def test_a_run_tells_how_much_its_experts_know_also_of_those_that_are_there(share, images, split, line, tmp_path):  # noqa: F811
    words = [*toy("mtt", "task=experts"), f"data.val={share}", f"out={tmp_path}"]
    code, _, said = line(*words)
    stages = Line(compose(*words), Shown())
    store, real = stages.expert_store(), stages.real
    found = []
    for expert in range(2):
        net = stages.student(stages.first_student)()
        put([net], store.row(expert, -1)[None])
        found.append(100 * accuracy(net, getattr(real, split), make_recipe()))
        assert store.accuracy(expert) == pytest.approx(found[-1] / 100)
    told = f"experts in {store.folder.name} classify {sum(found) / 2:.1f} % of the {images} images correctly"
    assert code == 0 and f"{told} (2, {min(found):.1f} to {max(found):.1f})" in said
    assert told in line(*words)[2]
