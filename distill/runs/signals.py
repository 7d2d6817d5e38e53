"""Signals that end a run: with a code that is not 0, and a line that says how to go on."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C, a scheduler, a closed terminal


class Interrupted(BaseException):
    """A signal asks this run to end. No KeyboardInterrupt: Lightning takes that one for its own.

    Attributes:
        code: of the exit, as shells have it.
        at: what was being done, and how far it was.
        go_on: what the same command does next time.
    """

    def __init__(self, number: int):
        self.name, self.code = signal.Signals(number).name, 128 + number
        self.at, self.go_on = "", "starts again"

    def __str__(self) -> str:
        return f"interrupted by {self.name}{self.at}: the same command {self.go_on}"


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `Interrupted` for the first signal that asks to end; the second ends the process at once."""
    arrived = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal arrived
        if arrived:
            os._exit(128 + number)
        arrived = True
        raise Interrupted(number)

    numbers = [getattr(signal, name) for name in ENDING if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    main = threading.current_thread() is threading.main_thread()  # no other thread may set them
    for number in numbers if main else ():
        if before[number] is not signal.SIG_IGN:  # nohup, and shells that start a job in the background
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number in numbers if main else ():
            signal.signal(number, before[number])


@contextmanager
def goes_on(where: Callable[[], str]) -> Iterator[None]:
    """Let an interruption of the block say where the same command goes on."""
    try:
        yield
    except Interrupted as stop:
        stop.go_on = f"goes on from {where()}"
        raise
