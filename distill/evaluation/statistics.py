"""What a row of the report says of its numbers: mean and spread, accuracy by class, how far the sets were made."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy import stats

from distill.checks import inside
from distill.data.split import Split
from distill.sets.base import TrainingSet


def statistics(accuracies: np.ndarray) -> dict[str, Any]:
    """Mean and spread of accuracies (R, S) as fractions.

    Returns:
        ``mean``; ``sd`` and ``ci95`` (half-width of the 95 % t interval of the mean), over synthesis means where R > 1
        and over students where R = 1, None where there is one number; ``sd_synthesis`` and ``sd_student``, the two
        sources of noise apart.

    Source: the variance model of the evaluation protocol, ddof 1 throughout.
    """
    syntheses, students = accuracies.shape
    sample = accuracies.mean(1) if syntheses > 1 else accuracies[0]
    sd = float(sample.std(ddof=1)) if len(sample) > 1 else None
    within = float(np.sqrt(accuracies.var(axis=1, ddof=1).mean())) if students > 1 else None
    between = None
    if syntheses > 1 and within is not None and sd is not None:
        between = float(np.sqrt(max(0.0, sd**2 - within**2 / students)))
    half = None if sd is None else float(stats.t.ppf(0.975, len(sample) - 1) * sd / np.sqrt(len(sample)))
    return {"mean": float(accuracies.mean()), "sd": sd, "ci95": half, "sd_synthesis": between, "sd_student": within}


def by_class(hits: Sequence[Sequence[int]], split: Split) -> dict[str, Any]:
    """Accuracy in each class of ``split``, from the images of each class that each student classifies correctly, (n, K).

    Returns:
        ``accuracy_by_class``: means over the students by the class's name, in [0, 1]; None for a class without images.
        ``balanced_accuracy``: mean over the classes that have images, each of equal weight.
    """
    sizes = torch.bincount(split.labels, minlength=split.num_classes).tolist()
    means = [
        float(correct) / size if size else None for correct, size in zip(np.mean(hits, axis=0), sizes, strict=True)
    ]
    known = [mean for mean in means if mean is not None]
    return {
        "accuracy_by_class": dict(zip(split.class_names, means, strict=True)),
        "balanced_accuracy": sum(known) / len(known),
    }


def outer_steps(synsets: Sequence[TrainingSet]) -> dict[str, Any]:
    """How far the sets were made.

    Returns:
        ``step``, ``steps``: outer steps done, and of how many, for each set; None where its record does not tell.
        ``finished``: whether all of them were; None where that is not known.
        ``cut``: of the sets whose run was cut, ``step 150 of 2000``.
    """
    done = [_whole(synset.record.get("step")) for synset in synsets]
    planned = [_whole(synset.record.get("steps", _configured(synset.record))) for synset in synsets]
    known = [(a, b) for a, b in zip(done, planned, strict=True) if a is not None and b is not None]
    cut = [f"step {a} of {b}" for a, b in known if a < b]
    finished = False if cut else True if len(known) == len(done) else None
    return {"step": done, "steps": planned, "finished": finished, "cut": cut}


def syntheses(synsets: Sequence[TrainingSet]) -> dict[str, Any]:
    """What tells the syntheses apart, and what they took, as far as every set's record tells.

    Returns:
        ``synthesis_seeds``: the seed of each; sets of one seed, of whatever method, start from the same real images.
        ``source``: the network that made all of them.
        ``synthesis_seconds``: that the outer steps of one took, on average.
        ``synthesis_peak_bytes``: the most memory that a process had as it made one.
    """
    seeds = [_whole(synset.record.get("seed")) for synset in synsets]
    spent, peaks = ([synset.record.get(key) for synset in synsets] for key in ("seconds", "peak_bytes"))
    found: dict[str, Any] = {} if None in seeds else {"synthesis_seeds": seeds}
    sources = {_source(synset.record) for synset in synsets}
    if len(sources) == 1 and None not in sources:
        found["source"] = sources.pop()
    if all(inside(each, "[0, 1e18]") for each in spent):
        found["synthesis_seconds"] = float(np.mean(np.array(spent)))
    if all(inside(each, "whole [0, 1e18]") for each in peaks):
        found["synthesis_peak_bytes"] = int(np.max(np.array(peaks)))
    return found


def _configured(record: Mapping[str, Any]) -> Any:
    """The steps that the set's configuration asks for: all that records of before told."""
    config = record.get("config")
    method = config.get("method") if isinstance(config, dict) else None
    return method.get("steps") if isinstance(method, dict) else None


def _source(record: Mapping[str, Any]) -> str | None:
    """The first student of the run that made a set."""
    choices = record.get("choices")
    students = choices.get("student") if isinstance(choices, dict) else None
    return students[0] if isinstance(students, list) and inside(students, "list of text") else None


def _whole(value: Any) -> int | None:
    return value if inside(value, "whole [0, inf)") else None
