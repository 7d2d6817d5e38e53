"""Ridge regression in closed form; it is weighed by the trace of the features' kernel, so that their scale has no say."""

import torch
from torch import Tensor


def predicted(own: Tensor, targets: Tensor, rows: Tensor, ridge: float) -> Tensor:
    """What a linear map with a bias, fitted to features and targets, says of other features, (n, D).

    The dual form, whose system is as large as there are images: K_rs (K_ss + lambda I)^-1 Y_s, by a linear solve.
    Differentiable in all three tensors; lambda is held.

    Args:
        own: features (m, d) of the images that the map is fitted to.
        targets: what they should become, (m, D).
        rows: features (n, d) that it is asked about.
        ridge: lambda in units of the trace of K_ss.

    >>> own, targets = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[1.0], [3.0], [5.0]])
    >>> torch.allclose(predicted(own, targets, torch.tensor([[4.0]]), 1e-6), torch.tensor([[9.0]]), atol=1e-2)
    True
    """
    own, rows = with_bias(own), with_bias(rows)
    kernel = own @ own.T
    system = kernel + ridge * kernel.detach().trace() * torch.eye(len(own), dtype=own.dtype, device=own.device)
    return rows @ own.T @ torch.linalg.solve(system, targets)


def with_bias(features: Tensor) -> Tensor:
    """Features (n, d) and a column of ones, (n, d + 1)."""
    return torch.cat([features, features.new_ones(len(features), 1)], 1)


def fitted(features: Tensor, targets: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Weight (D, d) and bias (D,) of the linear map from features (n, d) to targets (n, D), the primal form.

    Args:
        ridge: in units of the trace of the features' covariance; the bias is not held back.

    >>> weight, bias = fitted(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[1.0], [3.0], [5.0]]), 1e-9)
    >>> [round(float(each), 3) for each in (weight, bias)]
    [2.0, 1.0]
    """
    mean, middle = features.mean(0), targets.mean(0)
    centred = features - mean
    covariance = centred.T @ centred
    system = covariance + ridge * covariance.trace() * torch.eye(len(covariance)).to(covariance)
    weight = torch.linalg.solve(system, centred.T @ (targets - middle)).T
    return weight, middle - weight @ mean
