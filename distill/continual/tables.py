"""Tables of a stream: what each memory comes to, and accuracy after each step."""

from collections.abc import Mapping, Sequence
from typing import Any

from distill.comparison.forms import MISSING, Form, plain
from distill.continual.courses import MEASURES, Course, mean_and_half, over_orders
from distill.report.rows import Row

Courses = Mapping[str, Sequence[tuple[Course, Sequence[Row]]]]
"""By method: of each order its course, and the rows of its steps."""

NOTES = (
    "final: accuracy on the test images of all classes; average: mean over the steps, each on the classes seen so far.",
    "forgetting: best accuracy on a step's classes after any step but the last, less the last, in points; mean over steps.",
    "± half of the 95 % t interval over orders, each with memories of its own; students of an order are averaged first.",
    "joint: all real images of the classes seen, for as many steps as the memory's students take.",
    "bytes: images and labels of the whole memory. seconds: of the students of all orders.",
)


def summed(courses: Courses, title: str) -> Form:
    """A line for each method."""
    lines = []
    for name, orders in courses.items():
        own = [each for each, _ in orders]
        shown = [told(over_orders(own, measure)) for measure in MEASURES]
        lines.append(plain(name, len(orders), *shown, f"{size(orders[0][1][-1]):,}", f"{seconds(orders):,.0f}"))
    columns = ["memory", "orders", "final", "average", "forgetting", "bytes", "seconds"]
    return Form("continual", f"Continual learning, %: {title}", columns, lines, list(NOTES))


def by_step(courses: Courses, title: str) -> Form:
    """Accuracy over the classes seen so far after each step."""
    lines = []
    for name, orders in courses.items():
        steps = zip(*(each.overall for each, _ in orders), strict=True)
        lines.append(plain(name, *(told(mean_and_half(list(each))) for each in steps)))
    count = len(next(iter(courses.values()))[0][0].overall)
    columns = ["memory", *(f"step {step + 1}" for step in range(count))]
    return Form(
        "continual-steps", f"Accuracy on the classes seen after each step, %: {title}", columns, lines, [NOTES[2]]
    )


def told(found: tuple[float, float | None] | None) -> str:
    if found is None:
        return MISSING
    mean, half = found
    return f"{100 * mean:.1f}" + ("" if half is None else f" ± {100 * half:.1f}")


def size(row: Row) -> int:
    """Bytes of a memory."""
    return int(row["image_bytes"]) + int(row["label_bytes"])


def seconds(orders: Sequence[tuple[Course, Sequence[Row]]]) -> float:
    """That the students of all orders took."""
    return float(sum(row["seconds"] for _, rows in orders for row in rows))


def summary(courses: Courses, blocks: Sequence[Sequence[Sequence[str]]]) -> dict[str, Any]:
    """For programs: classes of each order and step, and by method and order the accuracies."""
    return {
        "orders": [[list(step) for step in order] for order in blocks],
        "memories": {
            name: {
                **{measure: over_orders([each for each, _ in orders], measure) for measure in MEASURES},
                "by_order": [by_order(each, rows) for each, rows in orders],
            }
            for name, orders in courses.items()
        },
    }


def by_order(course: Course, rows: Sequence[Row]) -> dict[str, Any]:
    values = {measure: getattr(course, measure) for measure in MEASURES}
    matrix = [[float(value) for value in line[: step + 1]] for step, line in enumerate(course.blocks)]
    return values | {
        "seen": course.overall.tolist(),
        "blocks": matrix,
        "students": [row["accuracies"] for row in rows],
        "bytes": [size(row) for row in rows],
    }
