"""How the loops are compiled; each part that is left out shortens the first call."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["concurrent", "helper", "kernel", "read_only"]


_OPTIONS: dict[str, Any] = {"cache": True, "error_model": "numpy", "no_cfunc_wrapper": True}

kernel = njit(**_OPTIONS)
"""Compile a function that Python calls."""

helper = njit(**{**_OPTIONS, "no_cpython_wrapper": True})
"""Compile a function that only compiled functions call."""

concurrent = njit(**{**_OPTIONS, "nogil": True})
"""Compile a function that Python calls in a thread, so that it goes on beside it."""


def read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Contiguous read-only view: compiled code is of one type for all callers."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view
