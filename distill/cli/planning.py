"""`distill plan`: its words are those of the run that it plans, and ``device`` may be a card that is not here."""

from collections.abc import Sequence

from distill.checks import check_ranges
from distill.cli.artefacts import values_of
from distill.presets import unknown
from distill.runs.cards import card
from distill.runs.checks import device_of, plain
from distill.runs.comparing import show
from distill.runs.composed import compose, literal
from distill.runs.explained import words_explained
from distill.runs.imagined import imagined
from distill.runs.line import Line
from distill.runs.pipeline import at_work
from distill.runs.plan import ARROWS, AT_ONCE, plan
from distill.runs.recorded import complete_overrides

IMAGINED = {
    "train": "whole [1, 1e9]",
    "test": "whole [1, 1e9]",
    "classes": "whole [2, 1e6]",
}  # of a real set that is not here


def carried_out(arguments: Sequence[str]) -> list[str]:
    """Show what the run would take."""
    first, *others = arguments or ["all"]
    values = values_of([first if "=" in first else f"task={first}", *others])
    task = values.get("task", "all")
    if task not in ARROWS:
        raise ValueError(f"{unknown('task of a plan', str(task), list(ARROWS))}; a suite has plan=true")
    named = values.pop("device", "auto")
    names = [str(each) for each in (named if isinstance(named, list) else [named])]
    cards = [card(name) for name in names if name not in ("auto", "cpu", "cuda")]
    values |= {"device": names[0]} if not cards else {}
    counts = {name: values.pop(name) for name in IMAGINED if name in values}
    if counts:
        check_ranges("", counts, IMAGINED)
        values.setdefault("data.path", "imagined")
    words = complete_overrides([f"{name}={literal(value)}" for name, value in values.items()])
    with words_explained(words), at_work() as progress:
        run = compose(*words)
        real = imagined(plain(run.cfg.data), **counts, device=device_of(run.cfg.device)) if counts else None
        line = Line(run, progress, real)
        form = plan(line, AT_ONCE if line.cfg.workers == "auto" else [1, line.cfg.workers], cards)
    show([form])
    return []


TASKS = {"plan": carried_out}
