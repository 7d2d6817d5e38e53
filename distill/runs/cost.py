"""What a run is going to cost, said before anything is trained."""

from collections.abc import Mapping, Sequence

from distill.effort import peak_bytes
from distill.presets import options
from distill.runs.line import Line
from distill.runs.progress import duration
from distill.runs.rehearsed import Work


def is_chosen(line: Line) -> bool:
    """Whether somebody chose the sizes of this run: a published cell, an overlay for the data, or a scale."""
    choices = line.choices
    known = choices.get("experiment") in options("experiment") or choices["scale"] != "published"
    return known or line.cfg.task == "evaluate" or choices["data"] == "digits"


def cost(line: Line, ahead: Mapping[str, Sequence[Work]]) -> str:
    """Work but for the students, time on this machine (from two steps of each network, measured here) and memory, in one line.

    Empty where none is left.

    Args:
        ahead: of each arrow.
    """
    works = [work for arrow in ("experts", "distill") for work in ahead.get(arrow, ()) if work.units]
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
