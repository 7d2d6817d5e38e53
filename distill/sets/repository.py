"""What a set's repository on a hub holds: the set itself, a table of its images, a picture, and a page that tells of it.

The set is exact. The table is what a hub's viewer shows and other tools read: images in eight bits, their classes by name.
"""

import io
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from distill.places import without_places, words_of
from distill.sets.formation import WHOLE, images_in_one
from distill.sets.looks import eight_bit
from distill.sizes import spread
from distill.text import shown

FILE, TABLE, PICTURE, PAGE = "synset.safetensors", "data/train-00000-of-00001.parquet", "grid.png", "README.md"
GROUP = 100  # images that a viewer reads at once
UNKNOWN = "not known; look for it where the images come from"
Synset = Any  # a `distill.sets.synthetic.SyntheticSet`


def write(
    synset: Synset, folder: Path, repository: str, rows: Sequence[Mapping[str, Any]], licence: str | None
) -> None:
    """Write all of it into an empty folder.

    Args:
        repository: ``owner/name``, as the page says how it is loaded.
        rows: of a report, which judged the set.
        licence: of the source images; None: not known.

    Raises:
        ModuleNotFoundError: pyarrow is missing.
    """
    write_table(synset, folder / TABLE)
    synset.with_(record=without_places(synset.record)).save(folder / FILE)
    eight_bit(synset.picture()).save(folder / PICTURE)
    (folder / PAGE).write_text(page(synset, repository, rows, licence, (folder / FILE).stat().st_size), "utf-8")


def write_table(synset: Synset, path: Path) -> None:
    """The images (PNG), the classes that they were made for or have as labels, and soft labels as they are stored."""
    import pyarrow as pa
    from pyarrow import parquet

    columns = [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())]
    columns += [] if synset.label_kind == "hard" else [(synset.label_kind, pa.list_(pa.float32()))]
    about = {"huggingface": json.dumps({"info": {"features": features(synset)}})}
    schema, pixels = pa.schema(columns, about), synset.pixels
    path.parent.mkdir()
    with parquet.ParquetWriter(path, schema) as writer:
        for begin in range(0, len(synset), GROUP):
            some = slice(begin, begin + GROUP)
            images = [{"bytes": png(image), "path": f"{begin + i:06d}.png"} for i, image in enumerate(pixels[some])]
            group = {"image": images, "label": classes(synset)[some].tolist()}
            group |= {} if synset.label_kind == "hard" else {synset.label_kind: synset.labels[some].tolist()}
            writer.write_table(pa.table(group, schema))


def classes(synset: Synset) -> Any:
    return synset.labels if synset.label_kind == "hard" else synset.classes


def png(image: Any) -> bytes:
    """Pixels (C, H, W) in [0, 1] as a file, in eight bits."""
    file = io.BytesIO()
    eight_bit(image).save(file, "png")
    return file.getvalue()


def features(synset: Synset) -> dict[str, Any]:
    """The columns, as the library `datasets` writes them into a table."""
    label = {"names": list(synset.class_names), "_type": "ClassLabel"}
    soft = {"feature": {"dtype": "float32", "_type": "Value"}, "_type": "Sequence"}
    return {"image": {"_type": "Image"}, "label": label} | (
        {} if synset.label_kind == "hard" else {synset.label_kind: soft}
    )


def header(synset: Synset, licence: str | None) -> dict[str, Any]:
    """What a hub reads of the page."""
    names = {str(number): name for number, name in enumerate(synset.class_names)}
    columns: list[dict[str, Any]] = [
        {"name": "image", "dtype": "image"},
        {"name": "label", "dtype": {"class_label": {"names": names}}},
    ]
    columns += [] if synset.label_kind == "hard" else [{"name": synset.label_kind, "sequence": "float32"}]
    known = "other" if licence and not re.fullmatch(r"[a-z0-9.+-]+", licence) else licence
    return {
        "pretty_name": title(synset),
        "license": known or "unknown",
        "task_categories": ["image-classification"],
        "tags": ["dataset-distillation"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": TABLE}]}],
        "dataset_info": {"features": columns},
    }


def title(synset: Synset) -> str:
    size = spread(synset.counts)
    return shown(f"{synset.data} by {synset.record.get('method', 'an unknown method')}, {size} per class")


def page(synset: Synset, repository: str, rows: Sequence[Mapping[str, Any]], licence: str | None, size: int) -> str:
    """The repository's README.md.

    Args:
        size: bytes of the set's file.
    """
    front = yaml.safe_dump(header(synset, licence), sort_keys=False, allow_unicode=True)
    made = without_places(synset.record).get("overrides")
    parts = [
        f"# {title(synset)}",
        "A synthetic set: few images, which networks are trained on in place of the real ones.",
        f"![Images of each class]({PICTURE})",
        table(("what", "value"), facts(synset, licence, size)),
        f"## Accuracy\n\n{accuracies(rows)}",
        *([f"## How it was made\n\n```bash\n{shlex.join(['distill', *made])}\n```"] if made else []),
        f'## How to use it\n\n```python\nimport distill as dd\n\nsynset = dd.load("hf://{repository}")\n```\n\n'
        f"```bash\ndistill evaluate synset=hf://{repository}\n```\n\n"
        f"`{FILE}` is the set. `{TABLE}` has its images in eight bits, to look at, with their classes.",
    ]
    return f"---\n{front}---\n\n" + "\n\n".join(parts) + "\n"


def facts(synset: Synset, licence: str | None, size: int) -> list[tuple[str, Any]]:
    """What the set and its record tell, without what they do not."""
    record, imported = synset.record, synset.record.get("imported") or {}
    inside = "" if synset.factors == WHOLE else f", {images_in_one(synset.factors)} in each"
    told = [
        ("method", record.get("method")),
        ("data", synset.data),
        (
            "images",
            f"{len(synset)} of {'x'.join(map(str, synset.images.shape[1:]))}, {spread(synset.counts)} per class{inside}",
        ),
        ("classes", synset.num_classes),
        ("space", synset.preprocessing.space),
        ("labels", synset.label_kind),
        ("learned student rate", None if synset.lr is None else f"{float(synset.lr):.6g}"),
        ("made for the protocol", (record.get("protocol") or {}).get("name", imported.get("protocol"))),
        ("outer steps", record.get("step")),
        ("seed", record.get("seed")),
        ("picked on", record.get("picked_on")),
        ("bytes", f"images {synset.image_bytes:,}, labels {synset.label_bytes:,}, file {size:,}"),
        ("files it was imported from", ", ".join(imported.get("files", ())) or None),
        ("their licence", imported.get("licence")),
        ("licence of the source images", licence or UNKNOWN),
        ("hash", synset.hash),
    ]
    return [(name, value) for name, value in told if value is not None]


def accuracies(rows: Sequence[Mapping[str, Any]]) -> str:
    """How students did, a line for each row of the report."""
    if not rows:
        return "It was given without a report: nothing is said of how students do."
    lines = []
    for row in rows:
        half = "" if row["ci95"] is None else f" ± {100 * row['ci95']:.1f}"
        runs = f"{row['syntheses']} x {row['students']}"
        changes = ", ".join(row.get("protocol_changes", ())) or "nothing"
        lines.append(
            (
                row["student"],
                row["protocol"],
                row["labels"],
                f"{100 * row['mean']:.1f}{half}",
                runs,
                row["selection"],
                changes,
            )
        )
    commands = dict.fromkeys(shlex.join(["distill", *words_of(row["command"])]) for row in rows)
    names = ("student", "protocol", "labels", "accuracy, %", "R x S", "set that counts", "changed in the protocol")
    legend = "± is the half-width of the 95 % interval of the mean; R x S: so many syntheses, this set one of them, by students"
    return f"{legend}.\n\n{table(names, lines)}\n\n```bash\n" + "\n".join(commands) + "\n```"


def table(names: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    """A table of Markdown.

    >>> print(table(("name", "value"), [("a|b", 1)]))
    | name | value |
    |---|---|
    | a\\|b | 1 |
    """
    cells = [[shown(each).replace("|", r"\|") for each in line] for line in (names, *lines)]
    first, *others = [f"| {' | '.join(line)} |" for line in cells]
    return "\n".join([first, f"|{'---|' * len(names)}", *others])
