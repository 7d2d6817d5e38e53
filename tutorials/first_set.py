# %% [markdown]
# # A first set in five minutes
#
# Dataset distillation learns a few images that stand for many: a network trained on them alone should get nearly as
# far as one trained on the whole set. Here one image of each of ten handwritten digits is learned from 1,293 real
# ones, and judged. Nothing is downloaded; two CPU cores need less than a minute.

# %%
import distill as dd
from distill import rng

out = "outputs/first_set"

# %% [markdown]
# ## The real images
#
# The real set is split once: training images to learn from, validation images for choices, test images for the number
# at the end. Images are tensors (N, C, H, W), normalised by the mean and deviation of the training images.

# %%
real = dd.load_data("digits")
for name in ("train", "val", "test"):
    part = getattr(real, name)
    shape = tuple(part.images.shape[1:])
    print(f"{name:5}  {len(part.images):5} images of {shape}, {part.num_classes} classes")

# %% [markdown]
# ## Learn one image of each class
#
# `dm` is distribution matching: it starts from a real image of each class and changes its pixels, until random
# networks see the same mean feature in it as in the class's real images. `ipc` is the number of images per class. The
# papers take 20,000 steps and networks 128 channels wide; 150 and 32 show what happens.

# %%
small = {"student.width": 32, "compile": False}
synset = dd.make("dm", real, ipc=1, steps=150, snapshot_every=50, lr_img=5.0, out=out, **small)
synset

# %% [markdown]
# The start was this, one random real image of each class:

# %%
dd.SyntheticSet.from_real(real.train, 1, rng.generator(0, "initial images")).show()

# %% [markdown]
# ## Judge it
#
# A set is as good as the students that it trains. Students are fresh networks; each trains on the ten images alone,
# and its accuracy is counted on test images that nobody has seen. Random real images go the same way, since the
# question is always: is it better than picking? `protocol="dsa"` says how students train; fewer passes, students and
# draws than the paper has are a change of it, so the protocol is then called `dsa+`.

# %%
quick = {"epochs": 100, "protocol.students": 3, "draws": 3, "convnet.width": 32}
quick |= {"compile": False, "workers": 1}  # no waiting for a compiler or for other processes
report = dd.evaluate(synset, real, protocol="dsa", out=out, **quick)

# %% [markdown]
# Each line of the table is a row, a dictionary. `mean` and `ci95`, the half-width of the 95 % interval, are
# fractions.

# %%
for row in report.rows:
    mean, half = 100 * row["mean"], 100 * row["ci95"]
    print(f"{row['method']:12} {mean:.1f} ± {half:.1f} %  ({row['syntheses']} x {row['students']})")
learned, random = report.rows
assert learned["mean"] > random["mean"]

# %% [markdown]
# `R x S` are the runs behind a number: R sets of S students each. Our R is 1, so its interval is over students of
# this one set, and says nothing of a set from another seed; that takes `seed=1`, `seed=2` and so on.
#
# ## What is left behind
#
# The set is one file. It holds images, labels, preprocessing and how they were made, so that a stranger can train on
# it. The same call finds it again and learns nothing anew.

# %%
print(synset.path)
again = dd.load(synset.path)
print(again.hash == synset.hash, again.record["method"], again.record["step"], "steps")

# %% [markdown]
# Now take [your own images](own_images.md), or read [what the words mean](../concepts.md).
