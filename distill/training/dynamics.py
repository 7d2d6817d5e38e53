"""Dynamics: what every image of a training set did to a network, epoch by epoch; what many selection rules are made of."""

import torch
from torch import Tensor

from distill.training.batch import Batch
from distill.training.gradients import Outputs


class Dynamics:
    """An ``after_batch`` of `distill.training.loop.train` that keeps what one network said of every image in every epoch.

    Forgetting events (arXiv:1812.05159), EL2N (arXiv:2107.07075) and the area under the margin (arXiv:2001.10528) are sums
    over these. An image that an epoch left out is NaN there.

    They lie where the network's outputs do.

    Attributes:
        losses: (E, N).
        margins: logit of the image's class less the largest other one, (E, N); above 0 where the network is right.
        errors: 2-norm of softmax less one-hot (EL2N's summand), (E, N).

    >>> from distill.training.dynamics import Dynamics
    >>> Dynamics(epochs=3, images=5).losses.shape
    torch.Size([3, 5])
    """

    def __init__(self, epochs: int, images: int):
        self.losses, self.margins, self.errors = (torch.full((epochs, images), float("nan")) for _ in range(3))

    def __call__(self, batch: Batch, outputs: Outputs) -> None:
        index, logits, targets = batch.index[0], outputs.logits[0], batch.targets[0]
        self.losses, self.margins, self.errors = (
            each.to(logits.device) for each in (self.losses, self.margins, self.errors)
        )
        one_hot = torch.nn.functional.one_hot(targets, logits.shape[1])
        own, others = logits.gather(1, targets[:, None])[:, 0], logits.masked_fill(one_hot.bool(), -float("inf"))
        self.losses[batch.epoch, index] = outputs.losses[0]
        self.margins[batch.epoch, index] = own - others.max(1).values
        self.errors[batch.epoch, index] = (logits.softmax(1) - one_hot).norm(dim=1)

    @property
    def correct(self) -> Tensor:
        """Whether the network was right about each image, (E, N)."""
        return self.margins > 0

    @property
    def forgotten(self) -> Tensor:
        """How often each image was right in one epoch and wrong in the next, (N,)."""
        return (self.correct[:-1] & ~self.correct[1:]).sum(0)
