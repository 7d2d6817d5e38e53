# %% [markdown]
# # Your own images
#
# Pictures in folders, one folder a class, are all that is needed. This tutorial writes such folders from the two
# photographs that come with scikit-learn: small pieces of a Chinese temple and of a flower. To use yours, put their
# folder in the place of `pictures`.

# %%
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_sample_images

import distill as dd
from distill import rng

out = Path("outputs/own_images")
pictures = out / "pictures"
SIDE = 40  # pixels of a piece

for name, photograph in zip(("temple", "flower"), load_sample_images().images, strict=True):
    (pictures / name).mkdir(parents=True, exist_ok=True)
    height, width = (side - side % SIDE for side in photograph.shape[:2])
    for top in range(0, height, SIDE):
        for left in range(0, width, SIDE):
            piece = Image.fromarray(photograph[top : top + SIDE, left : left + SIDE])
            piece.save(pictures / name / f"{top:03}_{left:03}.png")
for folder in sorted(pictures.iterdir()):
    print(folder.name, len(list(folder.iterdir())), "pictures")

# %% [markdown]
# ## Read them
#
# `size` brings all to squares of one side. Where there is no folder `test`, a fifth of each class is kept for
# testing, always the same pictures; of the rest a tenth is for validation. Mean and deviation are counted on the
# training images.

# %%
real = dd.load_data("folder", path=str(pictures), size=16)
print(real.train.class_names, len(real.train.images), len(real.val.images), len(real.test.images))

# %% [markdown]
# Some of them, ten of each class, as the set will be shown:

# %%
dd.SyntheticSet.from_real(real.train, 10, rng.generator(0, "a look")).show()

# %% [markdown]
# ## Learn and judge
#
# The papers' step counts were chosen for 50,000 images. `scale="small"` has sizes for a few hundred; they are cut
# once more here. `distill plan data=folder data.path=... data.size=16` tells beforehand what a run will take.

# %%
small = {"student.width": 32, "compile": False}
synset = dd.make("dm", real, ipc=5, scale="small", steps=300, out=out, **small)
synset.show()

# %%
quick = {"epochs": 100, "protocol.students": 3, "draws": 8, "convnet.width": 32}
quick |= {"compile": False, "workers": 1}
report = dd.evaluate(synset, real, protocol="dsa", out=out, **quick)

# %% [markdown]
# With two classes a coin reaches 50 %. Which five pieces of a photograph are drawn matters much, hence the spread of
# the second row; the learned images have seen all pieces of their class. `gain` is the difference, with the interval
# of the difference: where it holds zero, three students tell too little, and more of them are the next thing to ask
# for (`protocol.students`). The step size is that of `scale="small"`. A better one is looked for on the validation
# images: a number that others shall believe comes from test images that no choice has seen.
#
# ## Use it elsewhere
#
# `synset` is a torch `Dataset`, and `synset.transform` prepares any picture as its maker did:

# %%
picture = Image.open(next((pictures / "flower").iterdir()))
print(len(synset), synset[0][0].shape, synset.transform(picture).shape)

# %% [markdown]
# Formats, large folders and what small sizes reach with other methods: [Your own images](../own_data.md). Somebody
# else's set is judged in [the next tutorial](judging.md).
