"""Function: what this package's own derivatives are written as."""

import inspect

import torch


class Function(torch.autograd.Function):
    """`torch.autograd.Function`, called without a look for its signature, which takes torch longer than a small layer does."""

    def __init_subclass__(cls) -> None:
        cls.forward.__signature__ = inspect.signature(cls.forward)  # type: ignore[attr-defined]
