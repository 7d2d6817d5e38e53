"""What the page shows of one row or set when it is opened: written small, and made into elements only then."""

import base64
import json
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from distill.page.boards import seconds, size
from distill.report.gains import metric_of
from distill.report.rows import Report, Row
from distill.text import harmless, shown

MOST_CLASSES = 100  # whose accuracies are shown one by one; of more, the lowest and the highest

EXTREMES = 10

SPREADS = {"all": "sd", "of syntheses": "sd_synthesis", "of students": "sd_student"}

HASHED = {"set": "synset", "data": "data", "training": "training", "protocol": "protocol", "student": "student"}


class Packed:
    """Texts as one, which a browser unpacks: lines of JSON, compressed by gzip, in base64."""

    def __init__(self) -> None:
        self.compressor = zlib.compressobj(wbits=31)  # gzip
        self.parts: list[bytes] = []

    def add(self, text: str) -> None:
        """As the next line; the first is number 0."""
        self.parts.append(self.compressor.compress(json.dumps(harmless(text, lines=True)).encode() + b"\n"))

    def __str__(self) -> str:
        """All lines; none can be added after it."""
        return base64.b64encode(b"".join([*self.parts, self.compressor.flush()])).decode()


def facts(row: Row, cells: Mapping[str, str]) -> dict[str, str]:
    """What a row tells, as a reader wants to read it; ``cells`` as the table shows them."""
    spreads = [f"{name} {100 * row[key]:.1f}" for name, key in SPREADS.items() if row.get(key) is not None]
    told = {
        metric_of(row): cells["accuracy"] + " %",
        "gain over random": cells.get("gain"),
        "published": cells["published"],
        "each student": ", ".join(f"{100 * each:.1f}" for each in row.get("accuracies", [])),
        "spread": ", ".join(spreads),
        "syntheses x students": f"{row['syntheses']} x {row['students']}, seed {row.get('seed', 'unknown')}",
        "trained as": f"{row['protocol']}, {row['student']}, {row['labels']} labels, selection {row['selection']}",
        "+ changed": ", ".join(row.get("protocol_changes", [])),
        "otherwise than published": ", ".join(row.get("cell_changes", [])),
        "a set took": _told(row, synthesis_seconds=seconds, synthesis_peak_bytes=size),
        "all students took": f"{_told(row, seconds=seconds, peak_bytes=size)}, on {row.get('device', 'unknown')}",
        "a student took": _told(row, optimizer_steps="{:,.0f} steps".format, operations=_operations),
        "images take": _told(row, image_bytes=size, decoded="decoded to {:,} images".format),
        "labels take": _told(row, label_bytes=size),
        "row": Report.name(row),
        **{f"hash of the {name}": row.get(f"{key}_hash") for name, key in HASHED.items()},
        "written": str(row.get("written", ""))[:19],
    }
    return {name: shown(value) for name, value in told.items() if value}


def _told(row: Row, **fields: Callable[[Any], str]) -> str:
    """Fields of the row, as far as it tells them."""
    return ", ".join(told(row[key]) for key, told in fields.items() if row.get(key) is not None)


def _operations(count: float) -> str:
    return f"{count / 1e12:.3g} TFLOP"


def artefacts(row: Row, home: Path, page: Path) -> dict[str, str]:
    """The row's sets: the path as the page's folder sees it, and the address of a link to it.

    Args:
        home: the folder of the row's report.
        page: the folder of the page.

    Examples:
        >>> artefacts({"synsets": ["a b/synset.safetensors"]}, Path("out"), Path("all"))
        {'../out/a b/synset.safetensors': '../out/a%20b/synset.safetensors'}
    """
    paths = [os.path.relpath(home / name, page) for name in row.get("synsets", [])]
    return {shown(path): quote(path, errors="replace") for path in paths}


def by_class(row: Row) -> list[tuple[str, float]]:
    """(class, accuracy in %), of many classes the lowest and the highest."""
    known = [
        (shown(name), 100 * mean) for name, mean in (row.get("accuracy_by_class") or {}).items() if mean is not None
    ]
    if len(known) <= MOST_CLASSES:
        return known
    ranked = sorted(known, key=lambda each: each[1])
    return [*ranked[:EXTREMES], *ranked[-EXTREMES:]]
