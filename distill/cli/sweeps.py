"""Sweeps: one command line, a job for each combination of values, each job in a folder named by what differs."""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf

from distill.cli.typed import SWEEP, is_sweep, quoted
from distill.runs.composed import Composed, compose

if TYPE_CHECKING:
    from distill.runs.outside import Waiting

LONGEST = 200  # characters of a folder's name; file systems take 255 bytes
SAME = "hydra.job.config.override_dirname.exclude_keys"
STORES = ("experts_path", "labels_path")  # what jobs share


def sweep_overrides(arguments: Sequence[str]) -> list[str]:
    """The command line; of a sweep, with its folder and with the names of the values that all jobs have."""
    if not is_sweep(arguments):
        return list(arguments)
    parser, same, folder = OverridesParser.create(), [], []
    for item in arguments:
        try:
            override = parser.parse_override(item)
        except HydraException:
            continue  # a flag; or Hydra will say what is wrong with it
        if not override.is_sweep_override():
            same.append(f"'{override.key_or_group}'")
            if override.key_or_group == "out":
                folder = [f"hydra.sweep.dir{item.removeprefix('out')}"]
    rest = [item for item in arguments if item not in SWEEP]  # the flag first: Hydra takes none between values
    return [SWEEP[0], *folder, f"{SAME}=[{','.join(same)}]", *rest]


def placed(run: Composed) -> Composed:
    """The run; as a job of a sweep, in a folder of its own, with the stores of experts and labels that all jobs share."""
    own = HydraConfig.get()
    differs = {item.partition("=")[0] for item in run.stated} - set(own.job.config.override_dirname.exclude_keys)
    if own.mode is not RunMode.MULTIRUN or not differs:
        return run
    shared = Path(own.sweep.dir) if "out" in differs else None
    for name in STORES:
        own_store = f"{shared / name.removesuffix('_path')}" if shared and name not in differs else run.cfg[name]
        OmegaConf.update(run.cfg, name, own_store)
    if shared is None:
        run.cfg.out = str(Path(own.sweep.dir) / folder_name(own.job.override_dirname))
    names = ("out", *STORES)
    kept = [item for item in run.stated if item.partition("=")[0] not in names]
    return Composed(run.cfg, run.choices, [*kept, *quoted([f"{name}={run.cfg[name]}" for name in names])])


_failed: list[str] = []
_waiting: list["Waiting"] = []  # one, where a job of the sweep has workers on other machines


def waits(run: Composed) -> bool:
    """Whether the run is a job of a sweep that a worker of another machine does, when every job's experts are made."""
    from distill.runs.outside import Waiting  # brings torch

    own = HydraConfig.get()
    if own.mode is not RunMode.MULTIRUN:
        return False
    if not _waiting:
        _waiting.append(Waiting())
    return _waiting[0].take(own.job.override_dirname, run)


def finished() -> Iterator[Composed]:
    """Runs that find all there, when the jobs that waited are done; those that failed are told."""
    if not _waiting:
        return
    from distill.parallel import one_line
    from distill.runs.outside import alone

    done, jobs = [], _waiting[0]
    for name, error in jobs.go():
        if error is None:
            done.append(compose(*alone(jobs.runs[name].stated)))
        else:
            _fail(name, f"error: {one_line(error)}")
    yield from done


def _fail(job: str, why: str) -> None:
    _failed.append(job)
    print(f"{why} (job {job})", file=sys.stderr)


@contextmanager
def jobs_go_on() -> Iterator[None]:
    """What ends one job of a sweep with an error is told, and the next one begins."""
    try:
        yield
    except SystemExit as stop:
        own = HydraConfig.get()
        if own.mode is not RunMode.MULTIRUN or not str(stop.code).startswith("error: "):
            raise
        _fail(own.job.override_dirname, str(stop.code))


def of_failed_jobs() -> str:
    """What to say at the end of a sweep; empty where every job ended well."""
    names = "; ".join(_failed)
    return (
        f"error: {len(_failed)} of the sweep's jobs failed: {names}; the same command goes on with them"
        if _failed
        else ""
    )


def folder_name(differs: str) -> str:
    """``seed=0,method.lr_img=1`` as a folder may be called; a digest follows where that loses something."""
    name = re.sub(r"[^\w.,=+\[\]() -]", "_", re.sub(r"['\"]", "", differs))[:LONGEST]
    if name == differs:
        return name
    from distill.files import digest  # brings torch, without which --help answers

    return f"{name}-{digest(differs)[:8]}"
