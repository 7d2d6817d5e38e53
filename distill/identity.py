"""Identity: what stores, rows and folders are known by, names and values without a place in Python's code.

This is format 2. In format 1 a class was known by its path, and the digest was of nested records; what was written then is
found by `former_digits`. Either way a recipe or a protocol is known by the names of its values, not by how they are arranged
in parts (`flat_recipe`, `flat_protocol`): parts may be split, joined and moved.
"""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
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

Values = dict[str, Any]
PARTS: dict[str, Values] = {  # what a part says by being of its kind
    **dict.fromkeys(("Sgd", "Gsam"), {"optimizer": "sgd"}),
    **dict.fromkeys(("Adam", "AdamW"), {"optimizer": "adam"}),
    **dict.fromkeys(("Constant", "Drop", "Cosine", "WarmCosine", "CrossEntropy", "Clipped", "Augmented"), {}),
    "Cropped": {"augment": "resized_crop"},
    "AutoAugment": {"augment": "auto_augment"},
    "RandAugment": {"augment": "rand_augment"},
    "Jitter": {"augment": "jitter"},
    "Holed": {"augment": "holed"},
    "CompoundOf": {"augment": "dsa-compound"},
    "CutMix": {"mix": "cutmix"},
    "MixUp": {"mix": "mixup"},
    **{"Own": {"labels": "own"}, "Hard": {"labels": "hard"}, "SmoothedHard": {"labels": "hard"}},
    **{"OnTheFly": {"soft": "on_the_fly"}, "Stored": {"soft": "stored"}, "Once": {"soft": "once"}},
    **{"StoredLevels": {"soft": "quantised"}, "StoredDistances": {"soft": "dbr"}, "SoftHardSoft": {"soft": "hald"}},
    **{"KnowledgeDistillation": {"soft": "kd"}, "Reinforced": {"soft": "reinforced"}, "Fixed": {"soft": "fixed"}},
    **{"Last": {"iterate": "last"}, "OnVal": {"iterate": "val"}, "OnTest": {"iterate": "test"}},
}
RECIPE: Values = {  # the values that every recipe has, and what they are where no part tells
    **dict.fromkeys(("epochs", "extra_epochs", "optimizer", "lr")),
    **{"momentum": 0.0, "weight_decay": 0.0, "decay": 1.0, "decay_epoch": None, "decay_momentum": None},
    **dict.fromkeys(("batch", "augment", "precision")),
}
EXPERTS: Values = {"gsam_rho": None, "gsam_alpha": None, "ramp_start": 1.0, "ramp_epochs": 0, "gradient_penalty": 0.0}
TEACHERS: Values = {"stretch": None, "warmup_epochs": 0, "warmup_start": 0.0, "decoupled_decay": 0.0}
PROTOCOL: Values = {
    "artefact_lr": False,
    "labels": "hard",
    "students": None,
    "iterate": None,
    "test_every": None,
    "choices": {},
}
LABELLED: Values = {  # and those of protocols with a cosine
    **{"committee": {}, "soft": "none", "temperature": 20.0, "squared": False, "vote_temperature": 10.0, "top_k": None},
    **{
        "batch_of_ipc": None,
        "mix": "none",
        "mix_alpha": 1.0,
        "area": 0.08,
        "shuffle": 1,
        "micro_batches": 1,
        "ema": None,
    },
}
LATER: Values = {
    "steps": None,
    "decay_biases": False,
    "version": 1,
    "whole_batch": False,
    "validate": False,
    "eight_bits": False,
    "kept": 1.0,
    "pretraining": None,
}  # what settings of before did not say
UNSAID: Values = {**RECIPE, **EXPERTS, **TEACHERS, **PROTOCOL, **LABELLED, **LATER}


def parts_of(value: Any) -> Any:
    """A dataclass as the nested configuration that it is made of, each part with its ``kind``."""
    if is_dataclass(value):
        own = {each.name: parts_of(getattr(value, each.name)) for each in fields(value)}
        return {"kind": type(value).__name__, **own}
    if isinstance(value, Mapping):
        return {name: parts_of(each) for name, each in value.items()}
    return [parts_of(each) for each in value] if isinstance(value, list | tuple) else value


def flat_recipe(recipe: Mapping[str, Any], block: Values, **more: Any) -> Values:
    """A recipe's values by one name each, those of ``RECIPE`` and ``block`` and whatever else is not as usual.

    >>> recipe = {"kind": "Recipe", "epochs": 2, "lr": 0.1, "optimizer": {"kind": "Adam", "weight_decay": 0.0}, "mix": None}
    >>> values = flat_recipe(recipe, {})
    >>> values["optimizer"], values["epochs"], values["momentum"], "stretch" in values
    ('adam', 2, 0.0, False)
    """
    return _taken({**_hoisted(recipe), **more}, {**RECIPE, **block})


def flat_experts(experts: Mapping[str, Any]) -> Values:
    """What trajectories are known by: their recipe with its name, and which penalty is meant (once it was another)."""
    values = {"name": experts["name"], **flat_recipe(experts["recipe"], EXPERTS, **_hoisted(experts["loss"]))}
    return values | ({"penalty": "mean of squares"} if values["gradient_penalty"] else {})


def flat_teachers(teachers: Mapping[str, Any]) -> Values:
    """What teachers are known by: their recipe with its name, and what they learn without labels; with Adam, too, a momentum
    was told."""
    values = {"name": teachers["name"], **flat_recipe(teachers["recipe"], TEACHERS)}
    values |= {"pretext": teachers["pretext"]} if teachers.get("pretext") else {}
    return values | ({"momentum": 0.9} if values["optimizer"] == "adam" else {})


def flat_protocol(protocol: Mapping[str, Any]) -> Values:
    """What a protocol is known by; see `flat_recipe`."""
    own = {
        name: value
        for name, value in protocol.items()
        if name not in ("kind", "recipe", "labels", "choice", "candidates", "assumed")
    }
    values = own | {"choices": protocol["candidates"]}
    for part in ("recipe", "labels", "choice"):
        values |= _hoisted(protocol[part])
    asked = "soft" in values
    twin = values.pop("twin", asked)  # asked labels of before always had one
    if twin != asked:
        values |= {"twin": False} if asked else {"labels": "both"}
    if values.get("committee"):
        committee = {name: value for name, value in values["committee"].items() if name not in ("name", "pretext")}
        values["committee"] = committee | {"recipe": flat_teachers(values["committee"])}
    block = {**TEACHERS, **LABELLED} if protocol["recipe"]["schedule"]["kind"] in ("Cosine", "WarmCosine") else {}
    taken = {"name": own["name"], **_taken(values, {**RECIPE, **PROTOCOL, **block})}
    return taken | ({"last_batch": "in parts of the same size"} if values.get("micro_batches", 1) > 1 else {})


def _hoisted(record: Mapping[str, Any]) -> Values:
    """The values of a configuration and of its parts, side by side."""
    values: Values = dict(PARTS.get(record.get("kind", ""), {}))
    for name, value in record.items():
        if isinstance(value, Mapping) and "kind" in value:
            unknown = {} if value["kind"] in PARTS else {name: value["kind"]}
            values |= unknown | _hoisted(value)
        elif name != "kind" and not (name == "mix" and value is None):
            values[name] = value
    return values


def _taken(values: Values, block: Values) -> Values:
    more = {name: value for name, value in values.items() if name not in block and value != UNSAID.get(name, ...)}
    return {name: values.get(name, usual) for name, usual in block.items()} | more


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
    """The values of a nested configuration by dotted names, without Python's paths and without parts, as JSON has them.

    >>> canonical({"seed": 0, "network": {"_target_": "distill.students.ConvNet", "kernel": (3, 3)}})
    {'seed': 0, 'network.kind': 'ConvNet', 'network.kernel': [3, 3]}
    """
    return flat(_partless(pathless(json.loads(json.dumps(record, default=_plain)))))


def _partless(record: Any) -> Any:
    """Recipes and protocols in the form that they had before they were made of parts."""
    if not isinstance(record, dict):
        return record
    made = isinstance(record.get("optimizer"), dict) or "schedule" in record
    if record.get("kind") == "Recipe" and made:
        return {"kind": "Recipe", "name": "inner", **flat_recipe(record, {})}
    if record.get("kind") == "Protocol" and isinstance(record.get("recipe"), dict):
        values = {name: value for name, value in flat_protocol(record).items() if name != "last_batch"}
        if values.get("committee"):
            values["committee"]["recipe"]["kind"] = "CosineRecipe"
        return {"kind": "CommitteeProtocol" if "soft" in values else "Protocol", **values}
    own = {name: _partless(value) for name, value in record.items() if name != "network_augment"}
    recipe = record.get("recipe")
    if isinstance(recipe, dict) and isinstance(
        recipe.get("schedule"), dict
    ):  # of a flat one it is a name, where unusual
        known, kind = (flat_experts, "ExpertRecipe") if "loss" in record else (flat_teachers, "CosineRecipe")
        own = {name: value for name, value in own.items() if name not in ("name", "loss")}
        own["recipe"] = {"kind": kind, **{name: value for name, value in known(record).items() if name != "penalty"}}
    return own


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
