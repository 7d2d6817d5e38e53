"""Names of configurations, and what was probably meant where there is no such name."""

import difflib
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from distill.text import command

CONFIGS = Path(str(files("distill.configs")))
FEW = 20  # names that one line can hold
RENAMED = {  # settings of earlier versions, and what they are now; CONTRIBUTING.md says for how long
    **{"baselines.random": "draws", "baselines.whole": "baselines=[random,whole]"},
    **{"protocol.labels": "protocol/labels", "protocol.soft": "protocol/labels", "protocol.iterate": "protocol/choice"},
    **{"protocol.choices": "protocol.candidates", "protocol.mix_alpha": "protocol.recipe.mix.mix_alpha"},
    **{"protocol.stretch": "protocol.recipe.schedule.stretch"},
    **{"method.network_augment.name": "method.network.views.augment"},
}


def options(group: str) -> list[str]:
    """Names that ``group=`` takes."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def alike(name: str, known: Sequence[str]) -> list[str]:
    """Those of ``known`` that were probably meant, at most three: as papers spell them (ResNet18BN), or nearest."""
    plain = {each: re.sub(r"[\W_]", "", each).casefold() for each in known}
    asked = re.sub(r"[\W_]", "", name).casefold()
    asked = re.sub(r"(?<=convnet)(in|d\d)$", "", asked)  # instance norm and a depth of 3 are ConvNet's own
    same = [each for each in known if plain[each] == asked]
    return same or difflib.get_close_matches(name, known, 3) or difflib.get_close_matches(name.casefold(), known, 3)


def unknown(kind: str, name: object, known: Sequence[str]) -> str:
    """That ``name`` is none of ``known``, in one line: the nearest first, then all of them where they are few."""
    close = alike(str(name), known)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    rest = f"one of {', '.join(known)}" if len(known) <= FEW else f"`{command()} task=list` shows all {len(known)}"
    return f"unknown {kind} {name!r}: {hint}{rest}"


def check_experiment(arguments: Sequence[str]) -> None:
    """Refuse an ``experiment=`` that has no file: the group is optional, so Hydra would leave it out in silence."""
    for item in arguments:
        group, _, name = item.partition("=")
        if group == "experiment" and name not in [*options(group), "null"]:
            raise ValueError(unknown(group, name, options(group)))


def check_renamed(arguments: Sequence[str]) -> None:
    """Refuse a setting's name of an earlier version, and say what it is called now."""
    for item in arguments:
        name, _, value = item.partition("=")
        if name in RENAMED:
            ours = RENAMED[name]
            raise ValueError(f"{name} has another name now: {ours if '=' in ours else f'{ours}={value}'}")
