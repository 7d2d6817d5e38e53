"""Where experts and teachers lie: stores that are known by all that their networks are a function of."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from distill.data.real import RealData
from distill.identity import flat_experts, flat_teachers, pathless
from distill.presets import CONFIGS
from distill.runs.checks import plain
from distill.teachers.store import ExpertStore


def store_of(
    experts: DictConfig, root: Path, real: RealData, data: str, network: Mapping[str, Any], seed: int
) -> ExpertStore:
    """Where ``experts`` of a network are or will be: trajectories, which have a loss of their own, or teachers.

    Args:
        root: folder of all stores.
        data: the option of ``configs/data`` that the real set is of.
        network: configuration.
    """
    known = flat_experts if "loss" in experts else flat_teachers
    train, views = real.train, instantiate(experts.recipe.views)
    usual = OmegaConf.load(CONFIGS / "data" / f"{data}.yaml").strategy
    identity = {
        "data": {"name": train.name, "fingerprint": real.fingerprint, "classes": list(train.class_names)},
        "preprocessing": str(train.preprocessing),
        "shape": list(train.shape),
        "student": network,
        "recipe": known(pathless(plain(experts))),
        "seed": seed,
    }
    if experts.get("dynamics"):
        identity["dynamics"] = "margins and errors"
    seen = views.families(train.strategy)
    if seen != views.families(usual):  # a store that tells none saw the usual ones
        identity["families"] = seen
    if train.shape[1] != train.shape[2]:  # a store that tells none saw rotations that sheared such images
        identity["geometry"] = "exact"
    return ExpertStore(root, identity, experts.count)
