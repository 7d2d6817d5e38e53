"""Records: what the fields of a JSON file or header must be, said in the words of `distill.ranges`."""

import reprlib
from collections.abc import Mapping
from typing import Any

from distill.ranges import inside

MISSING = object()
KINDS = {"text": "text", "texts": "a list of texts", "list": "a list", "object": "an object"}


def check_record(record: Any, kinds: Mapping[str, str]) -> None:
    """Raise ValueError, without the name of the file, if a field is not what it must be; others may be anything.

    Args:
        kinds: by dotted name an interval or one of `KINDS`, perhaps with ``null or`` before it; a name with ``?`` at its end
            may be missing.
    """
    for name, kind in kinds.items():
        value, null = record, kind.startswith("null or ")
        for part in name.removesuffix("?").split("."):
            value = value.get(part, MISSING) if isinstance(value, dict) else MISSING
        if (value is MISSING and name.endswith("?")) or (value is None and null) or _fits(value, kind):
            continue
        bare = kind.removeprefix("null or ")
        said = KINDS.get(bare) or f"a {'whole ' * ('whole ' in bare)}number in {bare.removeprefix('whole ')}"
        found = "missing" if value is MISSING else reprlib.repr(value)
        raise ValueError(f"{name.removesuffix('?')} is {found}, expected {'null or ' * null}{said}")


def _fits(value: Any, kind: str) -> bool:
    kind = kind.removeprefix("null or ")
    if kind == "texts":
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    types = {"text": str, "list": list, "object": dict}
    return isinstance(value, types[kind]) if kind in types else inside(value, kind)
