"""What a release tells: changelog, citation, how to contribute."""

import re

import pytest
import yaml
from conftest import ROOT

import distill

PAGES = [ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md")]
CITATION = {  # keys of Citation File Format 1.2.0 that we have, the first four of which it asks for
    **dict.fromkeys(("cff-version", "message", "title", "version", "license", "abstract"), str),
    **{"authors": list, "type": str, "keywords": list},
}


def test_the_citation_is_what_the_format_asks_for():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {key: type(value) for key, value in citation.items()} == CITATION
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert all(isinstance(word, str) for word in citation["keywords"])


def test_the_citation_agrees_with_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = dict(re.findall(r"^(\w+) = (.+)$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
    assert citation["version"] == distill.__version__
    assert (f'"{citation["title"]}"', f'"{citation["license"]}"') == (project["name"], project["license"])
    (author,) = citation["authors"]
    assert project["authors"] == f'[{{name = "{author["name"]}"}}]'


def test_the_changelog_is_kept_as_it_says():
    text = (ROOT / "CHANGELOG.md").read_text()
    first, *released = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert first == "Unreleased" and all(re.fullmatch(r"\d+\.\d+\.\d+, \d{4}-\d\d-\d\d", each) for each in released)
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= kinds


def test_contributing_is_one_page():
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) <= 80


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_their_links_lead_somewhere(page):
    links = [link for link in re.findall(r"\]\(([^)]+)\)", page.read_text()) if "://" not in link]
    assert links
    for link in links:
        file, _, anchor = link.partition("#")
        text = (ROOT / file).read_text()
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", each).strip().lower().replace(" ", "-") for each in headings}
        assert not anchor or anchor in anchors, link


def test_their_commands_are_targets_of_the_makefile():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    asked = re.findall(r"^make ([\w ]+?)(?: {2,}#|$)", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert asked and {name for names in asked for name in names.split()} <= set(targets)
