"""Tasks on sets that are there: `distill import`, `distill export`, `distill subset`; their words are not those of a run."""

from collections.abc import Callable, Mapping, Sequence
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
from distill.runs.progress import shown
from distill.runs.recorded import stated
from distill.sets.importers.base import Words
from distill.text import command

WORDS = {"import": ("kind", "data"), "export": ("synset", "kind", "out"), "subset": ("synset", "ipc", "out")}


def values_of(arguments: Sequence[str]) -> dict[str, Any]:
    """The words of a command line by their names.

    >>> values_of(["kind=mtt", "images=a b/images_best.pt", "zca=true", "mean=[0.5]"])
    {'kind': 'mtt', 'images': 'a b/images_best.pt', 'zca': True, 'mean': [0.5]}
    """
    items = quoted(arguments)
    found = stated(items)
    for item in items:
        name, equals, _ = item.partition("=")
        if not equals or name not in found:
            raise ValueError(f"{item!r} is no word of this task: expected NAME=VALUE")
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
    protocol = first.synset.record["imported"]["protocol"]
    return [
        *lines,
        *(f"wrote {path}" for path in paths),
        f"judge it: {command()} evaluate synset={paths_told} protocol={protocol}",
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


def adopting(items: Sequence[str]) -> list[str]:
    """Convert networks for the run that the other words describe."""
    own = stated(items)
    kind, path = str(own["kind"]), own.get("path")
    words = [item for item in items if item.partition("=")[0] not in ("kind", "path", "large")]
    if path is None:
        raise ValueError(f"path is missing: {command()} import kind={kind} path=DIR {' '.join(words)}")
    store = adopt(importer(kind), Path(str(path)), own.get("large") is True, words)
    left = f", {len(store.missing)} of {store.count} are left to be trained" if store.missing else ""
    return [f"wrote {store.folder}{left}"]


TASKS: dict[str, Callable[[dict[str, Any]], list[str]]] = {"import": importing, "export": exporting, "subset": subset}


def carried_out(task: str, arguments: Sequence[str]) -> list[str]:
    """Do what one of `TASKS` asks for; lines to print."""
    values = values_of(arguments)
    check_words(task, values)
    if task == "import" and not importer(str(values["kind"])).makes_sets:
        return adopting(quoted(arguments))
    return TASKS[task](values)


def check_words(task: str, values: Mapping[str, Any]) -> None:
    """Raise ValueError unless these are words of the task, none is missing, and what they name is there."""
    for name in WORDS[task]:
        if name not in values:
            raise ValueError(f"{name} is missing: {command()} {task} {' '.join(f'{each}=...' for each in WORDS[task])}")
    if task != "import":
        for name in values.keys() - set(WORDS[task]):
            raise ValueError(unknown(f"word of {task}", name, WORDS[task]))
        return
    kind = importer(str(values["kind"]))
    if kind.makes_sets:
        own = {name: each for name, each in values.items() if "." not in name and name not in ("kind", "data", "out")}
        kind.check(values["kind"], Words.of(**own))
    if values["data"] not in options("data"):
        raise ValueError(unknown("data", values["data"], options("data")))
