"""A suite by its words: those of its cells' runs, and what it judges."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hydra.utils import get_class
from omegaconf import OmegaConf

from distill.checks import check_ranges
from distill.presets import CONFIGS, options, unknown
from distill.runs.checks import RANGES
from distill.runs.composed import literal
from distill.runs.suite import SuiteRun
from distill.sets.reading import load
from distill.sets.synthetic import SyntheticSet
from distill.sizes import of_counts, short
from distill.suites.base import RANDOM, Subject, Suite

OWN = {"suite", "method", "synset", "ipc", "plan", "shard", "out", "draws", "syntheses"}


def run_of(values: Mapping[str, Any]) -> SuiteRun:
    """The suite and what it judges, by the words of a command line."""
    name = str(values.get("suite"))
    if name not in options("suite"):
        raise ValueError(unknown("suite", name, options("suite")))
    own = {key: value for key, value in values.items() if key == "mode" or key.startswith("suite.")}
    suite = suite_of(name, {key.removeprefix("suite."): value for key, value in own.items()})
    common = [f"{key}={literal(value)}" for key, value in values.items() if key not in OWN and key not in own]
    sets, missing = opened(map(str, as_list(values.get("synset"))))
    if "data" not in values:
        common += data_of(sets.values())
    judged, out = subjects(values, sets), Path(str(values.get("out", "outputs")))
    numbers = {"seed": values.get("seed", 0), "draws": values.get("draws", 5)}
    check_ranges("", numbers, {name: RANGES[name] for name in numbers})
    seed = sum(numbers.values())  # of the first draw that is no subject's
    rivals = {each.size: replace(each, stated=(*each.stated, f"seed={seed}")) for each in judged if each.name == RANDOM}
    return SuiteRun(suite, name, judged, common, out, rivals, missing)


def suite_of(name: str, settings: dict[str, Any]) -> Suite:
    """A suite with other values.

    >>> suite_of("dc-bench", {"mode": "paper"}).mode
    'paper'
    """
    values: Any = OmegaConf.to_container(OmegaConf.load(CONFIGS / "suite" / f"{name}.yaml"))
    for key in settings:
        if key not in values or key.startswith("_"):
            raise ValueError(unknown("value of the suite", key, [each for each in values if not each.startswith("_")]))
    suite: Suite = get_class(values.pop("_target_"))(**values | settings)
    return suite


def opened(paths: Iterable[str]) -> tuple[dict[str, SyntheticSet], list[str]]:
    """Sets by their paths, and what is told of those that are missing."""
    sets, missing = dict[str, SyntheticSet](), list[str]()
    for path in paths:
        try:
            sets[path] = load(path)
        except FileNotFoundError as error:
            missing.append(str(error))
    return sets, missing


def data_of(sets: Iterable[SyntheticSet]) -> list[str]:
    """The real images that random ones are drawn from where a user names none: those that the sets were made from."""
    chosen = [synset.record.get("choices") for synset in sets]
    named = [each.get("data") for each in chosen if isinstance(each, dict)]
    names = [name for name in options("data") if name in named]
    if len(names) > 1:
        raise ValueError(f"the sets are of {' and '.join(names)}: judge those of one by themselves, with data=NAME")
    return [f"data={name}" for name in names]


def subjects(values: Mapping[str, Any], sets: Mapping[str, SyntheticSet] = MappingProxyType({})) -> list[Subject]:
    """Random images of each size, the methods, and the sets; several sets of one method and size are its syntheses."""
    asked = as_list(values.get("ipc")) or ([] if "synset" in values else [10])
    draws, syntheses = values.get("draws", 5), values.get("syntheses", 1)
    together: dict[tuple[str, str], list[str]] = {}
    sizes = {short(size): size for size in asked}
    for path, synset in sets.items():
        size = of_counts(synset.counts, synset.class_names)
        sizes.setdefault(short(size), size)
        together.setdefault((str(synset.record.get("method", "unknown")), short(size)), []).append(path)
    methods = [method for method in as_list(values.get("method")) if method != RANDOM]
    given = [
        Subject(method, size, ("task=evaluate", f"synset={literal(paths)}"))
        for (method, size), paths in together.items()
    ]
    random = [made(RANDOM, size, draws) for size in sizes.values()]
    return [*random, *(made(method, size, syntheses) for size in asked for method in methods), *given]


def made(method: str, size: Any, syntheses: int) -> Subject:
    words = (f"method={method}", f"ipc={literal(size)}", f"syntheses={syntheses}", "task=all")
    return Subject(method, short(size), words)


def as_list(value: Any) -> list[Any]:
    """One thing or several, as several."""
    return [] if value is None else list(value) if isinstance(value, list) else [value]
