import json

import pytest
import torch
from conftest import identity, load_npz, make_recipe, write_npz

from distill.experts.train import experts as units
from distill.parallel import crew
from distill.teachers.store import ExpertStore
from distill.training.losses import CrossEntropy


def silent(text, done, total):
    pass


def test_rows_are_the_weights_after_each_epoch(experts, real, student):
    rows = [experts.row(0, epoch) for epoch in range(5)]
    assert torch.equal(experts.row(0, -1), rows[4])
    assert len({tuple(row[:5].tolist()) for row in rows}) == 5  # a snapshot does not follow the live network
    assert rows[0].shape == torch.nn.utils.parameters_to_vector(student().parameters()).shape


def test_expert_i_is_the_same_whichever_others_exist_and_a_killed_run_continues(experts, real, student, tmp_path):
    expected = experts.row(1, -1)
    (experts.folder / "expert_0001.safetensors").unlink()
    untouched = (experts.folder / "expert_0000.safetensors").stat().st_mtime_ns
    assert experts.missing == [1]
    with pytest.raises(FileNotFoundError, match="1 of 2 experts in .*python run.py task=experts"):
        experts.complete()
    crew().make(units(experts, real, student, make_recipe(), CrossEntropy(), 0))
    assert torch.equal(experts.row(1, -1), expected)
    assert (experts.folder / "expert_0000.safetensors").stat().st_mtime_ns == untouched
    assert experts.complete() is experts
    assert not list(experts.folder.glob(".*"))


def test_experts_are_found_by_content(experts, real, tmp_path):
    root = tmp_path / "experts"
    assert not ExpertStore(root, identity(real), 2).missing
    for other in (identity(real, seed=1), identity(real, student="mlp")):
        assert ExpertStore(root, other, 2).missing == [0, 1]
    with pytest.raises(FileNotFoundError, match=r"0 of 2 experts in .*; .* differs in seed \(0 there, 1 here\)$"):
        ExpertStore(root, identity(real, seed=1), 2).complete()


@pytest.mark.parametrize(
    "key, value", [("student", "mlp"), ("preprocessing", "zca:0"), ("data", {"name": "x"}), ("shape", [1, 8, 8])]
)
def test_a_named_store_of_other_experts_is_refused(experts, real, key, value):
    with pytest.raises(ValueError, match=f"were trained with other {key}.* there, .* here.: train them"):
        ExpertStore(experts.folder, identity(real, **{key: value}), 2)
    assert not ExpertStore(experts.folder, identity(real, seed=5), 2).missing  # seed and recipe may differ


def test_a_truncated_or_altered_expert_is_recognised(experts):
    path = experts.folder / "expert_0000.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cannot be used as an expert .*: delete it and train"):
        experts.row(0, 1)
    path.write_bytes(whole[:-3] + b"\x00\x01\x02")
    with pytest.raises(ValueError, match="altered: row 4"):
        experts.row(0, 4)
    assert len(experts.row(0, 0))  # other rows still read
    with pytest.raises(ValueError, match="ends at epoch 4, epoch 9 is asked for"):
        experts.row(1, 9)
    with pytest.raises(FileNotFoundError, match="expert_0007"):
        experts.row(7, 0)


def test_a_row_is_read_without_the_rest_of_its_expert(real, tmp_path):
    store = ExpertStore(tmp_path / "e", identity(real), 1)
    weights = torch.randn(100, 1000)
    store.write(0, weights, 0.5)
    (file,) = store.folder.glob("expert_*")
    content, own = file.read_bytes(), weights[57].numpy().tobytes()
    payload, at = 8 + int.from_bytes(content[:8], "little"), content.index(own)
    after = len(content) - at - len(own)
    file.write_bytes(content[:payload] + b"\xff" * (at - payload) + own + b"\xff" * after)
    assert torch.equal(store.row(0, 57), weights[57])
    for other in (56, 58):
        with pytest.raises(ValueError, match=f"altered: row {other}"):
            store.row(0, other)


def test_the_manifest_says_what_the_experts_are(experts):
    about = json.loads((experts.folder / "manifest.json").read_text())
    assert about["recipe"]["epochs"] == experts.epochs == 4 and about["data"]["name"] == "toy"
    whole = (experts.folder / "manifest.json").read_text()
    for damaged, message in ((whole.replace('"epochs": 4', '"epochs": 5'), "was altered"), ("{", "is not readable")):
        (experts.folder / "manifest.json").write_text(damaged)
        with pytest.raises(ValueError, match=f"manifest.json {message}"):
            ExpertStore(experts.folder, about, 1)


def test_an_expert_that_diverges_is_not_stored(real, student, tmp_path):
    store = ExpertStore(tmp_path / "e", identity(real), 1)
    with pytest.raises(ValueError, match="expert 0 diverged"):
        crew().make(units(store, _huge(real), student, make_recipe(lr=10.0), CrossEntropy(), 0))
    assert store.missing == [0]


def _huge(real):
    from dataclasses import replace

    return replace(real, train=replace(real.train, images=real.train.images * float("inf")))


def test_networks_without_a_trajectory_are_refused_before_training(tmp_path):
    from functools import partial

    from distill.networks.resnet import ResNet

    real = load_npz(write_npz(tmp_path / "a.npz"))
    store = ExpertStore(tmp_path / "e", identity(real), 1)
    with pytest.raises(ValueError, match="batch statistics"):
        units(store, real, partial(ResNet, (3, 8, 8), 3, depth=18, norm="batch"), make_recipe(), CrossEntropy(), 0)
