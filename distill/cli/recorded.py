"""What an artefact's maker chose, for its evaluation."""

import re

# Choices by name and plain values alone: a stranger's file names no code to run, no place outside the configurations, and
# nothing that is fetched (data.download, and torchvision's weights for a network).
CHOICE = re.compile(
    r"(experiment|data|method|student|data\.(classes|zca|val|size)|student\.\w+\.(?!weights=)[a-z]\w*)=[\w\[\],.-]+"
)
MOST_CHOICES = 1000
LARGEST = 4096  # width, depth and resolution that a record may ask for: more fills the memory of whoever tries it


def recorded_overrides(synset: str) -> list[str]:
    """What an artefact's maker chose of data, method, experiment and student: evaluation starts from the same choices.

    Raises:
        ValueError: its choices are beyond any use.
    """
    from distill.synset import load

    path = synset.strip("[]").split(",")[0].strip("'\"")
    try:
        recorded = load(path).record.get("overrides") or []
    except (OSError, ValueError):
        return []  # the task will say what is wrong with it
    try:
        return plain_choices(recorded)
    except ValueError as error:
        raise ValueError(f"{path} {error}: name its data and student yourself") from None


def plain_choices(recorded: list[str]) -> list[str]:
    """Those of recorded choices that pass.

    Raises:
        ValueError: there are too many, or a number is too large.
    """
    if len(recorded) > MOST_CHOICES:
        raise ValueError(f"records {len(recorded)} choices, expected at most {MOST_CHOICES}")
    kept = [item for item in recorded if CHOICE.fullmatch(item) and ".." not in item]
    for item in kept:
        if item.startswith(("student.", "data.size=")) and not _number(item.partition("=")[2]) <= LARGEST:
            raise ValueError(f"was made with {item}, expected at most {LARGEST}")
    return kept


def _number(value: str) -> float:
    try:
        return float(value.replace("_", ""))
    except ValueError:
        return 0.0  # a word


def complete_overrides(arguments: list[str]) -> list[str]:
    """The command line; for task=evaluate synset=... with the recorded choices it does not make itself."""
    given = dict(item.split("=", 1) for item in arguments if "=" in item and not item.startswith("-"))
    if given.get("task") != "evaluate" or "synset" not in given or "experiment" in given:
        return arguments
    kept = [item for item in recorded_overrides(given["synset"]) if item.split("=", 1)[0] not in given]
    if "data" in given:  # settings of another set have no place
        kept = [item for item in kept if not item.startswith(("data.", "experiment="))]
    if "student" in given:  # settings of networks that are not asked for have no place
        asked = re.findall(r"\w+", given["student"])
        kept = [item for item in kept if not item.startswith("student.") or item.split(".")[1] in asked]
    return [*kept, *arguments]
