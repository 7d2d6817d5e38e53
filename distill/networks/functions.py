"""Function: what this package's own derivatives are written as."""

import inspect
from typing import Any, ClassVar

import torch


class Function(torch.autograd.Function):
    """`torch.autograd.Function` with ``setup_context``, as `torch.func` wants it, that costs little where nobody asks for that.

    torch binds the inputs to the signature at every call: 17 us, which is what a small layer takes. Without transforms, `of`
    goes by the older form of the same function: 5 us.

    >>> class Double(Function):
    ...     @staticmethod
    ...     def setup_context(ctx, inputs, output):
    ...         pass
    ...
    ...     @staticmethod
    ...     def forward(x):
    ...         return 2 * x
    ...
    ...     @staticmethod
    ...     def backward(ctx, gradient):
    ...         return 2 * gradient
    >>> Double.of(torch.ones(2))
    tensor([2., 2.])
    """

    older: ClassVar[type[torch.autograd.Function]]

    def __init_subclass__(cls) -> None:
        cls.forward.__signature__ = inspect.signature(cls.forward)  # type: ignore[attr-defined]  # else found anew at every call

        def forward(ctx: Any, *inputs: Any) -> Any:
            output = cls.forward(*inputs)
            cls.setup_context(ctx, inputs, output)
            return output

        methods = {"forward": staticmethod(forward), "backward": staticmethod(cls.backward)}
        cls.older = type(cls.__name__, (torch.autograd.Function,), methods)

    @classmethod
    def of(cls, *inputs: Any) -> Any:
        """The function of ``inputs``; call it rather than ``apply``."""
        transformed = torch._C._are_functorch_transforms_active()  # type: ignore[attr-defined]
        return (cls if transformed else cls.older).apply(*inputs)
