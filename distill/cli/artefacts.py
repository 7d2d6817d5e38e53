"""Tasks on sets that are there: `distill import`, `distill export`, `distill subset`; their words are not those of a run."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from distill.artefacts import load
from distill.cli.typed import quoted
from distill.presets import options, unknown
from distill.progress import heard_by
from distill.runs.adopted import adopt
from distill.runs.composed import literal
from distill.runs.explained import words_explained
from distill.runs.importing import bring, check_free, importer, table, written
from distill.runs.labelled import LabelWords
from distill.runs.progress import shown
from distill.runs.recorded import stated
from distill.sets.importers.base import Words
from distill.text import command

WORDS = {"import": ("kind",), "export": ("synset", "kind", "out"), "subset": ("synset", "ipc", "out")}


def values_of(arguments: Sequence[str]) -> dict[str, Any]:
    """The words of a command line by their names.

    >>> values_of(["kind=mtt", "images=a b/images_best.pt", "zca=true", "mean=[0.5]"])
    {'kind': 'mtt', 'images': 'a b/images_best.pt', 'zca': True, 'mean': [0.5]}

    Raises:
        ValueError: a word has no value, or one that Hydra's grammar cannot read.
    """
    items = quoted(arguments)
    read, found = stated(items), {}
    for item in items:
        name, equals, _ = item.partition("=")
        if not equals or name.lstrip("+") not in read:
            within = "; a text with = inside a value stands in quotes: NAME='[\"a=b\"]'" if equals else ""
            raise ValueError(f"{item!r} is no word of this task: expected NAME=VALUE{within}")
        found[name] = read[name.lstrip("+")]
    return found


def importing(values: dict[str, Any]) -> list[str]:
    """Bring somebody's files, write the sets, and tell what was read, stated and checked."""
    kind, data = str(values.pop("kind")), str(values.pop("data"))
    settings = [f"{name}={literal(values.pop(name))}" for name in list(values) if name.startswith("data.")]
    out = Path(str(values.pop("out", "imported")))
    check_free(out)
    with shown() as progress, heard_by(progress), words_explained([f"data={data}", *settings]):
        brought = bring(kind, data, settings, **values)
    first = brought.imports[0]
    lines = [table(first), *(f"note: {note}" for note in first.synset.record["imported"]["notes"])]
    paths = written(brought, out)
    paths_told = str(paths[0]) if len(paths) == 1 else f"[{','.join(map(str, paths))}]"
    told = [first.synset.record["imported"]["protocol"], *importer(kind).beside(Words.of(**values))]
    return [
        *lines,
        *(f"wrote {path}" for path in paths),
        f"judge it: {command()} evaluate synset={paths_told} protocol={' '.join(told)}",
    ]


def exporting(values: dict[str, Any]) -> list[str]:
    """Write a set in another tool's format, into a new folder."""
    synset, kind, out = (values.get(name) for name in WORDS["export"])
    return [f"wrote {load(str(synset)).export(str(out), str(kind))}"]


def subset(values: dict[str, Any]) -> list[str]:
    """Write the first images of each class of a set as a set of its own."""
    synset, ipc, out = (values.get(name) for name in WORDS["subset"])
    path = Path(str(out)) / "synset.safetensors"
    if path.exists():
        raise FileExistsError(f"{path} exists: name a new folder with out=DIR")
    load(str(synset)).subset(ipc).save(path)  # type: ignore[arg-type]
    return [f"wrote {path}"]


def adopting(values: dict[str, Any]) -> list[str]:
    """Convert networks for the run that the other words describe."""
    kind, path, large = (values.pop(name, None) for name in ("kind", "path", "large"))
    words = [f"{name}={literal(value)}" for name, value in values.items()]
    store = adopt(importer(str(kind)), Path(str(path)), large is True, words)
    left = f", {len(store.missing)} of {store.count} are left to be trained" if store.missing else ""
    return [f"wrote {store.folder}{left}"]


def labelling(values: dict[str, Any]) -> list[str]:
    """Convert labels that somebody stored for a set."""
    kind = importer(str(values.pop("kind")))
    lines: list[str] = kind.bring(LabelWords.of(**values))
    return lines


Task = Callable[[dict[str, Any]], list[str]]
ON_SETS: dict[str, Task] = {"export": exporting, "subset": subset}
IMPORTS: dict[str, Task] = {"sets": importing, "networks": adopting, "labels": labelling}


def carried_out(task: str, arguments: Sequence[str]) -> list[str]:
    """Do what one of `WORDS` asks for; lines to print."""
    values = values_of(arguments)
    check_words(task, values)
    return ON_SETS[task](values) if task in ON_SETS else IMPORTS[importer(str(values["kind"])).brings](values)


def check_words(task: str, values: Mapping[str, Any]) -> None:
    """Raise ValueError unless these are words of the task, none is missing, and what they name is there."""
    check_there(task, values, WORDS[task])
    if task in ON_SETS:
        for name in values.keys() - set(WORDS[task]):
            raise ValueError(unknown(f"word of {task}", name, WORDS[task]))
        return
    kind = importer(str(values["kind"]))
    check_there(task, values, (*WORDS[task], *kind.needs))
    own = {name: each for name, each in values.items() if "." not in name and name not in ("kind", "data", "out")}
    if kind.brings == "sets":
        kind.check(values["kind"], Words.of(**own))
    if kind.brings == "labels":
        LabelWords.of(**own)
    if "data" in kind.needs and values["data"] not in options("data"):
        raise ValueError(unknown("data", values["data"], options("data")))


def check_there(task: str, values: Mapping[str, Any], needed: Sequence[str]) -> None:
    """Raise ValueError if a word is missing."""
    for name in needed:
        if name not in values:
            raise ValueError(f"{name} is missing: {command()} {task} {' '.join(f'{each}=...' for each in needed)}")


TASKS: Mapping[str, Callable[[Sequence[str]], list[str]]] = {name: partial(carried_out, name) for name in WORDS}
