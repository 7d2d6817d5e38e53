"""What workers do in test_engines.py; light, so that they begin soon."""

import errno
import os
import signal
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import distill.engines.local
from distill.engines.local import Local, begin, place
from distill.parallel import Driver, Unit, Worker, working_in


@dataclass(frozen=True)
class Note:
    """The making of a file that is called as its unit, where the worker is lucky.

    Attributes:
        fate: of units by name: how often a worker fails, and how.
    """

    folder: Path
    key: str
    agreed: dict
    fate: dict

    def __call__(self):
        team = Worker(key=self.key, agreed=self.agreed, heard=place.tell)
        with working_in(team):
            way = team.agree(lambda: "own", "way")
            times, how = self.fate.get(self.key, (0, ""))
            tried = len(list(self.folder.glob(f"tried-{self.key}-*")))
            (self.folder / f"tried-{self.key}-{tried}").touch()
            team.tell("units", 1, 0)
            if tried < times:
                FATES[how]()
            (self.folder / self.key).write_text(f"{way} {place.local_rank}")
            team.tell("units", 2, 0)


class Awkward(ValueError):
    """Cannot be made anew from its arguments."""

    def __init__(self, size, why):
        super().__init__(f"{size} is {why}")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def find_the_disk_full():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def refuse():
    raise ValueError("seven is no size")


FATES = {"dies": die, "full disk": find_the_disk_full, "refuses": refuse}


def make(folder, names, count, fate, heard=lambda *told: None):
    """Have workers make units, as a driver does."""
    with Local().open(count, heard) as submit:

        def sent(keys, agreed):
            return submit([Note(folder, key, dict(agreed), fate) for key in keys], lambda: None)

        driver = Driver(count, submit=sent, heard=heard)
        driver.agree(lambda: "agreed", "way")
        units = [Unit(name, None, (folder / name).exists, "units", 2) for name in names]
        driver.make(units)
        return units


def begin_with_a_full_disk(folder, count, driver):
    """A worker's begin; the disk of the first is full once, as its first file is to be whole."""
    begin(folder, count, driver)
    original = os.fsync

    def fsync(handle):
        os.fsync = original
        Path("full").touch()
        find_the_disk_full()

    if place.local_rank == 0:
        os.fsync = fsync


def fill_the_disk_of_a_worker():
    distill.engines.local.begin = begin_with_a_full_disk


def wait_for_ever(folder, name):
    (folder / name).write_text(str(os.getpid()))
    while True:
        time.sleep(0.05)


def driver(folder, end):
    """Has two workers, until both have begun and then for ever where it is killed."""
    with Local().open(2, print) as submit:
        submit([partial(wait_for_ever, folder, name) for name in "ab"], lambda: None)
        while end == "killed" or len(list(folder.iterdir())) < 2:
            time.sleep(0.05)
