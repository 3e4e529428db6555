"""The problem as a 0-1 linear model, scaled for solvers that compute in floating point.

One column per admissible (client, width) pair, one equality per client, one row per limit. The
cheapest width of each client is subtracted from every row and the greatest common divisor is
divided out, so that coefficients stay small integers; rows for which that is not enough are
written in digits, see :mod:`~hasa_opt.problem.digits`. Utilities are shifted and scaled to
[-1000, 0], so that the absolute tolerances of solvers mean the same for any unit. A client of
which one width is left needs no column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol

import numpy as np

from hasa_opt._utils.checks import BoolArray, FloatArray, IntArray
from hasa_opt._utils.sparse import scipy_sparse as sp
from hasa_opt.problem.limits import RobustRow, Row
from hasa_opt.problem.linear_rows import Columns, Rows

__all__ = ["LinearModel", "Program"]


_SPAN = 1000.0
"""Range of the scaled utilities: the absolute tolerances of solvers, 1e-6, are then 1e-9 of it."""

_LARGEST_COEFFICIENT = 1e11
"""The sum of a thousand such coefficients is off by 0.02 in float64: one unit still shows."""
_LARGEST_ROBUST = 1e8
"""A tenth of where HiGHS was seen to miss the optimum: thresholds and excesses are as large."""


class Program(Protocol):
    """What a model is made from: an :class:`~hasa_opt.AllocationProblem`."""

    @property
    def utilities(self) -> FloatArray:
        """What each option is worth, ``(n_clients, n_widths)``."""

    @property
    def admissible(self) -> BoolArray:
        """Options that there are, ``(n_clients, n_widths)``."""

    @property
    def limits(self) -> Sequence[Row]:
        """Every limit, the budget first."""


@dataclass(frozen=True, eq=False)
class LinearModel:
    """Arrays of the 0-1 program.

    Maximise ``objective @ x`` subject to ``lower <= matrix @ x <= upper`` and
    ``0 <= x <= column_upper``, whole numbers where ``integral``. The first columns stand for a
    (client, width) pair each, sorted by client; those of :class:`hasa_opt.Robust` follow, then the
    carries of rows in digits. The first rows sum to 1, one per client with a column; then come the
    limits of the problem, in its order, a row each but for those in digits; then the rows that
    define the columns of Robust.

    Attributes
    ----------
    base : (n_clients,) int64
        Width of the clients that have no column.
    client, width : (n_choices,) int64
        The pair that each column stands for.
    objective : (n_columns,) float64
        Scaled utilities.
    matrix : (n_rows, n_columns) CSR
        Whole numbers.
    lower, upper : (n_rows,) float64
        Infinity where there is none; whole numbers but in a relaxation.
    column_upper : (n_columns,) float64
        A whole number or infinity.
    integral : (n_columns,) bool
    n_open : int
        Number of clients with columns.
    divisors : (n_limits,) float64
        What each limit's row was divided by.
    owner : (n_rows,) int64
        The limit that a row states, or one of its places; -1 for none.
    carries : (n_rows,) bool
        True for all places of a row in digits but the highest.
    scale, offset : float
        ``utility = scale * (objective @ x) + offset``.
    """

    base: IntArray
    client: IntArray
    width: IntArray
    objective: FloatArray
    matrix: sp.csr_array
    lower: FloatArray
    upper: FloatArray
    column_upper: FloatArray
    integral: BoolArray
    n_open: int
    divisors: FloatArray
    owner: IntArray
    carries: BoolArray
    scale: float
    offset: float

    @classmethod
    def of(
        cls,
        problem: Program,
        kept: BoolArray | None = None,
        *,
        largest: float = _LARGEST_COEFFICIENT,
        largest_robust: float = _LARGEST_ROBUST,
    ) -> LinearModel:
        """Translate a problem for branch and bound.

        Rows of larger coefficients, or of totals that no float holds, are written in digits. A
        robust limit is rounded instead, and then admits what breaks it by a few units, too;
        nothing that holds is lost.

        Parameters
        ----------
        problem : AllocationProblem
        kept : (n_clients, n_widths) bool, optional
            The widths that get a column. Default: all that are admissible.
        largest, largest_robust : float
            Up to which coefficient of a row, and of a robust limit, the solver tells whole numbers
            apart.
        """
        return cls._of(problem, kept, (largest, largest_robust))

    @classmethod
    def relaxation(cls, problem: Program, kept: BoolArray | None = None) -> LinearModel:
        """Translate a problem for linear programming: its rows as they were given, not rounded."""
        return cls._of(problem, kept, None)

    @classmethod
    def _of(
        cls,
        problem: Program,
        kept: BoolArray | None,
        largest: tuple[float, float] | None,
    ) -> LinearModel:
        kept = problem.admissible if kept is None else kept
        base = np.where(kept, problem.utilities, -inf).argmax(axis=1)
        robust = any(isinstance(row, RobustRow) for row in problem.limits)
        is_open = (kept.sum(axis=1) > 1) | robust
        is_open[0] |= not is_open.any()
        opened = np.flatnonzero(is_open)
        at, width = np.nonzero(kept[opened])
        client = opened[at]
        best = problem.utilities[np.arange(base.size), base]
        loss = problem.utilities[client, width] - best[client]
        scale = float(-loss.min()) / _SPAN or 1.0
        columns = Columns(base, opened, at, width)
        limits = [columns.limit(row) for row in problem.limits]
        rows = Rows(columns, limits, largest)
        n_extra = rows.column_upper.size - at.size
        return cls(
            base=base,
            client=client,
            width=width,
            objective=np.concatenate([loss / scale, np.zeros(n_extra)]),
            matrix=rows.matrix,
            lower=rows.lower,
            upper=rows.upper,
            column_upper=rows.column_upper,
            integral=rows.integral,
            n_open=opened.size,
            divisors=np.array([float(limit.divisor) for limit in limits]),
            owner=rows.owner,
            carries=rows.carries,
            scale=scale,
            offset=float(best.sum()),
        )

    @property
    def limits(self) -> slice:
        """Rows of the problem's limits, in a relaxation."""
        return slice(self.n_open, self.n_open + self.divisors.size)

    @property
    def largest(self) -> float:
        """Largest absolute coefficient."""
        return float(np.abs(self.matrix.data).max(initial=0))

    def kinds(self, binary: str, integer: str, continuous: str) -> list[str]:
        """Word for the kind of each column: a choice, a carry, or part of a robust limit."""
        whole = np.where(self.column_upper == 1, binary, integer)
        words: list[str] = np.where(self.integral, whole, continuous).tolist()
        return words

    def most(self, values: FloatArray) -> float:
        """Largest total of values of the choice columns, ``(n_choices,)``, one per client."""
        return float(np.maximum.reduceat(values, self.matrix.indptr[: self.n_open]).sum())

    def choice(self, x: FloatArray) -> IntArray:
        """Largest entry of each client, ``(n_clients,)``, from column values ``(n_columns,)``."""
        starts = self.matrix.indptr[: self.n_open]
        chosen = self.base.copy()
        values = x[: self.client.size]
        highest = np.repeat(np.maximum.reduceat(values, starts), self._counts)
        # The last assignment counts: among equal values the narrowest.
        best = np.flatnonzero(values == highest)[::-1]
        chosen[self.client[best]] = self.width[best]
        return chosen

    def columns(self, choice: IntArray) -> FloatArray:
        """Values of the choice columns for an allocation, ``(n_choices,)``."""
        return np.asarray(self.width == choice[self.client], dtype=np.float64)

    def holds_choice(self, x: FloatArray) -> bool:
        """True if column values give each client one width."""
        return bool((np.abs(self.matrix[: self.n_open] @ x - 1) < 0.5).all())

    def utility(self, value: float) -> float:
        """Value of the scaled objective in the problem's unit."""
        return self.scale * value + self.offset

    @property
    def _counts(self) -> IntArray:
        return np.asarray(np.diff(self.matrix.indptr[: self.n_open + 1]))
