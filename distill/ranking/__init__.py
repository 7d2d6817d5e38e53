"""Ranking of architectures: which of 54 small networks is best, as a set tells it and as long training on real images does."""
