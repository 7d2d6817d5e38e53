"""What a run is going to cost, said before anything is trained."""

from distill.effort import peak_bytes
from distill.presets import options
from distill.runs import ahead
from distill.runs.line import Line
from distill.runs.progress import duration


def is_chosen(line: Line) -> bool:
    """Whether somebody chose the sizes of this run: a published cell, an overlay for the data, or a scale."""
    choices = line.choices
    known = choices.get("experiment") in options("experiment") or choices["scale"] != "published"
    return known or line.cfg.task == "evaluate" or choices["data"] == "digits"


def cost(line: Line) -> str:
    """Work that is left, time on this machine (from two steps of each network, measured here) and memory, in one line.

    Empty where none is left.
    """
    works = [*ahead.experts(line), *(ahead.sets(line) if line.cfg.task in ("distill", "all") else [])]
    works = [work for work in works if work.units]
    if not works:
        return ""
    parts = [f"{work.text} ({millions(round(work.images))} images)" for work in works]
    seconds = sum(work.seconds(line.real.train) for work in works)
    disk = sum(work.disk for work in works)
    kept = f", {disk / 1e9:.1f} GB on disk" if disk else ""
    return (
        f"the papers' sizes on {len(line.real.train):,} images: {', '.join(parts)}: about {duration(seconds)} on this "
        f"machine, and the students; {peak_bytes() / 1e9:.1f} GB of memory or more{kept}. scale=small takes minutes "
        "(docs/own_data.md); scale=published is this run"
    )


def millions(count: int) -> str:
    return f"{count / 1e6:,.1f} M" if count >= 1e5 else f"{count:,}"
