"""What methods share that put real pixels together rather than learn them."""

import torch

from distill.methods.base import Method
from distill.sets.synthetic import SyntheticSet


class RealPixels(Method):
    """Puts real pixels together in `learn`, optimises nothing, and is stored and judged in eight bits, as real images are."""

    depth = 1

    def artefact(self) -> SyntheticSet:
        return super().artefact().quantised()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        images = {"name": "images", "params": [self.synset.images]}
        return torch.optim.SGD([images], 0.0)  # the outer loop asks for one
