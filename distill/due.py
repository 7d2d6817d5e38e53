"""When long work writes down where it stands: what a killed run loses, against what writing takes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 60.0  # that a killed run loses, and what its last step or epoch took
SHARE = 0.02  # of the time at most goes to writing


class Due:
    """Whether a state is to be written again.

    Attributes:
        at: seconds of `time.monotonic` from which it is.
    """

    def __init__(self) -> None:
        self.at = time.monotonic() + SECONDS

    @property
    def now(self) -> bool:
        return time.monotonic() > self.at

    @contextmanager
    def written(self) -> Iterator[None]:
        """Around what writes the state: the longer it takes, the later is the next."""
        begins = time.monotonic()
        yield
        ends = time.monotonic()
        self.at = ends + max(SECONDS, (ends - begins) / SHARE)
