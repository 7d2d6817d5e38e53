"""What a comparison leaves on a disk: tables, figures, a summary for programs, BibTeX."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.comparison import markup
from distill.comparison.arms import Comparison, Contrast
from distill.comparison.charts import draw
from distill.comparison.citations import bibtex
from distill.comparison.forms import Form, forms
from distill.comparison.overall import overall
from distill.comparison.verdicts import verdict
from distill.files import replacing, write_json
from distill.report.rows import Row

KEPT = (
    "method", "data", "ipc", "student", "protocol", "labels", "selection", "mean", "ci95", "syntheses", "students",
    "sd_synthesis", "sd_student", "published",
)  # fmt: skip


def write(found: Comparison, folder: Path) -> list[Path]:
    """Write ``tables.md``, ``tables.html``, each table as ``.tex`` and ``.csv``, ``summary.json``, ``methods.bib`` and figures.

    Raises:
        ImportError: matplotlib is missing; all but the figures is there.
    """
    cited = {"methods.bib": bibtex(arm.row["method"] for arm in found.arms)}
    return [
        *write_tables([*forms(found), *overall(found)], summary(found), folder, cited),
        *draw(found, folder / "figures"),
    ]


def write_tables(tables: Sequence[Form], summary: Any, folder: Path, more: Mapping[str, str]) -> list[Path]:
    """Write tables as Markdown, HTML, LaTeX and CSV, ``summary`` as JSON, and ``more`` texts by their names."""
    texts = {"tables.md": markup.markdown(tables), "tables.html": markup.page(tables)}
    texts |= {f"tables/{form.name}.tex": markup.latex(form) for form in tables}
    texts |= {f"tables/{form.name}.csv": markup.sheet(form) for form in tables} | dict(more)
    for name, text in texts.items():
        with replacing(folder / name) as part:
            part.write_text(text, encoding="utf-8")
    write_json(folder / "summary.json", summary)
    return [*(folder / name for name in texts), folder / "summary.json"]


def summary(found: Comparison) -> list[dict[str, Any]]:
    """Each row under its name: its numbers, its contrasts with random and with the best, its verdict."""
    return [
        {
            **{"name": arm.name, **{key: arm.row.get(key) for key in KEPT}},
            **{against: _told(arm.row, against, found.contrasts) for against in ("random", "best")},
            "verdict": _verdict(arm.row),
        }
        for arm in found.arms
    ]


def _told(row: Row, against: str, contrasts: Iterable[Contrast]) -> dict[str, Any] | None:
    """The contrast with random, or with the best, in which the row is the first."""
    each = next((each for each in contrasts if each.ours.row is row and each.against == against), None)
    if each is None:
        return None
    gap = each.found
    permuted, least = each.permutation
    ps = {"p": gap.p, "p_holm": each.p_holm, "p_permutation": permuted, "least_p": least}
    runs = {"runs_for_this_gap": each.runs_for_this, "runs_for_half_a_point": each.runs_for_half_a_point}
    span = {"difference": gap.mean, "low": gap.low, "high": gap.high, "paired": each.paired}
    return {"name": each.other.name, "mean": each.other.row["mean"], **span, **ps, **runs}


def _verdict(row: Row) -> dict[str, Any] | None:
    known = verdict(row)
    if known is None:
        return None
    return {"verdict": known.word, "why": known.why, "difference": known.difference, "changes": list(known.changes)}
