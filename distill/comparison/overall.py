"""Ranks over several data sets: which method leads on the mean, and in how many draws of data sets."""

from collections import defaultdict

import numpy as np

from distill.comparison.arms import Comparison, setting_of
from distill.comparison.forms import Form, plain
from distill.comparison.pivots import Labels
from distill.report.differences import ranks, ranks_over

FEWEST = 5  # data sets that are worth drawing from


def overall(found: Comparison) -> list[Form]:
    """A line for each method that has a row for every data set of a setting, where there are `FEWEST` of them.

    Of several sizes of a data set the mean counts, so that no data set counts twice.
    """
    labels, forms, body = Labels(arm.row for arm in found.arms), list[Form](), []
    settings: dict[tuple[str, ...], dict[str, dict[tuple[str, str, str], float]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    told = {}
    for group in found.groups:
        for arm in group.arms:
            cell = (arm.row["data"], str(arm.row.get("data_hash")), str(arm.row["ipc"]))
            settings[setting_of(arm.row)][arm.name][cell] = arm.row["mean"]
            told[setting_of(arm.row)] = labels.setting(arm.row)
    for setting, methods in settings.items():
        cells = {cell for own in methods.values() for cell in own}
        whole = {name: own for name, own in methods.items() if own.keys() == cells}
        sets = sorted({cell[:2] for cell in cells})
        if len(sets) < FEWEST or len(whole) < 2:
            continue
        means = np.array(
            [[np.mean([own[cell] for cell in cells if cell[:2] == each]) for each in sets] for own in whole.values()]
        )
        holds, places = ranks_over(means), ranks(means.mean(1))
        for at in np.argsort(-means.mean(1), kind="stable"):
            texts = (f"{100 * means[at].mean():.1f}", f"{places[at]:.0f} of {len(whole)}", f"{100 * holds[at]:.0f} %")
            body.append(plain(told[setting], str(len(sets)), list(whole)[at], *texts))
    if body:
        columns = ["students", "data sets", "method", "mean accuracy", "rank", "holds in"]
        how = "Holds in: share of bootstrap draws of the data sets in which the method has this rank; the runs as they are."
        forms.append(Form("ranks-over-data", "Ranks over data sets", columns, body, [how]))
    return forms
