"""A pool of bodies in training on the synthetic set, as FRePo (arXiv:2206.00719) and KRR-ST (arXiv:2310.06511) keep one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from distill import rng
from distill.checks import check_ranges, setting, stated
from distill.networks.base import Student
from distill.progress import tell
from distill.training.loop import named, optimizer_tensors, restore_optimizer


@dataclass(frozen=True)
class Bodies:
    """How bodies are trained, each with a linear head, by SGD on the whole synthetic set.

    Attributes:
        count: of the pool.
        steps: that a body takes before a fresh one takes its place.
        lr, momentum, weight_decay: of SGD.
        reset_count: a fresh body begins to count its steps. If not, as in the released code, it is replaced again at every
            later visit and never trained.
    """

    count: int = setting("whole [1, 10000]")
    steps: int = setting("whole [2, 100000000]")
    lr: float = setting("(0, 1000]")
    momentum: float = setting("[0, 1)")
    weight_decay: float = setting("[0, 1000]")
    reset_count: bool = setting("true or false")

    def __post_init__(self) -> None:
        check_ranges("method.pool", vars(self), stated(type(self)))


class Body:
    """One of them: in evaluation mode and without gradients but for its own steps.

    Attributes:
        steps: that count.
    """

    def __init__(self, net: Student, how: Bodies):
        self.net = net.eval().requires_grad_(False)
        self.optimizer = torch.optim.SGD(net.parameters(), how.lr, how.momentum, weight_decay=how.weight_decay)
        self.steps = 0

    def train(self, images: Tensor, targets: Tensor) -> None:
        """A step on all images and their targets (m, D)."""
        self.net.train().requires_grad_(True)
        with torch.enable_grad():
            F.mse_loss(self.net(images), targets).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()  # no body holds a gradient between its steps
        self.net.eval().requires_grad_(False)
        self.steps += 1

    @property
    def tensors(self) -> dict[str, Tensor]:
        net = {f"net.{name}": each.detach() for name, each in self.net.state_dict().items()}
        momentum = {f"optimizer.{name}": each for name, each in optimizer_tensors(self.optimizer).items()}
        return {**net, **momentum, "steps": torch.tensor(self.steps)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self.net.load_state_dict(named(tensors, "net."))
        restore_optimizer(self.optimizer, named(tensors, "optimizer."))
        self.steps = int(tensors["steps"])


class Pool:
    """Bodies at different stages of their training. One alone is at work at a time, so that their number costs weights only.

    Args:
        make: makes a body with its head, under torch's global seed.
    """

    def __init__(self, make: Callable[[], Student], how: Bodies, seed: int):
        self.make, self.how, self.seed = make, how, seed
        self.bodies = [self.fresh(place) for place in range(how.count)]

    def fresh(self, *when: int) -> Body:
        with rng.seeded(self.seed, "body", *when):
            return Body(self.make(), self.how)

    def begin(self, images: Tensor, targets: Tensor) -> None:
        """Train each body for a random number of steps, at least one and fewer than it may take."""
        for place, body in enumerate(self.bodies):
            steps = torch.randint(1, self.how.steps, (), generator=rng.generator(self.seed, "first steps", place))
            with rng.seeded(self.seed, "first dropout", place):
                for _ in range(int(steps)):
                    body.train(images, targets)
            tell("training the first bodies", place + 1, len(self.bodies))

    def pick(self, step: int) -> int:
        """The body of an outer step."""
        return int(torch.randint(len(self.bodies), (), generator=rng.generator(self.seed, "pick", step)))

    def train(self, step: int, images: Tensor, targets: Tensor) -> None:
        """Let the body of an outer step take a step of its own, or, once it has taken all, make place for a fresh one."""
        place = self.pick(step)
        body = self.bodies[place]
        if body.steps < self.how.steps:
            with rng.seeded(self.seed, "dropout", step):
                body.train(images, targets)
            return
        self.bodies[place] = self.fresh(place, step)
        self.bodies[place].steps = 0 if self.how.reset_count else body.steps

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that the bodies are, for `restore`."""
        return {
            f"{place}.{name}": each for place, body in enumerate(self.bodies) for name, each in body.tensors.items()
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        for place, body in enumerate(self.bodies):
            body.restore(named(tensors, f"{place}."))
