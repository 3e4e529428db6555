"""How long the lists of states may become, stage after stage."""

from __future__ import annotations

from hasa_opt.errors import InputError
from hasa_opt.solvers.base import Request

__all__ = ["CAPS", "stage_caps"]

CAPS = (1 << 12, 1 << 16, 1 << 20)
"""States of the stages after the first, each sixteen times the last: what few can do, they do."""


def stage_caps(request: Request) -> list[int]:
    """Longest list of states in each stage, from the option ``max_states``."""
    options = dict(request.options)
    largest = options.pop("max_states", CAPS[-1])
    if options:
        raise InputError(f"exact takes the option max_states, not {', '.join(options)}")
    if not (isinstance(largest, int) and largest >= 1):
        raise InputError(f"max_states {largest!r} must be a whole number of at least 1")
    return [*(cap for cap in CAPS if cap < largest), largest]
