"""Errors in one line: what came, what was expected, what helps."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from distill.runs.signals import Interrupted
from distill.text import harmless


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """What came, what was expected, what helps; DISTILL_TRACEBACK=1 shows where, too."""
    try:
        yield
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(stop.code)
    except Exception as error:
        from distill.runs.explained import REPORTED, explained  # brings Hydra, which --help can do without

        if not isinstance(error, REPORTED) or os.environ.get("DISTILL_TRACEBACK"):
            raise
        sys.exit(f"error: {harmless(' '.join(explained(error, sys.argv[1:]).split()))}")
