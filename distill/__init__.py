"""distill: dataset distillation in one straight line, from real images to a report.

synset = distill.load("synset.safetensors")
train = DataLoader(synset, batch_size=256, shuffle=True)
test = torchvision.datasets.CIFAR10("data", train=False, transform=synset.transform)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill.synset import SyntheticSet, load

__all__ = ["SyntheticSet", "load"]


def __getattr__(name: str) -> Any:
    """What `__all__` names, imported when it is asked for: the command line answers --help without torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from distill import synset

    return getattr(synset, name)
