"""The outer loop: runs a Method under Lightning, writes snapshots, goes on where an interrupted run stopped."""

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from distill.checks import check_ranges
from distill.due import Due
from distill.effort import peak_bytes
from distill.files import Newer, load_tensors, read_record, replacing, save_tensors, write_record
from distill.identity import canonical, pathless
from distill.methods.base import Diverged, Method
from distill.progress import HowFar, stage
from distill.sets.reading import SUFFIX, load
from distill.sets.soundness import check_types
from distill.sets.synthetic import SyntheticSet
from distill.training.loop import optimizer_tensors, restore_optimizer

logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # it tells of every stop

MANY_SKIPS = 0.25  # share of the outer steps from which a finished run warns


def claim(folder: Path, config: Mapping[str, Any]) -> None:
    """Make ``folder`` the home of one configuration, or see that it is; ``auto`` leaves open what it was.

    Raises:
        ValueError: it belongs to another one; nothing in it is touched.
    """
    path = folder / "config.json"
    if not path.exists():
        write_record(path, pathless(config))
        return
    before, now = canonical(read_record(path, f"restore it, or delete {folder} to start anew")), canonical(config)
    differing = sorted(key for key in before.keys() | now.keys() if now.get(key) not in (before.get(key), "auto"))
    if differing:
        key = differing[0]
        raise ValueError(
            f"{folder} belongs to another configuration: {key} was {before.get(key)}, is {now.get(key)}"
            f"{f' (and {len(differing) - 1} more)' if differing[1:] else ''}; choose another folder with out=DIR or delete it"
        )


def distill(
    method: Method,
    folder: Path,
    record: Mapping[str, Any],
    loggers: Sequence[Logger],
    device: str,
    progress: HowFar,
) -> Path:
    """Run ``method`` to its last step and write ``<folder>/synset.safetensors``; go on from the last state if there is one.

    Args:
        folder: of this synthesis alone; gets ``snapshots/``, ``grid.png`` and ``state.safetensors`` too.
        record: what the artefact says of itself beside the tensors.
        loggers: get the metrics; one that has ``log_image(key, image, step)``, a picture at every snapshot, too.
        device: of the images, ``cpu`` or ``cuda:1``.
        progress: called with (text, outer steps done, outer steps in all).

    Returns:
        Path of the synthetic set.

    Raises:
        Diverged: too many outer steps in a row were skipped; the last good set stays.
    """
    home = _Home(folder, record, method.steps, method.snapshot_every, progress)
    if is_finished(folder, method.steps):
        return home.synset_path
    with stage(f"preparing {folder.name}"):
        home.begin(method)
    if not method.steps:  # a process whose share is empty
        return home.synset_path
    try:
        outer_loop(method, device, list(loggers), home)
    except Diverged as error:
        raise Diverged(f"{error}; the last good set is {home.synset_path}") from None
    if method.skips > MANY_SKIPS * method.steps:
        why = method.skipped_because or "see skipped_steps in its metrics"
        print(
            f"warning: {method.skips} of {method.steps} outer steps of {folder.name} were skipped ({why}): it "
            "learned little; lower its step sizes (method.lr_*)",
            file=sys.stderr,
        )
    return home.synset_path


def outer_loop(method: Method, device: str, loggers: list[Logger], callback: Callback) -> None:
    """Go the outer steps that are left, of a method that has begun."""
    rank_zero_only.rank = 0  # type: ignore[attr-defined]  # each process of a torchrun logs what it makes
    card = torch.device(device).index
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu" if card is None else "gpu",
        devices=1 if card is None else [card],
        logger=loggers,
        callbacks=[callback],
        log_every_n_steps=method.log_every,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        plugins=[LightningEnvironment()],  # processes of a torchrun share work by folders, not by Lightning
    )
    trainer.fit(method)


def is_finished(folder: Path, steps: int) -> bool:
    """Whether the set in ``folder`` has gone all outer steps."""
    path = folder / f"synset{SUFFIX}"
    return path.exists() and load(path).record.get("step") == steps


def kept_step(folder: Path) -> int | None:
    """Outer steps behind the state from which a run in ``folder`` goes on; None before there is one."""
    path = folder / f"state{SUFFIX}"
    return int(load_tensors(path)[1]["step"]) if path.exists() else None


class _Home(Callback):
    """The folder of one synthesis: what lies there, and when it is written."""

    def __init__(self, folder: Path, record: Mapping[str, Any], steps: int, every: int, progress: HowFar):
        self.folder, self.record, self.steps, self.every, self.progress = folder, record, steps, every, progress
        self.synset_path = folder / f"synset{SUFFIX}"
        self.state_path = folder / f"state{SUFFIX}"
        self.momentum: dict[str, Tensor] = {}
        self.done, self.began = 0, time.monotonic()  # earlier still, for a run that goes on
        self.due = Due()  # a state between snapshots

    def begin(self, method: Method) -> None:
        """Start afresh, or from the state that an interrupted run left."""
        if not self.state_path.exists():
            method.begin()
            self.write(method, 0, {})
            return
        try:
            tensors, state = load_tensors(self.state_path)
            momentum, extra = _pop(tensors, "optimizer."), _pop(tensors, "extra.")
            start = SyntheticSet.of_images(
                method.real, torch.zeros(1, dtype=torch.long, device=method.real.images.device)
            )
            counts = dict.fromkeys(("skips", "skips_in_a_row"), "whole [0, inf)") | {"seconds": "absent or [0, 1e18]"}
            start = _restored(self.state_path, start, tensors, state, counts).to(start.images.device)
        except Newer:
            raise
        except ValueError as error:
            kept = max(self.folder.glob(f"snapshots/step_*{SUFFIX}"), default="none")
            raise ValueError(f"{error}; or delete it to start anew (last snapshot: {kept})") from None
        self.momentum = momentum
        method.begin(start)
        method.restore({name: tensor.to(start.images.device) for name, tensor in extra.items()})
        self.began -= state.get("seconds", 0.0)  # states of before have none
        method.start_step, method.skips, method.skips_in_a_row = state["step"], state["skips"], state["skips_in_a_row"]

    def write(self, method: Method, step: int, optimizer: Mapping[str, Tensor]) -> None:
        """Snapshot, set and state after ``step`` outer steps; the state last, so that what it promises is there."""
        if not method.peers.first:
            return
        artefact = method.artefact()
        took = {"seconds": time.monotonic() - self.began, "peak_bytes": peak_bytes(artefact.images.device)}
        told = {"step": step, "label_kind": artefact.label_kind}
        save_tensors(self.folder / "snapshots" / f"step_{step:06d}{SUFFIX}", _own(artefact.stored), told)
        artefact.save(
            self.synset_path,
            {**self.record, "step": step, "steps": self.steps, "skipped_steps": method.skips, **took},
        )
        save_grid(self.folder, artefact)
        self.write_state(method, step, optimizer)

    def write_state(self, method: Method, step: int, optimizer: Mapping[str, Tensor]) -> None:
        """All that the run needs to go on after ``step`` outer steps."""
        with self.due.written():
            synset = method.synset.copy()
            told = {"step": step, "label_kind": synset.label_kind, "seconds": time.monotonic() - self.began}
            save_tensors(
                self.state_path,
                {
                    **_own(synset.tensors),
                    **{f"optimizer.{name}": tensor for name, tensor in optimizer.items()},
                    **{f"extra.{name}": tensor for name, tensor in method.extra_tensors().items()},
                },
                {**told, "skips": method.skips, "skips_in_a_row": method.skips_in_a_row},
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.momentum:
            restore_optimizer(trainer.optimizers[0], self.momentum)
        assert isinstance(pl_module, Method)
        self.done = pl_module.start_step
        self.tell()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        # Here rather than at the end of the step before, whose metrics the loggers have only now.
        assert isinstance(pl_module, Method)
        if batch_idx and int(batch) % self.every == 0:
            self.snapshot(trainer, pl_module)
        elif self.due.now and int(batch) % pl_module.log_every == 0 and pl_module.peers.first:
            # where metrics are logged, the skips until then are counted
            save_logs(trainer)
            self.write_state(pl_module, self.done, optimizer_tensors(trainer.optimizers[0]))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.done = int(batch) + 1
        self.tell()

    def tell(self) -> None:
        self.progress(f"distilling {self.folder.name}", self.done, self.steps)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.done == self.steps:
            self.snapshot(trainer, pl_module)

    def snapshot(self, trainer: Trainer, method: LightningModule) -> None:
        """Write where the run stands, and what it logged until then."""
        assert isinstance(method, Method)
        save_logs(trainer)
        self.write(method, self.done, optimizer_tensors(trainer.optimizers[0]))
        for logger in trainer.loggers:
            if hasattr(logger, "log_image"):
                logger.log_image("synthetic", method.synset.picture(), self.done)


def save_logs(trainer: Trainer) -> None:
    """Write what was logged until now."""
    for logger in trainer.loggers:
        logger.save()


def save_grid(folder: Path, synset: SyntheticSet) -> None:
    """Write ``grid.png``: at most ten images of each class, of as many classes as fit into a picture."""
    with replacing(folder / "grid.png") as part:
        torchvision.utils.save_image(synset.picture(), part, format="png")


def iterates(path: Path, most: int | None = None) -> dict[int, SyntheticSet]:
    """The snapshots beside a synthetic set, by outer step; empty where none of its own were kept.

    Args:
        most: that are read, evenly from the first to the last; None reads all.
    """
    files = sorted((path.parent / "snapshots").glob(f"step_*{SUFFIX}"))
    if most is not None and len(files) > most:
        files = [files[round(place * (len(files) - 1) / (most - 1))] for place in range(most)]
    if not files:
        return {}
    final = load(path)
    found = {}
    for file in files:
        tensors, state = load_tensors(file)
        restored = _restored(file, final, tensors, state, {})
        found[state["step"]] = restored
    own = bool(found) and found[max(found)].hash == final.hash  # or those of another set in the same folder
    return found if own else {}


def _own(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of a set itself, without its preprocessing's."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("preprocessing.")}


def _pop(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Take the tensors whose names begin with ``prefix`` out, under the rest of their names."""
    return {name[len(prefix) :]: tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}


def _restored(
    file: Path, synset: SyntheticSet, tensors: Mapping[str, Tensor], state: Mapping[str, Any], fields: Mapping[str, str]
) -> SyntheticSet:
    """``synset`` with the tensors and the kind of labels of a state or snapshot.

    Raises:
        ValueError: the file is neither.
    """
    try:
        check_types(tensors)
        check_ranges("", state, {"step": "whole [0, inf)", "label_kind": "text", **fields})
        if tensors["images"].dtype == torch.uint8:
            tensors = {**tensors, "images": synset.preprocessing(tensors["images"].float() / 255)}
        return synset.with_(label_kind=state["label_kind"], **{"lr": None, **tensors})
    except ValueError as error:
        raise ValueError(f"{file} is not what a run keeps of itself: {error}") from None
