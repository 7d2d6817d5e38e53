"""Codecs: what a label store keeps of a committee's logits, and in how many bytes a view."""

import math
import reprlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from distill.identity import LABELLED

Layout = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]


class Codec(ABC):
    """How labels of views are kept in a file, and read from it."""

    @property
    @abstractmethod
    def about(self) -> Mapping[str, Any]:
        """What tells its files from those of others."""

    @abstractmethod
    def layout(self, views: int, classes: int) -> Layout:
        """Types and shapes of what `pack` gives."""

    @abstractmethod
    def pack(self, logits: Tensor, own: Tensor, other: Tensor) -> dict[str, Tensor]:
        """What is kept.

        Args:
            logits: of the committee, (n, K) float32.
            own: class of each view's image, (n,).
            other: class of the image that it is mixed with, (n,); its own where nothing is mixed.
        """

    @abstractmethod
    def unpack(self, tensors: Mapping[str, Tensor], classes: int) -> Tensor:
        """What is told of each view, (n, k) float32: for most its logits, k = K."""

    def bytes(self, classes: int) -> int:
        """Of a view.

        >>> [codec.bytes(1000) for codec in (Half(), TopK(10, 20.0), Quantised(10, 20.0), Quantised(None, 20.0), Distances())]
        [2000, 62, 33, 1002, 4]
        """
        return sum(dtype.itemsize * math.prod(shape) for dtype, shape in self.layout(1, classes).values())

    def check(self, tensors: Mapping[str, Tensor], classes: int, views: int) -> None:
        """Raise ValueError, without the file's name, unless ``tensors`` are what `pack` gives for so many classes and views."""
        found = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
        if found != (expected := dict(self.layout(views, classes))):
            raise ValueError(f"holds {reprlib.repr(found)}, expected {expected}")
        if not all(tensor.isfinite().all() for tensor in tensors.values()):
            raise ValueError("holds logits that are NaN or infinite")
        if "classes" in tensors and tensors["classes"].shape[1]:
            named = tensors["classes"].long().sort(1).values
            if int(named.min()) < 0 or int(named.max()) >= classes or (named.diff(dim=1) == 0).any():
                raise ValueError(f"names classes twice, or outside 0 to {classes - 1}")


@dataclass(frozen=True)
class Half(Codec):
    """All logits, in half precision.

    Attributes:
        top_k: at least as many as there are classes, where some were asked for.
    """

    top_k: int | None = None

    @property
    def about(self) -> Mapping[str, Any]:
        return {"top_k": self.top_k}

    def layout(self, views: int, classes: int) -> Layout:
        return {"logits": (torch.float16, (views, classes))}

    def pack(self, logits: Tensor, own: Tensor, other: Tensor) -> dict[str, Tensor]:
        return {"logits": logits.half()}

    def unpack(self, tensors: Mapping[str, Tensor], classes: int) -> Tensor:
        return tensors["logits"].float()


@dataclass(frozen=True)
class TopK(Codec):
    """The largest logits, and one number for all others, which share what is left of the softmax at the loss's temperature.

    Attributes:
        top_k: fewer than there are classes.
        temperature: of the loss.
    """

    top_k: int
    temperature: float

    @property
    def about(self) -> Mapping[str, Any]:
        usual = LABELLED["temperature"]  # of stores that tell none, as those of before
        return {"top_k": self.top_k, **({} if self.temperature == usual else {"temperature": self.temperature})}

    def layout(self, views: int, classes: int) -> Layout:
        kept = (views, self.top_k)
        return {"logits": (torch.float16, kept), "classes": (torch.int32, kept), "rest": (torch.float16, (views,))}

    def pack(self, logits: Tensor, own: Tensor, other: Tensor) -> dict[str, Tensor]:
        kept, classes, rest = largest(logits, self.top_k, self.temperature)
        return {"logits": kept.half(), "classes": classes.int(), "rest": rest.half()}

    def unpack(self, tensors: Mapping[str, Tensor], classes: int) -> Tensor:
        return spread(tensors["logits"].float(), tensors["classes"], tensors["rest"].float(), classes)


@dataclass(frozen=True)
class Quantised(Codec):
    """Logits in 256 levels, from a view's largest down to its smallest that is kept; what one adds to all of them is lost.

    The rounding is off by a 510th of that range at most. With ``top_k`` the largest alone are kept, and the others are one
    logit as in `TopK`, of 256 levels, too.

    Attributes:
        top_k: kept; None keeps all.
        temperature: of the loss.
    """

    top_k: int | None
    temperature: float

    @property
    def about(self) -> Mapping[str, Any]:
        temperature = {} if self.top_k is None else {"temperature": self.temperature}
        return {"top_k": self.top_k, "codec": "256 levels", **temperature}

    def layout(self, views: int, classes: int) -> Layout:
        if self.top_k is None:
            return {"levels": (torch.uint8, (views, classes)), "range": (torch.float16, (views,))}
        kept = {"classes": (smallest_type(classes), (views, self.top_k))}
        return {"levels": (torch.uint8, (views, self.top_k + 1)), "range": (torch.float16, (views,))} | kept

    def pack(self, logits: Tensor, own: Tensor, other: Tensor) -> dict[str, Tensor]:
        if self.top_k is None:
            return self.levels(logits)
        kept, classes, rest = largest(logits, self.top_k, self.temperature)
        return self.levels(torch.cat([kept, rest[:, None]], 1)) | {
            "classes": classes.to(smallest_type(logits.shape[1]))
        }

    @staticmethod
    def levels(logits: Tensor) -> dict[str, Tensor]:
        """How far each lies below the largest of its row, in 255ths of the row's range."""
        below = logits.amax(1, keepdim=True) - logits
        range = below.amax(1).half()
        steps = below / range.float().clamp_min(2**-24)[:, None] * 255
        return {"levels": steps.round().clamp(0, 255).to(torch.uint8), "range": range}

    def unpack(self, tensors: Mapping[str, Tensor], classes: int) -> Tensor:
        logits = -tensors["levels"].float() / 255 * tensors["range"].float()[:, None]
        return logits if self.top_k is None else spread(logits[:, :-1], tensors["classes"], logits[:, -1], classes)


@dataclass(frozen=True)
class Distances(Codec):
    """-log p of two classes, that of a view's image and that of the image it is mixed with; p is the committee's softmax.

    Source: DBR of NRR-DD (arXiv:2503.18267).
    """

    @property
    def about(self) -> Mapping[str, Any]:
        return {"top_k": None, "codec": "distances"}

    def layout(self, views: int, classes: int) -> Layout:
        return {"distances": (torch.float16, (views, 2))}

    def pack(self, logits: Tensor, own: Tensor, other: Tensor) -> dict[str, Tensor]:
        return {"distances": -logits.log_softmax(1).gather(1, torch.stack([own, other], 1)).half()}

    def unpack(self, tensors: Mapping[str, Tensor], classes: int) -> Tensor:
        return tensors["distances"].float()


def largest(logits: Tensor, top_k: int, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """The largest logits and their classes, (n, k) each, and the logit of each other class if these are all alike, (n,).

    At the temperature the softmax of the largest is as before.

    Args:
        logits: (n, K), K > k.
    """
    kept, classes = logits.topk(top_k, 1)
    others = logits.scatter(1, classes, -math.inf).div(temperature).logsumexp(1)
    return kept, classes, temperature * (others - math.log(logits.shape[1] - top_k))


def spread(kept: Tensor, classes: Tensor, rest: Tensor, num_classes: int) -> Tensor:
    """Logits (n, K) of which those of ``classes`` (n, k) are ``kept`` (n, k), and all others ``rest`` (n,).

    >>> spread(torch.tensor([[3.0]]), torch.tensor([[1]]), torch.tensor([-1.0]), 3)
    tensor([[-1.,  3., -1.]])
    """
    return rest[:, None].expand(-1, num_classes).scatter(1, classes.long(), kept)


def smallest_type(classes: int) -> torch.dtype:
    """The smallest integers that number so many classes.

    >>> smallest_type(256), smallest_type(1000), smallest_type(100_000)
    (torch.uint8, torch.int16, torch.int32)
    """
    return torch.uint8 if classes <= 2**8 else torch.int16 if classes <= 2**15 else torch.int32
