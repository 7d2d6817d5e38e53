"""The loops to compare with, written plainly: one student after another, eager fp32, every inner step's graph kept,
augmentation parameters drawn image by image, accuracy counted at every step. Nothing here is used outside benchmarks."""

import math
import random
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import RandomHorizontalFlip, RandomResizedCrop


def dsa(images: Tensor) -> Tensor:
    """One family for the batch, then a Python loop over its images."""
    family = random.choice(["color", "crop", "cutout", "flip", "scale", "rotate"])
    n, _, height, width = images.shape
    if family == "color":
        views = []
        for x in images:
            x = x + (random.random() - 0.5)
            x = (x - x.mean(0, keepdim=True)) * (2 * random.random()) + x.mean(0, keepdim=True)
            views.append((x - x.mean()) * (random.random() + 0.5) + x.mean())
        return torch.stack(views)
    if family == "crop":
        shift = int(0.125 * height + 0.5)
        padded = F.pad(images, [shift] * 4)
        corners = [(random.randint(0, 2 * shift), random.randint(0, 2 * shift)) for _ in range(n)]
        return torch.stack([x[:, r : r + height, c : c + width] for x, (r, c) in zip(padded, corners, strict=True)])
    if family == "cutout":
        mask = torch.ones_like(images)
        for one in mask:
            r, c = random.randrange(height), random.randrange(width)
            one[:, max(0, r - height // 4) : r + height // 4, max(0, c - width // 4) : c + width // 4] = 0
        return images * mask
    if family == "flip":
        return torch.stack([x.flip(2) if random.random() < 0.5 else x for x in images])
    rows = []
    for _ in range(n):
        if family == "scale":
            a, d, b = random.uniform(1 / 1.2, 1.2), random.uniform(1 / 1.2, 1.2), 0.0
        else:
            angle = math.radians(random.uniform(-15, 15))
            a, d, b = math.cos(angle), math.cos(angle), math.sin(angle)
        rows.append(torch.tensor([[a, -b, 0.0], [b, d, 0.0]]))
    grid = F.affine_grid(torch.stack(rows), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def train(
    nets: Sequence[nn.Module], images: Tensor, labels: Tensor, *, epochs: int, batch: int, steps: int = 0
) -> None:
    """Train the networks one after another; ``steps`` stops an epoch early."""
    for net in nets:
        optimizer = torch.optim.SGD(net.parameters(), 0.01, 0.9, weight_decay=5e-4)
        for _ in range(epochs):
            right = 0
            loader = DataLoader(TensorDataset(images, labels), batch_size=batch, shuffle=True)
            for number, (x, y) in enumerate(loader, 1):
                logits = net(dsa(x))
                loss = F.cross_entropy(logits, y)
                right += int((logits.argmax(1) == y).sum())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if number == steps:
                    break


def outer_step(
    net: nn.Module, start: Tensor, target: Tensor, images: Tensor, labels: Tensor, lr: Tensor, steps: int
) -> None:
    """One outer step of trajectory matching through the graph of all inner steps; leaves gradients on images and lr."""
    shapes = {name: parameter.shape for name, parameter in net.named_parameters()}
    theta = start.clone().requires_grad_()
    for _ in range(steps):
        parts = theta.split([shape.numel() for shape in shapes.values()])
        parameters = {name: part.view(shapes[name]) for name, part in zip(shapes, parts, strict=True)}
        loss = F.cross_entropy(functional_call(net, parameters, (dsa(images),)), labels)
        (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
        theta = theta - lr * gradient
    ((theta - target).square().sum() / (start - target).square().sum()).backward()


def class_gradients(net: nn.Module, real: Tensor, synthetic: Tensor, collective: bool) -> Tensor:
    """One image update of gradient matching: a loop over classes whose graphs are all kept until the backward pass, which
    reaches images and weights alike. Real images (K, B, C, H, W), synthetic ones (K, ipc, C, H, W) with gradients."""
    weights = [weight for weight in net.parameters() if weight.dim() > 1]
    found = []
    for cls, (images, own) in enumerate(zip(real, synthetic, strict=True)):
        both = []
        for x in (images, own):
            labels = torch.full((len(x),), cls)
            both.append(torch.autograd.grad(F.cross_entropy(net(dsa(x)), labels), weights, create_graph=x is own))
        found.append(both)
    if collective:
        found = [[[sum(parts) / len(found) for parts in zip(*side, strict=True)] for side in zip(*found, strict=True)]]
    loss = torch.zeros(())
    for of_real, of_synthetic in found:
        for a, b in zip(of_real, of_synthetic, strict=True):
            a, b = a.flatten(1), b.flatten(1)
            loss = loss + (1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-6)).sum()
    loss.backward()
    return loss


def mean_features(make: Callable[[], nn.Module], real: Tensor, synthetic: Tensor) -> Tensor:
    """One iteration of distribution matching: a newly built network, two forward passes for each class."""
    net = make()
    loss = torch.zeros(())
    for images, own in zip(real, synthetic, strict=True):
        target = net.features(dsa(images)).flatten(1).mean(0).detach()
        loss = loss + (net.features(dsa(own)).flatten(1).mean(0) - target).square().sum()
    loss.backward()
    return loss


def linear_gradients(
    net: nn.Module, real: Tensor, labels: Tensor, images: Tensor, classes: Tensor, views: int
) -> Tensor:
    """One step of linear gradient matching: torchvision's crop of each image, a forward pass for each set of views, both
    gradients by autograd."""
    crop = nn.Sequential(RandomResizedCrop(images.shape[-1], (0.08, 1), antialias=True), RandomHorizontalFlip())
    head = nn.Linear(net.features(images[:1]).flatten(1).shape[1], 10, bias=False)
    cropped = torch.stack([crop(image) for image in real])
    (target,) = torch.autograd.grad(F.cross_entropy(head(net.features(cropped).flatten(1)), labels), head.weight)
    losses = []
    for _ in range(views):
        cropped = torch.stack([crop(image) for image in images])
        losses.append(F.cross_entropy(head(net.features(cropped).flatten(1)), classes))
    (own,) = torch.autograd.grad(torch.stack(losses).mean(), head.weight, create_graph=True)
    loss = 1 - F.cosine_similarity(own.flatten(), target.flatten(), dim=0)
    loss.backward()
    return loss


def recover(nets: Sequence[nn.Module], images: Tensor, labels: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """One step of recovery (SRe2L, CDA, CV-DD) on one group's images (B, C, H, W): torchvision's transforms, forward hooks that
    copy every batch norm's input, moments in two passes, the loss read back at every step."""
    crop = nn.Sequential(RandomResizedCrop(images.shape[-1], antialias=True), RandomHorizontalFlip())
    shifts = (random.randint(0, 4), random.randint(0, 4))
    views = crop(images).roll(shifts, (2, 3))
    total = torch.zeros(())
    for net in nets:
        apart: list[Tensor] = []

        def compare(norm: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, apart: list[Tensor] = apart) -> None:
            (maps,) = inputs
            by_channel = maps.permute(1, 0, 2, 3).contiguous().view(maps.shape[1], -1)
            mean, variance = maps.mean((0, 2, 3)), by_channel.var(1, unbiased=False)
            apart.append((variance - norm.running_var).norm() + (mean - norm.running_mean).norm())

        norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
        hooks = [norm.register_forward_hook(compare) for norm in norms]
        loss = F.cross_entropy(net(views), labels) + 0.01 * (10 * apart[0] + sum(apart[1:]))
        total = total + loss / len(nets)
        for hook in hooks:
            hook.remove()
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
    total.item()
    with torch.no_grad():
        images.clamp_(-2, 2)


def cells(images: Tensor) -> Tensor:
    """The four quarters of each image, one after another, made as large as the whole."""
    half = images.shape[2] // 2
    parts = [images[:, :, r : r + half, c : c + half] for r in (0, half) for c in (0, half)]
    return torch.cat([F.interpolate(part, scale_factor=2, mode="bilinear", align_corners=False) for part in parts])


def idc_sweep(net: nn.Module, real: Tensor, pixels: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """IDC's sweep: class by class one step of the optimiser; the backward pass reaches weights, too. Real images
    (K, B, C, H, W), stored ones (K ipc, C, H, W)."""
    kernels = [weight for weight in net.parameters() if weight.dim() == 4]
    ipc = len(pixels) // len(real)
    for cls, images in enumerate(real):
        optimizer.zero_grad()
        views = dsa(torch.cat([images, cells(pixels[cls * ipc : (cls + 1) * ipc])]))
        both = []
        for x, graph in ((views[: len(images)], False), (views[len(images) :], True)):
            labels = torch.full((len(x),), cls)
            both.append(
                torch.autograd.grad(F.cross_entropy(net(x), labels), kernels, create_graph=graph, retain_graph=True)
            )
        loss = sum(((a - b) ** 2).sum() for a, b in zip(*both, strict=True))
        loss.backward()
        optimizer.step()


def ncfm_sweep(
    net: nn.Module, real: Tensor, pixels: Tensor, optimizer: torch.optim.Optimizer, frequencies: int
) -> None:
    """NCFM's sweep of matching: class by class frequencies, projections for cosines and for sines, and an optimiser's step."""
    ipc = len(pixels) // len(real)
    for cls, images in enumerate(real):
        optimizer.zero_grad()
        views = dsa(torch.cat([images, cells(pixels[cls * ipc : (cls + 1) * ipc])]))
        found = net.features(views).flatten(1)
        found = found / found.norm(dim=1, keepdim=True)
        theirs, ours = found[: len(images)].detach(), found[len(images) :]
        t = torch.randn(frequencies, found.shape[1])
        a, c = (torch.cos(t @ each.T).mean(1) for each in (theirs, ours))
        b, d = (torch.sin(t @ each.T).mean(1) for each in (theirs, ours))
        one, other = (a**2 + b**2).sqrt(), (c**2 + d**2).sqrt()
        apart = (2 * (one * other - a * c - b * d)).clamp(min=1e-12)
        (300 * (0.5 * (one - other) ** 2 + 0.5 * apart).sqrt().mean()).backward()
        optimizer.step()


def ridge_step(
    net: nn.Module,
    target: nn.Module,
    real: Tensor,
    images: Tensor,
    vectors: Tensor,
    outer: torch.optim.Optimizer,
    inner: torch.optim.Optimizer,
) -> None:
    """A step of KRR-ST: regression by an inverse, slopes in images, vectors and the body's weights, and its own step."""
    pad = real.shape[2] // 8
    padded = F.pad(real, [pad] * 4)
    views = []
    for x in padded:
        r, c = random.randint(0, 2 * pad), random.randint(0, 2 * pad)
        x = x[:, r : r + real.shape[2], c : c + real.shape[3]]
        views.append(x.flip(2) if random.random() < 0.5 else x)
    net.eval()
    outer.zero_grad()
    with torch.no_grad():
        wanted = target.features(torch.stack(views)).flatten(1)
        rows = net.features(torch.stack(views)).flatten(1)
    own = net.features(images).flatten(1)
    own, rows = (torch.cat([each, torch.ones(len(each), 1)], 1) for each in (own, rows))
    kernel = own @ own.T
    inverse = torch.linalg.inv(kernel + 1e-6 * kernel.trace().detach() * torch.eye(len(own)))
    F.mse_loss(rows @ own.T @ inverse @ vectors, wanted).backward()
    outer.step()
    net.train()
    inner.zero_grad()
    F.mse_loss(net(images.detach()), vectors.detach()).backward()
    inner.step()
