"""What students are told of what they see, where teachers stand behind them: hard labels, mixed, or a committee's.

A committee labels each view at hand, or once for all students into a `LabelStore`, or each image once. Source of the stored
form: FKD as SRe2L (arXiv:2306.13092) uses it; here views are functions of a draw, so that logits alone are kept.
"""

import math
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.utils.data import Dataset, Sampler

from distill import rng
from distill.augment.families import Augment
from distill.augment.mixing import cutmix, mixup
from distill.files import digest, load_tensors, read_record, save_tensors, write_record
from distill.parallel import crew
from distill.progress import stage, tell
from distill.sets.synthetic import SyntheticSet
from distill.teachers.committee import Committee
from distill.training.protocol import CommitteeProtocol

Key = tuple[int, int]  # epoch and batch

ASKING = "asking the committee for labels"


def mixed(views: Tensor, draw: int, protocol: CommitteeProtocol) -> tuple[Tensor, Tensor, float]:
    """Views (B, C, H, W) as the protocol mixes them, the partners (B,), and the share of each that is its own."""
    g = Generator().manual_seed(rng.derive(draw, "mix"))
    if protocol.mix == "none":
        return views, torch.arange(len(views), device=views.device), 1.0
    return (cutmix if protocol.mix == "cutmix" else mixup)(views, g, protocol.mix_alpha)


class Labels:
    """A `distill.training.loop.Label` for one synthetic set under one protocol.

    Args:
        committee: None where the protocol asks none.
        store: where the protocol keeps labels.
    """

    def __init__(
        self,
        synset: SyntheticSet,
        protocol: CommitteeProtocol,
        committee: Committee | None,
        store: "LabelStore | None" = None,
    ):
        self.synset, self.protocol, self.committee, self.store = synset, protocol, committee, store
        self.known: Tensor | None = None  # one label for each image
        if protocol.soft == "once":
            with stage(ASKING):
                self.known = self.ask(synset.images)

    def ask(self, views: Tensor) -> Tensor:
        """The committee's logits (B, K) for ``views``."""
        assert self.committee is not None
        protocol = self.protocol
        return self.committee.logits(
            views, protocol.vote_temperature, protocol.committee["mode"], protocol.micro_batches
        )

    def __call__(self, views: Tensor, index: Tensor, draw: int, epoch: int) -> tuple[Tensor, Tensor]:
        """The views as mixed, and what they show: logits (B, K), or probabilities where labels are hard."""
        views, partner, share = mixed(views, draw, self.protocol)
        if self.protocol.soft == "on_the_fly":
            return views, self.ask(views)
        if self.store is not None:
            return views, self.store.labels(epoch, index)
        if self.known is None:
            own = F.one_hot(self.synset.hard[index], self.synset.num_classes).to(views)
            return views, share * own + (1 - share) * own[partner]
        # What has the mixture of the two labels as its softmax at the loss's temperature.
        tau, own = self.protocol.temperature, self.known[index]
        parts = torch.stack([own, own[partner]]).div(tau).log_softmax(2)
        weights = torch.tensor([share, 1 - share]).log().view(2, 1, 1).to(parts)
        return views, tau * (parts + weights).logsumexp(0)

    @property
    def votes(self) -> dict[str, float]:
        """How much each teacher's voice weighs, by name."""
        if self.committee is None:
            return {}
        return dict(
            zip(self.committee.names, self.committee.votes(self.protocol.vote_temperature).tolist(), strict=True)
        )

    @property
    def bytes(self) -> int:
        """What the labels take on disk."""
        if self.store is not None:
            return self.store.bytes
        if self.known is not None:
            return self.known.numel() * self.known.element_size()
        return self.synset.hard.numel() * self.synset.hard.element_size() if self.protocol.soft == "none" else 0


class LabelStore(Dataset):
    """A committee's logits for each view of each epoch, on disk in half precision; the views follow from the seed.

    As a torch ``Dataset`` it maps a key (epoch, batch) to what a student sees and is told, ``(views, logits)``; with
    ``DataLoader(store, sampler=store.keys(), batch_size=None)`` it is a whole training.

    Args:
        folder: of this store, or of many, where its own is found by content.
        seed: of batches and views.
        augment: the protocol's augmentation.
        committee: asked for epochs that are not there yet.

    Raises:
        ValueError: the folder holds labels of other images, other views or another committee.
    """

    def __init__(
        self,
        folder: Path,
        synset: SyntheticSet,
        protocol: CommitteeProtocol,
        augment: Augment,
        seed: int,
        committee: Committee,
    ):
        self.synset, self.protocol, self.augment, self.seed = synset, protocol, augment, seed
        self.teaching = Labels(synset, protocol.with_(soft="on_the_fly"), committee)
        views = {
            name: getattr(protocol, name)
            for name in (
                "epochs",
                "extra_epochs",
                "batch",
                "augment",
                "area",
                "shuffle",
                "mix",
                "mix_alpha",
                "micro_batches",
            )
        }
        votes = [round(vote, 6) for vote in committee.votes(protocol.vote_temperature).tolist()]
        self.identity = {
            "images": synset.hash,
            "views": {**views, "seed": seed},
            "committee": {
                "members": list(committee.names),
                "weights": committee.fingerprint,
                "votes": votes,
                "mode": protocol.committee["mode"],
            },
            "top_k": protocol.top_k,
        }
        named = (folder / "labels.json").exists()
        self.folder = folder if named else folder / digest(self.identity)
        if named:
            theirs = read_record(folder / "labels.json", f"delete {folder} to have its labels made anew")
            for key, value in self.identity.items():
                if theirs.get(key) != value:
                    raise ValueError(
                        f"labels in {folder} were made for {key} {theirs.get(key)}, this run has {value}: "
                        "name another labels_path, or leave it out to have them made"
                    )
        self.at_hand: tuple[int, Tensor] | None = None

    def __len__(self) -> int:
        return self.protocol.steps(len(self.synset))

    def keys(self) -> Sampler:
        """The keys of a training, in order."""
        return _Keys(self.protocol.passes, math.ceil(len(self.synset) / self.protocol.batch))

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor]:
        epoch, batch = key
        views, index = self.views(epoch, batch)
        return views, self.labels(epoch, index)

    def order(self, epoch: int) -> Tensor:
        """The images (N,) in the order of an epoch's batches, as `distill.training.loop.train` takes them."""
        return torch.randperm(len(self.synset), generator=rng.generator(self.seed, "batches", epoch))

    def views(self, epoch: int, batch: int) -> tuple[Tensor, Tensor]:
        """What a student sees (B, C, H, W), and of which images (B,)."""
        index = self.order(epoch).split(self.protocol.batch)[batch].to(self.synset.images.device)
        draw = rng.derive(self.seed, "augment", epoch, batch)
        return mixed(self.augment(self.synset.images[index], draw), draw, self.protocol)[0], index

    def labels(self, epoch: int, index: Tensor) -> Tensor:
        """Logits (B, K) for the views of images ``index`` (B,) in an epoch; made and kept if they are not there."""
        if self.at_hand is None or self.at_hand[0] != epoch:
            self.at_hand = epoch, self.read(epoch)
        return self.at_hand[1][index]

    def read(self, epoch: int) -> Tensor:
        """Logits (N, K) of an epoch, by image."""
        path = self.path(epoch)
        if not path.exists():
            self.write(path, epoch)
        tensors, _ = load_tensors(path)
        seen = tensors.pop("seen", None)  # files of before have none
        try:
            check_labels(tensors, self.order(epoch), self.synset.num_classes)
            if seen is not None:
                check_views(seen, glimpse(self.views(epoch, 0)[0]))
        except ValueError as error:
            raise ValueError(f"{path} {error}: delete {self.folder} to have it made anew") from None
        by_place = tensors["logits"].float()
        if "classes" in tensors:
            full = tensors["rest"].float()[:, None].expand(-1, self.synset.num_classes)
            by_place = full.scatter(1, tensors["classes"].long(), by_place)
        device = self.synset.images.device
        return torch.empty_like(by_place).index_copy_(0, tensors["order"].long(), by_place).to(device)

    def path(self, epoch: int) -> Path:
        return self.folder / f"epoch_{epoch:05d}.safetensors"

    def fill(self) -> None:
        """Make the epochs that are not there, before students ask for them: each process of the crew makes its share."""
        epochs = range(self.protocol.passes)
        missing = crew().agree(lambda: [epoch for epoch in epochs if not self.path(epoch).exists()])
        for epoch in crew().share(missing):
            self.write(self.path(epoch), epoch)
        crew().wait()

    def write(self, path: Path, epoch: int) -> None:
        """Ask the committee for one epoch."""
        if not (self.folder / "labels.json").exists():
            write_record(self.folder / "labels.json", self.identity)
        order = self.order(epoch)
        batches = range(math.ceil(len(order) / self.protocol.batch))
        logits = torch.cat([self.teaching.ask(self.views(epoch, batch)[0]) for batch in batches]).cpu()
        tensors = {"order": order.int(), "logits": logits.half()}
        if self.protocol.top_k is not None and self.protocol.top_k < logits.shape[1]:
            kept, classes = logits.topk(self.protocol.top_k, 1)
            # The others share what is left of the softmax at the loss's temperature.
            others = logits.scatter(1, classes, -math.inf).div(self.protocol.temperature).logsumexp(1)
            rest = self.protocol.temperature * (others - math.log(logits.shape[1] - self.protocol.top_k))
            tensors = {"order": order.int(), "logits": kept.half(), "classes": classes.int(), "rest": rest.half()}
        save_tensors(path, tensors | {"seen": glimpse(self.views(epoch, 0)[0])})
        tell(ASKING, len(list(self.folder.glob("epoch_*.safetensors"))), self.protocol.passes)

    @property
    def bytes(self) -> int:
        """Of what is on disk."""
        return sum(path.stat().st_size for path in self.folder.glob("epoch_*.safetensors"))


def check_labels(tensors: Mapping[str, Tensor], order: Tensor, num_classes: int) -> None:
    """Raise ValueError, without the file's name, unless ``tensors`` are what `LabelStore.write` makes for ``order`` (N,)."""
    n, some = len(order), "classes" in tensors
    columns = tensors["classes"].shape[-1] if some and tensors["classes"].ndim else num_classes
    expected = {"order": (torch.int32, (n,)), "logits": (torch.float16, (n, columns))}
    expected |= {"classes": (torch.int32, (n, columns)), "rest": (torch.float16, (n,))} if some else {}
    found = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    if found != expected:
        raise ValueError(f"holds {reprlib.repr(found)}, expected {expected}")
    if not torch.equal(tensors["order"].long(), order):
        raise ValueError("was made for another order of the images")
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise ValueError("holds logits that are NaN or infinite")
    if some:
        classes = tensors["classes"].sort(1).values
        if columns and (
            int(classes.min()) < 0 or int(classes.max()) >= num_classes or (classes.diff(dim=1) == 0).any()
        ):
            raise ValueError(f"names classes twice, or outside 0 to {num_classes - 1}")


def glimpse(views: Tensor) -> Tensor:
    """What tells views (B, C, H, W) from others, in few bytes: the means of four quarters of the first eight, float16."""
    return F.adaptive_avg_pool2d(views[:8], 2).flatten(1).cpu().half()


def check_views(seen: Tensor, now: Tensor) -> None:
    """Raise ValueError, without the file's name, unless labels were made for the views at hand, up to rounding of devices."""
    if seen.shape != now.shape or not torch.allclose(seen.float(), now.float(), rtol=0.01, atol=0.02):
        raise ValueError("was made for other views: another mirroring or another augmentation")


class _Keys(Sampler):
    def __init__(self, epochs: int, batches: int):
        self.epochs, self.batches = epochs, batches

    def __len__(self) -> int:
        return self.epochs * self.batches

    def __iter__(self) -> Iterator[Key]:
        return ((epoch, batch) for epoch in range(self.epochs) for batch in range(self.batches))
