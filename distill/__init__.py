"""distill: dataset distillation in one straight line, from real images to a report.

synset = distill.load("synset.safetensors")
train = DataLoader(synset, batch_size=256, shuffle=True)
test = torchvision.datasets.CIFAR10("data", train=False, transform=synset.transform)
"""

from distill.synset import SyntheticSet, load

__all__ = ["SyntheticSet", "load"]
