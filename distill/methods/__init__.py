"""Methods that make synthetic sets; called, their names."""

import sys
from types import ModuleType

from distill.presets import options


class _Room(ModuleType):
    """``distill.methods`` is this package and, as beside ``distill.protocols()``, a function: a package takes the name."""

    def __call__(self) -> list[str]:
        return options("method")


sys.modules[__name__].__class__ = _Room
