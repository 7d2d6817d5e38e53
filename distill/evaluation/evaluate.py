"""Train fresh students on a set under a protocol and report their accuracy on the test split.

Choices (rate, epochs, snapshot) are made on the validation split. The test split is read once for each student, after
its last epoch. Where a protocol reproduces a paper that reported its best on test, three rows tell what that is worth: the
last set (``last``), the largest of the means that were measured (``maximum``, the paper's figure), and the set that it
belongs to, measured anew with fresh students (``test``); the last two are marked.
"""

from collections.abc import Mapping
from dataclasses import replace

from distill.data.real import RealData
from distill.data.split import Split
from distill.evaluation.entry import Entry, Network, planned
from distill.evaluation.kept import Kept
from distill.evaluation.measure import Bench, Measurement
from distill.evaluation.planned import Planned, make_rows
from distill.evaluation.protocol import Protocol
from distill.evaluation.rehearsal import check_protocol
from distill.report.rows import Report, Row
from distill.report.unfinished import Unfinished
from distill.sets.base import TrainingSet
from distill.wording import difference


def evaluate(
    entry: Entry,
    real: RealData,
    students: Mapping[str, Network],
    protocol: Protocol,
    report: Report,
    bench: Bench | None = None,
) -> Report:
    """Add one row for every student network, kind of labels and selection.

    Args:
        students: by name; the first is the one whose published number is known.
        report: gets the rows; what it already holds is not trained again, and what another process is just making for it
            is left to that process.

    Raises:
        ValueError: a set lives in another space, has other classes or another image size than the real images.
    """
    bench = bench or Bench()
    for each in entry.sets:
        check_fits(each, real.train if bench.source is None else bench.source.split)
    device = real.train.labels.device
    entry = replace(entry, sets=[each.to(device) for each in entry.sets])
    sized, rows = plan(entry, real, students, protocol, bench)
    files = {Report.name(each.row): kept(each, bench, students, real) for each in rows}

    def measure(each: Planned, unfinished: Unfinished, best: Row | None) -> Row:
        own = files[Report.name(each.row)]
        run = Measurement(real, students[each.student].make, bench, unfinished, each.text, own)
        steps = best["chosen"].get("step") if best else None
        return run.measure(entry.sets, entry.chosen_among, sized.with_(labels=each.labels), each.selection, steps)

    def is_whole(each: Planned) -> bool:
        own = files[Report.name(each.row)]
        return own is None or all(path.exists() for path in own.paths(len(entry.sets), sized.students))

    make_rows(report, rows, measure, is_whole)
    return report


def kept(row: Planned, bench: Bench, students: Mapping[str, Network], real: RealData) -> Kept | None:
    """Where the students of a row are kept; those of a maximum are the best of several sets' and are not."""
    if bench.keep is None or row.selection == "maximum":
        return None
    return Kept.of(bench.keep, row.row, students[row.student].config, real.train)


def plan(
    entry: Entry, real: RealData, students: Mapping[str, Network], protocol: Protocol, bench: Bench
) -> tuple[Protocol, list[Planned]]:
    """The protocol for sets of this size, and the rows that there will be.

    Raises:
        ValueError: see `distill.evaluation.rehearsal.check_protocol`.
    """
    images = protocol.trained_on(len(entry.sets[0].decoded), len(real.train))
    sized = check_protocol(protocol, real, images, bool(entry.chosen_among))
    return sized, planned(entry, real, students, protocol, sized, bench)


def check_fits(data: TrainingSet, real: Split) -> None:
    """Raise ValueError if a set lives in another space than the real images, or has other classes or another image size."""
    if data.preprocessing.fingerprint != real.preprocessing.fingerprint:
        raise ValueError(
            f"the synthetic set lives in {data.preprocessing}, the real images in {real.preprocessing}: "
            "load the real set with prepare=synset.preprocessing"
        )
    if data.class_names != real.class_names:
        found = difference(data.class_names, real.class_names)
        raise ValueError(f"the classes of the synthetic set (there) are not those of the real set (here): {found}")
    if tuple(data.images.shape[1:]) != real.shape:
        raise ValueError(f"synthetic images are {tuple(data.images.shape[1:])}, real ones {real.shape}")
