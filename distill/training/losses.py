"""Losses and directions that papers add to cross-entropy."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor
from torch.func import grad

Net = Callable[[Tensor], Tensor]  # images (B, C, H, W) -> logits (B, K)


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Mean over images of KL(softmax(teacher / tau) || softmax(student / tau)), logits (B, K); no factor tau squared."""
    target, own = (logits.div(temperature).log_softmax(1) for logits in (teacher, student))
    return F.kl_div(own, target, reduction="batchmean", log_target=True)


def gradient_penalty(net: Net, images: Tensor) -> Tensor:
    """Mean over images and pixels of (n - 1)^2, a scalar >= 0; n is the 2-norm over colour channels of d/dx (sum of logits).

    Args:
        net: maps images to logits.
        images: without augmentation, (B, C, H, W).

    Source: AST, arXiv:2310.10541, as its code has it.
    """
    slope = grad(lambda x: net(x).sum())(images)
    return (slope.square().sum(1).clamp_min(1e-24).sqrt() - 1).square().mean()


def gsam_gradient(gradient: Callable[[Tensor], Tensor], weights: Tensor, rho: float, alpha: float) -> Tensor:
    """FTD's update direction: the gradient at an adversarial neighbour, less ``alpha`` times the orthogonal rest.

    With g at w, e = rho * w*w*g / |w*g| and p the gradient at w + e, it is p - alpha * (g - <g, p> / |p|^2 p).

    Args:
        gradient: the gradient (S, P) at weights (S, P), on one fixed augmented batch for each network.
        weights: of S networks, (S, P).
        rho: radius; 0 gives the plain gradient.
        alpha: weight of the orthogonal part; 0 gives adaptive SAM.

    Source: Du et al., FTD, CVPR 2023, arXiv:2211.11004; Zhuang et al., GSAM, ICLR 2022, arXiv:2203.08065.
    """
    w = weights.detach()
    g = gradient(w)
    reach = rho / (w * g).norm(dim=1, keepdim=True).clamp_min(1e-12)
    p = gradient(w + reach * w * w * g)
    along = (g * p).sum(1, keepdim=True) / p.square().sum(1, keepdim=True).clamp_min(1e-24)
    return p - alpha * (g - along * p)
