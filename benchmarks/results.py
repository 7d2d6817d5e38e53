"""Write the tables of README and docs from results/: `make results`. A test compares them with what is committed."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from distill.comparison import results
from distill.comparison.markup import below, lines
from distill.comparison.results import Result

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "docs/index.md", "docs/results.md")
PART = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end of results -->)", re.DOTALL)


def commands(found: Sequence[Result]) -> str:
    return "\n".join(["```bash", *(each.command for each in found), "```"])


PARTS: dict[str, Callable[[Sequence[Result]], str]] = {
    "overview": lambda found: lines(results.overview(found)),
    "summary": lambda found: lines(results.summary(found)) + "\n" + below(results.summary(found)),
    "details": lambda found: lines(results.details(found)),
    "commands": commands,
}


def filled(page: str, found: Sequence[Result]) -> str:
    """The page with its parts made anew."""

    def text(name: str) -> str:
        return PARTS[name](found) if found else "No cell has a row yet."

    return PART.sub(lambda part: f"{part[1]}\n{text(part[2])}\n\n{part[3]}", page)


if __name__ == "__main__":
    for name in PAGES:
        path = ROOT / name
        path.write_text(filled(path.read_text(), results.results()))
