"""Dynamics: what every image of a training set did to a network, epoch by epoch; what many selection rules are made of."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from distill.training.batch import Batch
from distill.training.gradients import Outputs


class Dynamics:
    """An ``after_batch`` of `distill.training.loop.train` that keeps what one network said of every image in every epoch.

    It is said of the views that the network is trained on, before the step, as in CCS's code. Forgetting events
    (arXiv:1812.05159), EL2N (arXiv:2107.07075) and the area under the margin (arXiv:2001.10528) are sums over these. An image
    that an epoch left out is NaN there.

    They lie where the network's outputs do.

    Attributes:
        margins: probability of the image's class less the largest other one, (E, N) in [-1, 1].
        errors: 2-norm of softmax less one-hot (EL2N's summand), (E, N) in [0, sqrt(2)].

    >>> from distill.training.dynamics import Dynamics
    >>> Dynamics(epochs=3, images=5).margins.shape
    torch.Size([3, 5])
    """

    def __init__(self, epochs: int, images: int):
        self.margins, self.errors = (torch.full((epochs, images), float("nan")) for _ in range(2))

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "Dynamics":
        """Those that `tensors` gave."""
        found = cls(*tensors["margins"].shape)
        found.margins, found.errors = tensors["margins"], tensors["errors"]
        return found

    def __call__(self, batch: Batch, outputs: Outputs) -> None:
        index, probabilities, own = batch.index[0], outputs.logits[0].softmax(1), batch.targets[0][:, None]
        self.margins, self.errors = (each.to(probabilities.device) for each in (self.margins, self.errors))
        others = probabilities.scatter(1, own, -1.0).max(1).values
        self.margins[batch.epoch, index] = probabilities.gather(1, own)[:, 0] - others
        self.errors[batch.epoch, index] = (probabilities - one_hot(own[:, 0], probabilities.shape[1])).norm(dim=1)

    @property
    def correct(self) -> Tensor:
        """Whether the network was right about each image, (E, N)."""
        return self.margins > 0

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All of it by name, on the CPU."""
        return {"margins": self.margins.cpu(), "errors": self.errors.cpu()}
