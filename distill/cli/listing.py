"""--help and task=list: what there is to choose from, read from the configurations; without Hydra and torch, so at once."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import Template

import yaml

from distill.presets import CONFIGS, unknown

HEADINGS = {
    "method": "methods",
    "protocol": "protocols",
    "suite": "suites of protocols and students, for `distill suite`",
    "robustness": "attacks and corruptions, for `distill robustness`",
    "data": "data",
    "student": "students",
    "kind": "other projects, whose files `distill import` reads",
    "experiment": "published cells: the number that the paper reports in %, and its source; ± is a standard deviation",
}


def help_text() -> str:
    """What Hydra makes of the configuration's ``hydra.help.template``: it would read every group's files for it."""
    template = yaml.safe_load((CONFIGS / "config.yaml").read_text())["hydra"]["help"]["template"]
    names: dict[str, list[str]] = {}
    for path in CONFIGS.glob("*/**/*.yaml"):
        names.setdefault(path.parent.relative_to(CONFIGS).as_posix(), []).append(path.stem)
    groups = [f"{group}: {', '.join(sorted(names[group]))}\n" for group in sorted(names)]
    return Template(template).substitute(APP_CONFIG_GROUPS="".join(groups))


def listing(words: Sequence[str]) -> str:
    """Every choice on a line of its own, by group; those alone that have all of ``words`` (whole ones, in any case).

    A word that is part of some name is looked for in names alone: the cells of MTT whose source is DATM's paper are none of
    DATM's.

    Raises:
        ValueError: nothing has them; the nearest are told.
    """
    lines = {group: list(_lines(group)) for group in HEADINGS}
    names = {part for found in lines.values() for line in found for part in _parts(line.split()[0])}
    texts = {part for found in lines.values() for line in found for part in _parts(line)}
    asked = [part for word in words for part in _parts(word)]
    for part in asked:
        if part not in texts:
            raise ValueError(unknown("word", part, sorted(names)))
    shown = []
    for group, heading in HEADINGS.items():
        found = [
            line
            for line in lines[group]
            if all(part in _parts(line.split()[0] if part in names else line) for part in asked)
        ]
        if found:
            shown += [f"{group}=  {heading}", *(f"  {line}" for line in found), ""]
    if not shown:
        raise ValueError(f"nothing has all of the words {', '.join(words)}: leave one out")
    return "\n".join(shown).rstrip()


def _parts(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def _lines(group: str) -> Iterator[str]:
    def in_order(path: Path) -> list[str]:
        return [
            part.zfill(9) if part.isdigit() else part for part in re.split(r"(\d+)", path.stem)
        ]  # ipc1, ipc10, ipc50

    for path in sorted((CONFIGS / group).glob("*_ipc*.yaml" if group == "experiment" else "*.yaml"), key=in_order):
        yield f"{path.stem:<{26 if group == 'experiment' else 18}} {_about(path)}"


def _about(path: Path) -> str:
    """The file's first comment; a cell's published number with its source; a network's class and settings."""
    text = path.read_text()
    comment = re.search(r"^# (?!@)(.*)$", text, re.MULTILINE)
    if comment is None:
        settings = yaml.safe_load(text)
        values = [f"{key}={value}" for key, value in settings.items() if not key.startswith("_") and value is not None]
        return " ".join([settings["_target_"].rpartition(".")[2], *values])
    if path.parent.name != "experiment":
        return comment[1]
    published = re.search(r"^published: *\"?([^\"#\n]+?)\"? *(?:# *(.*))?$", text, re.MULTILINE)
    number, source = ("-", "no number is known") if published is None else published.groups()
    return f"{number:<19} {comment[1]}; {source}"
