"""Experts and teachers of other projects: what is stored is what was in their files, and they know the real images."""

import pytest
import torch

import distill as dd
from distill.cli.main import main
from distill.runs.adopted import adopt
from distill.runs.importing import importer

RECIPE = {"epochs": 4, "lr": 0.3, "batch": 32}
RUN = [
    "data=digits", "method=mtt", "student=[convnet]", "student.convnet.width=4", "method.experts.count=2",
    "method.max_start_epoch=1", *(f"method.experts.recipe.{name}={value}" for name, value in RECIPE.items()),
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two experts of ours, and the shapes of their network's parameters."""
    real = dd.load_data("digits")
    out = tmp_path_factory.mktemp("trained")
    return dd.train_experts("mtt", real, count=2, out=out, **{"student.width": 4}, **RECIPE)


def snapshots(store, number, epochs=4):
    from hydra.utils import instantiate

    from distill.runs.composed import compose

    net = instantiate(compose(*RUN).cfg.student.convnet)((1, 8, 8), 10)
    found = []
    for epoch in range(epochs + 1):
        torch.nn.utils.vector_to_parameters(store.row(number, epoch), net.parameters())
        found.append([each.detach().clone() for each in net.parameters()])
    return found


def write_buffers(folder, experts):
    folder.mkdir(exist_ok=True, parents=True)
    for number, expert in enumerate(experts):
        torch.save([expert], folder / f"replay_buffer_{number}.pt")
    return folder


def brought(folder, tmp_path, *words, kind="experts"):
    return adopt(importer(kind), folder, False, [*RUN, f"out={tmp_path}/out", *words])


def test_replay_buffers_become_the_store_that_a_run_finds(trained, tmp_path, monkeypatch, capsys):
    folder = write_buffers(tmp_path / "buffers", [snapshots(trained, 0), snapshots(trained, 1)])
    words = ["import", "kind=experts", f"path={folder}", *RUN, f"out={tmp_path}/out"]
    monkeypatch.setattr("sys.argv", ["distill", *words])
    main()
    assert "wrote" in capsys.readouterr().out
    (own,) = (tmp_path / "out" / "experts").iterdir()
    assert own.name == trained.folder.name  # the same identity, found by content
    real = dd.load_data("digits")
    again = dd.train_experts("mtt", real, count=2, out=tmp_path / "out", **{"student.width": 4}, **RECIPE)
    assert not again.missing and again.folder == own
    for number in range(2):
        for epoch in range(5):
            assert torch.equal(again.row(number, epoch), trained.row(number, epoch))
    with pytest.raises(SystemExit, match="has networks already: name another experts_path"):
        main()


def test_buffers_that_cannot_be_are_refused_in_one_line(trained, tmp_path):
    whole = snapshots(trained, 0)
    blank = [[torch.full_like(each, i) for each in snapshot] for i, snapshot in enumerate(whole)]
    wrong = {
        "epochs=3": ([whole[:4]], "has 3 epochs, the recipe 4: method.experts.recipe.epochs=3"),
        "tensors": ([[each[:-1] for each in whole]], "name the network that they are of with student"),
        "saved many times": ([[whole[-1]] * 5], "the same weights after two epochs"),
        "NaN": ([[[each * float("nan") for each in snap] for snap in whole]], "NaN or infinite"),
        "knows": ([blank], "of the real images, expected 20%"),
        "no replay": ([torch.zeros(2)], "is no replay buffer"),
    }
    for number, (experts, told) in enumerate(wrong.values()):
        with pytest.raises(ValueError, match=told) as error:
            brought(write_buffers(tmp_path / str(number), experts), tmp_path)
        assert "\n" not in str(error.value)
    with pytest.raises(FileNotFoundError, match="no networks in"):
        brought(tmp_path, tmp_path)
    with pytest.raises(ValueError, match="method=dm learns from no trajectories"):
        adopt(importer("experts"), tmp_path, False, ["data=digits", "method=dm"])
    with pytest.raises(ValueError, match="not whitened by its name: data.zca=false"):
        brought(write_buffers(tmp_path / "CIFAR10_NO_ZCA", [whole]), tmp_path, "data.zca=true")
    assert not list((tmp_path / "out").glob("experts/*/expert_*"))


def test_a_teachers_state_is_matched_by_order_and_scored(tmp_path):
    real = dd.load_data("digits")
    settings = {"count": 1, "recipe.epochs": 3, "minimum": 0, "convnet.width": 4, "convnet.norm": "batch"}
    (store,) = dd.train_teachers(real, ["convnet"], out=tmp_path / "ours", **settings).values()
    words = ["data=digits", "experts=teacher", "student=[convnet]", "experts.networks=[convnet]", "student.convnet.width=4",
             "student.convnet.norm=batch", "experts.recipe.epochs=3", "experts.minimum=0", f"out={tmp_path}/out"]  # fmt: skip
    from hydra.utils import instantiate

    from distill.runs.composed import compose

    net = instantiate(compose(*words).cfg.student.convnet)((1, 8, 8), 10)
    torch.nn.utils.vector_to_parameters(store.row(0, -1), net.parameters())
    net.load_state_dict(store.statistics(0), strict=False)
    state = {f"module.theirs.{place}": each for place, each in enumerate(net.state_dict().values())}
    torch.save({"state_dict": state, "acc": 0.9, "epoch": 3}, tmp_path / "ckpt.pth")
    again = adopt(importer("teacher"), tmp_path / "ckpt.pth", False, words)
    assert torch.equal(again.row(0, -1), store.row(0, -1))
    theirs, ours = again.statistics(0), store.statistics(0)
    assert theirs.keys() == ours.keys() and all(torch.equal(theirs[name], ours[name]) for name in ours)
    torch.save(dict(list(state.items())[:-1]), tmp_path / "short.pth")
    with pytest.raises(ValueError, match="name the network with experts.networks"):
        adopt(importer("teacher"), tmp_path / "short.pth", False, [*words, f"experts_path={tmp_path}/other"])
    with pytest.raises(ValueError, match="kind=teacher is of networks, no set"):
        dd.load(tmp_path / "ckpt.pth", kind="teacher", data="digits")
