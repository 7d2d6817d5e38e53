"""Results from finished runs, and cells that are run again beside them."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.comparison.forms import accuracy
from distill.comparison.results import RESULTS, Result, find
from distill.comparison.results import results as kept
from distill.comparison.verdicts import Verdict, repeated, verdict
from distill.places import SILENT, name_of, without_places, words_of
from distill.presets import options, unknown
from distill.report.rows import Report, Row
from distill.runs import judging
from distill.runs.composed import compose, literal
from distill.runs.line import Line
from distill.runs.pipeline import carry_out
from distill.runs.recorded import stated
from distill.sets.reading import load
from distill.sets.synthetic import SyntheticSet
from distill.text import check_name, signed

MOST_BYTES = 1_000_000  # of a set's file that is kept beside the rows

NOISE = {"seed", "syntheses", "draws", "baselines"}  # what moves it by chance alone, and what stands beside it


def add(
    out: Path,
    results: Path,
    cell: str | None = None,
    ipc: Any = None,
    hardware: str | None = None,
    mark: str | None = None,
    deviations: Sequence[str] = (),
) -> list[Path]:
    """Keep the rows of a finished run, and its sets where they are small, as the result of a cell.

    Args:
        out: where the run wrote.
        results: folder of results; gets ``<cell>.json`` and, for its sets, ``<cell>/seed<seed>.safetensors``, in place of
            those of before.
        cell: name; None is that of the run's ``experiment=``.
        ipc: whose rows, where the run has several sizes.
        hardware: of sets and students; None is what the students' row tells.
        mark: why the number is not one of this version.
        deviations: from the published cell, beside those that the row tells.

    Raises:
        ValueError: there are no such rows, or several; or the sets are not those that they judged.
    """
    rows = rows_of(Report(out / "report.json"), out, ipc)
    words = {name_of(word): word for word in words_of(rows[0]["command"])}
    words |= {} if ipc is None else {"ipc": f"ipc={literal(ipc)}"}
    name = cell or stated(list(words.values())).get("experiment")
    if name is None:
        raise ValueError("cell is missing: name the result, cell=NAME, as its run has no experiment=")
    check_name("cell", name)
    sets = made_by(rows[0], out)
    for former in (results / name).glob("seed*.*"):
        former.unlink()
    record = Result(
        cell=name,
        command=shlex.join(["distill", *words.values()]),
        date=max(row["written"] for row in rows)[:10],
        hardware=hardware or str(rows[0].get("device", "not recorded")),
        mark=mark,
        deviations=[*(rows[0].get("cell_changes") or ()), *deviations],
        rows=[{**row, "command": shlex.join(["distill", *words_of(row["command"])]), "synsets": []} for row in rows],
        sets=[keep(synset, results / name, size) for synset, size in sets],
    )
    return [record.write(results), *(results / each["file"] for each in record.sets if each["file"])]


def rows_of(report: Report, out: Path, ipc: Any = None) -> list[Row]:
    """A method's row, that beside the published number where there is one; then the others of its size."""
    methods = [row for row in report.rows if ipc in (None, row["ipc"]) and row["method"] == method_of(row, out)]
    kinds = list(dict.fromkeys(f"{row['method']} ipc={row['ipc']}" for row in methods))
    if len(kinds) != 1:
        which = (
            f"of several, {', '.join(kinds)}: name a size with ipc=N"
            if kinds
            else "none: name the out of a finished run"
        )
        raise ValueError(f"rows of a method in {out}: {which}")
    first = next((row for row in methods if row.get("published")), methods[0])
    return [first, *(row for row in report.rows if row is not first and row["ipc"] in (None, first["ipc"]))]


def method_of(row: Row, out: Path) -> str:
    """Of the run that measured the row; baselines have rows of other names."""
    words = words_of(row["command"])
    if given := {"synset", "union"} & stated(words).keys():
        raise ValueError(
            f"the rows in {out} are of {given.pop()}=..., which no command makes: go on with the words that made the sets, the "
            "same out and no task; nothing is made again"
        )
    return str(compose(*words).choices["method"])


def made_by(row: Row, out: Path) -> list[tuple[SyntheticSet, int]]:
    """The sets that a row judged, with the bytes of their files; none of a method that makes none."""
    paths = [out / name for name in row.get("synsets", [])]
    sets = [load(path) for path in paths]
    if sets and ",".join(each.hash for each in sets) != row.get("synset_hash"):
        raise ValueError(f"the sets in {out} are not those that its row judged: run the same command again")
    return [(synset, path.stat().st_size) for synset, path in zip(sets, paths, strict=True)]


def keep(synset: SyntheticSet, folder: Path, size: int) -> dict[str, Any]:
    """What a result tells of a set, which is kept in ``folder`` if its file is small, without the places of its maker."""
    record = synset.record
    seed, file = int(record.get("seed", 0)), None
    if size <= MOST_BYTES:
        file = f"{folder.name}/seed{seed}.safetensors"
        synset.with_(record=without_places(record)).save(folder.parent / file)
    return {
        **{"seed": seed, "hash": synset.hash, "file": file, "torch": record.get("versions", {}).get("torch")},
        **{"seconds": record.get("seconds"), "steps": record.get("step")},
    }


@dataclass(frozen=True)
class Again:
    """A cell that is run again.

    Attributes:
        cell: its name.
        former: our result, None where there is none.
        own: words of the one who runs it; they win.
    """

    cell: str
    former: Result | None
    own: Sequence[str]

    @classmethod
    def of(cls, cell: str, own: Sequence[str], folder: Path = RESULTS) -> "Again":
        """Raises ValueError: there is no such cell."""
        known = sorted({*options("experiment"), *(each.cell for each in kept(folder))})
        if cell not in known:
            raise ValueError(unknown("cell", cell, known))
        return cls(cell, find(cell, folder), own)

    @property
    def words(self) -> list[str]:
        """Of the whole run, below ``outputs/<cell>`` unless they say otherwise."""
        made = [f"experiment={self.cell}"] if self.former is None else self.former.words
        words = [f"out=outputs/{self.cell}", *made, *self.own]
        return list({name_of(word): word for word in words}.values())

    @property
    def changes(self) -> list[str]:
        """What is otherwise than in our run and moves the number that is to be expected."""
        before = [] if self.former is None else self.former.words
        return [word for word in self.own if name_of(word) not in SILENT | NOISE and word not in before]

    def carry_out(self, line: Line) -> Row:
        """Run it, or find it; its row."""
        done = carry_out(line.run, line.real)
        found = [row for row in judging.found(done, Report(done.out / "report.json")) if row is not None]
        return next((row for row in found if row.get("published")), found[0])

    def verdicts(self, row: Row) -> dict[str, Verdict]:
        """How the row stands to the published number, and to ours, as far as there are such."""
        papers, found = verdict(row), dict[str, Verdict]()
        if papers is not None:
            found[f"published {row['published']}"] = papers
        if self.former is not None:
            name = f"our {accuracy(self.former.row).text} of {self.former.date}"
            found[name] = repeated(row, self.former.row, self.changes)
        return found


def told(cell: str, row: Row, verdicts: Mapping[str, Verdict]) -> str:
    """A run's number beside others, in one line."""
    ours = accuracy(row)
    parts = [f"{cell}: {ours.text} ({ours.runs})"]
    for name, found in verdicts.items():
        more = [found.why, f"otherwise: {', '.join(found.changes)}" if found.changes else ""]
        parts.append(", ".join([f"{name}: {found.word} ({signed(found.difference)})", *filter(None, more)]))
    return "; ".join(parts if verdicts else [*parts, "nothing to compare it with"])
