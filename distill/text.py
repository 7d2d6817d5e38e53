"""Text that users and strangers' files give, checked where it enters and made harmless where it leaves; what was called."""

import re
import shlex
import sys
from pathlib import Path
from typing import Any

LONGEST_NAME = 150  # bytes; file systems take 255, and names get additions
LONGEST_CELL = 200
# Control characters, line and paragraph separators, halves of characters, and what turns text around.
STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def check_name(setting: str, name: Any) -> None:
    """Raise ValueError unless ``name`` can be part of a file's name, in whatever script.

    Args:
        setting: what the name is the value of, for the message.
    """
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{setting} is {name!r}, expected a name")
    if name.startswith(".") or any(c in '/\\:*?"<>|' for c in name) or harmless(name) != name:
        raise ValueError(
            f'{setting} is {name!r}, which names no file: leave out / \\ : * ? " < > |, control characters and a leading dot'
        )
    if len(name.encode()) > LONGEST_NAME:
        raise ValueError(f"{setting} has {len(name.encode())} bytes, expected at most {LONGEST_NAME}")


def harmless(text: str, lines: bool = False) -> str:
    """``text`` with the characters spelt out that steer a terminal or turn text around; line breaks stay with ``lines``."""
    return STEERING.sub(lambda c: c[0] if lines and c[0] == "\n" else c[0].encode("unicode_escape").decode(), text)


def shown(value: Any) -> str:
    """``value`` as a cell of a table: `harmless`, and cut where it does not end."""
    text = str(value)
    return harmless(text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL - 1]}…")


def signed(points: float) -> str:
    """A difference, never as -0.0.

    >>> signed(2.06), signed(-0.007), signed(-3)
    ('+2.1', '+0.0', '-3.0')
    """
    return f"{round(points, 1) + 0.0:+.1f}"  # -0.0 + 0.0 is 0.0


def spreadsheet(value: Any) -> Any:
    """``value`` as a cell of a sheet: text that a spreadsheet would compute gets the apostrophe that keeps it text."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def command() -> str:
    """What stands before the words of a command line, as this process was started; ``python run.py`` if by none of the ways."""
    program = Path(sys.argv[0])
    if program.parts[-2:] == ("distill", "__main__.py"):
        return "python -m distill"
    return "distill" if program.stem == "distill" else "python run.py"


def command_line() -> str:
    """The command line of this process."""
    return shlex.join([*command().split(), *sys.argv[1:]])
