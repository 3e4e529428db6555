"""The problem as a 0-1 linear model, scaled for solvers that compute in floating point.

One column per admissible (client, width) pair, one equality per client, one row per limit. The
cheapest width of each client is subtracted from every row and the greatest common divisor is
divided out, so that coefficients stay small integers; utilities are shifted and scaled to
[-1000, 0], so that the absolute tolerances of solvers mean the same for any unit. A client of
which one width is left needs no column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf

import numpy as np
import scipy.sparse as sp

from hasa_opt._utils.checks import BoolArray, FloatArray, IntArray
from hasa_opt.errors import PrecisionError
from hasa_opt.problem.limits import RobustRow, Row
from hasa_opt.problem.problem import AllocationProblem

__all__ = ["LinearModel"]


_SPAN = 1000.0
"""Range of the scaled utilities: the absolute tolerances of solvers, 1e-6, are then 1e-9 of it."""

_LARGEST_COEFFICIENT = 1e11
"""The sum of a thousand such coefficients is off by 0.02 in float64: one unit still shows."""


@dataclass(frozen=True, eq=False)
class LinearModel:
    """Arrays of the 0-1 program.

    Maximise ``objective @ x`` subject to ``lower <= matrix @ x <= upper`` and
    ``0 <= x <= column_upper``, whole numbers where ``integral``. The first columns stand for a
    (client, width) pair each, sorted by client; those of :class:`hasa_opt.Robust` follow. The
    first rows sum to 1, one per client with a column; then comes one row per limit of the problem,
    in its order; those that define the columns of Robust follow.

    Attributes
    ----------
    base : (n_clients,) int64
        Width of the clients that have no column.
    client, width : (n_choices,) int64
        The pair that each column stands for.
    objective : (n_columns,) float64
        Scaled utilities.
    matrix : (n_rows, n_columns) CSR
    lower, upper : (n_rows,) float64
        Whole numbers or infinity.
    column_upper : (n_columns,) float64
        1 or infinity.
    n_open : int
        Number of clients with columns.
    divisors : (n_limits,) float64
        What each limit's row was divided by.
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
    n_open: int
    divisors: FloatArray
    scale: float
    offset: float

    @classmethod
    def of(cls, problem: AllocationProblem, kept: BoolArray | None = None) -> LinearModel:
        """Translate a problem; with a mask ``(n_clients, n_widths)``, only the kept columns."""
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
        columns = _Columns(base, opened, at, width)
        pieces = [columns.limit(row) for row in problem.limits]
        matrix, n_extra = columns.assembled(problem.limits, pieces)
        n_links = matrix.shape[0] - opened.size - len(pieces)
        ones = np.ones(opened.size)
        return cls(
            base=base,
            client=client,
            width=width,
            objective=np.concatenate([loss / scale, np.zeros(n_extra)]),
            matrix=matrix,
            lower=np.concatenate([ones, [piece.lower for piece in pieces], np.full(n_links, -inf)]),
            upper=np.concatenate([ones, [piece.upper for piece in pieces], np.zeros(n_links)]),
            column_upper=np.concatenate([np.ones(at.size), np.full(n_extra, inf)]),
            n_open=opened.size,
            divisors=np.array([float(piece.divisor) for piece in pieces]),
            scale=scale,
            offset=float(best.sum()),
        )

    @property
    def integral(self) -> BoolArray:
        """Columns that stand for a choice, ``(n_columns,)``."""
        return np.arange(self.objective.size) < self.client.size

    @property
    def limits(self) -> slice:
        """Rows of the problem's limits."""
        return slice(self.n_open, self.n_open + self.divisors.size)

    @property
    def largest(self) -> float:
        """Largest absolute coefficient."""
        return float(np.abs(self.matrix.data).max())

    @property
    def precise(self) -> bool:
        """True if floating-point solvers tell the integers of this model apart."""
        return self.largest <= _LARGEST_COEFFICIENT

    def check_precision(self) -> None:
        """Refuse a model that floating-point solvers would get wrong.

        Raises
        ------
        PrecisionError
            If the integer costs exceed what floating-point solvers tell apart.
        """
        if not self.precise:
            raise PrecisionError(
                f"costs differ by up to {self.largest:.3g} units, but floating-point solvers tell "
                f"integers apart up to {_LARGEST_COEFFICIENT:.0g}: use a coarser unit of cost, or "
                "solver='exact' or 'greedy', which compute in integers"
            )

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


@dataclass(frozen=True, eq=False)
class _Limit:
    """One limit in reduced integers, over some of the choice columns."""

    columns: IntArray
    values: IntArray
    lower: float
    upper: float
    divisor: int


@dataclass(frozen=True, eq=False)
class _Columns:
    """The choice columns: client ``opened[at]`` at ``width``; all others have their base width."""

    base: IntArray
    opened: IntArray
    at: IntArray
    width: IntArray

    def limit(self, row: Row) -> _Limit:
        """Coefficients less each client's smallest, divided by their gcd, with exact limits."""
        place = self._places(row)
        inside = np.flatnonzero(place >= 0)
        first, counts = self._starts[inside], self._counts[inside]
        ends = np.cumsum(counts)
        columns = np.repeat(first - ends + counts, counts) + np.arange(counts.sum())
        member, width = place[self.at[columns]], self.width[columns]
        values = row.coefficients[member, width]
        starts = np.flatnonzero(np.diff(member, prepend=-1))
        least = np.minimum.reduceat(values, starts) if values.size else values
        values = values - np.repeat(least, np.diff(starts, append=values.size))
        constant = int(least.sum()) + self._elsewhere(row, place)
        divisor = int(np.gcd.reduce(values, initial=0))
        if isinstance(row, RobustRow):
            divisor = int(np.gcd.reduce(row.deviation[member, width], initial=divisor))
        divisor = divisor or 1
        lower = -inf if row.lower is None else float(-((constant - row.lower) // divisor))
        upper = inf if row.upper is None else float((row.upper - constant) // divisor)
        return _Limit(columns, values // divisor, lower, upper, divisor)

    @cached_property
    def _starts(self) -> IntArray:
        """First column of each open client, and the number of all."""
        return np.searchsorted(self.at, np.arange(self.opened.size + 1))

    @cached_property
    def _counts(self) -> IntArray:
        """Columns of each open client."""
        return np.diff(self._starts)

    def _places(self, row: Row) -> IntArray:
        """Index of each open client among the members of a row, or -1."""
        if row.members is None:
            return self.opened
        own = np.searchsorted(self.opened, row.members)
        own[own == self.opened.size] = 0
        inside = np.flatnonzero(self.opened[own] == row.members)
        place = np.full(self.opened.size, -1)
        place[own[inside]] = inside
        return place

    def _elsewhere(self, row: Row, place: IntArray) -> int:
        """Total of a row over the members that have no column."""
        chosen = self.base[row.at]
        values = row.coefficients[np.arange(chosen.size), chosen]
        values[place[place >= 0]] = 0
        return int(values.sum())

    def assembled(
        self, limits: Sequence[Row], reduced: Sequence[_Limit]
    ) -> tuple[sp.csr_array, int]:
        """Matrix of all rows, and the number of columns beyond the choices.

        Each robust limit adds a threshold and every client's excess over it: ``gamma`` times the
        first plus the sum of the others is the worst case (Bertsimas and Sim, The Price of
        Robustness, 2004).
        """
        n_choices, n_open = self.at.size, self.opened.size
        robust = [at for at, row in enumerate(limits) if isinstance(row, RobustRow)]
        width = n_choices + len(robust) * (1 + n_open)
        values, columns = [np.ones(n_choices)], [np.arange(n_choices)]
        links = []
        for at, (row, own) in enumerate(zip(limits, reduced, strict=True)):
            values.append(own.values.astype(np.float64))
            columns.append(own.columns)
            if isinstance(row, RobustRow):
                first = n_choices + robust.index(at) * (1 + n_open)
                excess = np.arange(first + 1, first + 1 + n_open)
                values[-1] = np.concatenate([values[-1], [float(row.gamma)], np.ones(n_open)])
                columns[-1] = np.concatenate([columns[-1], [first], excess])
                links.append(self._links(row, own.divisor, first, width))
        ends = np.cumsum([len(own) for own in columns])
        entries = (np.concatenate(values), np.concatenate(columns), [*self._starts[:-1], *ends])
        rows = sp.csr_array(entries, shape=(n_open + len(reduced), width))
        return sp.csr_array(sp.vstack([rows, *links])), width - n_choices

    def _links(self, row: RobustRow, divisor: int, first: int, width: int) -> sp.csr_array:
        """Deviation of each client less threshold and excess: at most 0."""
        client = np.arange(self.opened.size)
        worst = (row.deviation[self.opened[self.at], self.width] // divisor).astype(np.float64)
        down = np.full(client.size, -1.0)
        entries = np.concatenate([worst, down, down])
        columns = np.concatenate([np.arange(self.at.size), np.full(client.size, first),
                                  first + 1 + client])  # fmt: skip
        rows = np.concatenate([self.at, client, client])
        return sp.csr_array((entries, (rows, columns)), shape=(client.size, width))
