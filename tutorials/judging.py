# %% [markdown]
# # Judging somebody's set
#
# You were sent a file, `res_DM_digits_ConvNet_1ipc.pt`, and a claim: "ten images of digits, 95 % accuracy". Is it so,
# and is it better than ten real images? First the part of that somebody, who averaged each class and saved it as the
# code of DM does:

# %%
from pathlib import Path
from textwrap import fill

import torch

import distill as dd
from distill.comparison.verdicts import verdict

out = Path("outputs/judging")
sent = out / "sent"
sent.mkdir(parents=True, exist_ok=True)
real = dd.load_data("digits")
means = torch.stack([real.train.images[real.train.labels == cls].mean(0) for cls in range(10)])
torch.save({"data": [[means, torch.arange(10)]]}, sent / "res_DM_digits_ConvNet_1ipc.pt")

# %% [markdown]
# ## Import it
#
# The file holds bare numbers. It does not say which space the images are in, or whose preprocessing. `kind` says
# whose format it is, which fixes some of that; what is left open you state, and all is checked against the real
# images. MTT's format leaves the space open, for example, and a wrong statement is refused:

# %%
torch.save(means, sent / "images_best.pt")
torch.save(torch.arange(10), sent / "labels_best.pt")
try:
    dd.load(str(sent), kind="mtt", data="digits", space="pixel01", lr=0.01)
except ValueError as error:
    print(fill(str(error), 100))

# %%
synset = dd.load(str(sent / "res_DM_digits_ConvNet_1ipc.pt"), kind="dm", data="digits")
for name, fact in synset.record["imported"]["facts"].items():
    print(f"{name:12} {fact['value']}  ({fact['how']}{', ' * bool(fact['source'])}{fact['source']})")
print(synset.record["imported"]["checks"])

# %%
synset.show()

# %% [markdown]
# ## Evaluate it, beside random real images
#
# One protocol for both, named before any number is seen: `dsa`, its recipe cut to 100 passes, three students. Random
# real images are drawn five times, as one draw may be lucky. Files of MTT's kind hold the iterate that was best on
# the test split; their rows carry a mark (‡), and are compared with nothing. DM's code keeps the last iterate.

# %%
quick = {"epochs": 100, "protocol.students": 3, "draws": 5, "convnet.width": 32}
quick |= {"baselines": ["random"], "compile": False, "workers": 1}
report = dd.evaluate(synset, real, protocol="dsa", out=out, **quick)

# %% [markdown]
# ## Read it
#
# **Against random.** The difference comes with an interval. If it leaves out zero, the set is better than picking, as
# far as this one set goes: with R = 1 nothing is said of the method that made it.

# %%
for each in dd.compare(report, out=out / "compared").contrasts:
    mean, low, high = (100 * value for value in (each.found.mean, each.found.low, each.found.high))
    print(f"{each.ours.name} less {each.other.name}: {mean:+.1f} points, {low:+.1f} to {high:+.1f}")

# %% [markdown]
# **Against the claim.** A verdict weighs the difference with the noise of both numbers: `met` is within a point of
# the claim for sure, `consistent` is not told apart from it, `below` and `above` are. The claim has a spread, here a
# standard deviation of 1.0.

# %%
row = report.rows[0]
found, mean, half = verdict({**row, "published": "95.0 ± 1.0"}), 100 * row["mean"], 100 * row["ci95"]
print(f"{mean:.1f} ± {half:.1f}, claimed {found.published}: {found.word} ({found.difference:+.1f})")
print("otherwise than the protocol:", ", ".join(row["protocol_changes"]))

# %% [markdown]
# Before you write that the claim fails, look at what is otherwise: passes, students, the network. Judge again under
# the protocol that the claim names. [Sets of other projects](../importing.md) has a command for each format,
# [Comparing](../comparing.md) the tests, [Protocols](../protocols.md) what each fixes. Next: [adding a
# method](adding_method.md).
