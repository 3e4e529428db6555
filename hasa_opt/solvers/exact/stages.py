"""The options of the exact solver: the longest list of each stage, and threads."""

from __future__ import annotations

import os

from hasa_opt.errors import InputError
from hasa_opt.solvers.base import Request, check_threads

__all__ = ["CAPS", "check_options", "n_threads", "stage_caps"]

CAPS = (1 << 12, 1 << 16, 1 << 20)
"""States of the stages after the first, each sixteen times the last: what few can do, they do."""
_NAMES = ("max_states", "threads")


def check_options(request: Request) -> None:
    """Refuse options that there are not, and values that they cannot have.

    Raises
    ------
    InputError
        Naming the option.
    """
    unknown = [name for name in request.options if name not in _NAMES]
    if unknown:
        raise InputError(
            f"exact takes the options {' and '.join(_NAMES)}, not {', '.join(unknown)}"
        )
    largest = _max_states(request)
    if not (isinstance(largest, int) and largest >= 1):
        raise InputError(f"max_states {largest!r} must be a whole number of at least 1")
    check_threads(request.options)


def stage_caps(request: Request) -> list[int]:
    """Longest list of states in each stage, from the option ``max_states``."""
    largest = _max_states(request)
    return [*(cap for cap in CAPS if cap < largest), largest]


def n_threads(request: Request) -> int:
    """In how many threads many clients are looked through, from the option ``threads``."""
    return int(request.options.get("threads", 1)) or os.cpu_count() or 1


def _max_states(request: Request) -> int:
    found: int = request.options.get("max_states", CAPS[-1])
    return found
