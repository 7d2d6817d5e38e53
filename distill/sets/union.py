"""Union: sets of disjoint classes of one real set, put together as one set of them all, or of those that came so far."""

from collections.abc import Sequence

import torch
from torch import Tensor

from distill.sets.synthetic import SyntheticSet
from distill.wording import listed


def united(parts: Sequence[SyntheticSet], class_names: Sequence[str]) -> SyntheticSet:
    """One set, ordered by class.

    Soft labels become probabilities, zero for the classes of the other parts. A rate that was learned with a part is not the
    whole's: there is none.

    Args:
        parts: sets that share no class.
        class_names: of the real set, K; each is a class of one part.

    Raises:
        ValueError: classes overlap or are missing, or the parts differ in real set, space, image size or kind of labels.
    """
    if len(parts) < 2:
        raise ValueError(f"union is a list of {len(parts)}, expected two sets of different classes or more")
    whole = joined(parts, class_names)
    lost = [name for name, count in zip(class_names, whole.counts, strict=True) if not count]
    if lost:
        raise ValueError(f"the union has no images of {listed(lost)}: {_named(parts)}")
    return whole


def joined(parts: Sequence[SyntheticSet], class_names: Sequence[str]) -> SyntheticSet:
    """The same of one part or more, where other classes may have no images yet.

    Args:
        class_names: of the real set, K; each class of a part is one of them.

    Raises:
        ValueError: classes overlap or are none of these, or the parts differ in real set, space, image size or kind of labels.
    """
    for told, values in {
        "of the data": [part.data for part in parts],
        "in space": [repr(part.preprocessing) for part in parts],
        "of images": ["x".join(map(str, part.images.shape[1:])) for part in parts],
        "of tiles": [f"{part.tiles}x{part.tiles}" for part in parts],
        "with factors": ["x".join(map(str, part.factors)) for part in parts],
        "with labels that are": [part.label_kind for part in parts],
    }.items():
        if len(set(values)) > 1:
            raise ValueError(f"a union is {told} {listed(list(dict.fromkeys(values)))}: expected one")
    if parts[0].has_vectors:
        raise ValueError("the parts have vectors, and a union is of labels that name classes: take other sets")
    names = [name for part in parts for name in part.class_names]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise ValueError(f"more than one part of the union has class {listed(twice)}: expected different ones")
    more = [name for name in names if name not in class_names]
    if more:
        raise ValueError(f"the union has images of {listed(more)}, which the data leave out: {_named(parts)}")
    places = {name: place for place, name in enumerate(class_names)}
    own = [torch.tensor([places[name] for name in part.class_names]) for part in parts]
    classes = torch.cat([place[part.classes] for place, part in zip(own, parts, strict=True)])
    labels = torch.cat([_widened(part, place, len(places)) for part, place in zip(parts, own, strict=True)])
    order = classes.argsort(stable=True)
    kind = "hard" if parts[0].label_kind == "hard" else "probabilities"
    return SyntheticSet(
        torch.cat([part.images[:] for part in parts])[order], labels[order], classes[order], tuple(class_names),
        parts[0].preprocessing, parts[0].data, kind, record=_record(parts), eight_bit=all(part.eight_bit for part in parts),
        tiles=parts[0].tiles, factors=parts[0].factors,
    )  # fmt: skip


def _named(parts: Sequence[SyntheticSet]) -> str:
    return (
        f"name its classes with data.classes=[{','.join([name for part in parts for name in part.class_names][:20])}]"
    )


def _widened(part: SyntheticSet, places: Tensor, classes: int) -> Tensor:
    """The labels of a part as those of all classes, of which its own have ``places``."""
    if part.label_kind == "hard":
        return places[part.labels]
    return torch.zeros(len(part), classes).index_copy(1, places, part.targets)


def _record(parts: Sequence[SyntheticSet]) -> dict[str, object]:
    """What is known of the whole: its steps are those of all parts together."""
    methods = dict.fromkeys(str(part.record.get("method", "unknown")) for part in parts)
    record: dict[str, object] = {"method": f"union of {', '.join(methods)}", "parts": [part.hash for part in parts]}
    for name in ("step", "steps"):
        values = [part.record.get(name) for part in parts]
        if all(isinstance(value, int) for value in values):
            record[name] = sum(values)  # type: ignore[arg-type]
    seeds = {part.record.get("seed", 0) for part in parts}
    picked = "test" if any(part.record.get("picked_on") == "test" for part in parts) else "last"
    return record | {"picked_on": picked} | ({"seed": seeds.pop()} if len(seeds) == 1 else {})
