"""What an artefact's maker chose, for its evaluation."""

import re


def recorded_overrides(synset: str) -> list[str]:
    """What an artefact's maker chose of data, method, experiment and student: evaluation starts from the same choices.

    Only plain choices pass, so that a stranger's file cannot name code to run.
    """
    from distill.synset import load

    try:
        recorded = load(synset.strip("[]").split(",")[0].strip("'\"")).record.get("overrides", [])
    except (OSError, ValueError):
        return []  # the task will say what is wrong with it
    choice = re.compile(
        r"(experiment|data|method|student|data\.(classes|zca|val|size)|student\.\w+\.[a-z]\w*)=[\w\[\],.-]+"
    )
    return [item for item in recorded if isinstance(item, str) and choice.fullmatch(item) and ".." not in item]


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
