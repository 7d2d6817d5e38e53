"""Dataset Reinforcement: a committee's labels of some views of every image, stored once; students are shown these very views.

Source: Faghri et al., ICCV 2023, arXiv:2303.08983.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from distill import rng
from distill.checks import setting
from distill.identity import parts_of
from distill.teachers.label_store import check_views, glimpse
from distill.teachers.labels import Asked, Hard, Teaching, Told
from distill.teachers.shelf import Shelf
from distill.training.batch import Batches, Seen
from distill.training.losses import CrossEntropy

ASKED = 250  # views that the committee sees at once


class ViewStore(Shelf):
    """The largest probabilities that a committee gives to views of every image, in half precision.

    View v of an image is a function of v, of the image and of its place, made alone: so it is the same in every batch, and
    nothing but its label is stored. File v has view v of all images; more views are more files beside those that are there.

    Args:
        batches: of the set; their augmentation makes the views.
        views: of each image, V.
        top_k: classes kept of each label, k.
        ask: the committee's logits (B, K) for views (B, C, H, W).
        committee: who is asked, and how: its part of the store's identity.
    """

    kind = "view"

    def __init__(
        self,
        folder: Path,
        batches: Batches,
        views: int,
        top_k: int,
        ask: Callable[[Tensor], Tensor],
        committee: Mapping[str, Any],
    ):
        self.data, self.show, self.views, self.ask = batches.data, batches.view, views, ask
        self.top_k = min(top_k, self.data.num_classes)
        about = {"images": self.data.images_hash, "views": parts_of(batches.recipe.views), "top_k": self.top_k}
        super().__init__(folder, {"reinforced": about, "committee": dict(committee)})

    @property
    def count(self) -> int:
        return self.views

    def view(self, images: Tensor, index: Tensor, numbers: Tensor) -> Tensor:
        """Views ``numbers`` (B,) of images (B, C, H, W) that lie at ``index`` (B,)."""
        draws = [
            rng.derive(*each)
            for each in zip(numbers.tolist(), ["stored view"] * len(index), index.tolist(), strict=True)
        ]
        return torch.cat([self.show(image, draw) for image, draw in zip(images.split(1), draws, strict=True)])

    def views_of(self, index: Tensor, number: int) -> Tensor:
        """View ``number`` of the images at ``index`` (B,), (B, C, H, W)."""
        index = index.to(self.data.images.device)
        return self.view(self.data.images[index], index, torch.full_like(index, number))

    def asked(self, number: int) -> dict[str, Tensor]:
        places = torch.arange(len(self.data.images)).split(ASKED)
        said = torch.cat([self.ask(self.views_of(index, number)).softmax(1).cpu() for index in places])
        kept, classes = said.topk(self.top_k, 1)
        small = torch.int16 if said.shape[1] <= 2**15 else torch.int32
        return {"probabilities": kept.half(), "classes": classes.to(small), "seen": self.seen(number)}

    def seen(self, number: int) -> Tensor:
        """What tells the views of a file from others."""
        return glimpse(self.views_of(torch.arange(min(8, len(self.data.images))), number))

    @cached_property
    def known(self) -> tuple[Tensor, Tensor]:
        """The classes and their probabilities, (V, N, k) each; all are held in memory."""
        files = [self.load(number) for number in range(self.views)]
        for number, tensors in enumerate(files):
            try:
                check_kept(tensors, len(self.data.images), self.top_k, self.data.num_classes)
                check_views(tensors["seen"], self.seen(number))
            except ValueError as error:
                where = f"{self.path(number)} {error}"
                raise ValueError(f"{where}: delete {self.folder} to have it made anew") from None
        device = self.data.images.device
        classes, kept = (
            torch.stack([each[name] for each in files]).to(device) for name in ("classes", "probabilities")
        )
        return classes, kept

    def labels(self, index: Tensor, numbers: Tensor) -> Tensor:
        """Probabilities (B, K) for views ``numbers`` (B,) of the images at ``index`` (B,)."""
        classes, kept = (each[numbers, index] for each in self.known)
        return densified(classes.long(), kept.float(), self.data.num_classes)


def densified(classes: Tensor, kept: Tensor, num_classes: int) -> Tensor:
    """Distributions (B, K) with probabilities ``kept`` (B, k) for ``classes`` (B, k); the other classes share the rest evenly.

    >>> densified(torch.tensor([[2, 0]]), torch.tensor([[0.5, 0.3]]), 4)
    tensor([[0.3000, 0.1000, 0.5000, 0.1000]])
    """
    rest = (1 - kept.sum(1, keepdim=True)).clamp_min(0) / max(1, num_classes - kept.shape[1])
    full = rest.expand(-1, num_classes).scatter(1, classes, kept)
    return full / full.sum(1, keepdim=True)  # half precision may round above one


def check_kept(tensors: Mapping[str, Tensor], images: int, top_k: int, num_classes: int) -> None:
    """Raise ValueError, without the file's name, unless ``tensors`` are what `ViewStore` makes for so many images."""
    found = {name: (tuple(each.shape), each.is_floating_point()) for name, each in tensors.items() if name != "seen"}
    expected = {"probabilities": ((images, top_k), True), "classes": ((images, top_k), False)}
    if found != expected or "seen" not in tensors:
        raise ValueError(f"holds {sorted(tensors)} of other shapes than {images} images with {top_k} classes each")
    kept, classes = tensors["probabilities"].float(), tensors["classes"].long().sort(1).values
    if not ((kept >= 0) & (kept <= 1)).all():
        raise ValueError("holds probabilities outside [0, 1]")
    if int(classes.min()) < 0 or int(classes.max()) >= num_classes or (classes.diff(dim=1) == 0).any():
        raise ValueError(f"names classes twice, or outside 0 to {num_classes - 1}")


@dataclass(frozen=True)
class Reinforced(Asked):
    """A stored view with its stored label, or what the recipe shows with the image's class.

    Attributes:
        stored_views: of each image; all students share them.
        top_k: classes kept of a label.
        probability: that an image is shown in a stored view.
    """

    name = "reinforced"
    stored_views: int = setting("whole [1, 100000]")
    top_k: int = setting("whole [1, 1000000]")
    probability: float = setting("[0, 1]")

    def ahead(self, passes: int) -> int:
        return self.stored_views

    def takes(self, images: int, classes: int, passes: int, own: int) -> int:
        return self.stored_views * images * 4 * self.top_k + 8 * images

    def on(self, batches: Batches, seed: int, teaching: Teaching) -> Told:
        if batches.recipe.mix is not None:
            raise ValueError(
                f"protocol/labels is reinforced, which shows stored views as they are; the recipe mixes them with "
                f"{type(batches.recipe.mix).__name__}: protocol.recipe.mix=null"
            )
        ask, about = self.ask(teaching, 1), self.asked(teaching)
        store = ViewStore(teaching.folder, batches, self.stored_views, self.top_k, ask, about)
        hard = Hard().on(batches, seed, teaching)

        def replay(seen: Seen, images: Tensor, draw: int) -> Seen:
            g = Generator().manual_seed(rng.derive(draw, "replay"))
            replayed = (torch.rand(len(images), generator=g) < self.probability).to(images.device)
            numbers = torch.randint(self.stored_views, (len(images),), generator=g).to(images.device)
            views = seen.views.clone()
            if replayed.any():
                views[replayed] = store.view(images[replayed], seen.index[replayed], numbers[replayed])
            return replace(seen, views=views, stored=torch.where(replayed, numbers, -1))

        def targets(seen: Seen) -> Tensor:
            own = F.one_hot(hard.targets(seen), batches.data.num_classes).float()
            assert seen.stored is not None
            replayed = seen.stored >= 0
            if replayed.any():
                own[replayed] = store.labels(seen.index[replayed], seen.stored[replayed])
            return own

        size = lambda: store.bytes + hard.bytes()  # noqa: E731
        return Told(targets, CrossEntropy(), size, self.votes(teaching), store.fill, replay)
