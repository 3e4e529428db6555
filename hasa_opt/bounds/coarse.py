"""Limits in coarser units, for solvers that compute in floating point."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hasa_opt.constraints import Row
from hasa_opt.problem import AllocationProblem

__all__ = ["coarsened"]

_BITS = 34


def coarsened(problem: AllocationProblem) -> AllocationProblem:
    """The problem in integers of at most 34 bits; what it admits, the original admits."""
    budget, *rows = (_rounded(problem, row) for row in problem.limits)
    assert budget.upper is not None
    return replace(
        problem, costs=budget.coefficients, limit=budget.upper, rows=tuple(rows), constraints=()
    )


def _rounded(problem: AllocationProblem, row: Row) -> Row:
    """A row less its smallest coefficients, divided by a power of two against its limits."""
    least = row.least(problem.admissible)
    extra = np.where(problem.admissible[row.at], row.coefficients - least[:, None], 0)
    shift = max(0, int(extra.max(initial=0)).bit_length() - _BITS)
    up = row.upper is not None
    lower, upper = (
        None if bound is None else bound - int(least.sum()) for bound in (row.lower, row.upper)
    )
    return replace(
        row,
        coefficients=-(-extra >> shift) if up else extra >> shift,
        lower=None if lower is None else -(-lower >> shift),
        upper=None if upper is None else upper >> shift,
    )
