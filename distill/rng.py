"""Randomness as a function of (seed, purpose, step): no running global stream.

Whatever is drawn for outer step 57 or student 3 is the same whether it is drawn first, last or after a restart.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch


def derive(seed: int, purpose: str, *steps: int) -> int:
    """A seed in [0, 2**63) for one draw; another purpose or step gives an unrelated one."""
    text = "/".join(map(str, (seed, purpose, *steps)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, purpose: str, *steps: int) -> torch.Generator:
    """A CPU generator for one draw; drawing on the CPU makes the numbers the same on every device."""
    return torch.Generator().manual_seed(derive(seed, purpose, *steps))


@contextmanager
def seeded(seed: int, purpose: str, *steps: int) -> Iterator[None]:
    """Seed torch's global state for code that takes no generator (initialisation, dropout), then put it back."""
    others = accelerated()
    # Where there are none, torch.manual_seed formats three tracebacks for later and fork_rng looks for a driver: 0.5 ms.
    with torch.random.fork_rng(devices=None if others else []):
        (torch.manual_seed if others else torch.default_generator.manual_seed)(derive(seed, purpose, *steps))
        yield


@cache
def accelerated() -> bool:
    """Whether torch has generators other than the CPU's here."""
    return torch.cuda.is_available() or torch.backends.mps.is_available()
