"""Views inside tiles, critical crops and refinement beside plain loops, EDC's parts beside none; of ``benchmarks/speed.py``."""

import copy
import random
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Generator, Tensor, nn
from torchvision.transforms import RandomHorizontalFlip, RandomResizedCrop

from benchmarks import plain
from benchmarks.training import ROOT, compare
from distill.augment.crops import ResizedCrop
from distill.augment.tiles import one_tile
from distill.data.preprocessing import Preprocessing
from distill.data.split import Split
from distill.methods.base import Inputs
from distill.methods.decoupled.critical import critical_composites
from distill.networks.base import Student
from distill.networks.convnet import ConvNet
from distill.networks.resnet import ResNet
from distill.teachers.committee import Committee

POOL = 40  # images of a class


def decoupled(repeat: int) -> None:
    """PCA's views, NRR-DD's start and its steps, EDC's parts, at CIFAR-10 size."""
    tile_views(repeat)
    net = ResNet((3, 32, 32), 10, depth=18, norm="batch").eval()
    as_built = copy.deepcopy(net).requires_grad_(False)  # the committee's is channels last
    images = torch.rand(POOL, 3, 32, 32).repeat(10, 1, 1, 1)
    real = Split(
        images,
        torch.arange(10).repeat_interleave(POOL),
        tuple("abcdefghij"),
        "random",
        Preprocessing("pixel01"),
        "flip",
    )
    starts(real, net, as_built, repeat)
    refinement(real, net, as_built, repeat)
    parts(real, repeat)


def tile_views(repeat: int) -> None:
    """10 batches of 128 images of 2x2 tiles, each cropped inside one of them."""
    images, crops, g = torch.randn(128, 3, 32, 32), ResizedCrop(0.08, 1, True), Generator().manual_seed(0)
    crop = nn.Sequential(RandomResizedCrop(32, antialias=True), RandomHorizontalFlip())

    def plainly() -> None:
        for _ in range(10):
            corners = [(16 * random.randrange(2), 16 * random.randrange(2)) for _ in images]
            torch.stack([crop(x[:, r : r + 16, c : c + 16]) for x, (r, c) in zip(images, corners, strict=True)])

    def ours() -> None:
        for draw in range(10):
            crops(one_tile(images, 2, g), draw)

    compare("views inside tiles, 10 batches of 128", {"plain": plainly, "whole batches": ours}, repeat)


@torch.no_grad()
def plain_maps(net: ResNet, image: Tensor, cls: int) -> Tensor:
    """One image's class activation map, (1, 32, 32), from a forward hook."""
    kept: list[Tensor] = []
    hook = net.features[-1].register_forward_hook(lambda _, inputs, output: kept.append(inputs[0]))
    net(image[None])
    hook.remove()
    raw = (net.classifier.weight[cls][:, None, None] * kept[0][0]).sum(0).relu()
    unit = (raw - raw.min()) / (raw.max() - raw.min() + 1e-12)
    return F.interpolate(unit[None, None], (32, 32), mode="bilinear")[0]


def starts(real: Split, net: ResNet, as_built: ResNet, repeat: int) -> None:
    """Ten composites of each of two classes, of five crops of 40 images."""

    @torch.no_grad()
    def plainly() -> None:
        for cls in range(2):
            rows = []
            for image in real.images[real.of_class(cls)]:
                cam, best = plain_maps(as_built, image, cls), (0.0, image)
                for _ in range(5):
                    top, left, tall, wide = RandomResizedCrop.get_params(image, [0.08, 1.0], [1.0, 1.0])
                    share = float(cam[0, top : top + tall, left : left + wide].sum() / cam.sum())
                    part = image[None, :, top : top + tall, left : left + wide]
                    best = max(best, (share, F.interpolate(part, 32, mode="bilinear")[0]), key=lambda row: row[0])
                rows.append(best)
            rows = sorted(rows, key=lambda row: -row[0])[:20]
            label = torch.tensor([cls])
            sorted(rows, key=lambda row: -float(F.cross_entropy(as_built(row[1][None]), label)))[:10]

    ours: Callable[[], object] = lambda: critical_composites(real, net, [10, 10] + [0] * 8, 0, POOL, 5, 1, 20)  # noqa: E731
    compare("critical composites, 2 classes of 40", {"plain": plainly, "whole classes": ours}, repeat)


def refinement(real: Split, net: ResNet, as_built: ResNet, repeat: int) -> None:
    """One step on four groups of ten images by one teacher; plain: group by group."""
    groups = [torch.randn(10, 3, 32, 32, requires_grad=True) for _ in range(4)]
    optimizers = [torch.optim.Adam([images], 0.25, (0.5, 0.9)) for images in groups]
    masks = [
        (0.5 - torch.cat([plain_maps(as_built, x.detach(), 0)[None] for x in each])).clamp_min(0) for each in groups
    ]

    def plainly() -> None:
        for images, optimizer, mask in zip(groups, optimizers, masks, strict=True):
            before = images.detach().clone()
            plain.recover([as_built], images, torch.arange(10), optimizer)
            with torch.no_grad():
                images.copy_(before + mask * (images - before))

    values = {"area": 0.08, "roll": 4, "init": "real", "pool": POOL, "critical": 20, "together": 4}
    ours = stepping("nrr", real, [net], values)
    compare("refinement, 40 images, one teacher", {"plain": plainly, "four groups stacked": ours}, repeat)


def parts(real: Split, repeat: int) -> None:
    """A step of recovery on four groups of ten images without EDC's parts and with each; class statistics are made before."""
    flat = {"flatness": 0.25, "flatness_average": 0.99, "flatness_temperature": 4.0}
    own: dict[str, dict[str, object]] = {
        "without": {},
        "statistics of classes": {"class_share": 0.5},
        "averages": {"statistics_average": 0.8},
        "flatness": flat,
        "all three": {"class_share": 0.5, "statistics_average": 0.8, **flat},
    }
    net = ConvNet(real.shape, 10, depth=3, width=32, norm="batch", pooling="avg", activation="relu").eval()
    usual = {"area": 0.5, "roll": 0, "init": "real", "together": 4}
    ways = {name: stepping("sre2l", real, [net], {**usual, **values}) for name, values in own.items()}
    for pairs in ("all", "in_turn"):
        ways[f"two teachers: {pairs}"] = stepping("sre2l", real, [net, copy.deepcopy(net)], {**usual, "pairs": pairs})
    compare("parts of EDC, 40 images", ways, repeat)


def stepping(name: str, real: Split, nets: Sequence[Student], values: Mapping[str, object]) -> Callable[[], object]:
    """A step of recovery by these teachers, at four images of each class."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        make = instantiate(compose("config", [f"method={name}", "data=cifar10", "precision=fp32"]).method)
    names = tuple(f"teacher {number}" for number in range(len(nets)))
    committee = Committee(names, tuple(nets), (50.0,) * len(nets))
    inputs = Inputs(real=real, ipc=4, student=lambda: nets[0], seed=0, committee=committee)
    method = make.func.make(inputs, {**make.keywords, **values})
    method.log_dict = lambda *values, **named: None
    method.begin()
    optimizer = method.configure_optimizers()

    def step() -> None:
        optimizer.zero_grad()
        method.update(0).backward()
        optimizer.step()
        method.averages.take(torch.tensor(False))
        with torch.no_grad():
            method.settle()

    return step
