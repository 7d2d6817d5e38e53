"""distill: dataset distillation in one straight line, from real images to a report.

import distill as dd

real = dd.load_data("digits")
synset = dd.make("dm", real, ipc=1)
report = dd.evaluate(synset, real)
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill.api import evaluate, experiments, load_data, make, methods, protocols, train_experts, train_teachers
    from distill.artefacts import kinds, load
    from distill.benchmark import run_suite
    from distill.evaluation.kept import load_student
    from distill.runs.comparing import compare
    from distill.sets.synthetic import SyntheticSet

__version__ = "0.1.0"
__all__ = [
    "SyntheticSet", "compare", "evaluate", "experiments", "kinds", "load", "load_data", "load_student", "make", "methods",
    "protocols", "run_suite", "train_experts", "train_teachers",
]  # fmt: skip
HERE = Path(__file__).parent
if not (HERE / "configs").exists():  # not a wheel, which brings them: a checkout, where they lie beside this package
    __path__.append(str(HERE.parent))  # distill.configs is configs/, and so on
HOMES = dict.fromkeys(("kinds", "load"), "distill.artefacts") | {
    "SyntheticSet": "distill.sets.synthetic", "compare": "distill.runs.comparing",
    "load_student": "distill.evaluation.kept", "run_suite": "distill.benchmark",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """What `__all__` names, imported when it is asked for: the command line answers --help without torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(HOMES.get(name, "distill.api")), name)


def __dir__() -> list[str]:
    return __all__
