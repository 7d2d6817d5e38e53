"""Sets on a hub: what is pushed to a stand-in comes back the same, tells of itself; what fails is told in a line."""

import ast
import doctest
import io
import json
import pickle
import sys

import numpy as np
import pytest
import torch
import yaml
from hub import MAY_READ, asked, begun_with
from PIL import Image
from test_gains import row as measured
from test_line import line, succeeds, toy  # noqa: F401  # a fixture
from test_structure import MODULES

import distill
from distill import places
from distill.report.rows import Report
from distill.sets import hub as sets_hub
from distill.sets import repository
from distill.sets.hub import parsed
from distill.sets.synthetic import SyntheticSet

pytest.importorskip("huggingface_hub")
parquet = pytest.importorskip("pyarrow.parquet")
HERE = "hf://somebody/digits"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that a user who may write asks, with an empty cache."""
    with asked(monkeypatch, tmp_path / "home") as found:
        yield found


@pytest.fixture
def synset(real):
    """Two real images of each class."""
    return SyntheticSet.from_real(real.train, 2, torch.Generator().manual_seed(0)).with_(record={"method": "dm"})


def soft(synset):
    """The same with logits and a learned rate."""
    logits = torch.randn(len(synset), synset.num_classes, generator=torch.Generator().manual_seed(1))
    return synset.with_(labels=logits, label_kind="logits", lr=torch.tensor(0.02))


def files_of(hub, name="somebody/digits"):
    return hub.files(name)[1]


def page_of(hub):
    """The header and the text of the page."""
    _, header, text = files_of(hub)["README.md"].decode().split("---\n", 2)
    return yaml.safe_load(header), text


@pytest.mark.parametrize("form", [lambda each: each, soft, SyntheticSet.quantised], ids=["hard", "soft", "eight bits"])
def test_what_is_pushed_comes_back_the_same(hub, synset, form):
    given = form(synset)
    given.push(HERE)
    back = distill.load(HERE)
    assert back.hash == given.hash and back.class_names == given.class_names and back.lr == given.lr
    assert torch.equal(back.images, given.images) and torch.equal(back.labels, given.labels)


def test_an_address_with_a_commit_stays_as_it_is(hub, synset):
    first, other = synset.push(HERE), soft(synset)
    other.push(HERE)
    assert parsed(first)[1] is not None
    assert distill.load(first).hash == synset.hash and distill.load(HERE).hash == other.hash


def test_a_set_is_fetched_once_and_offline_it_is_still_there(hub, synset, monkeypatch):
    synset.push(HERE)
    distill.load(HERE)
    before = [each for each in hub.asked if each.startswith("GET /datasets")]
    distill.load(HERE)
    assert len(before) == 1 == len([each for each in hub.asked if each.startswith("GET /datasets")])
    with begun_with(monkeypatch, HF_HUB_OFFLINE="1"):
        assert distill.load(HERE).hash == synset.hash


def test_the_table_has_every_image_with_its_class_by_name(hub, synset, monkeypatch):
    monkeypatch.setattr(repository, "GROUP", 3)
    given = soft(synset)
    given.push(HERE)
    table = parquet.read_table(io.BytesIO(files_of(hub)[repository.TABLE]))
    about = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    names = page_of(hub)[0]["dataset_info"]["features"][1]["dtype"]["class_label"]["names"]
    assert about["label"]["names"] == list(given.class_names) == list(names.values())
    assert list(about) == table.column_names == ["image", "label", "logits"]
    assert table["label"].to_pylist() == given.classes.tolist()
    assert torch.equal(torch.tensor(table["logits"].to_pylist()), given.labels)
    for shown, pixels in zip(table["image"].to_pylist(), given.pixels, strict=True):
        image = np.asarray(Image.open(io.BytesIO(shown["bytes"]))).reshape(*pixels.shape[1:], -1)
        assert np.array_equal(image, pixels.mul(255).round().byte().permute(1, 2, 0))


def test_hard_labels_are_the_column_of_classes(hub, synset):
    synset.with_(labels=synset.classes.flip(0)).push(HERE)
    table = parquet.read_table(io.BytesIO(files_of(hub)[repository.TABLE]))
    assert table.column_names == ["image", "label"] and table["label"].to_pylist() == synset.classes.flip(0).tolist()


def test_the_page_tells_accuracy_runs_bytes_and_licence(hub, synset, tmp_path):
    report = Report(tmp_path / "report.json")
    report.rows = [
        measured("dm", [0.5], synset_hash=f"0123,{synset.hash}", syntheses=2, students=5, ci95=0.0123, protocol="dsa+"),
        measured("dm", [0.9], synset_hash="4567"),
        measured("random real", [0.4]),
    ]
    synset.push(HERE, report, licence="cc-by-4.0")
    header, text = page_of(hub)
    assert header["license"] == "cc-by-4.0" and "| licence of the source images | cc-by-4.0 |" in text
    assert "| 50.0 ± 1.2 | 2 x 5 |" in text and "dsa+" in text and "90.0" not in text and "40.0" not in text
    assert f"images {synset.image_bytes:,}, labels {synset.label_bytes:,}," in text
    assert f'distill.load("{HERE}")' in text.replace("dd.", "distill.") and synset.hash in text


def test_what_is_not_known_is_said_to_be_unknown(hub, synset):
    synset.push(HERE)
    header, text = page_of(hub)
    assert header["license"] == "unknown" and "| licence of the source images | not known" in text
    assert "nothing is said of how students do" in text
    synset.push(HERE, licence="for research alone")
    header, text = page_of(hub)
    assert header["license"] == "other" and "| licence of the source images | for research alone |" in text


def test_no_folder_of_the_makers_machine_is_given_away(hub, synset, tmp_path):
    record = {"overrides": ["ipc=2", "out=/secret"], "config": {"out": "/secret", "data": {"root": "/secret"}}}
    report = Report(tmp_path / "report.json")
    report.rows = [measured("dm", [0.5], synset_hash=synset.hash, command="python run.py ipc=2 out=/secret seed=1")]
    synset.with_(record=record).push(HERE, report)
    assert "distill ipc=2\n" in page_of(hub)[1] and "distill ipc=2 seed=1\n" in page_of(hub)[1]
    assert not [path for path, content in files_of(hub).items() if b"secret" in content]


def test_rows_are_those_of_the_run_that_made_the_set(synset, tmp_path):
    path = tmp_path / "digits-dm" / "synset.safetensors"
    synset.save(path)
    found = distill.load(path)
    assert sets_hub.rows_of(found, None) == []
    Report(tmp_path / "report.json").add(measured("dm", [0.5], synset_hash=found.hash))
    assert [row["mean"] for row in sets_hub.rows_of(found, None)] == [0.5]
    assert sets_hub.rows_of(synset, None) == []


@pytest.mark.parametrize("address", ["hf://digits", "hf://a/b/c", "hf://a/b@", "hf://a/../b"])
def test_an_address_that_names_no_repository_is_told(address, hub):
    with pytest.raises(ValueError, match="names no repository of a hub, expected hf://owner/name or "):
        distill.load(address)
    assert hub.asked == []


def told(error):
    """What an error says, if that is a line."""
    text = str(error.value)
    assert "\n" not in text and len(text) < 300
    return text


def test_what_the_hub_has_not_is_told_in_a_line(hub, synset):
    with pytest.raises(FileNotFoundError) as error:
        distill.load(HERE)
    assert f"no repository somebody/digits that you may read at {hub.url}: check the name, or log in" in told(error)
    synset.push(HERE)
    with pytest.raises(FileNotFoundError) as error:
        distill.load(f"{HERE}@v2")
    assert told(error) == f"{HERE} has no revision v2: name a branch, a tag or a commit"
    del files_of(hub)["synset.safetensors"]
    with pytest.raises(FileNotFoundError) as error:
        distill.load(HERE)
    assert f"{HERE} has no synset.safetensors, so it is no set of distill" in told(error)
    hub.gated.add("somebody/digits")
    with pytest.raises(PermissionError) as error:
        distill.load(HERE)
    assert "is shown to those alone whom its owner lets in" in told(error)


def test_what_comes_from_a_hub_is_checked_like_any_file(hub, synset):
    synset.push(HERE)
    files_of(hub)["synset.safetensors"] = b"no tensors"
    with pytest.raises(ValueError, match="truncated or not a safetensors file"):
        distill.load(HERE)


def test_who_may_not_write_is_told(hub, synset, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", MAY_READ)
    with pytest.raises(PermissionError) as error:
        synset.push(HERE)
    assert f"you may not write to {HERE} (403): log in with `hf auth login`, or set HF_TOKEN" in told(error)
    with pytest.raises(ValueError, match="names a revision, which can be read alone: push to hf://somebody/digits"):
        synset.push(f"{HERE}@main")
    assert hub.commits == {}


NOBODY = "http://127.0.0.1:9"  # listens there
OFFLINE = [({"HF_ENDPOINT": NOBODY}, f"{NOBODY} is not reached"), ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set")]


@pytest.mark.parametrize("environment, why", OFFLINE)
def test_offline_is_said_in_a_line(hub, synset, monkeypatch, capfd, environment, why):
    with begun_with(monkeypatch, **environment):
        for deed, call in {"read": lambda: distill.load(HERE), "write to": lambda: synset.push(HERE)}.items():
            with pytest.raises(ConnectionError) as error:
                call()
            assert f"offline: cannot {deed} {HERE}, as {why}: go online" in told(error)
    assert capfd.readouterr().err == "" and hub.asked == []  # the library is as silent


def test_without_the_extra_it_is_named(hub, synset, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(
            ValueError, match=r"need the package pyarrow, which is not .*: pip install 'distill\[hub\]'"
        ):
            synset.push(HERE)
    assert hub.commits == {}
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for deed in (lambda: distill.load(HERE), lambda: synset.push(HERE)):
        with pytest.raises(ValueError, match=r"need the package huggingface-hub, .*: pip install 'distill\[hub\]'"):
            deed()


def test_the_extra_is_imported_only_where_it_is_asked_for():
    for path in MODULES.values():
        names = [name for node in ast.parse(path.read_text()).body for name in imported(node)]
        assert not {"huggingface_hub", "pyarrow"} & {name.split(".")[0] for name in names}, path


def imported(node):
    """What a statement of a module imports."""
    if isinstance(node, ast.ImportFrom):
        return [node.module]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


def test_the_command_line_takes_addresses(hub, synset, line, tmp_path):  # noqa: F811
    synset.push(HERE)
    assert line("subset", f"synset={HERE}", "ipc=1", "out=one")[:2] == (0, "wrote one/synset.safetensors\n")
    assert distill.load(tmp_path / "one").hash == synset.subset(1).hash
    assert line("export", "synset=hf://somebody/nothing", "kind=png", "out=two")[2].startswith(
        "error: no repository somebody/"
    )


def test_a_set_of_a_hub_is_judged(hub, line, tmp_path, monkeypatch):  # noqa: F811
    real = distill.load_data("digits", val=0).train
    given = SyntheticSet.from_real(real, 1, torch.Generator().manual_seed(0))
    given.push(HERE)
    succeeds(line("task=evaluate", f"synset={HERE}", *toy("dm"), "baselines=[]", "compile=false", "out=out"))
    judged = [row for row in Report(tmp_path / "out" / "report.json").rows if row["synset_hash"] == given.hash]
    assert len(judged) == 1 and judged[0]["synsets"][0].endswith("synset.safetensors")


def test_a_transform_can_be_sent_to_a_loaders_process(synset):
    image = synset.pixels[0].mul(255).round().byte().permute(1, 2, 0).numpy()
    sent = pickle.loads(pickle.dumps(synset.transform))
    assert torch.equal(sent(image), synset.transform(image))


@pytest.mark.parametrize("module", [places, sets_hub, repository])
def test_examples_hold(module):
    found = doctest.testmod(module)
    assert found.attempted and not found.failed
