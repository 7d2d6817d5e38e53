"""Tables of a comparison, before any markup: methods by size, by student, tests, ranks, costs, reproductions."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from distill.comparison.arms import Arm, Comparison, cell_of, setting_of
from distill.comparison.pivots import Labels, by_size, pivots, place, size
from distill.comparison.verdicts import verdict
from distill.report.differences import agreement
from distill.report.rows import PEAKED, Row
from distill.report.table import MARKS
from distill.text import signed

MISSING = "–"
ENOUGH = 3  # methods that make a ranking
HOW = (
    "± half-width of the 95 % interval of the mean, over R syntheses; where R = 1 over its students alone. RxS: runs.",
    "Bold: the best, and all that no test separates from it (5 %, Holm over all tests of the comparison).",
    "– is missing, and enters no mean.",
)
PRINTED = "Grey: published and not run here, ± a standard deviation; no part of any test."
PICKED = "† ‡ chosen on the test split: the paper's figure, or that snapshot with fresh students; not compared."


@dataclass(frozen=True)
class Cell:
    """What stands in one place of a table; grey is not ours, and the link is of a page in Markdown alone."""

    text: str = MISSING
    runs: str = ""
    mark: str = ""
    bold: bool = False
    grey: bool = False
    link: str = ""


@dataclass(frozen=True)
class Form:
    """A table.

    Attributes:
        name: of its files.
        notes: what stands below it.
        families: whether a first cell that is not empty begins a part of its own.
    """

    name: str
    title: str
    columns: list[str]
    rows: list[list[Cell]]
    notes: list[str] = field(default_factory=list)
    families: bool = False


def accuracy(row: Row, leading: Iterable[int] = ()) -> Cell:
    """``46.1 ± 0.6``, in %."""
    half = "" if row["ci95"] is None else f" ± {100 * row['ci95']:.1f}"
    runs = f"{row['syntheses']}x{row['students']}"
    return Cell(f"{100 * row['mean']:.1f}{half}", runs, MARKS.get(row["selection"], ""), id(row) in leading)


def plain(*texts: object) -> list[Cell]:
    return [Cell(MISSING if text is None else str(text)) for text in texts]


def notes(rows: Iterable[Row]) -> list[str]:
    return [*HOW, *([PICKED] if any(row["selection"] in PEAKED for row in rows) else [])]


def main(found: Comparison) -> list[Form]:
    """Methods by family, data and sizes, a table for each protocol, student and kind of labels; last the whole set."""
    labels, leading = Labels(arm.row for arm in found.arms), found.leading
    forms = []
    for number, pivot in enumerate(pivots(found), 1):
        body, before = [], ""
        for line in pivot.lines:
            ours = {cell: accuracy(row, leading) for cell, row in line.rows.items()}
            papers = {cell: Cell(number, grey=True) for cell, number in line.published.items()}
            cells = [{**papers, **ours}.get(each, Cell()) for each in pivot.columns]
            body.append([Cell(line.family if line.family != before else ""), Cell(line.name), *cells])
            before = line.family
        single = " (single synthesis)" if pivot.single else ""
        title = f"Accuracy on the test split, %: {labels.setting(pivot.rows[0])}{single}"
        columns = ["family", "method", *map(labels.column, pivot.columns.values())]
        told = [*notes(pivot.rows), *([PRINTED] if any(line.published for line in pivot.lines) else [])]
        forms.append(Form(f"main-{number}", title, columns, body, told, True))
    return forms


def architectures(found: Comparison) -> list[Form]:
    """Methods by student, a table for each data set, size, protocol and kind of labels that several students judged."""
    labels, leading, forms = Labels(arm.row for arm in found.arms), found.leading, list[Form]()
    alike: dict[tuple[str, ...], list[Arm]] = {}
    for arm in sorted((arm for group in found.groups for arm in group.arms), key=lambda arm: by_size(arm.row)):
        protocol, _, kind = setting_of(arm.row)
        alike.setdefault((protocol, kind, *cell_of(arm.row)), []).append(arm)
    for arms in alike.values():
        students = list(dict.fromkeys(labels.of(arm.row, "student") for arm in arms))
        if len(students) < 2:
            continue
        table: dict[str, dict[str, Row]] = {}
        for arm in sorted(arms, key=lambda arm: place(arm.row["method"])):
            table.setdefault(arm.name, {})[labels.of(arm.row, "student")] = arm.row
        body = []
        for name, line in table.items():
            whole = sum(row["mean"] for row in line.values()) / len(students)
            mean = Cell(f"{100 * whole:.1f}") if len(line) == len(students) else Cell()
            body.append(
                [Cell(name), *(accuracy(line[each], leading) if each in line else Cell() for each in students), mean]
            )
        first = arms[0].row
        title = (
            f"Accuracy by student, %: {labels.column(first)}, {labels.of(first, 'protocol')}, {first['labels']} labels"
        )
        told = [*notes(arm.row for arm in arms), *_agreements(table, students)]
        forms.append(Form(f"architectures-{len(forms) + 1}", title, ["method", *students, "mean"], body, told))
    return forms


def _agreements(table: dict[str, dict[str, Row]], students: Sequence[str]) -> Iterable[str]:
    """How alike the first student and each other rank the methods that both judged."""
    for other in students[1:]:
        both = [line for line in table.values() if students[0] in line and other in line]
        if len(both) >= ENOUGH:
            rho, tau = agreement(*([line[each]["mean"] for line in both] for each in (students[0], other)))
            told = f"Spearman {rho:.2f}, Kendall {tau:.2f} ({len(both)} methods)"
            yield f"Rankings of {students[0]} and {other}: {told}."


def contrasts(found: Comparison) -> list[Form]:
    """Every contrast: difference with interval, p, and how many runs would tell."""
    labels = Labels(arm.row for arm in found.arms)
    columns = [
        "students", "data", "method", "less", "difference", "95 % interval", "test", "p", "p (Holm)", "p (permutation)",
        "least", "R for it", "R for 0.5",
    ]  # fmt: skip
    body = []
    for each in found.contrasts:
        gap, row = each.found, each.ours.row
        span = None if gap.low is None or gap.high is None else f"{signed(100 * gap.low)} to {signed(100 * gap.high)}"
        test = None if span is None else "paired t" if each.paired else "Welch"
        ps = [None if p is None else f"{p:.2g}" for p in (gap.p, each.p_holm, *each.permutation)]
        body.append(
            plain(
                labels.setting(row), labels.column(row), each.ours.name, each.other.name, signed(100 * gap.mean), span, test,
                *ps, each.runs_for_this, each.runs_for_half_a_point,
            )
        )  # fmt: skip
    told = [
        "Differences in points: against random real images, then against the best. Paired: synthesis i of both has one seed.",
        f"Holm: over the {sum(each.found.p is not None for each in found.contrasts)} tests of this table.",
        "Permutation: over syntheses; least is the smallest p that so many allow. None of one synthesis: its interval is over "
        "students, and tells these two sets apart, not the methods.",
        "R for it, R for 0.5: syntheses of each that show a gap of this size, or of 0.5 points, in 80 % of cases.",
    ]
    return [Form("tests", "Each method against random and against the best", columns, body, told)] if body else []


def standings(found: Comparison) -> list[Form]:
    """Every arm with its spreads, its rank, and how often that holds."""
    labels = Labels(arm.row for arm in found.arms)
    columns = ["students", "data", "method", "accuracy", "sd of syntheses", "sd of students", "rank", "holds in"]
    body = []
    for group in found.groups:
        for arm in sorted(group.arms, key=lambda arm: -arm.row["mean"]):
            row, (rank, share) = arm.row, group.ranks[arm.name]
            spreads = [
                None if row.get(key) is None else f"{100 * row[key]:.1f}" for key in ("sd_synthesis", "sd_student")
            ]
            holds = None if share is None else f"{100 * share:.0f} %"
            places = plain(labels.setting(row), labels.column(row), arm.name)
            body.append([*places, accuracy(row), *plain(*spreads, f"{rank} of {len(group.arms)}", holds)])
    told = [
        HOW[0],
        "Holds in: share of bootstrap draws in which the method has this rank; of syntheses, where R = 1 of students.",
    ]
    return [Form("ranks", "Ranks", columns, body, told)] if body else []


def costs(found: Comparison) -> list[Form]:
    """What each row took."""
    labels = Labels(arm.row for arm in found.arms)
    columns = [
        "method", "data", "students", "accuracy", "synthesis, s", "synthesis, GB", "students, s", "students, GB", "steps",
        "TFLOP", "images, MB", "labels, MB", "device",
    ]  # fmt: skip
    shown: dict[str, Callable[[float, int], str]] = {
        "synthesis_seconds": lambda value, _: f"{value:.0f}",
        "synthesis_peak_bytes": lambda value, _: f"{value / 1e9:.2f}",
        "seconds": lambda value, _: f"{value:.0f}",
        "peak_bytes": lambda value, _: f"{value / 1e9:.2f}",
        "optimizer_steps": lambda value, _: f"{value:.0f}",
        "operations": lambda value, students: f"{students * value / 1e12:.3g}",
        **dict.fromkeys(("image_bytes", "label_bytes"), lambda value, _: f"{value / 1e6:.3g}"),
    }
    body = []
    for arm in found.arms:
        row = arm.row
        students = row["syntheses"] * row["students"]
        told = [None if row.get(key) is None else show(row[key], students) for key, show in shown.items()]
        places = plain(arm.name, labels.column(row), labels.setting(row))
        body.append([*places, accuracy(row), *plain(*told, row.get("device"))])
    how = [
        "Synthesis: of one set, without experts and teachers. Students: all R x S, with choices and tests. Steps: of one.",
        "GB: the most that a process had, of the card where there is one. TFLOP: of the training of all R x S, a step counted "
        "as three forward passes; without teachers, choices and tests.",
        "MB: of one set as it is stored, and of its labels.",
    ]
    return [Form("costs", "Costs", columns, body, how)] if body else []


def reproductions(found: Comparison) -> list[Form]:
    """Our numbers beside published ones."""
    columns = ["cell", "published", "ours", "difference", "verdict", "otherwise than the cell", "command"]
    body = []
    for arm in found.arms:
        known = verdict(arm.row)
        if known:
            cell = arm.row.get("published_of") or f"{arm.row['method']}, {arm.row['data']}, ipc {size(arm.row)}"
            word = known.word + (f" ({known.why})" if known.why else "")
            last = plain(signed(known.difference), word, "; ".join(known.changes) or "nothing", arm.row["command"])
            body.append([*plain(cell, arm.row["published"]), accuracy(arm.row), *last])
    how = [
        "Published ± is a standard deviation. Met: with 1.645 standard errors of both numbers at most a point apart. "
        "Consistent: within 1.96 of them; a run that has something otherwise than its cell can be no more.",
    ]
    return [Form("reproductions", "Beside the published numbers", columns, body, how)] if body else []


def forms(found: Comparison) -> list[Form]:
    """All tables."""
    return [form for make in (main, architectures, contrasts, standings, costs, reproductions) for form in make(found)]
