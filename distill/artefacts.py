"""Synthetic sets from files: ours, and those of other projects."""

from pathlib import Path
from typing import Any, overload

from distill.presets import options
from distill.runs.composed import overrides
from distill.runs.explained import words_explained
from distill.runs.importing import bring
from distill.sets.reading import load as load_set
from distill.sets.synthetic import SyntheticSet


@overload
def load(path: str | Path) -> SyntheticSet: ...


@overload
def load(
    path: str | Path | None = None, *, kind: str, data: str, **words: Any
) -> SyntheticSet | list[SyntheticSet]: ...


def load(
    path: str | Path | None = None, *, kind: str | None = None, data: str | None = None, **words: Any
) -> SyntheticSet | list[SyntheticSet]:
    """A synthetic set from its file or folder; with ``kind``, from those of another project (see `kinds`).

    Args:
        path: a ``.safetensors`` file, its ``.json`` or the folder of ``synset.safetensors``, or ``hf://owner/name``
            (``@REVISION``) on a hub; with ``kind``, what that project left.
        kind: whose files they are: ``mtt``, ``datm``, ``dm``, ``idc``, ``rded``, ...
        data: the real set that they were made from, of ``configs/data``.
        words: what the files do not say: ``zca=True``, ``lr=0.02``, ``images=PATH``, and settings of the data, as
            ``**{"data.root": "data"}``; see `distill.sets.importers.base.Words`.

    Returns:
        The set, or with ``kind`` a list where the files hold several syntheses. What was read, stated and checked stands in
        ``record["imported"]``; nothing is guessed.

    Raises:
        FileNotFoundError: there is none.
        ConnectionError, PermissionError: a hub is not reached, or does not show it.
        ValueError: a file is damaged or asks for more than tensors; something is neither in the files nor stated, or their
            numbers contradict it.

    Examples:
        >>> import tempfile, torch, distill as dd
        >>> real = dd.load_data("digits", val=0).train
        >>> synset = dd.SyntheticSet.from_real(real, 2, torch.Generator().manual_seed(0))
        >>> path = synset.subset(1).export(tempfile.mkdtemp() + "/dc", "dc")
        >>> again = load(path / "res_DC_DIGITS_ConvNet_1ipc.pt", kind="dc", data="digits")
        >>> torch.equal(again.images, synset.images[::2]), again.record["imported"]["facts"]["space"]["how"]
        (True, 'read')
    """
    if kind is None:
        if data is not None or words:
            raise ValueError(
                f"{', '.join(['data'] * (data is not None) + list(words))} without kind: name it, of {', '.join(kinds())}"
            )
        return load_set(Path() if path is None else path)
    if data is None:
        raise ValueError("data is missing: data=cifar10, the real set that the files were made from")
    settings = {name.removeprefix("data."): value for name, value in words.items() if name.startswith("data.")}
    own = {name: value for name, value in words.items() if not name.startswith("data.")}
    own |= {} if path is None else {"path": str(path)}
    with words_explained([f"data={data}"]):
        brought = bring(kind, data, overrides("data", settings), **own)
    sets = [imported.synset for imported in brought.imports]
    return sets[0] if len(sets) == 1 else sets


def kinds() -> list[str]:
    """Names of other projects whose files `load` reads.

    Examples:
        >>> "mtt" in kinds()
        True
    """
    return options("kind")
