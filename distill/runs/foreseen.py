"""What a suite is going to do, and whether there is room for it; nothing is trained."""

from collections.abc import Mapping, Sequence
from shutil import disk_usage

from distill.effort import peak_bytes
from distill.runs import ahead
from distill.runs.line import Line
from distill.runs.progress import duration
from distill.runs.suite import Job, SuiteRun


def check_room(run: SuiteRun) -> None:
    """Raise ValueError if the disk has no room for what a suite leaves."""
    left = [job for _, job in run.left()]
    if told := lacking(run, left, first(run, left)):
        raise ValueError(f"nothing was started: {told}")


def first(run: SuiteRun, left: Sequence[Job]) -> dict[str, tuple[Line, ahead.Work]]:
    """What sets and cells are made from or learn from that is not there yet: experts, teachers, and the sets."""
    found: dict[str, tuple[Line, ahead.Work]] = {}
    for subject in run.made:
        if subject not in run.sets and "task=evaluate" not in subject.stated:
            line = run.making(subject)
            found |= {name: (line, work) for name, work in ahead.stores(line).items()}
            for work in ahead.sets(line):
                found |= {subject.id: (line, work)} if work.images else {}
    for line in (run.line(job) for job in left if not job.cell.of):  # whose teachers are the set's
        asked = {} if line.judges is None else line.judge.teacher_stores(line.judges)
        judges = {store.folder.name for store in asked.values()}
        found |= {name: (line, work) for name, work in ahead.stores(line).items() if name in judges}
    return found


def plan(run: SuiteRun) -> list[str]:
    """What a run would do: what is missing, what is made before, a line for each cell that is left. Nothing is trained."""
    lines, works = [f"missing: {each}" for each in run.missing], list[tuple[float, float]]()
    left = run.left()
    jobs = [job for _, job in left]
    before = first(run, jobs)
    lines += [f"cannot fit: {each}" for each in [lacking(run, jobs, before)] if each]

    def tell(name: str, work: float, seconds: float, more: str) -> None:
        lines.append(f"{name:<44} {work / 1e12:10.3g} TFLOP   {duration(seconds)}, {more}")
        works.append((work, seconds))

    for name, (line, work) in before.items():
        tell(name, ahead.needed_by(line, [work]), work.seconds(line.real.train), f"before: {work.text}")
    once = {job.work: (needed, job) for needed, job in reversed(left)}
    cells = sorted(once.values(), key=lambda each: each[0])
    for needed, job in cells:
        seconds = sum(each.seconds(run.line(job).real.train) for each in ahead.students(run.line(job)))
        tell(job.id, needed, seconds, f"{label_bytes(run, job):,} bytes of labels")
    memory = f"{peak_bytes() / 1e9:.1f} GB of memory or more"
    total, seconds = (sum(each) for each in zip(*works, strict=True)) if works else (0.0, 0.0)
    told = f"{len(cells)} cells are left: {total / 1e12:.3g} TFLOP, about {duration(seconds)} on this machine, {memory}"
    unknown = sum(not cell.sure for each in run.subjects for cell in run.suite.cells(run.rows(each), each.name))
    return [*lines, *([f"and {unknown} cells that these rows decide"] if unknown else []), told]


def lacking(run: SuiteRun, left: Sequence[Job], before: Mapping[str, tuple[Line, ahead.Work]]) -> str:
    """What does not fit on the disk of ``out``; empty where all does."""
    labels = sum(label_bytes(run, job) * max(1, len(run.line(job).synsets)) for job in left)
    experts = sum(work.disk for _, work in before.values())
    free = disk_usage(next(path for path in (run.out.absolute(), *run.out.absolute().parents) if path.is_dir())).free
    if labels + experts <= free:
        return ""
    return (
        f"labels take about {labels / 1e9:.1f} GB and experts {experts / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free at "
        f"{run.out}: choose another out=DIR, fewer sets, or protocol.labels.top_k=10 where labels are stored"
    )


def label_bytes(run: SuiteRun, job: Job) -> int:
    """About what a set's labels take in a cell."""
    line = run.line(job)
    sizes = [len(each.decoded) for each in line.synsets] or [sum(line.real.train.asked(ipc)) for ipc in line.ipcs]
    images = sizes[0] if sizes else len(line.real.train)
    protocol = line.protocol().sized(images, line.real.train.num_classes, len(line.real.train))
    own = line.synsets[0].label_bytes if line.synsets else 8 * images
    return protocol.labels.takes(images, line.real.train.num_classes, protocol.recipe.passes(images), own)
