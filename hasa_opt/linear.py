"""The problem as a 0-1 linear model, scaled for solvers that compute in floating point.

One column per admissible (client, width) pair, one equality per client, one row per limit. The
cheapest width of each client is subtracted from every row and the greatest common divisor is
divided out, so that coefficients stay small integers; utilities are shifted and scaled to
[-1000, 0], so that the absolute tolerances of solvers mean the same for any unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np
import scipy.sparse as sp

from hasa_opt.clients import FloatArray, IntArray
from hasa_opt.constraints import Row
from hasa_opt.problem import AllocationProblem

__all__ = ["LinearModel"]

_SPAN = 1000.0


@dataclass(frozen=True, eq=False)
class LinearModel:
    """Arrays of the 0-1 program: maximise ``objective @ x``.

    Attributes
    ----------
    shape : (n_clients, n_widths)
    client, width : (n_columns,) int64
        The pair that each column stands for, sorted by client.
    objective : (n_columns,) float64
        Scaled utilities.
    one_each : (n_clients, n_columns) CSR
        Rows that sum to 1: each client gets one width.
    limits : (n_limits, n_columns) CSR
    lower, upper : (n_limits,) float64
        Whole numbers or infinity.
    scale, offset : float
        ``utility = scale * (objective @ x) + offset``.
    """

    shape: tuple[int, int]
    client: IntArray
    width: IntArray
    objective: FloatArray
    one_each: sp.csr_array
    limits: sp.csr_array
    lower: FloatArray
    upper: FloatArray
    scale: float
    offset: float

    @classmethod
    def of(cls, problem: AllocationProblem) -> LinearModel:
        """Translate a problem."""
        client, width = np.nonzero(problem.admissible)
        best = np.where(problem.admissible, problem.utilities, -inf).max(axis=1)
        loss = problem.utilities[client, width] - best[client]
        scale = float(-loss.min()) / _SPAN or 1.0
        starts = np.concatenate([[0], np.cumsum(np.bincount(client, minlength=len(problem)))])
        columns = np.arange(client.size)
        one_each = sp.csr_array(
            (np.ones(client.size), columns, starts), shape=(len(problem), client.size)
        )
        reduced = [_reduced(row, client, width, starts) for row in problem.limits]
        return cls(
            shape=problem.costs.shape,
            client=client,
            width=width,
            objective=loss / scale,
            one_each=one_each,
            limits=sp.csr_array(np.stack([row for row, _, _ in reduced])),
            lower=np.array([lower for _, lower, _ in reduced]),
            upper=np.array([upper for _, _, upper in reduced]),
            scale=scale,
            offset=float(best.sum()),
        )

    def choice(self, x: FloatArray) -> IntArray:
        """Largest entry of each client, ``(n_clients,)``, from column values ``(n_columns,)``."""
        table = np.full(self.shape, -inf)
        table[self.client, self.width] = x
        return np.asarray(table.argmax(axis=1))

    def columns(self, choice: IntArray) -> FloatArray:
        """Column values of an allocation, ``(n_columns,)``."""
        return np.asarray(self.width == choice[self.client], dtype=np.float64)

    def utility(self, value: float) -> float:
        """Value of the scaled objective in the problem's unit."""
        return self.scale * value + self.offset


def _reduced(
    row: Row, client: IntArray, width: IntArray, starts: IntArray
) -> tuple[FloatArray, float, float]:
    """Coefficients less each client's smallest, divided by their gcd, with exact limits."""
    values = row.coefficients[client, width]
    least = np.minimum.reduceat(values, starts[:-1])
    values = values - least[client]
    base = int(least.sum())
    divisor = int(np.gcd.reduce(values)) or 1
    lower = -inf if row.lower is None else float(_ceil_div(row.lower - base, divisor))
    upper = inf if row.upper is None else float((row.upper - base) // divisor)
    return (values // divisor).astype(np.float64), lower, upper


def _ceil_div(value: int, divisor: int) -> int:
    """Quotient of integers rounded up."""
    return -(-value // divisor)
