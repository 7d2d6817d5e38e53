# %% [markdown]
# # Adding a method
#
# A method is one module and one configuration file in a checkout. This tutorial writes both for a small real method,
# and compares what it learns with random real images. It works in a copy, so that your files stay as they are; in
# your own checkout, write the two files and leave this cell out.

# %%
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

out = Path("outputs/adding_method").absolute()
installed = Path(find_spec("distill").origin).parent
for part in ("distill", "configs", "experts", "results"):  # in a wheel the first has the others
    if (installed.parent / part / "__init__.py").exists():
        shutil.copytree(installed.parent / part, out / "checkout" / part, dirs_exist_ok=True)
sys.path.insert(0, str(out / "checkout"))

# %% [markdown]
# ## The idea
#
# A network's features followed by ridge regression are a classifier with a solution in one line. Fit it on the
# synthetic images alone, ask it about a batch of real ones, and lower its squared error by changing the synthetic
# pixels. A fresh random network at each step keeps the images from fitting one network. (KIP, arXiv:2011.00050, does
# this with kernels of infinitely wide networks; RFAD, arXiv:2210.12067, with random features.)
#
# ## The module
#
# A method answers two questions. `configure_optimizers`: what is learned, and how? `update`: what is the loss of an
# outer step? The loop, logs, snapshots, restarts and the evaluation are shared. Three rules: draw at random only
# through `rng`, from the seed, a purpose and the step, so that a killed run goes on bit by bit; `self.real` holds the
# training images alone; log the loss as `matching_loss`.

# %%
module = '''"""Ridge matching: ridge regression, fitted on synthetic features, should be right of real ones."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from distill import rng
from distill.checks import setting
from distill.methods.base import LoopSettings, Method


@dataclass(frozen=True, kw_only=True)
class RidgeSettings(LoopSettings):
    """Of `RidgeMatching`.

    Attributes:
        batch_real: real images at an outer step.
        ridge: in units of the mean squared length of the synthetic features.
        lr_img: Adam's rate on the images.
    """

    batch_real: int = setting("whole [1, 100000]")
    ridge: float = setting("(0, 1000]")
    lr_img: float = setting("(0, 1000]")


class RidgeMatching(Method):
    """Lower the squared error, on real images, of ridge regression fitted on the synthetic ones."""

    settings_type = RidgeSettings
    settings: RidgeSettings

    def configure_optimizers(self) -> torch.optim.Optimizer:
        images = {"name": "images", "params": [self.synset.images]}
        return torch.optim.Adam([images], self.settings.lr_img)

    def update(self, step: int) -> Tensor:
        with rng.seeded(self.seed, "network", step):
            net = self.student().to(self.real.images.device)
        g = rng.generator(self.seed, "real batch", step)
        order = torch.randperm(len(self.real.labels), generator=g)
        batch = order[: self.settings.batch_real].to(self.real.images.device)
        with torch.no_grad():
            real = net.features(self.real.images[batch]).flatten(1)
        synthetic = net.features(self.synset.images).flatten(1)
        answers = ridge_answers(real, synthetic, self.of(self.synset.labels), self.settings.ridge)
        loss = (answers - self.of(self.real.labels[batch])).square().sum(1).mean()
        self.log("matching_loss", loss.detach())
        return loss

    def of(self, labels: Tensor) -> Tensor:
        """Labels (N,) as (N, K), of mean zero."""
        return one_hot(labels, self.real.num_classes) - 1 / self.real.num_classes


def ridge_answers(asked: Tensor, known: Tensor, labels: Tensor, ridge: float) -> Tensor:
    """What ridge regression of ``labels`` (N, K) on features ``known`` (N, F) says of ``asked`` (M, F): (M, K)."""
    kernel = known @ known.T
    amount = ridge * kernel.diagonal().mean() * torch.eye(len(kernel), device=kernel.device)
    return asked @ known.T @ torch.linalg.solve(kernel + amount, labels)
'''
path = out / "checkout/distill/methods/matching/ridge_matching.py"
path.write_text(module)
print(path.relative_to(out))

# %% [markdown]
# ## The configuration
#
# It names the class and states every value; Python holds no second defaults. The file's name is what `method=` takes.

# %%
config = """# Ridge matching, the method of a tutorial.
_target_: distill.methods.matching.ridge_matching.RidgeMatching
_partial_: true
steps: 200
snapshot_every: 100
max_skips: 20
batch_real: 256
ridge: 0.01
lr_img: 0.02
"""
homes = (out / "checkout/configs", out / "checkout/distill/configs")  # a checkout's, a wheel's
path = next(home for home in homes if home.exists()) / "method/ridge_matching.yaml"
path.write_text(config)
print(path.relative_to(out))

# %% [markdown]
# ## Run it
#
# It is there, like those that came with the framework:

# %%
import distill as dd

assert "ridge_matching" in dd.methods()
real = dd.load_data("digits")
synset = dd.make("ridge_matching", real, ipc=1, out=out, **{"student.width": 32})
synset.show()

# %% [markdown]
# A value out of its range is refused before anything runs, with the range that stands beside the field:

# %%
try:
    dd.make("ridge_matching", real, ipc=1, out=out, ridge=-1)
except ValueError as error:
    print(error)

# %% [markdown]
# ## Is it better than random?

# %%
quick = {"epochs": 100, "protocol.students": 3, "draws": 3, "convnet.width": 32}
quick |= {"compile": False, "workers": 1}
report = dd.evaluate(synset, real, protocol="dsa", out=out, **quick)
learned, random = report.rows
assert learned["mean"] - learned["ci95"] > random["mean"], "the method learns nothing that random images do not have"

# %% [markdown]
# A first method that beats random images on digits is not yet one that works: compare it on harder data, with five
# syntheses, and with the methods that are there. What else a method may need (experts, teachers, tests, where to
# cite) is told in [Adding something](../adding.md). The part that holds the mathematics has a name of its own,
# `ridge_answers`, so that a test can claim what is true of it: with a tiny ridge, it answers what it was told about
# the images that it was fitted on.

# %%
import torch

from distill.methods.matching.ridge_matching import ridge_answers

known, labels = torch.randn(5, 20), torch.eye(5)
assert torch.allclose(ridge_answers(known, known, labels, 1e-6), labels, atol=1e-3)
