"""What processes of a crew do in test_beside.py; light, so that they begin soon."""

import json
import os
import signal
import time
from functools import partial

from distill.beside import beside
from distill.parallel import crew, working_in


def shares(folder, units):
    """What every process of a crew does here: note its share."""
    team = crew()
    half = team.agree(lambda: len(units) // 2)
    (folder / f"{team.rank}").write_text(json.dumps([half, list(team.share(units))]))
    team.link.tell("units", len(team.share(units)), 0)
    team.wait()


def two_of_all(folder, units):
    """The first two do it."""
    team = crew()
    if team.rank < 2:
        with working_in(team.part(2)):
            shares(folder, units)
    team.wait()


class OwnError(ValueError):
    pass


class Awkward(ValueError):
    """Cannot be made anew from its arguments."""

    def __init__(self, size, why):
        super().__init__(f"{size} is {why}")


ERRORS = {
    "its own": OwnError("seven is no size"),
    "of a file": EOFError("it ends here"),
    "awkward": Awkward(7, "no size"),
}


def refuses(which):
    if crew().rank == 2:
        raise ERRORS[which]
    crew().wait()


def dies():
    os.kill(os.getpid(), signal.SIGKILL)


def parent(folder, end):
    with beside(partial(note, folder), 3, print) as team:
        note(folder, team)
        while end == "killed":
            time.sleep(1)


def note(folder, team=None):
    (folder / str((team or crew()).rank)).write_text(str(os.getpid()))
    while team is None or not all((folder / str(rank)).exists() for rank in range(3)):
        time.sleep(0.05)
