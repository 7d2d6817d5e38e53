"""distill: dataset distillation in one straight line, from real images to a report.

synset = distill.load("synset.safetensors")
train = DataLoader(synset, batch_size=256, shuffle=True)
test = torchvision.datasets.CIFAR10("data", train=False, transform=synset.transform)
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill.sets.reading import load
    from distill.sets.synthetic import SyntheticSet

__version__ = "0.1.0"
__all__ = ["SyntheticSet", "load"]
HERE = Path(__file__).parent
if not (HERE / "configs").exists():  # not a wheel, which brings both: a checkout, where they lie beside this package
    __path__.append(str(HERE.parent))  # distill.configs is configs/, distill.experts is experts/
HOMES = {"SyntheticSet": "distill.sets.synthetic", "load": "distill.sets.reading"}


def __getattr__(name: str) -> Any:
    """What `__all__` names, imported when it is asked for: the command line answers --help without torch."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(HOMES[name]), name)
