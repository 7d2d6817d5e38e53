"""Processes of a torchrun, which share the work among themselves."""

from contextlib import AbstractContextManager
from dataclasses import dataclass

from distill.engines.base import Engine, Submit
from distill.parallel import Heard


@dataclass(frozen=True)
class Torchrun(Engine):
    """None besides those that torchrun began (`distill.parallel.Ranks`)."""

    def check_ranks(self) -> None:
        """They are what is asked for."""

    def open(self, workers: int | str, heard: Heard) -> AbstractContextManager[Submit]:
        raise ValueError(
            "engine=ranks is for the processes of a torchrun: torchrun --nproc-per-node=2 run.py engine=ranks ..."
        )
