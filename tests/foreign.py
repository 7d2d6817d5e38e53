"""Files as other projects write them, made from real digits."""

import zipfile
from pathlib import Path

import numpy as np
import torch
from torchvision.utils import save_image

import distill as dd
from distill import rng
from distill.sets.synthetic import SyntheticSet


def digits(zca=False):
    return dd.load_data("digits", val=0, zca=zca)


def learned(zca=False, ipc=2, seed=0):
    """A set that lies near real digits."""
    real = digits(zca).train
    g = rng.generator(seed, "foreign")
    synset = SyntheticSet.from_real(real, ipc, g)
    noise = torch.randn(synset.images.shape, generator=g) * 0.1 * synset.images.std()
    return synset.with_(images=synset.images + noise)


def write_pair(folder: Path, synset: SyntheticSet, iterate="best", labels=None) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    torch.save(synset.images, folder / f"images_{iterate}.pt")
    torch.save(synset.labels if labels is None else labels, folder / f"labels_{iterate}.pt")
    return folder / f"images_{iterate}.pt"


def write_datm(folder: Path, synset: SyntheticSet, lr=0.03) -> Path:
    logits = 10.0 * torch.nn.functional.one_hot(synset.classes, synset.num_classes) + torch.rand(
        len(synset), synset.num_classes
    )
    path = write_pair(folder, synset, labels=logits.requires_grad_())
    torch.save(torch.tensor(lr), folder / "lr_best.pt")
    return path


def write_result(path: Path, synsets, numpy=True) -> Path:
    accuracies = [np.float64(0.5), np.float64(0.25)] if numpy else [0.5, 0.25]
    data = [[each.images, each.labels] for each in synsets]
    torch.save({"data": data, "accs_all_exps": {"ConvNet": accuracies}}, path)
    return path


def respelt(path: Path, old=b"numpy._core.multiarray", new=b"numpy.core.multiarray") -> Path:
    """The file as NumPy 1 would have had it written."""
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    assert any(old in part for part in parts.values())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        for name, part in parts.items():
            file.writestr(name, part.replace(old, new) if name.endswith("data.pkl") else part)
    return path


class Evil:
    """What runs a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        import os

        return os.system, (self.command,)


def write_folder(root: Path, folder: str, file: str, classes=10, ipc=2, size=8) -> Path:
    """Pictures of real digits by names: ``new{0:03d}`` and ``class{0:03d}_id{1:03d}.png``."""
    real = digits().train
    pixels = real.preprocessing.inverse(real.images)
    for cls in range(classes):
        own = root / folder.format(cls)
        own.mkdir(parents=True)
        for i, place in enumerate(real.of_class(cls)[:ipc].tolist()):
            picture = torch.nn.functional.interpolate(pixels[place][None], size)[0]
            save_image(picture, own / file.format(cls, i))
    return root
