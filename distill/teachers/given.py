"""Labels that somebody stored with the views they are of, which are replayed: batches, crops, mirrored or not, mixed with whom.

Source: FKD (arXiv:2112.01528), as SRe2L (arXiv:2306.13092) and what followed keep their teachers' words.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from distill.augment.crops import resize_boxes
from distill.checks import setting
from distill.files import load_tensors, read_record, save_tensors, write_record
from distill.teachers.labels import Hard, Labels, Teaching, Told
from distill.training.batch import Batches, Seen
from distill.training.losses import Divergence


@dataclass(frozen=True)
class Views:
    """The views of an epoch of N images and what was said of them, in the order of its batches.

    Attributes:
        order: the image of each view, (N,) int64.
        boxes: top, left, height and width of its crop as shares of the image's sides, (N, 4).
        mirrored: (N,) bool.
        partner: the place in its batch of the view that it is mixed with, (N,) int64.
        share: of the mixture that is its own, (N,).
        hole: rows and columns (first, last) that are the partner's, (N, 4) pixels; all 0 blends the whole image.
        logits: (N, K), or (N, k) for ``classes``.
        classes: (N, k) int64 where only some logits were kept: the others have the smallest of these.
    """

    order: Tensor
    boxes: Tensor
    mirrored: Tensor
    partner: Tensor
    share: Tensor
    hole: Tensor
    logits: Tensor
    classes: Tensor | None = None

    @property
    def tensors(self) -> dict[str, Tensor]:
        """For a file; logits in half precision."""
        kept = {} if self.classes is None else {"classes": self.classes.int()}
        return kept | {
            "order": self.order.int(),
            "boxes": self.boxes.float(),
            "mirrored": self.mirrored,
            "partner": self.partner.int(),
            "share": self.share.float(),
            "hole": self.hole.int(),
            "logits": self.logits.half(),
        }

    def show(self, images: Tensor, at: slice) -> Tensor:
        """The views at ``at``, of their images (B, C, H, W)."""
        size = images.shape[2], images.shape[3]
        boxes = (self.boxes[at].float() * torch.tensor([*size, *size])).round().long()
        views = resize_boxes(images, boxes, size)
        views = torch.where(self.mirrored[at].to(views.device)[:, None, None, None], views.flip(3), views)
        others, share = views[self.partner[at].to(views.device)], float(self.share[at][0])
        top, bottom, left, right = self.hole[at][0].tolist()
        if bottom > top and right > left:
            mixed = views.clone()
            mixed[:, :, top:bottom, left:right] = others[:, :, top:bottom, left:right]
            return mixed
        return views if share == 1 else share * views + (1 - share) * others

    def said(self, at: slice, num_classes: int) -> Tensor:
        """Logits (B, K) of the views at ``at``."""
        logits = self.logits[at].float()
        if self.classes is None:
            return logits
        lowest = logits.min(1, keepdim=True).values.expand(-1, num_classes)
        return lowest.scatter(1, self.classes[at].long(), logits)


class GivenStore:
    """A folder of `Views`, a file for each epoch, and what they are of.

    Args:
        folder: that `write` made.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it holds something else.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        if not (folder / "labels.json").exists():
            raise FileNotFoundError(f"no labels in {folder}: name those of `import kind=fkd` with labels_path=DIR")
        record = read_record(folder / "labels.json", "import them again")
        if "given" not in record:
            raise ValueError(f"{folder} holds a committee's labels without views: protocol/labels=stored reads them")
        self.about = record["given"]

    @staticmethod
    def write(folder: Path, epoch: int, views: Views) -> None:
        """Write an epoch."""
        save_tensors(folder / f"epoch_{epoch:05d}.safetensors", views.tensors)

    @staticmethod
    def finish(folder: Path, about: Mapping[str, object]) -> None:
        """Say what all of them are of; before, the folder is no store."""
        write_record(folder / "labels.json", {"given": dict(about)})

    def __getitem__(self, epoch: int) -> Views:
        tensors = load_tensors(self.path(epoch))[0]
        return Views(**{name: each.long() if name in ("order", "partner") else each for name, each in tensors.items()})

    def path(self, epoch: int) -> Path:
        return self.folder / f"epoch_{epoch:05d}.safetensors"

    @property
    def bytes(self) -> int:
        return sum(path.stat().st_size for path in self.folder.glob("epoch_*.safetensors"))


@dataclass(frozen=True)
class Given(Labels):
    """A store's views, in its batches and their order, with its labels; all students see the same.

    Attributes:
        temperature, squared: of the Kullback-Leibler loss (`distill.training.losses.Divergence`).
    """

    name = "given"
    temperature: float = setting("(0, 1000000]")
    squared: bool = setting("true or false")

    def rows(self, soft: bool) -> list[Labels]:
        return [self, Hard()]

    def on(self, batches: Batches, seed: int, teaching: Teaching) -> Told:
        store, data = GivenStore(teaching.folder), batches.data
        check(store, batches)
        at_hand = _AtHand(store)

        def replay(seen: Seen, images: Tensor, draw: int) -> Seen:
            views, at = at_hand.of(seen)
            return replace(seen, views=views.show(images, at))

        def targets(seen: Seen) -> Tensor:
            views, at = at_hand.of(seen)
            return views.said(at, data.num_classes).to(seen.views.device)

        loss = Divergence(self.temperature, self.squared)
        return Told(targets, loss, lambda: store.bytes, replay=replay, order=lambda epoch: at_hand[epoch].order)


class _AtHand:
    """The epoch that is being trained on."""

    def __init__(self, store: GivenStore):
        self.store, self.epoch = store, -1

    def __getitem__(self, epoch: int) -> Views:
        if epoch != self.epoch:
            self.epoch, self.views = epoch, self.store[epoch]
            self.place = self.views.order.argsort()
        return self.views

    def of(self, seen: Seen) -> tuple[Views, slice]:
        """The epoch of a batch, and where the batch is in it."""
        views = self[seen.epoch]
        first = int(self.place[seen.index[0].cpu()])
        return views, slice(first, first + len(seen.index))


def check(store: GivenStore, batches: Batches) -> None:
    """Raise ValueError unless the labels are of these images, and of batches and epochs as the recipe has them."""
    about, recipe, images = store.about, batches.recipe, len(batches.data)
    if about["images"] != batches.data.images_hash:
        raise ValueError(
            f"the labels in {store.folder} are of the images {about['images']}, these are {batches.data.images_hash}; real "
            "images have none there: baselines=[]"
        )
    if recipe.mix is not None:
        raise ValueError("protocol/labels is given, whose views are mixed as they were: protocol.recipe.mix=null")
    if recipe.batch != about["batch"]:
        raise ValueError(
            f"the recipe has batches of {recipe.batch}, the labels in {store.folder} of {about['batch']}: "
            f"protocol.recipe.batch={about['batch']}"
        )
    if recipe.passes(images) > int(about["epochs"]):
        raise ValueError(
            f"the recipe has {recipe.passes(images)} epochs, the labels in {store.folder} are of {about['epochs']}: "
            f"protocol.recipe.epochs={about['epochs']}"
        )
    if batches.data.observes:
        raise ValueError(
            "protocol/labels is given, which has an order of its own: this walk of the real set has another"
        )
