"""Continual learning: classes come step by step, and of each step nothing but a small memory is kept."""
