"""Loggers of a run: Lightning's own, as configs/logger names them; a service that fails stops no run.

A synthetic set is a group of runs at the service: one that distilled it, and one for each row of the report that judged it.
Metrics have the same names in all of them, so that one chart compares sets.
"""

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger
from torch import Tensor

from distill.runs.line import Line
from distill.sets.looks import eight_bit
from distill.text import harmless


class Service(Logger):
    """One run at a service, through Lightning's logger for it.

    It is begun with the first that there is to log. Where the service fails, the run goes on without it, with a warning.

    Args:
        settings: of the logger, as the configuration has them.
        out: folder of all that is written.
        group: name of the synthetic set, or of what else was judged.
        job: what the run does: ``distill``, ``evaluate`` or ``report``.
        name: of the run within its group.
        about: what a service keeps as the configuration of the run.
    """

    title = ""

    def __init__(self, settings: DictConfig, out: Path, group: str, job: str, name: str, about: Mapping[str, Any]):
        super().__init__()
        self.settings, self.out, self.about = settings, out, about
        self.group, self.job, self.own_name = group, job, name
        self.lightning: Any = None  # the logger, once it is begun
        self.failed = False

    def begin(self, make: Callable[..., Logger]) -> Logger:
        """Lightning's logger.

        Args:
            make: its class with the settings; takes more.
        """
        raise NotImplementedError

    @property
    def place(self) -> Path:
        """Where its files are, if it has some here."""
        raise NotImplementedError

    @property
    def begun(self) -> bool:
        return self.lightning is not None

    def ask(self, call: Callable[[Any], Any]) -> None:
        """Call with Lightning's logger."""
        if self.failed:
            return
        try:
            if self.lightning is None:
                self.lightning = self.begin(instantiate(self.settings, _partial_=True))
                self.log_hyperparams(self.about)
            if not self.failed:
                call(self.lightning)
        except Exception as error:  # whatever the service or its client raises, the run goes on
            self.failed = True
            what = harmless(" ".join(str(error).split()))
            print(f"warning: {self.title} is left out: {what}", file=sys.stderr)

    @property
    def name(self) -> str:
        return self.own_name

    @property
    def version(self) -> str:
        return self.group

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.ask(lambda logger: logger.log_metrics(metrics, step))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.ask(lambda logger: logger.log_hyperparams(params))

    def log_image(self, key: str, image: Tensor, step: int) -> None:
        """A picture (3, H, W) in [0, 1]."""

    def log_table(self, key: str, columns: list[str], cells: list[list[Any]]) -> None:
        """A table, where the service has such."""

    def log_row(self, measured: Mapping[str, float]) -> None:
        """The numbers of a row."""
        self.log_metrics(measured)

    def keep(self, path: Path) -> None:
        """The file of the finished set, where the service takes files."""

    def save(self) -> None:
        if self.begun:
            self.ask(lambda logger: logger.save())

    def finalize(self, status: str) -> None:
        """Nothing yet: the set is kept after its training has ended."""

    def end(self, status: str) -> None:
        """Close the run with ``success`` or ``failed``."""
        if self.begun:
            self.ask(lambda logger: logger.finalize(status))


class Wandb(Service):
    title, given = "Weights & Biases", False

    def begin(self, make: Callable[..., Logger]) -> Logger:
        import wandb

        quiet = wandb.Settings(init_timeout=60, silent=True, console="off")
        wandb.setup(quiet)  # before the client warns of what Lightning asks it
        has_key = bool(os.environ.get("WANDB_API_KEY") or wandb.api.api_key)
        mode = os.environ.get("WANDB_MODE") or self.settings.mode or ("online" if has_key else "offline")
        self.given = wandb.run is not None  # then Lightning logs to that one, and it is not ours to finish
        logger: Any = make(
            save_dir=str(self.out),
            group=self.group,
            job_type=self.job,
            name=self.own_name,
            mode=mode,
            settings=quiet,
        )
        logger.experiment  # noqa: B018  # Lightning makes the run here
        return logger

    @property
    def place(self) -> Path:
        return self.out / "wandb"

    def log_image(self, key: str, image: Tensor, step: int) -> None:
        self.ask(lambda logger: logger.log_image(key, [image.cpu()], step))

    def log_table(self, key: str, columns: list[str], cells: list[list[Any]]) -> None:
        self.ask(lambda logger: logger.log_table(key, columns, cells))

    def keep(self, path: Path) -> None:
        self.ask(lambda logger: self.log_artifact(logger.experiment, path))

    def log_artifact(self, run: Any, path: Path) -> None:
        import wandb

        about = {name: value for name, value in self.about.items() if name != "run"}
        artifact = wandb.Artifact(re.sub(r"[^a-zA-Z0-9_.-]", "_", self.group), "synthetic-set", metadata=about)
        for file in (path, path.parent / "grid.png"):
            artifact.add_file(str(file.resolve()), policy="immutable")  # no copy of it in a folder of the client's
        run.log_artifact(artifact)

    def end(self, status: str) -> None:
        super().end(status)
        if self.begun and not self.given:
            failed, self.failed = self.failed, False  # a run that is left open would take what comes after it
            self.ask(lambda logger: logger.experiment.finish(exit_code=int(status != "success")))
            self.failed |= failed


class TensorBoard(Service):
    title = "TensorBoard"

    def begin(self, make: Callable[..., Logger]) -> Logger:
        return make(name=self.group, version=self.own_name, default_hp_metric=False)

    @property
    def place(self) -> Path:
        return Path(self.settings.save_dir)

    def log_image(self, key: str, image: Tensor, step: int) -> None:
        self.ask(lambda logger: logger.experiment.add_image(key, image, step))

    def log_row(self, measured: Mapping[str, float]) -> None:
        self.ask(lambda logger: logger.log_hyperparams(self.about, measured))  # its table of HParams sorts by them


class MLFlow(Service):
    title = "MLflow"

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.told: set[str] = set()

    def begin(self, make: Callable[..., Logger]) -> Logger:
        import mlflow

        logging.getLogger(mlflow.__name__).setLevel(logging.WARNING)  # it tells of every table that it makes
        logging.getLogger("pytorch_lightning.loggers.mlflow").setLevel(logging.ERROR)  # and of each new experiment
        logger: Any = make(
            run_name=f"{self.group} {self.own_name}" if self.job == "evaluate" else self.group,
            tags={"group": self.group, "job_type": self.job},
            **self.database(),
        )
        logger.experiment  # noqa: B018  # Lightning makes the run here
        return logger

    def database(self) -> dict[str, str]:
        """Which one takes the run: a file of ours where none is named."""
        given = self.settings.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        if given:
            return {"tracking_uri": given}
        out = self.out.resolve()
        return {"tracking_uri": f"sqlite:///{out / 'mlflow.db'}", "artifact_location": (out / "mlruns").as_uri()}

    @property
    def place(self) -> Path:
        return self.out / "mlflow.db"

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        new = {name: value for name, value in flat(params) if name not in self.told}  # it takes each once
        self.told |= new.keys()
        super().log_hyperparams(new)

    def log_image(self, key: str, image: Tensor, step: int) -> None:
        self.ask(lambda logger: logger.experiment.log_image(logger.run_id, eight_bit(image), key=key, step=step))

    def keep(self, path: Path) -> None:
        self.ask(lambda logger: logger.experiment.log_artifact(logger.run_id, str(path)))

    def end(self, status: str) -> None:
        if self.begun:
            import mlflow

            self.ask(lambda _: mlflow.flush_async_logging())
        super().end(status)


SERVICES: dict[str, type[Service]] = {"wandb": Wandb, "tensorboard": TensorBoard, "mlflow": MLFlow}


def flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Values of groups within groups, by names that MLflow takes."""
    for key, value in values.items():
        name = above + re.sub(r"[^\w.\- ]", "_", str(key))
        if isinstance(value, Mapping):
            yield from flat(value, f"{name}/")
        else:
            yield name, value


@contextmanager
def services(line: Line, group: str, job: str, name: str, about: Mapping[str, Any]) -> Iterator[list[Service]]:
    """The services that the configuration names, with a run each until the block ends."""
    chosen = {kind: node for kind, node in line.cfg.logger.items() if kind in SERVICES and kind not in line.left_out}
    found = {kind: SERVICES[kind](node, line.out, group, job, name, about) for kind, node in chosen.items()}
    status = "failed"
    try:
        yield list(found.values())
        status = "success"
    finally:
        for service in found.values():
            service.end(status)
        line.left_out |= {kind for kind, service in found.items() if service.failed}
        places = [service.place for service in found.values() if service.begun]
        line.written += [place for place in places if place.exists() and place not in line.written]
