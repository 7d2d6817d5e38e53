"""`distill rank_networks` and `distill network_truth`: their words are those of a run, and one of their own."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distill.cli.artefacts import values_of
from distill.comparison.written import write_tables
from distill.data.real import RealData
from distill.ranking import tables
from distill.ranking.truth import Truth
from distill.runs import ranking
from distill.runs.comparing import show
from distill.runs.composed import Composed, compose, literal
from distill.runs.explained import words_explained
from distill.runs.line import Line
from distill.runs.pipeline import carry_out
from distill.runs.progress import Shown
from distill.runs.recorded import complete_overrides

DRAWS = 3  # at least, of random real images
USUAL: Mapping[str, Mapping[str, Any]] = {  # each network is small, and there are many: none is worth a compilation
    "rank_networks": {"protocol": "n54", "draws": DRAWS, "compile": False},
    "network_truth": {"method": "random", "protocol": "n54-truth", "compile": False},
}


def composed(task: str, values: Mapping[str, Any], own: Mapping[str, Any]) -> Composed:
    """The run that a task's words describe; ``own`` are values that it sets itself."""
    words = [f"{name}={literal(value)}" for name, value in {**USUAL[task], **values, **own}.items()]
    with words_explained(words):
        return compose(*complete_overrides(words))


def ranked(arguments: Sequence[str]) -> list[str]:
    """Show what each proxy's ranking of the networks is worth; lines to print."""
    values = values_of(arguments)
    run, path = ranking_run(values)
    truth, real = Truth.of(str(run.cfg.data.name), path), checked(run)
    line = carry_out(run, real, ("experts", "rank") if "synset" in values else ("experts", "distill", "rank"))
    found = ranking.proxies(line)
    forms = [tables.worth(found, truth, real.hash), tables.networks(found, truth)]
    show(forms[:1])
    return [f"wrote {path}" for path in write_tables(forms, tables.summary(found, truth), line.out / "ranking", {})]


def checked(run: Composed) -> RealData:
    """The real images, once it is clear that the networks can be trained on them."""
    line = Line(run, Shown())
    ranking.check(line)
    return line.real


def ranking_run(values: Mapping[str, Any]) -> tuple[Composed, str | None]:
    """The run of `rank_networks`, and the path of its table of truth."""
    draws, path = values.get("draws", DRAWS), values.get("truth")
    if isinstance(draws, int) and draws < DRAWS:
        raise ValueError(
            f"draws is {draws}, expected {DRAWS} or more: one draw of random images tells little of a ranking"
        )
    if not {"synset", "method"} & values.keys():
        raise ValueError(
            "rank_networks has no set to judge: name one with synset=PATH, or what makes it with method=dm ipc=10"
        )
    others = [name for name in values.get("baselines", []) if name != "random"]
    own = {"task": "evaluate" if "synset" in values else "all", "baselines": ["random", *others]}
    told = {name: value for name, value in values.items() if name != "truth"}
    return composed("rank_networks", told, own | {"protocol.validate": True}), None if path is None else str(path)


def truth_made(arguments: Sequence[str]) -> list[str]:
    """Make the table of what the networks reach on real images; lines to print."""
    run = truth_run(values_of(arguments))
    line = carry_out(run, checked(run), ("truth",))
    truth, path = ranking.truth(line), ranking.path_of(line)
    if truth is None:
        return ["networks are left to another process of this command: when all are done, it writes the table"]
    truth.write(path)
    show([tables.networks([], truth)])
    return [f"wrote {path}"]


def truth_run(values: Mapping[str, Any]) -> Composed:
    """The run of `network_truth`: of all images, where no size is asked for."""
    size = {} if {"ipc", "fraction"} & values.keys() else {"fraction": 1}
    return composed("network_truth", {**values, **size}, {"task": "evaluate", "protocol.validate": True})


TASKS: Mapping[str, Callable[[Sequence[str]], list[str]]] = {"rank_networks": ranked, "network_truth": truth_made}
