"""The rows of finished runs side by side: for Python, and for task=compare on the terminal and as files."""

import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from rich.text import Text

from distill.comparison.arms import Comparison
from distill.comparison.forms import Form, contrasts, main
from distill.comparison.written import write
from distill.report.gains import ACCURACY, TRANSFER, metric_of
from distill.report.rows import Report
from distill.runs.judging import reports_below, reports_of
from distill.text import harmless

FOLDER = "comparison"  # below out


def compare(reports: Report | str | Path | Sequence[Report | str | Path], out: str | Path | None = None) -> Comparison:
    """Rows side by side, where they were judged alike: each against random real images and against the best.

    Args:
        reports: of `evaluate`, or folders that runs wrote; `*` in a folder stands for several.
        out: gets tables, figures and BibTeX; None writes nothing.

    Raises:
        ValueError: a folder has no rows; or matplotlib is missing, of which ``out`` lacks the figures.

    Examples:
        >>> import tempfile
        >>> from distill.api import evaluate, load_data, make
        >>> settings = {"draws": 2, "epochs": 1, "protocol.students": 1, "convnet.width": 4}
        >>> real, out = load_data(), tempfile.mkdtemp()
        >>> synset = make("random", real, ipc=1, out=out)
        >>> report = evaluate(synset, real, protocol="dsa", out=out, **settings)  # doctest: +ELLIPSIS +NORMALIZE_WHITESPACE
        Accuracy on the test split, % ...
        >>> [(each.ours.name, each.other.name) for each in compare(report).contrasts]
        [('random', 'random real')]
    """
    given = [reports] if isinstance(reports, Report | str | Path) else list(reports)
    there = [each for each in given if isinstance(each, Report)]
    paths = reports_below([str(each) for each in given if not isinstance(each, Report)])
    found = of([*there, *map(Report, paths)])
    if out is not None:
        _write(found, Path(out))
    return found


def report(cfg: DictConfig) -> list[Path]:
    """task=compare: compare the rows of ``runs``, or of ``out`` alone, and write what that gives below ``out``."""
    found = of(list(map(Report, reports_of(cfg))))
    show([*main(found), *contrasts(found)])
    return _write(found, Path(cfg.out) / FOLDER)


def of(reports: Sequence[Report]) -> Comparison:
    """Their accuracies; rows under conditions, as accuracy under an attack, are of the same students and left out."""
    return Comparison.of(row for report in reports for row in report.rows if metric_of(row) in (ACCURACY, TRANSFER))


def _write(found: Comparison, folder: Path) -> list[Path]:
    """The files of a comparison; without matplotlib all but its figures, which is told."""
    try:
        return write(found, folder)
    except ImportError as error:
        raise ValueError(
            f"{folder} has all but the figures, which need matplotlib ({error}): pip install matplotlib"
        ) from None


def show(forms: Sequence[Form]) -> None:
    """Tables for people at a terminal."""
    console = Console(width=None if sys.stdout.isatty() else 1000)
    for form in forms:
        console.print(_table(form))


def _table(form: Form) -> Table:
    whole = Table(title=Text(harmless(form.title)), caption=Text("\n".join(form.notes)), caption_justify="left")
    for name in form.columns:
        whole.add_column(harmless(name), overflow="fold")
    for row in form.rows:
        texts = [f"{harmless(cell.text)}{cell.mark}" + (f" ({cell.runs})" if cell.runs else "") for cell in row]
        styles = ["bold" * cell.bold + "dim italic" * cell.grey for cell in row]
        whole.add_row(*map(Text, texts, styles))
    return whole
