"""Randomness that leaves the caller's random state as it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch


@contextmanager
def seeded_rng(seed: int) -> Iterator[None]:
    """Run a block on freshly seeded global generators, then put their state back."""
    devices: Sequence[int] = ()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(int(seed))
        if devices:
            torch.cuda.manual_seed_all(seed)
        yield
