#!/usr/bin/env python
"""python run.py [task=experts|distill|evaluate|all|report] ... : the whole line from the command line; see --help."""

from __future__ import annotations

import ctypes
import difflib
import errno
import os
import re
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

if TYPE_CHECKING:  # what computes is imported inside the tasks: --help and --cfg answer at once
    import torch
    from rich.progress import Progress

    from distill.committee import Committee
    from distill.data import RealData
    from distill.recipes import Protocol
    from distill.report import Report
    from distill.synset import SyntheticSet
    from distill.trajectory import ExpertStore

CONFIGS = Path(__file__).parent / "configs"
TASKS = ("experts", "distill", "evaluate", "all", "report")


class Line:
    """The straight line of one configuration; each method is an arrow, and skips what its file already answers."""

    def __init__(self, cfg: DictConfig, bars: Progress):
        import torch

        from distill.data import load

        check_values(cfg)
        self.cfg, self.out, self.bars = cfg, Path(cfg.out), bars
        self.asked: dict[str, Committee] = {}
        self.rank, self.processes = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        # An overlay may set a value of a network that the command line replaced by another one.
        self.students = {name: node for name, node in plain(cfg.student).items() if "_target_" in node}
        self.device = device(cfg.device)
        if cfg.threads is not None:
            torch.set_num_threads(cfg.threads)
        self.synsets = self.given_sets()
        prepare = self.synsets[0].preprocessing if self.synsets else None
        settings: dict[str, Any] = OmegaConf.to_container(cfg.data, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
        self.real: RealData = load(settings.pop("name"), **settings, prepare=prepare, device=self.device)
        self.check()
        self.command = shlex.join(["python", "run.py", *HydraConfig.get().overrides.task])
        self.written: list[Path] = []
        self.wandb: Any = None

    def check(self) -> None:
        """Let what is impossible fail now rather than after the experts are trained."""
        from distill.committee import check_settings

        if self.processes > 1 and "share" not in self.cfg.method:
            raise ValueError(f"this method cannot be shared by {self.processes} processes: run it without torchrun")
        self.protocol()
        for node in self.committees():
            check_settings(plain(node))
        for name in self.students:
            self.student(name)()
        if self.cfg.task != "evaluate" and not self.teachers_alone:
            for ipc in self.ipcs:
                self.method(ipc, self.cfg.seed, self.untrained)

    def progress(self, text: str, done: int, total: int) -> None:
        task = next((task.id for task in self.bars.tasks if task.description == text), None)
        self.bars.update(self.bars.add_task(text, total=total) if task is None else task, completed=done)

    # --- real images -> experts ---------------------------------------------------------------------------------------

    def expert_store(self) -> ExpertStore | None:
        """Where this configuration's expert trajectories are or will be; None for methods that learn from none."""
        if "experts" not in self.cfg.method:
            return None
        return self.store(self.cfg.method.experts, self.first_student)

    def store(self, experts: DictConfig, network: str) -> ExpertStore:
        """Where ``experts`` of this network are or will be."""
        from distill.trajectory import ExpertStore

        train = self.real.train
        identity = {
            "data": {"name": train.name, "fingerprint": self.real.fingerprint, "classes": list(train.class_names)},
            "preprocessing": str(train.preprocessing),
            "shape": list(train.shape),
            "student": self.network(network),
            "recipe": instantiate(experts.recipe).identity,  # no class path: where the class lives may change
            "seed": self.cfg.seed,
        }
        return ExpertStore(Path(self.cfg.experts_path), identity, experts.count)

    def experts(self) -> None:
        from distill.files import alone_in
        from experts.teachers import train_teachers
        from experts.train import train_experts

        store = None if self.teachers_alone else self.expert_store()
        if store is not None:
            recipe, net = instantiate(self.cfg.method.experts.recipe), self.student(self.first_student)
            with alone_in(store.folder):
                train_experts(store, self.real, net, recipe, self.cfg.seed, self.progress, self.cfg.compile)
            self.written.append(store.folder)
        for node in [self.cfg.experts] if self.teachers_alone else self.committees():
            for name, store in self.teacher_stores(node).items():
                if store.folder in self.written:
                    continue
                with alone_in(store.folder):
                    recipe = instantiate(node.recipe)
                    train_teachers(store, self.real, self.student(name), recipe, self.cfg.seed, self.progress)
                self.written.append(store.folder)

    @property
    def teachers_alone(self) -> bool:
        """Whether ``task=experts experts=...`` names what is to be trained."""
        return self.cfg.task == "experts" and self.cfg.get("experts") is not None

    def committees(self) -> list[DictConfig]:
        """Configurations of the teachers that the method and the protocol ask."""
        nodes = [self.cfg.method.get("committee")]
        if self.cfg.protocol.get("soft", "none") != "none" and self.cfg.task != "distill":
            nodes.append(self.cfg.protocol.committee)
        return [node for node in nodes if node is not None]

    def teacher_stores(self, node: DictConfig) -> dict[str, ExpertStore]:
        return {name: self.store(node, name) for name in node.networks}

    def committee(self, node: DictConfig) -> Committee:
        """The trained teachers of a configuration, scored on real images before they are asked for anything."""
        from distill.committee import Committee
        from distill.files import digest

        key = digest(plain(node))
        if key not in self.asked:
            stores = self.teacher_stores(node)
            committee = Committee.load(
                stores, lambda name: self.student(name)(), self.device, node.priors and list(node.priors)
            )
            committee.check(self.real.val if len(self.real.val) else self.real.train, node.minimum)
            self.asked[key] = committee
        return self.asked[key]

    def untrained(self, node: DictConfig) -> Committee:
        """Networks as a committee, to see whether a method takes them."""
        from distill.committee import Committee

        nets = [self.student(name)() for name in node.networks for _ in range(node.count)]
        return Committee(tuple(node.networks) * node.count, tuple(nets), (0.0,) * len(nets))

    # --- experts -> synthetic set -------------------------------------------------------------------------------------

    def distill(self) -> None:
        store = self.expert_store()
        if store is not None:
            store.complete()
        for ipc in self.ipcs:
            for synthesis in range(self.cfg.syntheses):
                self.written.append(self.synthesis(ipc, self.cfg.seed + synthesis, store))

    def method(self, ipc: int, seed: int, committee: Any = None, share: tuple[int, int] | None = None) -> Any:
        """The method of this configuration, for one synthesis.

        Args:
            committee: makes its teachers from their configuration; None loads them.
            share: (rank, processes), for one process's share of the work.
        """
        store = self.expert_store()
        needs: dict[str, Any] = {} if store is None else {"experts": store}
        if "committee" in self.cfg.method:
            needs["committee"] = (committee or self.committee)(self.cfg.method.committee)
        if share is not None:
            needs["share"] = share
        make = instantiate(self.cfg.method)
        return make(real=self.real.train, ipc=ipc, student=self.student(self.first_student), seed=seed, **needs)

    def synthesis(self, ipc: int, seed: int, store: ExpertStore | None) -> Path:
        from pytorch_lightning.loggers import CSVLogger

        from distill.files import alone_in
        from distill.outer import claim, distill, join

        folder = self.folder(ipc, seed)
        identity = {
            "data": self.real.fingerprint,
            "student": self.students[self.first_student],
            "method": plain(self.cfg.method),
            "experts": self.learned_from(store),
            "ipc": ipc,
            "seed": seed,
        }
        record = {
            "method": HydraConfig.get().runtime.choices["method"],
            "ipc": ipc,
            "seed": seed,
            "picked_on": "last",
            "protocol": plain(self.cfg.protocol),
            "config": plain(self.cfg),
            "overrides": list(HydraConfig.get().overrides.task),
            "data_fingerprint": self.real.fingerprint,
            "experts": identity["experts"],
        }
        loggers: list[Any] = [CSVLogger(folder, name="metrics", flush_logs_every_n_steps=100)]
        if self.cfg.logger.wandb is not None:
            loggers += self.wandb_loggers(folder.name)
        accelerator = "gpu" if self.device.type == "cuda" else "cpu"
        if self.processes == 1:
            with alone_in(folder):
                claim(folder, identity)
                return distill(self.method(ipc, seed), folder, record, loggers, accelerator, self.progress)
        shares = [folder / f"share_{rank}_of_{self.processes}" for rank in range(self.processes)]
        own = shares[self.rank]
        with alone_in(own):
            claim(own, identity)
            method = self.method(ipc, seed, share=(self.rank, self.processes))
            distill(method, own, record, loggers, accelerator, self.progress)
        self.wait()
        if self.rank == 0:
            with alone_in(folder):
                claim(folder, identity)
                join(
                    [self.method(ipc, seed, share=(rank, self.processes)) for rank in range(self.processes)],
                    shares,
                    folder,
                )
        self.wait()
        return folder / "synset.safetensors"

    def wait(self) -> None:
        """Until every process of a torchrun is here."""
        if self.processes > 1:
            import torch.distributed as dist

            if not dist.is_initialized():
                dist.init_process_group("gloo", timeout=timedelta(days=7))
            dist.barrier()

    def learned_from(self, store: ExpertStore | None) -> Any:
        """Names of the stores whose experts or teachers stand behind a synthesis."""
        if "committee" in self.cfg.method:
            return [each.folder.name for each in self.teacher_stores(self.cfg.method.committee).values()]
        return None if store is None else store.folder.name

    def folder(self, ipc: int, seed: int) -> Path:
        name = HydraConfig.get().runtime.choices["method"]
        return self.out / f"{self.real.train.name}-{name}-ipc{ipc}-seed{seed}"

    # --- synthetic set -> students -> report --------------------------------------------------------------------------

    def evaluate(self) -> None:
        from distill.files import alone_in

        with alone_in(self.out):
            self.report_rows()

    def report_rows(self) -> None:
        from rich.console import Console

        from distill.outer import iterates
        from distill.page import write_page
        from distill.report import Report
        from distill.synset import file_of, load

        report = Report(self.out / "report.json")
        groups = [(self.cfg.synset, self.synsets)] if self.synsets else []
        if not groups:
            for ipc in self.ipcs:
                paths = [self.folder(ipc, self.cfg.seed + i) for i in range(self.cfg.syntheses)]
                groups.append((paths, [load(path) for path in paths]))
        for paths, synsets in groups:
            made, ipc = str(synsets[0].record.get("method", "unknown")), len(synsets[0]) // synsets[0].num_classes
            if any((s.record.get("method", "unknown"), len(s)) != (made, len(synsets[0])) for s in synsets):
                raise ValueError("synset lists sets of different methods or sizes: evaluate them one after the other")
            found = [file_of(path) for path in paths]
            snapshots = [iterates(path) for path in found]
            near = [os.path.relpath(path, self.out) for path in found]
            self.rows(report, synsets, made, ipc, snapshots, self.cfg.published, near)
            self.random_rows(report, ipc)
        if self.cfg.baselines.whole:
            self.whole_row(report)
        self.bars.stop()
        Console(width=None if sys.stdout.isatty() else 120).print(report.table())
        if self.wandb is not None:
            import wandb

            columns: list[Any] = sorted({key for row in report.rows for key in row})
            cells = [[str(row.get(key)) for key in columns] for row in report.rows]
            self.wandb.log({"report": wandb.Table(columns=columns, data=cells)})
        again = ["python", "run.py", "task=report", f"out={self.out}"]
        self.written += [report.path, *write_page(report, [report], shlex.join(again))]

    def rows(
        self,
        report: Report,
        synsets: list[SyntheticSet],
        method: str,
        ipc: int | None,
        iterates: Any = (),
        published: str | None = None,
        paths: Sequence[str] = (),
    ) -> None:
        from distill.evaluate import evaluate
        from distill.files import digest

        students = {name: self.student(name) for name in self.students}
        hashes = {name: digest(node) for name, node in self.students.items()}
        evaluate(
            synsets, self.real, students, self.protocol(), report, method=method, ipc=ipc, seed=self.cfg.seed,
            iterates=iterates, command=self.command, published=published, paths=paths, student_hashes=hashes,
            committee=self.committee(self.cfg.protocol.committee) if self.cfg.protocol.get("soft", "none") != "none" else None,
            labels_path=self.labels_path(method),
            workers=self.cfg.workers if self.device.type == "cpu" else 1, compile=self.cfg.compile, progress=self.progress,
        )  # fmt: skip

    def labels_path(self, method: str) -> Path:
        """Where labels are kept; one store that somebody gave is of the synthetic set alone."""
        from distill.report import RANDOM

        given = Path(self.cfg.labels_path)
        return self.out / "labels" if method == RANDOM and (given / "labels.json").exists() else given

    def random_rows(self, report: Report, ipc: int) -> None:
        from distill import rng
        from distill.report import RANDOM
        from distill.synset import SyntheticSet

        count = self.cfg.baselines.random
        subsets = [
            SyntheticSet.from_real(self.real.train, ipc, rng.generator(self.cfg.seed, "random subset", i))
            for i in range(count)
        ]
        if subsets:
            self.rows(report, subsets, RANDOM, ipc)

    def whole_row(self, report: Report) -> None:
        import torch

        from distill.report import WHOLE
        from distill.synset import SyntheticSet

        self.rows(
            report,
            [SyntheticSet.of_images(self.real.train, torch.arange(len(self.real.train)))],
            WHOLE,
            None,
        )

    # --- what the configuration names ---------------------------------------------------------------------------------

    def given_sets(self) -> list[SyntheticSet]:
        from distill.synset import load

        if self.cfg.task != "evaluate" or self.cfg.synset is None:
            return []
        self.cfg.synset = [self.cfg.synset] if isinstance(self.cfg.synset, str) else self.cfg.synset
        return [load(path) for path in self.cfg.synset]

    @property
    def ipcs(self) -> list[int]:
        return list(self.cfg.ipc) if isinstance(self.cfg.ipc, ListConfig) else [self.cfg.ipc]

    @property
    def first_student(self) -> str:
        return next(iter(self.students))

    def network(self, name: str) -> Any:
        """Configuration of a network: a student's, or that of a teacher which is no student here."""
        if name in self.students:
            return self.students[name]
        known = sorted(path.stem for path in (CONFIGS / "student").glob("*.yaml"))
        if name not in known:
            raise ValueError(f"unknown network {name!r} of a committee: one of {', '.join(known)}")
        return plain(OmegaConf.load(CONFIGS / "student" / f"{name}.yaml"))

    def student(self, name: str) -> Any:
        from functools import partial

        return partial(instantiate(self.network(name)), self.real.train.shape, self.real.train.num_classes)

    def protocol(self) -> Protocol:
        """The preset; its name tells another precision than fp32, and by a plus that this configuration changes it."""
        chosen = HydraConfig.get().runtime.choices["protocol"]
        preset = hydra.compose("config", [f"protocol={chosen}", "data=npz"]).protocol  # no overlay is called after npz
        changed = OmegaConf.to_container(self.cfg.protocol) != OmegaConf.to_container(preset)
        precision = "" if self.cfg.protocol.precision == "fp32" else f" {self.cfg.protocol.precision}"
        return instantiate(self.cfg.protocol, name=self.cfg.protocol.name + "+" * changed + precision)

    def wandb_loggers(self, prefix: str) -> list[Any]:
        """A Weights & Biases logger for one synthesis; none, with a warning, if the service fails: it stops no run."""
        import wandb
        from pytorch_lightning.loggers import WandbLogger

        if self.wandb is None:
            settings = self.cfg.logger.wandb
            has_key = bool(os.environ.get("WANDB_API_KEY") or wandb.api.api_key)
            mode: Any = os.environ.get("WANDB_MODE") or settings.mode or ("online" if has_key else "offline")
            try:
                self.wandb = wandb.init(
                    project=settings.project,
                    entity=settings.entity,
                    mode=mode,
                    dir=self.out,
                    config=plain(self.cfg),
                    settings=wandb.Settings(init_timeout=60, silent=True, console="off"),
                )
            except Exception as error:  # whatever the service or its client raises, the run goes on
                print(f"warning: Weights & Biases is left out: {error}", file=sys.stderr)
                return []
            self.written.append(Path(self.wandb.dir).parent)
        logger = WandbLogger(experiment=self.wandb, prefix=prefix)
        logger.LOGGER_JOIN_CHAR = "/"  # a section for each synthesis
        return [logger]


def report(cfg: DictConfig) -> list[Path]:
    """task=report: one page for the rows of ``runs``, or of ``out`` alone."""
    from distill.page import write_page
    from distill.report import Report

    own = Path(cfg.out) / "report.json"
    if cfg.runs is not None and (not isinstance(cfg.runs, ListConfig) or not cfg.runs):
        raise ValueError(f"runs is {cfg.runs}, expected a list of folders: runs=[DIR,DIR]")
    paths = [own] if cfg.runs is None else [Path(run) / "report.json" for run in cfg.runs]
    missing = [str(path.parent) for path in paths if not path.is_file()]
    if missing:
        raise ValueError(f"no report.json in {', '.join(missing)}: name folders that a run wrote as its out")
    if own.exists() and own not in paths:
        raise ValueError(
            f"{cfg.out} holds the report of another run: choose another folder with out=DIR, or add it to runs"
        )
    return write_page(Report(own), [Report(path) for path in paths], shlex.join(["python", *sys.argv]))


def keep_freed_memory() -> None:
    """Let glibc reuse large blocks, here and in workers, rather than give each back and fault it in again.

    Training steps on 256 digits (ConvNet-2, width 32, two cores): 8.6 to 10.1 ms without, 5.7 to 6.4 ms with it.
    """
    mmap_threshold, trim_threshold = 32 * 2**20, 2**31 - 1  # the largest that glibc takes
    os.environ |= {"MALLOC_MMAP_THRESHOLD_": str(mmap_threshold), "MALLOC_TRIM_THRESHOLD_": str(trim_threshold)}
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return  # another C library
    libc.mallopt(-3, mmap_threshold)
    libc.mallopt(-1, trim_threshold)


def check_values(cfg: DictConfig) -> None:
    """Raise ValueError if a value of the run itself is none that it can have."""
    from distill.ranges import check_ranges

    whole = {"seed": "whole [0, inf)", "syntheses": "whole [1, inf)", "workers": "whole [1, inf)"}
    check_ranges("", cfg, {**whole, "threads": "null or whole [1, inf)"})
    check_ranges("baselines", cfg.baselines, {"random": "whole [0, inf)"})
    if cfg.compile not in (True, False, "auto"):
        raise ValueError(f"compile is {cfg.compile!r}, expected true, false or auto")
    ipcs = cfg.ipc if isinstance(cfg.ipc, ListConfig) else [cfg.ipc]
    if not ipcs or not all(isinstance(ipc, int) for ipc in ipcs):
        raise ValueError(f"ipc is {cfg.ipc}, expected a whole number or a list of some")
    for name in ("out", "experts_path", "labels_path"):
        if not isinstance(cfg[name], str):
            raise ValueError(
                f"{name} is {cfg[name]}, expected the path of a folder: leave {name} out for the usual one"
            )
    if not any(isinstance(node, DictConfig) and "_target_" in node for node in cfg.student.values()):
        raise ValueError("no student is named: student=[convnet]")


def device(name: str) -> torch.device:
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"unknown device {name!r}: one of auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "device=cuda was asked for, but this machine has no CUDA device: use device=cpu or device=auto"
        )
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True)


def recorded_overrides(synset: str) -> list[str]:
    """What an artefact's maker chose of data, method, experiment and student: evaluation starts from the same choices.

    Only plain choices pass, so that a stranger's file cannot name code to run.
    """
    from distill.synset import load

    try:
        recorded = load(synset.strip("[]").split(",")[0].strip("'\"")).record.get("overrides", [])
    except (OSError, ValueError):
        return []  # the task will say what is wrong with it
    choice = re.compile(
        r"(experiment|data|method|student|data\.(classes|zca|val|size)|student\.\w+\.[a-z]\w*)=[\w\[\],.-]+"
    )
    return [item for item in recorded if isinstance(item, str) and choice.fullmatch(item) and ".." not in item]


def complete_overrides(arguments: list[str]) -> list[str]:
    """The command line; for task=evaluate synset=... with the recorded choices it does not make itself."""
    given = dict(item.split("=", 1) for item in arguments if "=" in item and not item.startswith("-"))
    if given.get("task") != "evaluate" or "synset" not in given or "experiment" in given:
        return arguments
    kept = [item for item in recorded_overrides(given["synset"]) if item.split("=", 1)[0] not in given]
    if "data" in given:  # settings of another set have no place
        kept = [item for item in kept if not item.startswith(("data.", "experiment="))]
    if "student" in given:  # settings of networks that are not asked for have no place
        asked = re.findall(r"\w+", given["student"])
        kept = [item for item in kept if not item.startswith("student.") or item.split(".")[1] in asked]
    return [*kept, *arguments]


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """What came, what was expected, what helps; DISTILL_TRACEBACK=1 shows where, too."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit("interrupted: the same command goes on from the last snapshot")
    except (ValueError, OSError, RuntimeError, HydraException, OmegaConfBaseException) as error:
        if os.environ.get("DISTILL_TRACEBACK"):
            raise
        sys.exit(f"error: {' '.join(explained(error).split())}")


def explained(error: BaseException) -> str:
    """The error's text; of Hydra's, the part that a user can act on."""
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        return explained(error.__cause__)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file is not None:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        known = sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))
        return f"unknown {group} {name!r}: one of {', '.join(known)}"
    unknown = re.match(r"Could not override '([\w.]+)'", str(error))
    if unknown:
        return unknown_value(unknown[1])
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
        return f"the disk is full ({error}): files already written are whole; free some space, then the same command goes on"
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} is missing: give {error.full_key}=VALUE"
    return str(error)


def unknown_value(key: str) -> str:
    """What to say where the command line sets a value that this choice of groups does not have."""
    groups = [path.name for path in CONFIGS.iterdir() if path.is_dir()]
    choices = [item for item in sys.argv[1:] if item.split("=", 1)[0] in groups]
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        node = hydra.compose("config", choices)
    parents: list[str] = []
    for name in key.split("."):
        known = [str(each) for each in node] if isinstance(node, DictConfig) else []
        if name not in known:
            break
        node = node[name]
        parents.append(name)
    close = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    names = ", ".join(known) or "no values with these choices"
    return f"unknown value {key}: {hint}{'.'.join(parents) or 'the run'} has {names}"


@hydra.main(version_base="1.3", config_path="configs", config_name="config")
@errors_in_one_line()
def line(cfg: DictConfig) -> None:
    if cfg.task not in TASKS:
        raise ValueError(f"unknown task {cfg.task!r}: one of {', '.join(TASKS)}")
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

    warnings.filterwarnings("ignore", module="pytorch_lightning|torch.utils.data|lightning_fabric")
    keep_freed_memory()
    if cfg.task == "report":
        for path in report(cfg):
            print(f"wrote {path}")
        return
    columns = Progress.get_default_columns()
    with Progress(*columns, MofNCompleteColumn(), TimeElapsedColumn(), console=Console(stderr=True)) as bars:
        straight = Line(cfg, bars)
        for task in ("experts", "distill", "evaluate") if cfg.task == "all" else (cfg.task,):
            if task == "distill" or straight.rank == 0:  # of several processes the first does what cannot be shared
                getattr(straight, task)()
            straight.wait()
        if straight.wandb is not None:
            straight.wandb.finish()
    for path in straight.written if straight.rank == 0 else ():
        print(f"wrote {path}")


def main() -> None:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # what Hydra finds wrong reaches us, and becomes one line
    sys.argv[1:] = complete_overrides(sys.argv[1:])
    with errors_in_one_line():
        line()


if __name__ == "__main__":
    main()
