"""Write the tables of README and docs from results/: `make results`. A test compares them with what is committed."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from distill.comparison import results
from distill.comparison.forms import Form
from distill.comparison.markup import below, lines
from distill.comparison.results import Result

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "docs/index.md", "docs/results.md")
PART = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end of results -->)", re.DOTALL)


def table(form: Form) -> str:
    """With its notes; a sentence where it has no row."""
    return f"{lines(form)}\n{below(form)}".rstrip() if form.rows else "None yet."


def commands(found: Sequence[Result]) -> str:
    return "\n".join(["```bash", *(each.command for each in found), "```"])


PARTS: dict[str, Callable[[Sequence[Result]], str]] = {
    "overview": lambda found: table(results.overview(found)),
    "summary": lambda found: table(results.summary(found)),
    "details": lambda found: table(results.details(found)),
    "commands": commands,
}


def filled(text: str, found: Sequence[Result]) -> str:
    """A page with its parts made anew."""
    return PART.sub(lambda part: f"{part[1]}\n{PARTS[part[2]](found)}\n\n{part[3]}", text)


if __name__ == "__main__":
    for name in PAGES:
        path = ROOT / name
        path.write_text(filled(path.read_text(), results.results()))
