"""Producers of what distillation methods learn from: expert trajectories and teachers."""
