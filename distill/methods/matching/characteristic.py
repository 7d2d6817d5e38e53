"""Characteristic functions of features: how far two sets of them are apart, and frequencies that look where they are.

Source: NCFM (Wang et al., CVPR 2025, arXiv:2502.20653), as its code has it.
"""

import torch
from torch import Tensor, nn

FLOOR = 1e-12  # of what the phases differ by, so that its root has a slope


def discrepancy(real: Tensor, synthetic: Tensor, frequencies: Tensor, amplitude: float, phase: float) -> Tensor:
    """Mean over frequencies of sqrt(amplitude A + phase P), both of the empirical characteristic functions of two sets.

    A is the squared difference of their amplitudes, P what differs by phase; A + P is their squared distance.

    Args:
        real, synthetic: features (n, F) and (m, F), of length 1.
        frequencies: (M, F).

    Returns:
        Scalar >= 0; of equal sets 7e-7 for phase = 0.5, by `FLOOR`, or what float32 makes of zero (about 1e-4).
    """
    return distance(mean_wave(real, frequencies), mean_wave(synthetic, frequencies), amplitude, phase)


def distance(real: Tensor, synthetic: Tensor, amplitude: float, phase: float) -> Tensor:
    """The same of their characteristic functions, (2, M) each: real and imaginary parts."""
    (a, b), (c, d) = real, synthetic
    one, other = length(a, b), length(c, d)
    apart = (2 * (one * other - a * c - b * d)).clamp_min(FLOOR)
    return (amplitude * (one - other).square() + phase * apart).sqrt().mean()


def mean_wave(features: Tensor, frequencies: Tensor) -> Tensor:
    """The characteristic function of features (n, F) at frequencies (M, F): its real and its imaginary part, (2, M)."""
    angles = features @ frequencies.T
    return torch.stack([angles.cos().mean(0), angles.sin().mean(0)])


def length(real: Tensor, imaginary: Tensor) -> Tensor:
    """Of complex numbers; with a slope at zero."""
    return (real.square() + imaginary.square() + 1e-24).sqrt()


class Sampler(nn.Sequential):
    """Frequencies (M, F) in [-1, 1] from standard normal noise of the same shape, learned so that they tell sets apart.

    Three blocks of a linear layer and batch norm; leaky ReLU 0.2 after two of them, then Tanh. NCFM's code makes four
    frequencies and repeats them; here each comes from noise of its own.
    """

    def __init__(self, width: int):
        layers: list[nn.Module] = []
        for last in (nn.LeakyReLU(0.2), nn.LeakyReLU(0.2), nn.Tanh()):
            layers += [nn.Linear(width, width), nn.BatchNorm1d(width), last]
        super().__init__(*layers)
