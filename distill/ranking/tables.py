"""Tables of a ranking: what each proxy is worth, and every network."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from distill.comparison.forms import MISSING, Form, plain
from distill.ranking.measures import Correlation, Ranking, is_constant, ranking
from distill.ranking.space import DEPTHS, N54
from distill.ranking.truth import Truth

NONE = "no ranking"  # of equal scores


@dataclass(frozen=True)
class Proxy:
    """What may tell networks apart.

    Attributes:
        scores: (R, 54), of R syntheses or draws; None as long as networks are missing.
        seconds, tflop: of one of them, over all networks; of parameters and MACs zero.
    """

    name: str
    scores: np.ndarray | None = None
    seconds: float = 0.0
    tflop: float = 0.0

    def against(self, truth: Truth) -> Ranking | None:
        """None where there is no ranking."""
        depths = np.array([each.depth for each in N54])
        return None if self.scores is None else ranking(self.scores, truth.val, truth.test, depths)


def worth(proxies: Sequence[Proxy], truth: Truth, here: str) -> Form:
    """A line for each proxy; ``here`` stands for the real images and splits that the proxies were scored on."""
    lines = []
    for proxy in proxies:
        found = proxy.against(truth)
        sets = "" if proxy.scores is None else len(proxy.scores)
        if found is None:
            why = MISSING if proxy.scores is None else NONE
            lines.append(plain(proxy.name, sets, why, *[MISSING] * (6 + len(DEPTHS))))
            continue
        inside = [MISSING if value is None else f"{value:.2f}" for value in found.inside.values()]
        regrets = [f"{100 * value:.2f}" for value in (*found.regret.values(), found.chosen)]
        spent = [f"{proxy.seconds:,.0f}", f"{proxy.tflop:.3g}"]
        lines.append(plain(proxy.name, sets, told(found.rho), told(found.tau), *inside, *regrets, *spent))
    columns = [
        *("proxy", "sets", "Spearman", "Kendall", *(f"depth {depth}" for depth in DEPTHS)),
        *("regret@1", "regret@5", "test accuracy of its first", "seconds", "TFLOP"),
    ]
    return Form(
        "ranking", f"Ranking {len(N54)} networks on {truth.data}", columns, lines, [*notes(truth), *other(truth, here)]
    )


def notes(truth: Truth) -> list[str]:
    noise = truth.noise()
    ceiling = "it has one seed each" if noise is None else f"Spearman {told(noise[0])}, Kendall {told(noise[1])}"
    best = int(truth.val.argmax())
    spent = sum(each.seconds for each in truth.networks.values())
    return [
        "Spearman, Kendall (tau_b) with the true validation accuracies; [95 % interval], 10,000 resamples of the networks.",
        "Depth 1 to 3: Spearman among the networks of that depth. sets: syntheses or draws, each a ranking of its own; means.",
        "Regret@k: best true accuracy less the best among the proxy's first k, in points; equal ones in random order.",
        "Seconds, TFLOP: of one set, over all networks.",
        f"Truth: {truth.images:,} images, hash {truth.hash}, {spent:,.0f} s; between two seeds of twelve: {ceiling}.",
        f"Its first: {N54[best].name}, {100 * truth.val[best]:.2f} % on validation, {100 * truth.test[best]:.2f} % on test.",
        f"Its recipe: {', '.join(f'{name} {value}' for name, value in recipe(truth).items())}.",
    ]


def other(truth: Truth, here: str) -> list[str]:
    """That the truth is of other images, where it is."""
    if truth.data_hash == here:
        return []
    return [f"The truth's images, splits or preprocessing (hash {truth.data_hash}) are not those of this run ({here})."]


def recipe(truth: Truth) -> dict[str, Any]:
    """What of its recipe is worth a line."""
    names = ("epochs", "batch", "lr", "lr without norm", "optimizer", "momentum", "weight_decay", "schedule", "augment")
    return {name: truth.recipe[name] for name in names if name in truth.recipe}


def told(found: Correlation) -> str:
    span = "" if found.low is None else f" [{found.low:.2f}, {found.high:.2f}]"
    return f"{found.value:.2f}{span}"


def networks(proxies: Sequence[Proxy], truth: Truth) -> Form:
    """A line for each network: its truth, and each proxy's score."""
    shown = [proxy for proxy in proxies if proxy.scores is not None and proxy.tflop]
    lines = []
    for place, (name, own) in enumerate(truth.networks.items()):
        true = [f"{100 * split[place]:.2f}" for split in (truth.val, truth.test)]
        scores = [f"{100 * proxy.scores[:, place].mean():.2f}" for proxy in shown if proxy.scores is not None]
        lines.append(plain(name, f"{own.macs:,}", f"{own.params:,}", len(own.val), *true, *scores))
    columns = ["network", "MACs", "parameters", "seeds", "true validation", "true test", *(each.name for each in shown)]
    title = f"Accuracy on the validation split by network, %: {truth.data}"
    return Form("ranking-networks", title, columns, lines, ["True test: on the test split, which ranks nothing."])


def summary(proxies: Sequence[Proxy], truth: Truth) -> dict[str, Any]:
    """For programs."""
    noise = truth.noise()
    return {
        "truth": {"data": truth.data, "hash": truth.hash, "images": truth.images, "recipe": dict(truth.recipe)},
        "noise": None if noise is None else dict(zip(("rho", "tau"), map(asdict, noise), strict=True)),
        "proxies": [entry(proxy, truth) for proxy in proxies],
    }


def entry(proxy: Proxy, truth: Truth) -> dict[str, Any]:
    found = proxy.against(truth)
    measured = {"seconds": proxy.seconds, "tflop": proxy.tflop}
    if found is None:
        constant = proxy.scores is not None and any(map(is_constant, proxy.scores))
        return {"name": proxy.name, "ranking": NONE if constant else None, **measured}
    return {"name": proxy.name, "ranking": asdict(found), **measured}
