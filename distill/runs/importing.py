"""Importing: somebody's files to synthetic sets of ours, with a table of what was read, stated and checked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from distill.checks import check_tree
from distill.data.preprocessing import Preprocessing, fit_constants, fit_kip, fit_zca
from distill.data.real import load as load_data
from distill.data.split import Split
from distill.files import replacing
from distill.presets import CONFIGS, options, unknown
from distill.progress import stage
from distill.runs.checks import check_values, plain
from distill.runs.composed import Composed, compose, overrides
from distill.sets.coreset import Coreset
from distill.sets.importers.assembling import Imported, Source, assemble, rate_of, space_of
from distill.sets.importers.base import Fact, Found, Importer, Kind, Words
from distill.sets.importers.evidence import LOOKED_AT, check_order
from distill.sets.looks import eight_bit
from distill.text import command
from distill.training.batch import Batches
from distill.training.loop import train
from distill.training.losses import CrossEntropy

LEARNED = 5000  # real images that a classifier learns
WHITENED = 3 * 32 * 32  # numbers of an image up to which whitening is fitted only to look whether a set is whitened


@dataclass(frozen=True)
class Brought:
    """What an import gave: the syntheses, and how their real set was named."""

    kind: str
    data: str
    imports: list[Imported]


def importer(name: str) -> Any:
    """A file of ``configs/kind``, checked; raises a ValueError that tells the nearest names."""
    if name not in options("kind"):
        raise ValueError(unknown("kind", name, options("kind")))
    node = OmegaConf.load(CONFIGS / "kind" / f"{name}.yaml")
    check_tree("kind", OmegaConf.to_container(node), Importer)
    return instantiate(node, _convert_="all")


def kind_of(name: str) -> Kind:
    """An importer of sets; raises a ValueError for another."""
    kind: Kind = importer(name)
    if kind.brings != "sets":
        own = " ".join(f"{each}=..." for each in kind.needs)
        raise ValueError(f"kind={name} is of {kind.brings}, no set: `{command()} import kind={name} path=DIR {own}`")
    return kind


def bring(kind: str, data: str, settings: Sequence[str] = (), **words: Any) -> Brought:
    """Read somebody's files as synthetic sets of the real set ``data``.

    Args:
        kind: one of ``configs/kind``.
        data: one of ``configs/data``.
        settings: of the data, as a command line states them: ``data.root=DIR``.
        words: see `distill.sets.importers.base.Words`.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a name is unknown, something is neither in the files nor stated, or what is said is contradicted.
    """
    own, said = kind_of(kind), Words.of(**words)
    own.check(kind, said)
    if data not in options("data"):
        raise ValueError(unknown("data", data, options("data")))
    syntheses = own.read(said)
    space = space_of(own, kind, said, syntheses[0])
    rate_of(syntheses[0], own, said)  # before the real images are read
    run, constants = composed(own, kind, said, data, settings, space)
    values = plain(run.cfg.data)
    name = values.pop("name")
    with stage(f"reading {name}"):
        real = load_data(name, **values, device="cpu")
    pixels = some_pixels(real.train)
    if space.value == "kip":
        with stage("fitting KIP's whitening"):
            whitening = fit_kip(real.train.preprocessing.inverse(real.train.images))
        real = load_data(name, **values, prepare=whitening, device="cpu")
        constants = Fact("KIP's whitening, eps 0.1", "read", "fitted on the real training images")
    source = source_of((kind, own, said), real.train, pixels, constants)
    about = {
        "choices": {"data": data} | ({"method": kind} if kind in options("method") else {}),
        "config": {"data": plain(run.cfg.data)},
        "data_fingerprint": real.fingerprint,
    }
    return Brought(kind, name, [placed(assemble(found, source, space), found, about) for found in syntheses])


def placed(imported: Imported, found: Found, about: Mapping[str, Any]) -> Imported:
    """With what the record says of the data."""
    synset = imported.synset
    record = {**synset.record, **about, "ipc": synset.ipc}
    return Imported(synset.with_(record=record), imported.facts, imported.checks)


def composed(
    kind: Kind, name: str, words: Words, data: str, settings: Sequence[str], space: Fact
) -> tuple[Composed, Fact]:
    """The configuration of the real images, in the space of the file where it has one, and what is known of its constants.

    Raises:
        ValueError: constants are neither known nor stated.
    """
    said = words.mean is not None or any(each.startswith("data.mean=") for each in settings)
    own = {"mean": words.mean, "std": words.std} if words.mean is not None else dict(kind.constants.get(data, {}))
    zca = {} if space.value == "pixel01" else {"zca": space.value == "zca"}
    whole = {} if any(each.startswith("data.val=") for each in settings) else {"val": 0}  # papers train on everything
    run = compose(f"data={data}", *settings, *overrides("data", {**whole, **own, **zca}))
    check_values(plain(run.cfg))
    values = run.cfg.data
    if values.zca:
        return run, Fact("whitening, eps 0.1", "read", "fitted on the real training images")
    if values.mean is not None:
        mean, std = (" ".join(f"{each:g}" for each in part) for part in (values.mean, values.std))
        return run, Fact(f"mean {mean}, std {std}", "stated" if said else "read", "" if said else f"{name}'s code")
    if space.value == "normalised":
        raise ValueError(
            f"the constants of data={data} are in no file: state mean=[...] std=[...], one for each channel"
        )
    return run, Fact("fitted", "read", "the real training images; the file has pixels")


def some_pixels(train: Split) -> Tensor:
    """At most `LOOKED_AT` real images in [0, 1], spread over the split."""
    index = torch.linspace(0, len(train) - 1, min(len(train), LOOKED_AT)).long()
    return train.preprocessing.inverse(train.images[index]).clamp(0, 1)


def source_of(said: tuple[str, Kind, Words], train: Split, pixels: Tensor, constants: Fact) -> Source:
    """The import's source, with what real images look like in each space."""
    spaces: dict[str, Preprocessing] = {"pixel01": Preprocessing("pixel01"), "normalised": fit_constants(pixels)}
    spaces |= {train.preprocessing.space: train.preprocessing}
    if "zca" not in spaces and pixels[0].numel() <= WHITENED:
        with stage("fitting ZCA"):
            spaces["zca"] = fit_zca(pixels)
    return Source(*said, train, pixels, spaces, constants, asked(train) if said[2].classifier else None)


def asked(train_split: Split) -> Callable[[Tensor], Callable[[Tensor, Tensor], str]]:
    """From images (N, C, H, W) and their classes (N,) to what a small network that knows the real ones says of their order."""
    cfg = compose("experts=proxy", "student=[convnet]", "student.convnet.width=64", "data=npz", "data.path=none").cfg
    net = instantiate(cfg.student.convnet)(train_split.shape, train_split.num_classes)
    recipe = instantiate(cfg.experts.recipe, _convert_="all")
    index = torch.linspace(0, len(train_split) - 1, min(len(train_split), LEARNED)).long()
    data = Coreset(train_split, index)
    with stage("training a classifier of the real images"):
        train([net], Batches(data, recipe, recipe.views.on(train_split), CrossEntropy()), seeds=[0])
    net.eval()

    def of(images: Tensor) -> Callable[[Tensor, Tensor], str]:
        with torch.no_grad():
            predicted = torch.cat([net(part).argmax(1) for part in images.split(250)])
        return partial(check_order, predicted, names=train_split.class_names)

    return of


def table(imported: Imported) -> str:
    """What was read, stated and checked, a line for each fact."""
    rows = [("", "value", "how", "checked")]
    for name, fact in imported.facts.items():
        how = fact.how + (f" ({fact.source})" if fact.source else "")
        value = f"{fact.value:g}" if isinstance(fact.value, float) else str(fact.value)
        rows.append((name, value, how, imported.checks.get(name, "")))
    widths = [max(len(row[k]) for row in rows) for k in range(3)]
    return "\n".join(
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]]).rstrip() for row in rows
    )


def check_free(out: Path) -> None:
    """Raise FileExistsError if ``out`` holds a set, or several."""
    for path in [out / "synset.safetensors", *sorted(out.glob("synthesis_*"))]:
        if path.exists():
            raise FileExistsError(f"{path} exists: name a new folder with out=DIR")


def written(brought: Brought, out: Path) -> list[Path]:
    """Write each synthesis with its picture, into ``out`` or a folder in it for each; nothing is overwritten."""
    check_free(out)
    several, paths = len(brought.imports) > 1, []
    for i, imported in enumerate(brought.imports):
        folder = out / f"synthesis_{i}" if several else out
        paths.append(folder / "synset.safetensors")
        imported.synset.save(paths[-1])
        with replacing(folder / "grid.png") as part:
            eight_bit(imported.synset.picture()).save(part, format="png")
    return paths
