"""The problem as a 0-1 linear model, scaled for solvers that compute in floating point.

One column per admissible (client, width) pair, one equality per client, one row per limit. The
cheapest width of each client is subtracted from every row and the greatest common divisor is
divided out, so that coefficients stay small integers; utilities are shifted and scaled to
[-1000, 0], so that the absolute tolerances of solvers mean the same for any unit. Where a good
allocation is known, columns that cannot stand in a better one are left out beforehand, so that a
prohibitive utility does not set the scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from hasa_opt.backend import Request
from hasa_opt.clients import FloatArray, IntArray
from hasa_opt.constraints import Row
from hasa_opt.deadline import UNLIMITED
from hasa_opt.errors import PrecisionError
from hasa_opt.problem import AllocationProblem

__all__ = ["LinearModel"]

_SPAN = 1000.0
_LARGEST_COEFFICIENT = 1e11


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
    def of(cls, problem: AllocationProblem, request: Request | None = None) -> LinearModel:
        """Translate a problem; with a request, without columns that no optimum needs.

        Raises
        ------
        PrecisionError
            If the integer costs exceed what floating-point solvers tell apart.
        OutOfTime
            If the request's deadline passes before the model is there.
        """
        deadline = UNLIMITED if request is None else request.deadline
        columns_kept = problem.admissible if request is None else _promising(problem, request)
        client, width = np.nonzero(columns_kept)
        best = np.where(problem.admissible, problem.utilities, -inf).max(axis=1)
        loss = problem.utilities[client, width] - best[client]
        scale = float(-loss.min()) / _SPAN or 1.0
        starts = np.concatenate([[0], np.cumsum(np.bincount(client, minlength=len(problem)))])
        columns = np.arange(client.size)
        one_each = sp.csr_array(
            (np.ones(client.size), columns, starts), shape=(len(problem), client.size)
        )
        reduced = []
        for row in problem.limits:
            deadline.check()
            reduced.append(_reduced(row, client, width, starts))
        largest = max(float(row.data.max(initial=0.0)) for row, _, _ in reduced)
        if largest > _LARGEST_COEFFICIENT:
            raise PrecisionError(
                f"costs differ by up to {largest:.3g} units, but floating-point solvers tell "
                f"integers apart up to {_LARGEST_COEFFICIENT:.0g}: use a coarser unit of cost, or "
                "solver='exact' or 'greedy', which compute in integers"
            )
        return cls(
            shape=problem.costs.shape,
            client=client,
            width=width,
            objective=loss / scale,
            one_each=one_each,
            limits=sp.csr_array(sp.vstack([row for row, _, _ in reduced])),
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


def _promising(problem: AllocationProblem, request: Request) -> npt.NDArray[np.bool_]:
    """Mark the columns whose Lagrangian loss is within the gap of a known allocation.

    An allocation with any other column is worth less than the known one (Kellerer, Pferschy and
    Pisinger, Knapsack Problems, 2004, section 11.2).
    """
    if request.known is None:
        return problem.admissible
    relaxation = request.relaxation
    extra = (problem.costs - problem.cheapest[:, None]).astype(np.float64)
    net = np.where(problem.admissible, problem.utilities - relaxation.price * extra, -inf)
    gap = relaxation.bound - problem.evaluate(request.known).objective
    rounding = 1e-9 * abs(relaxation.bound) + 1e-12 * problem.magnitude
    kept = net >= net.max(axis=1, keepdims=True) - (max(gap, 0.0) + rounding)
    kept &= problem.admissible
    kept[np.arange(len(problem)), request.known] = True
    return np.asarray(kept)


def _reduced(
    row: Row, client: IntArray, width: IntArray, starts: IntArray
) -> tuple[sp.csr_array, float, float]:
    """Coefficients less each client's smallest, divided by their gcd, with exact limits."""
    if row.members is None:
        columns, own_starts, member = np.arange(client.size), starts[:-1], client
    else:
        counts = starts[row.members + 1] - starts[row.members]
        own_starts = np.cumsum(counts) - counts
        member = np.repeat(np.arange(row.members.size), counts)
        columns = np.arange(member.size) - own_starts[member] + starts[row.members][member]
    values = row.coefficients[member, width[columns]]
    least = np.minimum.reduceat(values, own_starts) if values.size else values
    values = values - least[member]
    base = int(least.sum())
    divisor = int(np.gcd.reduce(values)) or 1
    lower = -inf if row.lower is None else float(_ceil_div(row.lower - base, divisor))
    upper = inf if row.upper is None else float((row.upper - base) // divisor)
    entries = ((values // divisor).astype(np.float64), columns, np.array([0, columns.size]))
    return sp.csr_array(entries, shape=(1, client.size)), lower, upper


def _ceil_div(value: int, divisor: int) -> int:
    """Quotient of integers rounded up."""
    return -(-value // divisor)
