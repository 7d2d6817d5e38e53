"""Line: what one configuration names, as objects: real images, networks, stores of experts, methods, protocol."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from distill.data.real import RealData
from distill.data.real import load as load_data
from distill.evaluation.protocol import Protocol
from distill.evaluation.rehearsal import check_protocol, check_shape, rehearse, rehearse_pretraining, rehearse_student
from distill.files import digest
from distill.methods.base import Inputs, Method
from distill.parallel import Crew, crew
from distill.presets import CONFIGS, options, unknown
from distill.progress import stage
from distill.runs.cells import protocol_changes
from distill.runs.checks import baselines, check_run, check_values, device_of, given_sets, named, plain, sizes
from distill.runs.composed import Composed
from distill.runs.progress import Shown
from distill.runs.recorded import of_all_classes, other_data, stated, take_values
from distill.runs.stores import store_of
from distill.sets.reading import load as load_set
from distill.sets.union import united
from distill.sizes import Size, percent, short
from distill.teachers.committee import Committee, check_settings
from distill.teachers.proxies import Proxies
from distill.teachers.store import ExpertStore
from distill.text import command
from distill.training.dynamics import Dynamics


class Line:
    """The straight line of one configuration; each method is an arrow, and skips what its file already answers.

    Attributes:
        tuner: of students that are pre-trained on the sets, the line of the real set that they are tuned on; it makes none.
        source: of such a line, the sets' real set; None for every other.
    """

    source: RealData | None = None

    def __init__(self, run: Composed, progress: Shown, real: RealData | None = None):
        cfg = run.cfg
        self.run, self.cfg, self.choices, self.progress = run, cfg, run.choices, progress
        self.paths = given_sets(OmegaConf.to_container(cfg))
        self.synsets = [load_set(path) for path in self.paths] if cfg.task == "evaluate" else []
        if self.synsets:
            records = [synset.record for synset in self.synsets]
            take_values(run, [of_all_classes(each) for each in records] if cfg.union else records)
        check_values(plain(cfg))
        self.out = Path(cfg.out)
        self.asked: dict[str, Committee] = {}
        self.students = named(plain(cfg.student))
        self.device = device_of(cfg.device)
        if cfg.threads is not None:
            torch.set_num_threads(cfg.threads)
        self.real = self.read(self.cfg.data) if real is None else real
        if cfg.union and self.synsets:
            self.synsets = [united(self.synsets, self.real.train.class_names)]
        notes = [*self.real.notes, *other_data([each.record for each in self.synsets], self.real.fingerprint)]
        for note in notes if self.crew.first else ():
            progress.say(note)
        self.command = shlex.join([*command().split(), *run.stated])
        self.written: list[Path] = []
        self.left_out: set[str] = set()  # loggers whose service failed
        self.tuner = self.tuned_on() if cfg.protocol.pretraining is not None and not self.teachers_alone else None
        self.check()

    @property
    def crew(self) -> Crew:
        return crew()

    @property
    def judge(self) -> Line:
        """Whose real images and teachers tell what sets are worth."""
        return self if self.tuner is None else self.tuner

    def read(self, data: DictConfig, own: bool = True) -> RealData:
        """Real images; the run's own in the space of the sets that are judged."""
        prepare = self.synsets[0].preprocessing if self.synsets and own else None
        settings: dict[str, Any] = OmegaConf.to_container(data, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
        with stage(f"reading {data.name}"):
            return load_data(settings.pop("name"), **settings, prepare=prepare, device=self.device)

    def tuned_on(self) -> Line:
        """The line of the real set that pre-trained students are tuned on: ``data@onto``, or the run's own."""
        other, onto = copy(self), self.cfg.get("onto")
        other.source, other.asked, other.tuner = self.real, {}, None
        if onto is not None:
            other.real = self.read(onto, own=False)
            other.choices = {**self.choices, "data": self.choices["data@onto"]}
            check_shape(onto.name, other.real.train.shape, self.real.train.shape)
        return other

    def check(self) -> None:
        """Let what is impossible fail now rather than after the experts are trained."""
        check_run(self.cfg, stated(self.run.stated))
        self.check_teachers()
        if self.cfg.task != "evaluate" and not self.teachers_alone:
            self.check_making()
        if self.judge is not self:
            self.judge.check_teachers()
        if self.cfg.task in ("evaluate", "all"):
            self.check_judging(self.protocol())

    def check_teachers(self) -> None:
        """Let fail what networks that are asked would find impossible."""
        train = self.real.train
        for node in self.committees():
            check_settings(plain(node))
            for name in self.members(node):
                rehearse(self.student(name)(), instantiate(node.recipe), train, len(train), "committee.recipe")

    def check_making(self) -> None:
        """Let fail what the method and its experts would find impossible."""
        train = self.real.train
        if self.cfg.task == "distill" and not self.kind.makes_sets:
            name = self.choices["method"]
            raise ValueError(
                f"{name} makes no set, students walk the real one: distill method={name}, or baselines=['{name}']"
            )
        if "experts" in self.cfg.method:
            recipe = instantiate(self.cfg.method.experts.recipe)
            rehearse(self.student(self.first_student)(), recipe, train, len(train), "method.experts.recipe")
        for ipc in self.ipcs:
            method = self.method(ipc, self.cfg.seed, self.untrained)
            method.check_split(self.cfg.split)
            if self.cfg.task != "distill":
                method.check_choice(self.protocol().choice.val)
                self.protocol().check_labels(method.has_vectors, method.is_shown_whole)

    def check_judging(self, protocol: Protocol) -> None:
        """Let fail what the students' training would find impossible."""
        own, real = self.real.train, self.judge.real
        students = [self.judge.student(name)() for name in self.students]
        judges = None if self.judges is None else self.judge.untrained(self.judges)
        made = {len(synset.decoded) for synset in self.synsets} or {sum(own.asked(ipc)) for ipc in self.ipcs}
        for size in made | ({len(own)} if "whole" in baselines(self.cfg) else set()):
            images = protocol.trained_on(size, len(real.train))
            sized = check_protocol(protocol, real, images, snapshots=self.cfg.task == "all")
            for net in students:
                rehearse_student(net, judges, sized, real.train, images)
                if protocol.pretraining is not None:
                    rehearse_pretraining(net, protocol.pretraining, own, size)

    # --- real images -> experts ---------------------------------------------------------------------------------------

    def expert_store(self) -> ExpertStore | None:
        """Where this configuration's expert trajectories are or will be; None where no set is made that learns from some."""
        if "experts" not in self.cfg.method or not self.makes:
            return None
        return self.store(self.cfg.method.experts, self.first_student)

    def store(self, experts: DictConfig, network: str, seed: int | None = None) -> ExpertStore:
        """Where ``experts`` of this network are or will be, by ``seed``, or by the run's."""
        root, own = Path(self.cfg.experts_path), self.cfg.seed if seed is None else seed
        return store_of(experts, root, self.real, self.choices["data"], self.network(network), own)

    @property
    def makes(self) -> bool:
        return not self.synsets and bool(self.ipcs) and self.source is None  # sets, or walks; else there are others'

    @property
    def teachers_alone(self) -> bool:
        """Whether ``task=experts experts=...`` names what is to be trained."""
        return self.cfg.task == "experts" and self.cfg.get("experts") is not None

    @property
    def judges(self) -> DictConfig | None:
        """Configuration of the teachers whose labels the protocol's students are told; None where it asks none."""
        return self.cfg.protocol.labels.get("committee")

    def committees(self) -> list[DictConfig]:
        """Configurations of the teachers and proxies that the method and the protocol ask."""
        if self.teachers_alone:
            return [self.cfg.experts]
        nodes = [self.cfg.method.get("committee"), self.cfg.method.get("proxies")] if self.makes else []
        if self.cfg.task != "distill" and self.judge is self:
            nodes.append(self.judges)
        return [node for node in nodes if node is not None]

    def members(self, node: DictConfig) -> list[str]:
        """Names of a committee's networks."""
        return list(node.networks or [self.first_student])

    def teacher_stores(self, node: DictConfig, seed: int | None = None) -> dict[str, ExpertStore]:
        return {name: self.store(node, name, seed) for name in self.members(node)}

    def asked_stores(self) -> Iterator[tuple[DictConfig, str, int, ExpertStore]]:
        """Of all teachers and proxies: configuration, network, seed and store. Each synthesis has proxies of its own."""
        for node in self.committees():
            for i in range(self.cfg.syntheses if node.get("dynamics") else 1):
                for name, store in self.teacher_stores(node, self.cfg.seed + i).items():
                    yield node, name, self.cfg.seed + i, store

    def proxies(self, node: DictConfig, seed: int) -> Proxies:
        """The trained proxies of one synthesis, with their logs."""
        stores, images = self.teacher_stores(node, seed).values(), len(self.real.train)
        committee = self.committee(node, seed)
        logs = [Dynamics.of(store.dynamics(number, images)) for store in stores for number in range(store.count)]
        return Proxies(committee, tuple(logs))

    def committee(self, node: DictConfig, seed: int | None = None) -> Committee:
        """The trained teachers, or proxies, of a configuration, scored on real images before they are asked for anything."""
        key = digest([plain(node), seed])
        if key not in self.asked:
            stores = self.teacher_stores(node, seed)
            committee = Committee.load(
                stores, lambda name: self.student(name)(), self.device, node.priors and list(node.priors)
            )
            with stage(f"scoring the {'proxies' if node.get('dynamics') else 'teachers'}"):
                committee.check(self.real.val if len(self.real.val) else self.real.train, node.minimum)
            self.asked[key] = committee
        return self.asked[key]

    def untrained(self, node: DictConfig) -> Committee:
        """Networks as a committee, to see whether a method takes them."""
        names = tuple(self.members(node)) * node.count
        nets = tuple(self.student(name)() for name in names)
        return Committee(names, nets, (0.0,) * len(nets))

    # --- experts -> synthetic set -------------------------------------------------------------------------------------

    def method(self, ipc: Size, seed: int, committee: Any = None, share: tuple[int, int] | None = None) -> Method:
        """The method of this configuration, for one synthesis.

        Args:
            committee: makes its teachers from their configuration; None loads them.
            share: (rank, processes), for one process's share of the work.
        """
        node, proxies = self.cfg.method, None
        if "proxies" in node:
            proxies = Proxies(committee(node.proxies), ()) if committee else self.proxies(node.proxies, seed)
        inputs = Inputs(
            real=self.real.train,
            ipc=ipc,
            student=self.student(self.first_student),
            seed=seed,
            experts=self.expert_store(),
            committee=(committee or self.committee)(node.committee) if "committee" in node else None,
            proxies=proxies,
            share=share or tuple(node.get("share", (0, 1))),
        )
        make = instantiate(node)  # the class, and the values of its settings
        return make.func.make(inputs, make.keywords)

    @property
    def kind(self) -> type[Method]:
        """The method's class."""
        return instantiate(self.cfg.method).func  # type: ignore[no-any-return]

    def learned_from(self, store: ExpertStore | None, seed: int) -> Any:
        """Names of the stores whose experts, teachers or proxies stand behind a synthesis."""
        if "committee" in self.cfg.method:
            return [each.folder.name for each in self.teacher_stores(self.cfg.method.committee).values()]
        if "proxies" in self.cfg.method:
            return [each.folder.name for each in self.teacher_stores(self.cfg.method.proxies, seed).values()]
        return None if store is None else store.folder.name

    def folder(self, ipc: Size, seed: int) -> Path:
        name = self.choices["method"]
        return self.out / f"{self.real.train.name}-{name}-ipc{short(ipc)}-seed{seed}"

    # --- what the configuration names ---------------------------------------------------------------------------------

    @property
    def ipcs(self) -> list[Size]:
        values = plain(self.cfg)
        return sizes(values["ipc"]) if values["fraction"] is None else [*map(percent, sizes(values["fraction"]))]

    @property
    def first_student(self) -> str:
        return next(iter(self.students))

    def network(self, name: str) -> Any:
        """Configuration of a network: a student's, or that of a teacher which is no student here."""
        if name in self.students:
            return self.students[name]
        if name not in options("student"):
            raise ValueError(unknown("network of a committee", name, options("student")))
        return plain(OmegaConf.load(CONFIGS / "student" / f"{name}.yaml"))

    def student(self, name: str, classes: int | None = None) -> Any:
        return partial(instantiate(self.network(name)), self.real.train.shape, classes or self.real.train.num_classes)

    def protocol(self) -> Protocol:
        """The preset; its name tells another precision than fp32, and by a plus that this configuration changes it."""
        changed = bool(protocol_changes(self.run))
        protocol: Protocol = instantiate(self.cfg.protocol, _convert_="all")
        precision = "" if protocol.recipe.precision == "fp32" else f" {protocol.recipe.precision}"
        return protocol.with_(name=protocol.name + "+" * changed + precision)
