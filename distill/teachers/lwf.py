"""Learning without forgetting: a student goes on from that of the step before, and keeps to what that one says.

Source: Li & Hoiem, ECCV 2016, arXiv:1606.09282; with a memory of distilled images: IDC, arXiv:2205.14959.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.checks import setting
from distill.networks.flat import FlatStudent, flatten
from distill.teachers.labels import Hard, Teaching, Told
from distill.training.batch import Batches
from distill.training.losses import Loss, Net, divergence


@dataclass(frozen=True)
class LwFLoss(Loss):
    """Cross-entropy over all classes + beta KL(softmax(old / tau) || softmax(own / tau)) over those n of the steps before.

    IDC's weight is n beta. How its divergence is normalised is not said: we take the mean over images and over the n outputs,
    so that n cancels and beta weighs the divergence of an image. There is no factor tau squared (Li & Hoiem have none). It is
    of all images, those of new classes too, as they are shown: augmented and mixed.

    Attributes:
        classes: K.
        temperature: tau.
        beta: weight; 0 leaves the cross-entropy alone.
    """

    classes: int = setting("whole [1, 1000000]")
    temperature: float = setting("(0, 1000000]")
    beta: float = setting("[0, 1000000]")

    def __call__(self, net: Net, images: Tensor, logits: Tensor, targets: Tensor, epoch: Tensor) -> Tensor:
        """Losses (B,) of logits (B, K), or of (B, K + n) as `Continued` gives them."""
        own, old = logits[:, : self.classes], logits[:, self.classes :]
        losses = F.cross_entropy(own, targets, reduction="none")
        count = old.shape[1]
        return losses + self.beta * divergence(own[:, :count], old, self.temperature) if count else losses


@dataclass(frozen=True)
class LwF(Hard):
    """Classes, and logits of the student of the step before; in a training without steps classes alone.

    Attributes:
        temperature, beta: see `LwFLoss`.
    """

    name = "lwf"
    continues: ClassVar[bool] = True
    temperature: float = setting("(0, 1000000]")
    beta: float = setting("[0, 1000000]")

    def on(self, batches: Batches, seed: int, teaching: Teaching) -> Told:
        loss = LwFLoss(batches.data.num_classes, self.temperature, self.beta)
        return replace(super().on(batches, seed, teaching), loss=loss)


class Continued(nn.Module):
    """A student's logits (B, K) and, beside them, those (B, n) of the frozen one of the step before: (B, K + n).

    Its parameters are the student's.
    """

    weights: Tensor

    def __init__(self, net: nn.Module, old: nn.Module):
        super().__init__()
        self.net, self.old = net, FlatStudent(old.eval(), with_state=True)  # no submodule: it stays in evaluation mode
        self.register_buffer("weights", flatten(old))

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([self.net(images), self.old(self.weights, images)], 1)


def continued(net: nn.Module, old: nn.Module) -> Continued:
    """``net`` with the weights of ``old``, whose n classes come first among its own; what is to be trained in its place.

    The other outputs keep their fresh start.

    >>> from distill.networks.convnet import ConvNet
    >>> how = {"depth": 2, "width": 4, "norm": "instance", "pooling": "avg", "activation": "relu"}
    >>> old, net, images = ConvNet((1, 8, 8), 2, **how), ConvNet((1, 8, 8), 5, **how), torch.rand(3, 1, 8, 8)
    >>> both = continued(net, old)
    >>> both(images).shape, torch.allclose(net(images)[:, :2], old(images))
    (torch.Size([3, 7]), True)
    """
    state, own = old.state_dict(), net.state_dict()
    head = {
        name: torch.cat([state[name], own[name][len(state[name]) :]])
        for name in ("classifier.weight", "classifier.bias")
    }
    net.load_state_dict(state | head)
    return Continued(net, old)
