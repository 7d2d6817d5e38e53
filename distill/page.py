"""The report as one self-contained page: table, intervals, pictures, curves, configurations and commands."""

import base64
import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import torchvision
import yaml
from matplotlib.figure import Figure
from torch import Tensor

from distill.files import replacing
from distill.report import COLUMNS, LEGEND, RANDOM, TEXT, WHOLE, Report, Row, cells, gap_to_published, write_csv
from distill.synset import SyntheticSet, load
from distill.text import harmless, shown

matplotlib.use("agg")
MOST_PICTURES = 10  # of a class


# Colours that carry on white and on near-black; text and axes take the page's own colour.
ACCENT, MUTED, PUBLISHED, INK = "#3b82c4", "#8a8f98", "#d9730d", "#010203"
STYLE: Any = {
    **dict.fromkeys(["text.color", "xtick.color", "ytick.color", "axes.labelcolor", "axes.edgecolor"], INK),
    "svg.fonttype": "none",
    "font.size": 9,
}


@dataclass(frozen=True)
class Made:
    """A synthetic set that rows are about, as its folder shows it."""

    path: Path

    @cached_property
    def synset(self) -> SyntheticSet:
        """The set."""
        return load(self.path)

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.path.parent.name

    @property
    def config(self) -> str:
        """What it was made with, as YAML; empty if the file does not tell."""
        config = self.synset.record.get("config")
        return yaml.safe_dump(config, sort_keys=False, allow_unicode=True) if config else ""

    @property
    def facts(self) -> dict[str, Any]:
        """What a reader wants to know first."""
        record, rate = self.synset.record, self.synset.lr
        return {
            "method": record.get("method", "unknown"),
            "outer steps": f"{record.get('step', 'unknown')}, of which {record.get('skipped_steps', 0)} skipped",
            "labels": self.synset.label_kind,
            "learned student rate": "none" if rate is None else f"{float(rate):.4g}",
            "space": self.synset.preprocessing.space,
            "seed": record.get("seed", "unknown"),
            "hash": self.synset.hash,
        }

    @property
    def pictures(self) -> list[tuple[str, list[str]]]:
        """(class name, its first images as data URIs); whitening undone and clipped to what a screen can show."""
        pixels, classes = self.synset.pixels, self.synset.classes
        return [
            (name, [_png(image) for image in pixels[classes == k][:MOST_PICTURES]])
            for k, name in enumerate(self.synset.class_names)
        ]

    @property
    def metrics(self) -> list[dict[str, float]]:
        """What was logged, by outer step; of a step that a continued run repeated, the later."""
        steps: dict[int, dict[str, float]] = {}
        for file in sorted(
            self.path.parent.glob("metrics/version_*/metrics.csv"), key=lambda f: int(f.parent.name[8:])
        ):
            whole = file.read_text().rpartition("\n")[0]  # a kill may leave half a line
            for line in csv.DictReader(whole.splitlines()):
                found = {name: float(value) for name, value in line.items() if value}
                steps.setdefault(int(found["step"]), {}).update(found)
        return [steps[step] for step in sorted(steps)]


def write_page(report: Report, runs: Sequence[Report], command: str) -> list[Path]:
    """Write ``report.csv`` and ``report.html`` beside ``report.json``.

    Args:
        report: whose folder gets the files.
        runs: whose rows they hold, usually ``report`` alone.
        command: the one that the reader can repeat.

    Returns:
        The two paths.
    """
    several = len(runs) > 1
    rows = [{"run": run.path.parent.name, **row} if several else row for run in runs for row in run.rows]
    sets = {path: None for run in runs for row in run.rows for path in made(run, row)}
    template = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        files("distill").joinpath("page.html").read_text(encoding="utf-8")
    )
    columns = (*(("run",) if several else ()), *COLUMNS)
    page = template.render(
        title="distill: "
        + ", ".join(
            dict.fromkeys(f"{row['method']} on {row['data']}" for row in rows if row["method"] not in (RANDOM, WHOLE))
        ),
        written=datetime.now().strftime("%Y-%m-%d %H:%M"),
        columns=columns,
        text=("run", *TEXT),
        rows=[({"run": row.get("run", ""), **cells(row)}, row) for row in rows],
        legend=LEGEND,
        accuracies=accuracy_figure(rows),
        made=[(each := Made(path), curves(each.metrics)) for path in sets],
        most=MOST_PICTURES,
        command=command,
        commands=list(dict.fromkeys(row["command"] for row in rows if row["command"])),
    )
    paths = [report.path.with_suffix(suffix) for suffix in (".csv", ".html")]
    write_csv(paths[0], rows)
    with replacing(paths[1]) as part:
        part.write_text(harmless(page, lines=True), encoding="utf-8")
    return paths


def made(run: Report, row: Row) -> list[Path]:
    """The files of the synthetic sets that a row is about, as far as they are still there; one path for each file."""
    return [path for name in row.get("synsets", []) if (path := (run.path.parent / name).resolve()).is_file()]


@matplotlib.rc_context(STYLE)
def accuracy_figure(rows: Sequence[Row]) -> str:
    """Every row's accuracy with its interval, as SVG: random real images hollow, the whole set as a line."""
    names = list(dict.fromkeys(row["data"] for row in rows))
    groups = {name: [row for row in rows if row["data"] == name and row["ipc"] is not None] for name in names}
    groups = {name: group for name, group in groups.items() if group}
    heights = [len(group) for group in groups.values()]
    if not heights:
        return ""
    figure = Figure(figsize=(8, 0.8 * len(heights) + 0.28 * sum(heights)), layout="constrained")
    axes = figure.subplots(len(heights), squeeze=False, height_ratios=[h + 1.5 for h in heights])[:, 0]
    for axis, (name, group) in zip(axes, groups.items(), strict=True):
        group = sorted(group, key=lambda row: (row["ipc"], row["method"] != RANDOM))
        for y, row in enumerate(group):
            drawn = dict(color=MUTED, markerfacecolor="none") if row["method"] == RANDOM else dict(color=ACCENT)
            error = None if row["ci95"] is None else 100 * row["ci95"]
            axis.errorbar(100 * row["mean"], y, xerr=error, fmt="o", markersize=5, capsize=3, **drawn)
            if gap_to_published(row) is not None:
                axis.plot(100 * row["mean"] - gap_to_published(row), y, "|", color=PUBLISHED, markersize=12)
        whole = [100 * row["mean"] for row in rows if row["data"] == name and row["method"] == WHOLE]
        for each in whole:
            axis.axvline(each, color=MUTED, linestyle="--", linewidth=1)
        axis.set_yticks(range(len(group)), [shown(label(row)) for row in group], parse_math=False)
        left, right = axis.get_xlim()
        axis.set_xlim(max(0.0, left), min(101.0, right))
        axis.set_ylim(len(group) - 0.4, -0.6)
        axis.set_title(
            shown(name) + (", dashed: whole set" if whole else ""), loc="left", fontsize=10, parse_math=False
        )
        _quiet(axis)
    axes[-1].set_xlabel("accuracy on the test split, %")
    return _svg(figure, "accuracy with 95 % intervals")


def label(row: Row) -> str:
    """What tells a row from the others of its data set."""
    run = f"{row['run']}: " if "run" in row else ""
    return f"{run}{row['method']}, ipc {row.get('ipc_range') or row['ipc']}, {row['student']}, {row['labels']} labels"


@matplotlib.rc_context(STYLE)
def curves(metrics: Sequence[Mapping[str, float]]) -> str:
    """Matching loss and learned student rate over the outer steps, as SVG."""
    shown = {"matching_loss": "matching loss", "student_rate": "learned student rate"}
    shown = {name: label for name, label in shown.items() if any(name in row for row in metrics)}
    if not shown:
        return ""
    figure = Figure(figsize=(8, 2.4), layout="constrained")
    for axis, (name, label) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown.items(), strict=True):
        points = [(row["step"], row[name]) for row in metrics if math.isfinite(row.get(name, math.nan))]
        steps, values = zip(*points, strict=True) if points else ((), ())
        # The loss depends on the start epoch: a running mean shows its way.
        noisy = name == "matching_loss" and len(values) > 50
        axis.plot(steps, values, color=ACCENT, linewidth=1, alpha=0.45 if noisy else 1)
        if noisy:
            width = max(5, len(values) // 25)
            means = [sum(values[max(0, i - width + 1) : i + 1]) / min(i + 1, width) for i in range(len(values))]
            axis.plot(steps, means, color=ACCENT, linewidth=1.8)
        axis.set_title(label, loc="left", fontsize=10)
        axis.set_xlabel("outer step")
        _quiet(axis)
    return _svg(figure, "matching loss and learned student rate over the outer steps")


def _quiet(axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8, colors=INK)
    axis.grid(axis="x", color=MUTED, alpha=0.25, linewidth=0.6)


def _svg(figure: Figure, description: str) -> str:
    text = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": description}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    return svg.replace("<svg", f'<svg role="img" aria-label="{description}"', 1)


def _png(image: Tensor) -> str:
    file = io.BytesIO()
    torchvision.utils.save_image(image, file, format="png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
