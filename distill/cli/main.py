"""The command line: distill [experts|distill|evaluate|all|report|compare|...] NAME=VALUE ... ; see --help."""

import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module

from distill import __version__
from distill.cli.errors import errors_in_one_line
from distill.cli.habits import check_habits
from distill.cli.listing import help_text, listing
from distill.runs.signals import interruptible

HOMES = {  # of tasks with words of their own: modules that bring torch, with the task among their `TASKS`
    **dict.fromkeys(("import", "export", "subset"), "distill.cli.artefacts"),
    **dict.fromkeys(("rank_networks", "network_truth"), "distill.cli.ranking"),
    **dict.fromkeys(("result", "reproduce"), "distill.cli.results"),
    **{
        "plan": "distill.cli.planning",
        "suite": "distill.cli.suites",
        "robustness": "distill.cli.robustness",
        "continual": "distill.cli.continual",
    },
}


def main() -> None:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # what Hydra finds wrong reaches us, and becomes one line
    with errors_in_one_line(), interruptible():
        arguments = with_task(sys.argv[1:])
        task = arguments[0].removeprefix("task=") if arguments else ""
        if task in HOMES and not {"--help", "-h"} & set(arguments):
            print("\n".join(import_module(HOMES[task]).TASKS[task](arguments[1:])))
            return
        text = answered(arguments)
        if text is not None:
            print(text)
            return
        from distill.cli.jobs import run  # brings Hydra

        if told := run(arguments):
            sys.exit(told)


def with_task(arguments: Sequence[str]) -> list[str]:
    """A bare first word is the task.

    >>> with_task(["evaluate", "synset=outputs"]), with_task(["seed=1"])
    (['task=evaluate', 'synset=outputs'], ['seed=1'])
    """
    first, *others = arguments or [""]
    return [f"task={first}", *others] if re.fullmatch(r"\w+", first) else list(arguments)


def answered(arguments: Sequence[str]) -> str | None:
    """What can be said before Hydra composes anything, which would take longer than the answer; None for all else."""
    if "--version" in arguments:
        return f"distill {__version__}"
    if "task=list" in arguments:  # with bare words, of which Hydra takes none
        return listing([item.rpartition("=")[2] for item in arguments if item != "task=list"])
    check_habits(arguments)
    flags = {item for item in arguments if item.startswith("-")}
    return help_text() if flags and flags <= {"--help", "-h"} else None
