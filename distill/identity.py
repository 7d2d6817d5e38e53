"""Identity: what stores, rows and folders are known by, names and values without a place in Python's code.

This is format 2. In format 1 a class was known by its path, and the digest was of nested records; what was written then is
found by `former_digits`.
"""

import json
from collections.abc import Mapping
from typing import Any

from distill.files import digest, flat

FORMAT = 2
PLACES = {  # where the classes of format 1 lived
    **dict.fromkeys(("Protocol", "CommitteeProtocol", "Recipe", "ExpertRecipe", "CosineRecipe"), "distill.recipes"),
    **dict.fromkeys(("ConvNet", "ResNet", "ImageNetResNet", "VGG11", "ViT", "ShuffleNetV2"), "distill.students"),
    **dict.fromkeys(("MLP", "LeNet", "AlexNet"), "distill.students"),
    **dict.fromkeys(("MobileNetV2", "DenseNet121"), "distill.cvdd_networks"),
    "make": "distill.augment",
}


def pathless(record: Any) -> Any:
    """A nested configuration in which a class is known by its own name, as ``kind``, wherever it lives.

    >>> pathless({"_target_": "distill.students.ConvNet", "_partial_": True, "width": 8})
    {'kind': 'ConvNet', 'width': 8}
    """
    if isinstance(record, list):
        return [pathless(value) for value in record]
    if not isinstance(record, dict):
        return record
    kind = {"kind": str(record["_target_"]).rpartition(".")[2]} if "_target_" in record else {}
    return kind | {name: pathless(value) for name, value in record.items() if name not in ("_target_", "_partial_")}


def canonical(record: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a nested configuration by dotted names, without Python's paths, as JSON has them.

    >>> canonical({"seed": 0, "network": {"_target_": "distill.students.ConvNet", "kernel": (3, 3)}})
    {'seed': 0, 'network.kind': 'ConvNet', 'network.kernel': [3, 3]}
    """
    return flat(pathless(json.loads(json.dumps(record, default=_plain))))


def digits(record: Mapping[str, Any]) -> str:
    """Twelve hex digits that stand for a configuration: equal wherever classes live, and whatever the order of the values.

    >>> digits({"kind": "ConvNet", "width": 8}) == digits({"width": 8, "_target_": "elsewhere.ConvNet"})
    True
    """
    return digest({"format": FORMAT, **canonical(record)})


def former_digits(record: Mapping[str, Any]) -> str:
    """The digits that format 1 had for the same configuration of a network, or of experts."""
    return digest(_with_places(record))


def former_protocol(record: Mapping[str, Any]) -> str:
    """The digits that format 1 had for the same protocol: of nested values it took the text."""
    return digest({name: str(value) if isinstance(value, Mapping) else value for name, value in record.items()})


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else list(value)


def _with_places(record: Any) -> Any:
    if not isinstance(record, dict):
        return record
    own = {name: _with_places(value) for name, value in record.items()}
    name = str(record.get("_target_", "")).rpartition(".")[2]
    return own | ({"_target_": f"{PLACES[name]}.{name}"} if name in PLACES else {})
