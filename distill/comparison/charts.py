"""Figures of a comparison, by matplotlib: accuracy by size, gain over random, students as a matrix, cost against accuracy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.comparison.arms import Arm, Comparison, Contrast, setting_of
from distill.comparison.pivots import Labels, by_size
from distill.files import replacing
from distill.report.rows import WHOLE, Row
from distill.text import harmless

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = ("svg", "pdf", "png")
STYLE: dict[Any, Any] = {  # vectors whose text is text, and files that are the same whenever they are drawn
    **{"svg.fonttype": "none", "svg.hashsalt": "distill", "pdf.fonttype": 42, "font.size": 9},
    **{"axes.spines.top": False, "axes.spines.right": False, "text.parse_math": False},
}
UNDATED: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
INCHES = (4.6, 3.2)  # of a panel
ABREAST = 3  # panels

Panel = tuple[str, list[Arm]]


def draw(found: Comparison, folder: Path) -> list[Path]:
    """Write every figure that there is something for as SVG, PDF and PNG.

    Raises:
        ImportError: matplotlib is missing.
    """
    import matplotlib  # late: an extra, and slow to import

    labels = Labels(arm.row for arm in found.arms)
    figures: dict[str, tuple[Sequence[tuple[str, Any]], Callable[[Axes, Any], None]]] = {
        "accuracy_by_ipc": (_by_ipc(found, labels), _draw_sizes),
        "gain_over_random": (_gains(found, labels), _draw_gains),
        "accuracy_by_student": (_students(found, labels), _draw_matrix),
        "accuracy_by_cost": (_by_cost(found, labels), _draw_costs),
    }
    written = []
    with matplotlib.rc_context(STYLE):
        for name, (panels, drawn) in figures.items():
            if panels:
                figure = _figure(panels, drawn)
                written += [_saved(figure, folder / f"{name}.{kind}", kind) for kind in KINDS]
    return written


def _figure(panels: Sequence[tuple[str, Any]], drawn: Callable[[Axes, Any], None]) -> Figure:
    from matplotlib.figure import Figure

    across = min(ABREAST, len(panels))
    down = -(-len(panels) // across)
    figure = Figure((INCHES[0] * across, INCHES[1] * down), layout="constrained")
    places = figure.subplots(down, across, squeeze=False).ravel()
    for place, (title, content) in zip(places, panels, strict=False):
        place.set_title(harmless(title), fontsize=9)
        drawn(place, content)
    for place in places[len(panels) :]:
        place.axis("off")
    figure.draw_without_rendering()  # laid out once, not for each kind of file
    figure.set_layout_engine("none")
    return figure


def _saved(figure: Figure, path: Path, kind: str) -> Path:
    with replacing(path) as part:
        figure.savefig(part, format=kind, dpi=200, metadata=UNDATED[kind])
    return path


def _compared(found: Comparison) -> list[Arm]:
    return [arm for group in found.groups for arm in group.arms]


def _panels(arms: Sequence[Arm], title: Callable[[Row], str]) -> list[Panel]:
    """Arms in the order of their sizes, a panel for each title."""
    alike: dict[str, list[Arm]] = {}
    for arm in sorted(arms, key=lambda arm: by_size(arm.row)):
        alike.setdefault(title(arm.row), []).append(arm)
    return list(alike.items())


def _by_ipc(found: Comparison, labels: Labels) -> list[Panel]:
    """A panel for each data set and setting that has several sizes."""
    arms = [arm for arm in _compared(found) if arm.row["ipc"] is not None]
    panels = _panels(arms, lambda row: f"{labels.of(row, 'data')}: {labels.setting(row)}")
    whole = {
        (setting_of(arm.row)[:2], arm.row["data"], arm.row.get("data_hash")): arm
        for arm in found.arms
        if arm.row["method"] == WHOLE
    }
    some = [(title, own) for title, own in panels if len({arm.row["ipc"] for arm in own}) > 1]
    keys = [(setting_of(own[0].row)[:2], own[0].row["data"], own[0].row.get("data_hash")) for _, own in some]
    return [(title, own + ([whole[key]] if key in whole else [])) for (title, own), key in zip(some, keys, strict=True)]


def _draw_sizes(place: Axes, arms: Sequence[Arm]) -> None:
    lines: dict[str, list[Row]] = {}
    for arm in arms:
        lines.setdefault(arm.name, []).append(arm.row)
    for name, rows in lines.items():
        if rows[0]["method"] == WHOLE:
            place.axhline(100 * rows[0]["mean"], color="grey", linestyle=":", label=harmless(name))
            continue
        halves = [100 * (row["ci95"] or 0.0) for row in rows]
        place.errorbar(
            [row["ipc"] for row in rows], [100 * row["mean"] for row in rows], halves, marker="o", markersize=3, capsize=2,
            label=harmless(name),
        )  # fmt: skip
    place.set_xscale("log")
    sizes = sorted({row["ipc"] for rows in lines.values() for row in rows if row["ipc"] is not None})
    place.set_xticks(sizes, [f"{each:g}" for each in sizes])
    place.minorticks_off()
    place.set(xlabel="images per class", ylabel="accuracy, %")
    _legend(place)


def _legend(place: Axes) -> None:
    place.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))


def _gains(found: Comparison, labels: Labels) -> list[tuple[str, list[Contrast]]]:
    alike: dict[str, list[Contrast]] = {}
    for each in found.contrasts:
        if each.against == "random":
            alike.setdefault(f"{labels.column(each.ours.row)}: {labels.setting(each.ours.row)}", []).append(each)
    return list(alike.items())


def _draw_gains(place: Axes, contrasts: Sequence[Contrast]) -> None:
    ordered = sorted(contrasts, key=lambda each: each.found.mean)
    for height, each in enumerate(ordered):
        gap = each.found
        if gap.low is not None and gap.high is not None:
            place.plot([100 * gap.low, 100 * gap.high], [height, height], color="C0", linewidth=1.5)
        place.plot(100 * gap.mean, height, "o", color="C0", fillstyle="full" if each.separates else "none")
    place.axvline(0, color="grey", linewidth=0.8)
    place.set_yticks(range(len(ordered)), [harmless(each.ours.name) for each in ordered])
    place.set_ylim(-0.5, len(ordered) - 0.5)
    place.set_xlabel("points over random real images; filled: p (Holm) < 0.05")


def _students(
    found: Comparison, labels: Labels
) -> list[tuple[str, tuple[list[str], list[str], dict[tuple[str, str], float]]]]:
    """Methods and students of a panel, and accuracies in % by both."""
    found_panels = []
    arms = _compared(found)
    for title, own in _panels(
        arms, lambda row: f"{labels.column(row)}: {labels.of(row, 'protocol')}, {row['labels']} labels"
    ):
        methods = list(dict.fromkeys(arm.name for arm in own))
        students = list(dict.fromkeys(labels.of(arm.row, "student") for arm in own))
        values = {(arm.name, labels.of(arm.row, "student")): 100 * arm.row["mean"] for arm in own}
        if len(students) > 1:
            found_panels.append((title, (methods, students, values)))
    return found_panels


def _draw_matrix(place: Axes, matrix: tuple[list[str], list[str], dict[tuple[str, str], float]]) -> None:
    methods, students, values = matrix
    shades = [[values.get((method, student), float("nan")) for student in students] for method in methods]
    place.imshow(shades, cmap="Blues", aspect="auto")
    middle = (min(values.values()) + max(values.values())) / 2
    for i, method in enumerate(methods):
        for j, student in enumerate(students):
            value = values.get((method, student))
            text, dark = ("–", False) if value is None else (f"{value:.1f}", value > middle)
            place.text(j, i, text, ha="center", va="center", color="white" if dark else "black", fontsize=8)
    place.set_xticks(range(len(students)), map(harmless, students))
    place.set_yticks(range(len(methods)), map(harmless, methods))


def _seconds(row: Row) -> float:
    """Making a set and training one student on it, choices and tests shared among all of them."""
    return float(row.get("synthesis_seconds") or 0.0) + row["seconds"] / (row["syntheses"] * row["students"])


def _by_cost(found: Comparison, labels: Labels) -> list[Panel]:
    arms = [arm for arm in _compared(found) if _seconds(arm.row) > 0]  # a clock may have gone back
    return [
        (title, own)
        for title, own in _panels(arms, lambda row: f"{labels.column(row)}: {labels.setting(row)}")
        if own[1:]
    ]


def _draw_costs(place: Axes, arms: Sequence[Arm]) -> None:
    from matplotlib.ticker import LogLocator

    for arm in arms:
        half = 100 * (arm.row["ci95"] or 0.0)
        place.errorbar(_seconds(arm.row), 100 * arm.row["mean"], half, marker="o", capsize=2, label=harmless(arm.name))
    place.set_xscale("log")
    place.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    place.xaxis.set_major_formatter("{x:g}")
    place.minorticks_off()
    place.set(xlabel="seconds: a set, where its file tells, and a student", ylabel="accuracy, %")
    _legend(place)
