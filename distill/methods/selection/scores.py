"""Scores of N images by which rules rank them: from a training run's log (E epochs, N) or from a trained network's outputs."""

import torch
from torch import Tensor

BLOCK = 2**22  # probabilities that are held at once: 16 MB


def forgetting(correct: Tensor, unlearned: str) -> Tensor:
    """How often each image went from right to wrong (Toneva et al., ICLR 2019, arXiv:1812.05159). High is hard.

    Args:
        correct: (E, N) bool, whether the image was classified correctly in the epoch; before the first none was.
        unlearned: the score of images that were never right. Toneva et al. count them as infinitely forgotten; DeepCore and
            CCS as zero, which moves the noisiest images from the hard end to the easy one.

    Returns:
        (N,) float.

    Examples:
        >>> forgetting(torch.tensor([[0, 0, 1], [1, 0, 1], [0, 0, 1], [1, 0, 1]]).bool(), "infinite")
        tensor([1., inf, 0.])
    """
    forgotten = (correct[:-1] & ~correct[1:]).sum(0).float()
    return forgotten if unlearned == "zero" else forgotten.masked_fill(~correct.any(0), torch.inf)


def el2n(errors: Tensor, epochs: int) -> Tensor:
    """The error norm ||p - y|| summed over the first epochs (Paul et al., NeurIPS 2021, arXiv:2107.07075). High is hard.

    CCS sums ten epochs of one run; the paper averages about ten runs at one early epoch.

    Args:
        errors: (E, N).

    Returns:
        (N,) float.

    Raises:
        ValueError: the log has fewer epochs.

    Examples:
        >>> el2n(torch.tensor([[1.0, 0.5], [0.5, 0.0], [9.0, 9.0]]), epochs=2)
        tensor([1.5000, 0.5000])
    """
    if len(errors) < epochs:
        raise ValueError(f"el2n sums {epochs} epochs, the log has {len(errors)}: train the proxy longer, or sum fewer")
    return errors[:epochs].float().sum(0)


def aum(margins: Tensor) -> Tensor:
    """The margin p_y - max_{k != y} p_k summed over all epochs. Low is hard, and lowest are wrong labels.

    CCS (arXiv:2210.15809) takes the margin of probabilities; Pleiss et al. (NeurIPS 2020, arXiv:2001.10528) that of logits,
    and its mean.

    Args:
        margins: (E, N).

    Returns:
        (N,) float.

    Examples:
        >>> aum(torch.tensor([[0.5, -1.0], [1.0, 0.5]]))
        tensor([ 1.5000, -0.5000])
    """
    return margins.float().sum(0)


def grand(features: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """The norm of each image's own gradient with respect to the last layer's weight and bias. High is hard.

    The weight's gradient is (p - y) z^T and the bias's is p - y: together ||p - y|| sqrt(1 + ||z||^2), without a gradient being
    built (GraNd: Paul et al., NeurIPS 2021, arXiv:2107.07075; DeepCore takes its last layer). The paper averages ten networks.

    Args:
        features: z, (N, d), what the last layer is given.
        logits: (N, K).
        labels: (N,) int64.

    Returns:
        (N,) float.

    Examples:
        >>> grand(torch.tensor([[0.0], [3.0]]), torch.zeros(2, 2), torch.tensor([0, 1]))
        tensor([0.7071, 2.2361])
    """
    rows = max(1, BLOCK // max(features.shape[1], logits.shape[1]))
    parts = zip(features.split(rows), logits.split(rows), labels.split(rows), strict=True)
    return torch.cat([_gradient_norm(*part) for part in parts])


def _gradient_norm(features: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    error = logits.float().softmax(1)
    error[torch.arange(len(labels)), labels] -= 1
    return error.norm(dim=1) * (1 + features.float().norm(dim=1).square()).sqrt()


def entropy(logits: Tensor) -> Tensor:
    """sum_k p_k log p_k, the entropy with its sign turned. Low is uncertain.

    Args:
        logits: (N, K).

    Returns:
        (N,) float in [-log K, 0].

    Examples:
        >>> entropy(torch.tensor([[0.0, 0.0], [2.0, 0.0]]))
        tensor([-0.6931, -0.3653])
    """
    logs = logits.float().log_softmax(1)
    return (logs.exp() * logs).sum(1)


def margin(logits: Tensor) -> Tensor:
    """The largest probability less the second. Low is uncertain.

    Args:
        logits: (N, K), K >= 2.

    Returns:
        (N,) float in [0, 1].

    Examples:
        >>> margin(torch.tensor([[0.0, 0.0], [99.0, 0.0]]))
        tensor([0., 1.])
    """
    first, second = logits.float().softmax(1).topk(2).values.T
    return first - second


def least_confidence(logits: Tensor) -> Tensor:
    """The largest logit, as DeepCore has it (arXiv:2204.08499); elsewhere it is the largest probability. Low is uncertain.

    Args:
        logits: (N, K).

    Returns:
        (N,) float.

    Examples:
        >>> least_confidence(torch.tensor([[0.0, 0.5], [3.0, 0.0]]))
        tensor([0.5000, 3.0000])
    """
    return logits.float().amax(1)


def check_scores(name: str, scores: Tensor) -> None:
    """Raise ValueError if an image has no score.

    Args:
        name: the rule, for the message.
        scores: (N,); infinite ones are scores.
    """
    lost = int(scores.isnan().sum())
    if lost:
        raise ValueError(
            f"{name} is NaN for {lost} of {len(scores)} images, expected a number for each: the proxy's training diverged, "
            "train it with a smaller learning rate or in fp32"
        )


def ranked(scores: Tensor, count: int, highest: bool) -> Tensor:
    """The images at one end of a score, from the end on; of equal scores the first image goes first, at either end.

    Args:
        scores: (N,), N >= count.

    Returns:
        Indices (count,) int64.

    Examples:
        >>> ranked(torch.tensor([1.0, 3.0, 1.0, 3.0]), 3, highest=True)
        tensor([1, 3, 0])
    """
    return scores.sort(stable=True, descending=highest).indices[:count]
