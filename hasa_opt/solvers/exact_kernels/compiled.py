"""How the loops are compiled; each part that is left out shortens the first call."""

from __future__ import annotations

from numba import njit

__all__ = ["helper", "kernel"]

kernel = njit(cache=True, error_model="numpy", no_cfunc_wrapper=True)
"""Compile a function that Python calls."""

helper = njit(cache=True, error_model="numpy", no_cfunc_wrapper=True, no_cpython_wrapper=True)
"""Compile a function that only compiled functions call."""
