"""From pixels in [0, 1] to the space networks see, and back for viewing.

Four spaces: ``pixel01`` (as is), ``normalised`` (per-channel constants), ``zca`` (whitened, MTT and DATM on CIFAR) and ``kip``
(each image brought to mean 0 and norm 1, then whitened: KIP's, for its published sets).
"""

import hashlib
import math
import reprlib
import sys
from functools import cached_property
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from distill.files import load_tensors, save_tensors
from distill.progress import stage

LARGEST = 1e4  # of a constant

ZCA_EPS = 0.1  # the regulariser of MTT and DATM

KIP_EPS = 0.1  # KIP's, in units of the covariance's mean eigenvalue


def to_pixels(images: np.ndarray) -> Tensor:
    """uint8 (N, H, W, C) to pixels (N, C, H, W) in [0, 1]."""
    return torch.from_numpy(np.require(images.transpose(0, 3, 1, 2), requirements=["C", "W"])).float() / 255


class Preprocessing:
    """A map of pixels: per-channel ``mean`` (C,) and ``std`` (C,), or a whitening ``matrix`` (D, D) with what goes before it.

    That is ZCA's ``mean`` (D,); or, of KIP, each image's own mean and norm, whose averages ``mean`` (1,) and ``norm`` (1,) are
    kept to look at images.

    Args:
        space: ``pixel01``, ``normalised``, ``zca`` or ``kip``.
        tensors: the constants under the names above; empty for ``pixel01``.

    Raises:
        ValueError: the space is unknown, or its constants are missing or impossible.
    """

    NEEDS = {
        "pixel01": set(),
        "normalised": {"mean", "std"},
        "zca": {"mean", "matrix"},
        "kip": {"mean", "norm", "matrix"},
    }

    def __init__(self, space: str, tensors: dict[str, Tensor] | None = None):
        self.space, self.tensors = space, tensors or {}
        if space not in self.NEEDS:
            raise ValueError(f"unknown space {reprlib.repr(space)}: one of {', '.join(self.NEEDS)}")
        if set(self.tensors) != self.NEEDS[space]:
            raise ValueError(
                f"space {space} has constants {reprlib.repr(sorted(self.tensors))}, expected {sorted(self.NEEDS[space])}"
            )
        for name, tensor in self.tensors.items():
            if tensor.dtype != torch.float32 or not tensor.numel() or not (tensor.abs() < LARGEST).all():
                raise ValueError(f"the constants {name} of space {space} are no numbers below {LARGEST:g}")
        if "std" in self.tensors and not (self.tensors["std"] > 0).all():
            raise ValueError(
                f"the deviations of space {space} reach {float(self.tensors['std'].min())}, expected above 0"
            )

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError unless the constants are for images (C, H, W)."""
        channels, pixels = shape[0], math.prod(shape)
        expected: dict[str, list[tuple[int, ...]]] = dict.fromkeys(("mean", "std"), [(1,), (channels,)])
        if self.space == "zca":
            expected = {"mean": [(pixels,)], "matrix": [(pixels, pixels)]}
        if self.space == "kip":
            expected = {"mean": [(1,)], "norm": [(1,)], "matrix": [(pixels, pixels)]}
        for name, tensor in self.tensors.items():
            if tuple(tensor.shape) not in expected[name]:
                raise ValueError(
                    f"the constants {name} of space {self.space} are {tuple(tensor.shape)}, expected {expected[name][-1]}"
                )

    def check_invertible(self) -> None:
        """Raise ValueError unless ZCA's matrix is what whitening makes: symmetric, with eigenvalues above 0."""
        if "matrix" not in self.tensors:
            return
        matrix = self.tensors["matrix"]
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not torch.allclose(matrix, matrix.T, atol=1e-3):
            raise ValueError(f"the whitening matrix {tuple(matrix.shape)} is not symmetric")
        if int(torch.linalg.cholesky_ex(matrix).info):
            raise ValueError("the whitening matrix has no inverse")

    def __call__(self, pixels: Tensor) -> Tensor:
        """Pixels (N, C, H, W) in [0, 1] to this space, same shape."""
        if self.space == "normalised":
            mean, std = (self.tensors[name].to(pixels, non_blocking=True).view(-1, 1, 1) for name in ("mean", "std"))
            return (pixels - mean) / std
        if self.space == "zca":
            mean, matrix = (self.tensors[name].to(pixels, non_blocking=True) for name in ("mean", "matrix"))
            return ((pixels.flatten(1) - mean) @ matrix).view_as(pixels)
        if self.space == "kip":
            return (unit(pixels) @ self.tensors["matrix"].to(pixels, non_blocking=True)).view_as(pixels)
        return pixels

    def inverse(self, images: Tensor) -> Tensor:
        """Images of this space back to pixels; synthetic ones may leave [0, 1], clip them to look at them.

        Of KIP's an image's own mean and norm are lost: it gets those of real images on average.
        """
        if self.space == "normalised":
            mean, std = (self.tensors[name].to(images, non_blocking=True).view(-1, 1, 1) for name in ("mean", "std"))
            return images * std + mean
        if self.space == "zca":
            mean, matrix = (
                tensor.to(images.device, non_blocking=True) for tensor in (self.tensors["mean"], self._unwhitening)
            )
            return (images.flatten(1).double() @ matrix + mean).to(images).view_as(images)
        if self.space == "kip":
            mean, norm = (self.tensors[name].to(images, non_blocking=True) for name in ("mean", "norm"))
            flat = images.flatten(1).double() @ self._unwhitening.to(images.device, non_blocking=True)
            return (flat.to(images) * norm + mean).view_as(images)
        return images

    @cached_property
    def _unwhitening(self) -> Tensor:
        return torch.linalg.inv(self.tensors["matrix"].double())

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits of the space and its constants; equal fingerprints mean interchangeable images."""
        digest = hashlib.sha256(self.space.encode())
        for name in sorted(self.tensors):
            digest.update(self.tensors[name].cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]

    def __repr__(self) -> str:
        return f"{self.space}:{self.fingerprint}"


def loaded(space: str, tensors: dict[str, Tensor]) -> Preprocessing:
    """The preprocessing that a file holds; files of one space share it, and what its check costs.

    Raises:
        ValueError: the constants are impossible.
    """
    own = Preprocessing(space, tensors)
    fingerprint = own.fingerprint
    if fingerprint not in _LOADED:
        own.check_invertible()
    return _LOADED.setdefault(fingerprint, own)


_LOADED: WeakValueDictionary[str, Preprocessing] = WeakValueDictionary()


def normalised(mean: list[float], std: list[float]) -> Preprocessing:
    """Per-channel constants, as the tables print them."""
    return Preprocessing("normalised", {"mean": torch.tensor(mean), "std": torch.tensor(std)})


def fit_constants(pixels: Tensor) -> Preprocessing:
    """Mean and standard deviation of every channel of the training pixels (N, C, H, W)."""
    mean, std = pixels.double().mean((0, 2, 3)), pixels.double().std((0, 2, 3))
    return Preprocessing("normalised", {"mean": mean.float(), "std": std.float().clamp_min(1e-3)})


def fit_zca(pixels: Tensor, eps: float = ZCA_EPS) -> Preprocessing:
    """ZCA whitening ``W = Q (L + eps)^-1/2 Q^T`` from the unbiased covariance ``Q L Q^T`` of pixels (N, C, H, W).

    The covariance of the whitened training images has eigenvalues L / (L + eps).
    Source: `kornia.enhance.ZCAWhitening`, which MTT (arXiv:2203.11932) uses; its constants differ by up to 1e-6, which is
    another fingerprint, for its sums are float32.
    """
    flat = pixels.flatten(1)
    mean = flat.mean(0, dtype=torch.float64)
    covariance = torch.zeros(flat.shape[1], flat.shape[1], dtype=torch.float64)
    for rows in flat.split(5000):
        centred = rows - mean.to(rows)
        covariance += (centred.T @ centred).double()
    values, vectors = torch.linalg.eigh(covariance / (len(flat) - 1))
    matrix = (vectors * (values.clamp_min(0) + eps).rsqrt()) @ vectors.T
    return Preprocessing("zca", {"mean": mean.float(), "matrix": matrix.float()})


def fit_kip(pixels: Tensor, eps: float = KIP_EPS) -> Preprocessing:
    """KIP's whitening ``(C + eps tr(C) / d)^-1/2``, C the second moment ``X^T X / n`` of `unit` pixels (N, C, H, W).

    Source: Nguyen et al., NeurIPS 2021, arXiv:2107.13034.
    """
    flat = pixels.flatten(1)
    moment = torch.zeros(flat.shape[1], flat.shape[1], dtype=torch.float64)
    for rows in flat.split(5000):
        whole = unit(rows)
        moment += (whole.T @ whole).double()
    values, vectors = torch.linalg.eigh(moment / len(flat))
    matrix = (vectors * (values.clamp_min(0) + eps * values.mean()).rsqrt()) @ vectors.T
    norms = (flat - flat.mean(1, keepdim=True)).norm(dim=1)
    tensors = {"mean": flat.mean().view(1), "norm": norms.mean().view(1), "matrix": matrix.float()}
    return Preprocessing("kip", tensors)


def unit(pixels: Tensor) -> Tensor:
    """Images (N, D), each less its own mean and of norm 1; an image of one colour becomes 0.

    >>> unit(torch.tensor([[0.0, 1.0], [3.0, 3.0]]))
    tensor([[-0.7071,  0.7071],
            [ 0.0000,  0.0000]])
    """
    flat = pixels.flatten(1)
    centred = flat - flat.mean(1, keepdim=True)
    return centred / centred.norm(dim=1, keepdim=True).clamp_min(1e-8)


def cached_zca(pixels: Tensor, key: str, cache: Path) -> Preprocessing:
    """`fit_zca`, computed once for the training images that ``key`` is the hash of and kept in ``cache``."""
    path = cache / f"zca-{key}-eps{ZCA_EPS}.safetensors"
    try:
        known = loaded("zca", load_tensors(path)[0])
        known.check_shape(tuple(pixels.shape[1:]))
        return known
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        print(f"warning: {error}: whitening is fitted anew", file=sys.stderr)
    with stage("fitting ZCA"):
        whitening = fit_zca(pixels)
    try:
        save_tensors(path, whitening.tensors)
    except OSError as error:
        print(f"warning: the whitening is not kept for the next run: {error}", file=sys.stderr)
    return whitening
