"""A stand-in for an accelerator: tensors that say they lie on another device, lie on the CPU, and tell when it is waited for.

A CPU waits for a GPU where a value comes back (`.item()`, `.tolist()`, `.cpu()`, `bool`, printing), where a size depends on
values (masks as indices, `nonzero`, `bincount`, `unique`), and at a copy to the device that is not ``non_blocking``: just
where ``torch.cuda.set_sync_debug_mode`` complains. What a GPU refuses, tensors of both devices in one operation, is refused.
"""

import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

aten, ROOT = torch.ops.aten, Path(__file__).parent.parent

OF_VALUES = {aten._local_scalar_dense, aten.equal, aten.is_nonzero}  # a value comes back
OF_SIZES = {aten.nonzero, aten.masked_select, aten.bincount, aten._unique, aten._unique2, aten.unique_dim, aten.histc}
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
COPIES = {aten._to_copy, aten.copy_}
BOTH = COPIES | INDEXING | {aten._fused_adam_, aten.is_same_size}  # whose tensors may lie on two devices

AVAILABLE = hasattr(backend_registration, "_setup_privateuseone_for_python_backend")


class There(torch.Tensor):
    """A tensor on the stand-in; ``here`` holds its values."""

    here: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, here):
        own = torch.Tensor._make_wrapper_subclass(
            cls, here.shape, here.stride(), here.storage_offset(), dtype=here.dtype, device=device()
        )
        own.here = here
        return own

    @classmethod
    def __torch_dispatch__(cls, func, types, args, kwargs=None):
        raise AssertionError(f"{func} on the stand-in outside of its block")

    def tolist(self):  # torch's refuses subclasses
        return self.cpu().tolist()

    def __repr__(self, **options):
        return repr(self.cpu())


class Device(TorchDispatchMode):
    """Within its block tensors may be sent to `device`.

    Attributes:
        waits: for each time that the device was waited for, the operation and the line of ours that asked for it.
    """

    def __init__(self):
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, func, types, args, kwargs=None):
        kwargs = dict(kwargs or {})
        leaves = tree_leaves((args, kwargs))
        theirs = [leaf for leaf in leaves if isinstance(leaf, There)]
        goal = kwargs.get("device")
        if goal is not None:
            kwargs["device"] = torch.device("cpu") if on_standin(goal) else goal
        stays = bool(theirs) if goal is None else on_standin(goal)
        self.look(func, args, kwargs, leaves, stays)
        found = func(*tree_map(here, args), **tree_map(here, kwargs))
        known = {id(leaf.here): leaf for leaf in theirs}  # of operations in place

        def back(value):
            if not isinstance(value, torch.Tensor):
                return value
            if id(value) in known:
                return known[id(value)]
            return There(value) if stays else value

        return tree_map(back, found)

    def look(self, func, args, kwargs, leaves, stays):
        """Count a wait; refuse what a GPU refuses."""
        kind = func.overloadpacket
        ours = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and not isinstance(leaf, There) and leaf.ndim]
        theirs = [leaf for leaf in leaves if isinstance(leaf, There)]
        if theirs and ours and kind not in BOTH:
            raise RuntimeError(f"{func}: tensors {[tuple(each.shape) for each in ours]} lie on the CPU, others do not")
        if kind in COPIES:
            first = args[1] if kind is aten.copy_ else args[0]
            lands = isinstance(args[0], There) if kind is aten.copy_ else stays
            crosses = isinstance(first, There) != lands and first.numel()
            blocking = not (args[2] if len(args) > 2 else kwargs.get("non_blocking"))
            assert not crosses or lands or blocking, "what comes back without waiting may not be there yet"
            waits = crosses and blocking
        elif kind in INDEXING:
            indices = [each for each in args[1] if each is not None]
            waits = theirs and any(not isinstance(each, There) or each.dtype == torch.bool for each in indices)
        elif kind is aten.repeat_interleave:
            waits = theirs and kwargs.get("output_size") is None
        else:
            waits = theirs and kind in OF_VALUES | OF_SIZES
        if waits:
            self.waits.append(f"{kind} at {place()}")


def here(value):
    return value.here if isinstance(value, There) else value


def on_standin(goal) -> bool:
    return torch.device(goal).type == device().type


def place() -> str:
    """The line of ours that runs."""
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT) and path.parts[len(ROOT.parts)] in ("distill", "experts"):
            return f"{path.relative_to(ROOT)}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"


class Backend(backend_registration._DummyBackendModule if AVAILABLE else object):
    """What torch asks a device's module for."""

    @staticmethod
    def get_amp_supported_dtype():
        return [torch.bfloat16]

    @staticmethod
    def get_rng_state(device=None):
        return torch.zeros(0)

    @staticmethod
    def set_rng_state(state, device=None):
        pass


REGISTERED = []


def device() -> torch.device:
    if not REGISTERED:
        backend_registration._setup_privateuseone_for_python_backend("standin", Backend())
        REGISTERED.append(torch.device("standin", 0))
    return REGISTERED[0]


@contextmanager
def standin():
    """The device, and what it was waited for."""
    device()
    with pytest.MonkeyPatch.context() as patch, torch.autograd.set_multithreading_enabled(False), Device() as mode:
        for maker in (torch.tensor, torch.as_tensor):  # which make their tensor on the CPU, unseen, and copy it
            patch.setattr(torch, maker.__name__, partial(made_here, maker))
        yield mode


def made_here(maker, data, *, device=None, **options):
    found = maker(data, **options)
    return found if device is None else found.to(device)
