"""Rules that pick real images beside loops written plainly; a part of ``benchmarks/speed.py``."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Generator, Tensor

from benchmarks.training import added, compare
from distill.methods.selection.geometry import facility_location, herding, k_center, k_means, medoids
from distill.methods.selection.scores import grand

PICKS = 50


def plain_herding(features: NDArray[np.float64], count: int) -> list[int]:
    """All distances anew for each pick, in numpy's float64."""
    mean, total, picked = features.mean(0), np.zeros(features.shape[1]), list[int]()
    for k in range(1, count + 1):
        distances = np.linalg.norm(k * mean - total - features, axis=1)
        distances[picked] = np.inf
        picked.append(int(np.argmin(distances)))
        total += features[picked[-1]]
    return picked


def plain_k_center(features: NDArray[np.float64], count: int, first: int) -> list[int]:
    """Every pick's distances are kept, and their least sought anew for each pick."""
    kept, picked = np.empty((count, len(features))), [first]
    while len(picked) < count:
        kept[len(picked) - 1] = np.linalg.norm(features - features[picked[-1]], axis=1)
        picked.append(int(np.argmax(np.min(kept[: len(picked)], axis=0))))
    return picked


def plain_grand(features: Tensor, logits: Tensor, labels: Tensor, batch: int = 128) -> Tensor:
    """The gradient of the last layer for each image, (batch, K, d), is built and measured."""
    norms = []
    for z, out, own in zip(features.split(batch), logits.split(batch), labels.split(batch), strict=True):
        out = out.detach().requires_grad_()
        (bias,) = torch.autograd.grad(F.cross_entropy(out, own, reduction="sum"), out)
        weight = bias[:, :, None].repeat(1, 1, z.shape[1]) * z[:, None, :].repeat(1, out.shape[1], 1)
        norms.append(torch.cat([bias, weight.flatten(1)], 1).norm(dim=1))
    return torch.cat(norms)


def selection(repeat: int) -> None:
    """Herding, k-center and GraNd beside plain loops, and what every geometric rule takes of ten classes."""
    classes = [torch.randn(5000, 128) for _ in range(10)]
    beside_plain_loops(classes, repeat)
    for width, number in ((512, 10), (512, 100)):
        features, logits, labels = torch.randn(20000, width), torch.randn(20000, number), torch.arange(20000) % number
        assert torch.allclose(plain_grand(features, logits, labels), grand(features, logits, labels), rtol=1e-4)
        ways: dict[str, Callable[[], object]] = {
            "plain": partial(plain_grand, features, logits, labels),
            "closed form": partial(grand, features, logits, labels),
        }
        compare(f"GraNd, 20,000 images, {number} classes", ways, repeat)
    rules: dict[str, Callable[[Tensor], object]] = {
        "herding": lambda z: herding(z, PICKS),
        "k-center": lambda z: k_center(z, PICKS, Generator().manual_seed(0)),
        "facility location": lambda z: facility_location(z, PICKS),
        "k-means": lambda z: k_means(z, PICKS, 0),
        "medoids": lambda z: medoids(z, PICKS, 0),
    }
    compare("rules, 10 x 5,000 x 128", {name: partial(of_all, rule, classes) for name, rule in rules.items()}, repeat)
    for name, rule in rules.items():
        print(f"{'memory beyond the features':44} {name:26} {added(partial(rule, classes[0])) / 1024:8.0f} MB")
    many = torch.randn(200_000, 512).half()
    for block in (2**18, 2**26):
        pick = partial(k_center, many, 10, Generator().manual_seed(0), block)
        print(f"{'memory, k-center, 200,000 x 512 in half':44} {f'block {block}':26} {added(pick) / 1024:8.0f} MB")
        compare("k-center, 200,000 x 512 in half, 10 picks", {f"block {block}": pick}, repeat)


def of_all(rule: Callable[[Tensor], object], classes: list[Tensor]) -> None:
    """One class after another."""
    for features in classes:
        rule(features)


def beside_plain_loops(classes: list[Tensor], repeat: int) -> None:
    """The same picks, of ten classes, by plain loops and by ours."""
    doubles = [features.double().numpy() for features in classes]
    firsts = [int(torch.randint(len(z), (1,), generator=Generator().manual_seed(0))) for z in classes]

    def plain_centers() -> list[list[int]]:
        return [plain_k_center(z, PICKS, first) for z, first in zip(doubles, firsts, strict=True)]

    def centers() -> list[list[int]]:
        return [k_center(z, PICKS, Generator().manual_seed(0)).tolist() for z in classes]

    def plain_herds() -> list[list[int]]:
        return [plain_herding(z, PICKS) for z in doubles]

    def herds() -> list[list[int]]:
        return [herding(z, PICKS).tolist() for z in classes]

    assert plain_centers() == centers() and plain_herds() == herds()
    compare("k-center, 10 x 5,000 x 128, 50 picks", {"plain": plain_centers, "running minimum": centers}, repeat)
    compare("herding, 10 x 5,000 x 128, 50 picks", {"plain": plain_herds, "one product a pick": herds}, repeat)
