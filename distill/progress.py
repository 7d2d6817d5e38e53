"""How far long work is: whoever computes tells it, and the command line shows it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

HowFar = Callable[[str, int, int], None]
"""Called with (what is done, how much of it is done, how much there is in all): as it begins, and whenever it moves."""


def silent(text: str, done: int, total: int) -> None:
    """Where nobody looks: in tests, in a library's use, in worker processes."""


_listener: HowFar = silent


@contextmanager
def heard_by(listener: HowFar) -> Iterator[None]:
    """Within the block, ``listener`` gets what `tell` and `stage` are called with."""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before


def tell(text: str, done: int, total: int) -> None:
    """Tell how far work is that nobody hands a `HowFar` to."""
    _listener(text, done, total)


@contextmanager
def stage(text: str) -> Iterator[None]:
    """Work that cannot be counted: its begin and its end."""
    tell(text, 0, 1)
    yield
    tell(text, 1, 1)
