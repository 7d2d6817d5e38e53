"""Families and citations of methods, from the comments of ``configs/method`` and ``configs/method/methods.bib``."""

import re
from collections.abc import Iterable
from functools import cache

from distill.presets import CONFIGS
from distill.report.rows import BASELINES, RANDOM, SCRATCH, WHOLE
from distill.text import harmless

FAMILIES = {  # in the order of a table
    RANDOM: "baseline",
    **{
        name: name
        for name in ("selection", "sampling", "gradient", "distribution", "trajectory", "decoupled", "transfer")
    },
    "other": "other",
    WHOLE: "baseline",
    SCRATCH: "baseline",
}


def family(method: str) -> str:
    """The one of `FAMILIES` that a method belongs to; ``other`` where no file tells.

    Examples:
        >>> family("mtt"), family("random real"), family("somebody's")
        ('trajectory', 'random real', 'other')
    """
    if method in BASELINES:
        return method
    return next((found[1] for found in [_about(method)] if found), "other")


def cited(method: str) -> list[str]:
    """Keys in ``methods.bib``; none where no file tells.

    Examples:
        >>> cited("kcenter")
        ['gonzalez1985kcenter', 'sener2018coreset']
    """
    found = _about("random" if method == RANDOM else method)
    return found[2].split(", ") if found else []


@cache
def _about(method: str) -> re.Match[str] | None:
    path = CONFIGS / "method" / f"{method}.yaml"
    known = path.name in {each.name for each in path.parent.glob("*.yaml")}  # a row may name anything
    return re.search(r"^# Family: (\w+)\. Cite: (.+)\.$", path.read_text(), re.MULTILINE) if known else None


def entries() -> dict[str, str]:
    """The entries of ``methods.bib`` by their keys."""
    text = (CONFIGS / "method" / "methods.bib").read_text(encoding="utf-8")
    return {found[1]: found[0] for found in re.finditer(r"^@\w+\{(\w+),\n.*?^\}$", text, re.MULTILINE | re.DOTALL)}


def bibtex(methods: Iterable[str]) -> str:
    """BibTeX of methods, each entry once; a comment names those that have none.

    Examples:
        >>> print(bibtex(["herding", "mine"]))
        % No citation is known of: mine
        <BLANKLINE>
        @inproceedings{welling2009herding,
          title = {Herding Dynamical Weights to Learn},
          author = {Welling, Max},
          booktitle = {International Conference on Machine Learning},
          year = {2009},
        }
        <BLANKLINE>
    """
    known, names = entries(), list(dict.fromkeys(methods))
    unknown = [harmless(name) for name in names if not cited(name) and name not in (WHOLE, SCRATCH)]
    parts = [f"% No citation is known of: {', '.join(unknown)}"] if unknown else []
    parts += [known[key] for key in dict.fromkeys(key for name in names for key in cited(name))]
    return "\n\n".join(parts) + "\n"
