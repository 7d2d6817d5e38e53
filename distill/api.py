"""What a notebook calls; `distill` exports it. The command line goes the same way, so files are found from either.

Values are called as on the command line: ``make("dm", real, lr_img=1.0)`` is ``method=dm method.lr_img=1.0``, and a name with
dots is given as ``**{"experts.count": 10}``.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from distill.data.real import RealData
from distill.data.real import load as read
from distill.evaluation.evaluate import check_fits
from distill.presets import options, unknown
from distill.report.rows import Report
from distill.runs.checks import check_values, device_of, plain
from distill.runs.composed import Composed, compose, overrides, protocol_override
from distill.runs.explained import words_explained
from distill.runs.line import Line
from distill.runs.pipeline import carry_out
from distill.sets.reading import load
from distill.sets.synthetic import SyntheticSet
from distill.sizes import Size
from distill.teachers.store import ExpertStore


def load_data(
    name: str = "digits", *, like: SyntheticSet | None = None, device: str = "auto", **settings: Any
) -> RealData:
    """Real images, read, split and preprocessed once.

    Args:
        name: one of ``configs/data``: ``digits``, ``cifar10``, ``folder`` (with ``path=``), ...
        like: a set into whose space the images are brought; None follows the configuration.
        device: ``auto``, ``cpu`` or ``cuda``.
        settings: of `distill.data.settings.DataSettings`.

    Raises:
        ValueError: a name or a value is unknown, or the set is unusable.
        FileNotFoundError: the files are missing.

    Examples:
        >>> real = load_data("digits", val=0)
        >>> real.train.images.shape, real.train.num_classes
        (torch.Size([1437, 1, 8, 8]), 10)
    """
    known("data", name)
    stated = [f"data={name}", *overrides("data", settings), *overrides("", {"device": device})]
    run = composed(*stated)
    check_values(plain(run.cfg))
    values = plain(run.cfg.data)
    prepare = None if like is None else like.preprocessing
    real = read(values.pop("name"), **values, prepare=prepare, device=device_of(run.cfg.device))
    return replace(real, stated=tuple(stated))


def train_experts(
    recipe: str,
    real: RealData,
    *,
    count: int | None = None,
    student: str = "convnet",
    seed: int = 0,
    out: str | Path = "outputs",
    **settings: Any,
) -> ExpertStore:
    """Expert trajectories of a recipe, trained or found by content.

    Args:
        recipe: one of ``configs/experts`` for trajectories: ``mtt``, ``ftd``, ``ast``.
        count: how many; None is what the papers have.
        settings: of the recipe: ``epochs=10``, ``lr=0.01``.

    Examples:
        >>> import tempfile
        >>> store = train_experts("mtt", load_data(), count=1, epochs=1, out=tempfile.mkdtemp(), **{"student.width": 4})
        >>> store.missing
        []
    """
    known("experts", recipe)
    network = {name: settings.pop(name) for name in list(settings) if name.startswith("student.")}
    stated = [
        *("method=mtt", f"experts@method.experts={recipe}", f"student=[{known('student', student)}]"),
        *("method.min_start_epoch=0", "method.max_start_epoch=1", "method.expert_epochs=1"),  # as short as they may be
        *overrides(f"student.{student}", {name.partition(".")[2]: value for name, value in network.items()}),
        *overrides("method.experts", {} if count is None else {"count": count}),
        *overrides("method.experts.recipe", settings),
    ]
    line = go("experts", real, out, seed, stated)
    store = line.expert_store()
    assert store is not None
    return store


def train_teachers(
    real: RealData,
    networks: Sequence[str] = ("resnet18_bn",),
    *,
    recipe: str = "teacher",
    seed: int = 0,
    out: str | Path = "outputs",
    **settings: Any,
) -> dict[str, ExpertStore]:
    """Teachers with batch statistics by network, trained or found by content.

    Args:
        networks: of ``configs/student``.
        recipe: one of ``configs/experts`` for teachers: ``teacher``, ``committee``.
        settings: of the teachers: ``count=2``, ``**{"recipe.epochs": 10}``; of a network: ``**{"convnet.norm": "batch"}``.

    Examples:
        >>> import tempfile
        >>> settings = {"count": 1, "recipe.epochs": 1, "minimum": 0, "convnet.width": 4, "convnet.norm": "batch"}
        >>> stores = train_teachers(load_data(), ["convnet"], out=tempfile.mkdtemp(), **settings)
        >>> list(stores), stores["convnet"].missing
        (['convnet'], [])
    """
    names = [known("student", name) for name in networks]
    stated = [
        f"experts={known('experts', recipe)}",
        f"student=[{','.join(names)}]",
        *overrides("experts", {"networks": names}),
    ]
    for name, value in settings.items():
        stated += overrides("student" if name.partition(".")[0] in names else "experts", {name: value})
    line = go("experts", real, out, seed, stated)
    return line.teacher_stores(line.cfg.experts)


def make(
    method: str,
    real: RealData,
    ipc: Size = 10,
    *,
    experts: ExpertStore | None = None,
    student: str = "convnet",
    seed: int = 0,
    out: str | Path = "outputs",
    **settings: Any,
) -> SyntheticSet:
    """A synthetic set by a method; experts and teachers that it needs are found or trained, an interrupted run goes on.

    Args:
        method: one of `methods`.
        ipc: images per class, see `distill.sizes`; ``fraction=0.1`` takes its place.
        experts: of `train_experts`, all of them; None finds them below ``out``.
        student: the network that it is made with.
        settings: of the method: ``steps=100``; of the network: ``**{"student.width": 32}``; of a rule's proxies:
            ``**{"proxies.recipe.epochs": 20}``; of the run: ``compile=False``, ``logger="wandb"``.

    Raises:
        ValueError: a name or a value is unknown or impossible here; nothing was trained.

    Examples:
        >>> import tempfile
        >>> synset = make("dm", load_data(), ipc=1, steps=2, out=tempfile.mkdtemp())
        >>> len(synset), synset.record["step"]
        (10, 2)
    """
    stated = [
        f"method={known('method', method)}",
        *overrides("", {} if "fraction" in settings else {"ipc": ipc}),
        f"student=[{known('student', student)}]",
    ]
    if experts is not None:
        stated += overrides("", {"experts_path": str(experts.folder), "method.experts.count": experts.count})
    for name, value in settings.items():
        if name.startswith("student."):
            stated += overrides(f"student.{student}", {name.partition(".")[2]: value})
        else:
            stated += overrides(
                "" if name.partition(".")[0] in (*RUN, "fraction", "proxies") else "method", {name: value}
            )
    line = go("distill", real, out, seed, stated, ("experts", "distill"))
    return load(line.folder(line.ipcs[0], seed))


def evaluate(
    synsets: SyntheticSet | Sequence[SyntheticSet],
    real: RealData,
    *,
    protocol: str | None = None,
    students: Sequence[str] = ("convnet",),
    seed: int = 0,
    out: str | Path = "outputs",
    **settings: Any,
) -> Report:
    """Fresh students on every set, beside random real images; rows that ``out`` has are not measured again.

    Args:
        synsets: sets of any methods and sizes.
        real: the images that tell; in the sets' space.
        protocol: one of `protocols`; None is the own one of each set's method.
        students: networks, of ``configs/student``.
        settings: of the protocol, which mark it with a plus: ``epochs=2``, ``labels="hard"``, or with their group as
            ``**{"protocol.students": 2}``; of a network: ``**{"convnet.width": 32}``; of the run:
            ``baselines=["random", "herding"]``, ``draws=5`` (of random real images), ``keep_students=True``, ``workers=2``;
            of networks that label or that rules ask: ``**{"teachers.recipe.epochs": 10, "proxies.recipe.epochs": 10}``; of
            another real set to tune on: ``**{"data@onto": "cifar10", "onto.val": 0}``.

    Returns:
        All rows of ``out``.

    Examples:
        >>> import tempfile
        >>> real, out = load_data(), tempfile.mkdtemp()
        >>> synset = make("dm", real, ipc=1, steps=2, out=out)
        >>> settings = {"draws": 1, "epochs": 1, "protocol.students": 1, "convnet.width": 4}
        >>> report = evaluate(synset, real, protocol="dsa", out=out, **settings)  # doctest: +ELLIPSIS +NORMALIZE_WHITESPACE
        Accuracy on the test split, % ...
        >>> [row["method"] for row in report.rows]
        ['dm', 'random real']
    """
    sets = [synsets] if isinstance(synsets, SyntheticSet | str) else list(synsets)
    for synset in sets:  # before any is judged
        if not isinstance(synset, SyntheticSet):
            raise ValueError(f"{synset!r} is no set: give those of make or load; walks are baselines=['rs2']")
        check_fits(synset, real.train)
    stated, of_protocol = [f"student=[{','.join(known('student', name) for name in students)}]"], {}
    stated += [] if protocol is None else [f"protocol={known('protocol', protocol)}"]
    for name, value in settings.items():
        first = name.partition(".")[0]
        if first in students or first in (*RUN, "proxies", "teachers"):
            stated += overrides("student" if first in students else "", {name: value})
        else:
            of_protocol[name.removeprefix("protocol.")] = value
    for synset in sets:
        path = synset.path or Path(out) / "sets" / synset.hash / "synset.safetensors"
        if synset.path is None:
            synset.save(path)
        method = str(synset.record.get("method"))
        own = [f"method={method}"] if method in methods() else ["~experiment"]  # no overlay of the default method
        stated_here = [*own, *stated]
        for name, value in of_protocol.items():
            stated_here += protocol_override(name, value, stated_here)
        go("evaluate", real, out, seed, [*overrides("", {"synset": str(path)}), *stated_here])
    return Report(Path(out) / "report.json")


def methods() -> list[str]:
    """Names that `make` takes.

    Examples:
        >>> "mtt" in methods()
        True
    """
    return options("method")


def protocols() -> list[str]:
    """Names that `evaluate` takes.

    Examples:
        >>> "ours" in protocols()
        True
    """
    return options("protocol")


def experiments() -> list[str]:
    """Published cells, for ``distill experiment=NAME``.

    Examples:
        >>> "datm_cifar10_ipc10" in experiments()
        True
    """
    return options("experiment")


RUN = (
    "baselines", "compile", "data@onto", "draws", "engine", "keep_students", "labels_path", "logger", "onto", "precision",
    "scale", "student_epochs", "student_rates", "threads", "workers",
)  # fmt: skip


def go(
    task: str, real: RealData, out: str | Path, seed: int, stated: Sequence[str], arrows: Sequence[str] = ()
) -> Line:
    """The run of ``distill task=TASK ...`` on images that are at hand."""
    if not real.stated:
        raise ValueError("these real images were put together by hand: take those of distill.load_data")
    own = [*real.stated, *overrides("", {"task": task, "out": str(out), "seed": seed}), *stated]
    with words_explained(own):
        return carry_out(compose(*own), real, arrows)


def composed(*stated: str) -> Composed:
    with words_explained(stated):
        return compose(*stated)


def known(group: str, name: str) -> str:
    """``name``, or a ValueError that tells the nearest ones."""
    if name not in options(group):
        raise ValueError(unknown(group, name, options(group)))
    return name
