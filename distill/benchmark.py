"""Suites from Python; `distill` exports `run_suite`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.comparison.forms import Form
from distill.data.real import RealData
from distill.evaluation.evaluate import check_fits
from distill.runs.comparing import show
from distill.runs.composed import overrides
from distill.runs.explained import words_explained
from distill.runs.foreseen import check_room
from distill.runs.recorded import stated
from distill.runs.suited import run_of
from distill.sets.synthetic import SyntheticSet


@dataclass(frozen=True)
class Scored:
    """What a suite came to.

    Attributes:
        scores: of each method and size a dictionary: its scores as fractions, and their ``intervals``.
        failed: reasons of cells that failed, by name.
        tables: as they are printed.
        paths: of the files that were written.
    """

    scores: list[dict[str, Any]]
    failed: dict[str, str]
    tables: list[Form]
    paths: list[Path]


def run_suite(
    suite: str,
    synsets: SyntheticSet | Sequence[SyntheticSet],
    real: RealData,
    *,
    out: str | Path = "outputs",
    **words: Any,
) -> Scored:
    """Sets judged by all cells of a suite, beside random images of their sizes; rows that ``out`` has are not measured again.

    Args:
        suite: one of ``configs/suite``: ``dc-bench``, ``ddranking``, ``labels``, ``rth``.
        synsets: of any methods and sizes; several of one method and size are its syntheses.
        real: the images that tell; in the sets' space.
        words: as on the command line: ``method=["kmeans"]``, ``draws=5``, ``**{"suite.students": ["mlp"]}``.

    Raises:
        ValueError: a name or a value is unknown or impossible here, or a set does not fit; nothing was trained.

    Examples:
        >>> import tempfile, distill as dd
        >>> real, out = dd.load_data(), tempfile.mkdtemp()
        >>> synset = dd.make("dm", real, ipc=1, steps=2, out=out)
        >>> short = {"suite.augmentations": {"none": "dcb-none"}, "suite.beside": {}, "suite.transfer": ["mlp"], "draws": 1}
        >>> short |= {"protocol.students": 1, "protocol.recipe.epochs": 1}
        >>> found = dd.run_suite("dc-bench", synset, real, out=out, **short)  # doctest: +ELLIPSIS +NORMALIZE_WHITESPACE
        dc-bench, % ...
        >>> [each["method"] for each in found.scores], found.failed
        (['random', 'dm'], {})
    """
    if not real.stated:
        raise ValueError("these real images were put together by hand: take those of distill.load_data")
    sets, paths = [synsets] if isinstance(synsets, SyntheticSet | str) else list(synsets), []
    for synset in sets:
        if not isinstance(synset, SyntheticSet):
            raise ValueError(f"{synset!r} is no set: give those of make or load, or method=['kmeans']")
        check_fits(synset, real.train)
    for synset in sets:
        paths.append(synset.path or Path(out) / "sets" / synset.hash / "synset.safetensors")
        if synset.path is None:
            synset.save(paths[-1])
    own = {"suite": suite, "synset": [str(path) for path in paths], "out": str(out), **words}
    arguments = [*real.stated, *overrides("", own)]
    with words_explained(arguments):
        run = run_of(stated(arguments))
        run.reals |= dict.fromkeys(run.made, real)
        run.check()
        check_room(run)
        run.go()
        tables, scores, written = run.finish()
    show(tables)
    return Scored(scores, run.failed, tables, written)
