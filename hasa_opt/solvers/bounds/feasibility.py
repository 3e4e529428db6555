"""Which limits can hold together, in the linear relaxation, and how they are broken least.

Utilities do not matter here, so of each client only those widths are kept that no other one beats
in every limit. What remains is a linear program of one row per limit, solved by column generation:
at given prices of the limits every client has a best width; the widths of a group of clients
together make one column, a pattern; a small program mixes the patterns and returns better prices
(Dantzig and Wolfe, Decomposition principle for linear programs, Operations Research 8, 1960). Each
round proves a bound from either side, so that most questions are settled after two or three.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt._utils.deadline import UNLIMITED, Deadline, OutOfTime
from hasa_opt._utils.sparse import scipy_sparse as sp
from hasa_opt.problem.limits import Row
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.solvers.bounds.programs import Unsolved, maximise

__all__ = ["Excess", "Feasibility", "impossible", "of_costs", "reach"]

_TOLERANCE = 1e-6
"""Relative excess and share of a pattern that count as none: HiGHS is exact to 1e-7 by default."""
_FREE = 1e-9
"""Prices and gains up to this are rounding errors of the linear program."""
_TINY = 1e-3
"""Share of what its clients can take below which a limit is tiny: its excess is not relative."""
_GROUPS, _ROUNDS = 64, 200
"""Groups of clients that patterns are made for, and the most rounds of column generation."""
_KEPT = "_conflicting"
"""Under which name a problem keeps what was found out about its conflicts."""


@dataclass(frozen=True, eq=False)
class Excess:
    """How some limits are broken least.

    Attributes
    ----------
    prices : (n_limits,) float64
        Of each limit, per unit; those that have one cannot hold together (Farkas' lemma).
    over : (n_over,) int64
        Limits that are exceeded.
    choice : (n_clients,) int64
        The widths, rounded.
    """

    prices: FloatArray
    over: IntArray
    choice: IntArray


@dataclass(frozen=True, eq=False)
class _Mixed:
    """Optimum over mixtures of columns.

    Attributes
    ----------
    x : (n_columns,) float64
        Share of each column.
    relief : (n_chosen,) float64
        By how much each limit is broken.
    prices : (n_chosen,) float64
        At least 0 for an upper limit, at most 0 for a lower.
    value : float
        Weighted sum of the reliefs.
    """

    x: FloatArray
    relief: FloatArray
    prices: FloatArray
    value: float


class Feasibility:
    """The limits of a problem as rows over the widths that differ from each client's base.

    The patterns found for some limits serve for others too.

    Parameters
    ----------
    problem : AllocationProblem
        Of a robust limit only the coefficients count: what conflicts without the deviations does
        so with them.

    Attributes
    ----------
    base : (n_clients,) int64
        The width that a client has unless a column is chosen.
    client, width : (n_columns,) int64
    matrix : (n_limits, n_columns) CSR
        Differences to the base, each row divided by its largest.
    scale : (n_limits,) float64
        That divisor.
    lower, upper : (n_limits,) float64
        Limits less the total of the base, divided likewise.
    """

    def __init__(self, problem: AllocationProblem) -> None:
        self.problem = problem
        kept = _undominated(problem)
        self.base = kept.argmax(axis=1)
        kept[np.arange(self.base.size), self.base] = False
        self.client, self.width = np.nonzero(kept)
        starts = np.searchsorted(self.client, np.arange(self.base.size + 1))
        rows = [_difference(row, self.base, self.width, starts) for row in problem.limits]
        self.scale = np.array([float(np.abs(taken).max(initial=0.0)) or 1.0 for taken, _ in rows])
        rest = [(row, row.total(self.base)) for row in problem.limits]
        lower = [-inf if row.lower is None else float(row.lower - base) for row, base in rest]
        upper = [inf if row.upper is None else float(row.upper - base) for row, base in rest]
        self.lower, self.upper = np.array(lower) / self.scale, np.array(upper) / self.scale
        taken = [own / scale for (own, _), scale in zip(rows, self.scale, strict=True)]
        ends = np.cumsum([0, *map(len, taken)])
        entries = (np.concatenate(taken), np.concatenate([columns for _, columns in rows]), ends)
        self.matrix = sp.csr_array(entries, shape=(len(rows), self.width.size))
        self._by_column = sp.csc_array(self.matrix)
        self._open, counts = np.unique(self.client, return_counts=True)
        self._first = np.cumsum(counts) - counts
        self._counts = counts
        self._group = _groups(problem)
        self._n_groups = int(self._group.max()) + 1
        self._patterns: list[IntArray] = []
        self._members = np.empty(0, dtype=np.int64)
        self._table = sp.csc_array((len(rows), 0))

    @classmethod
    def of(cls, problem: AllocationProblem) -> Feasibility:
        """What :func:`impossible` kept, once; else a new one."""
        kept: Feasibility | None = vars(problem).pop(_KEPT, None)
        return cls(problem) if kept is None else kept

    def conflict(self, limits: Sequence[int], deadline: Deadline = UNLIMITED) -> IntArray | None:
        """Those of some limits that provably cannot hold together; None if the limits can.

        Raises
        ------
        OutOfTime
            If the deadline passes first.
        Unsolved
            If HiGHS fails.
        """
        chosen = np.array(limits, dtype=np.int64)
        costs = np.ones(chosen.size)
        for _ in range(_ROUNDS):
            mixed = self._mixed(chosen, costs, deadline)
            if mixed.value <= _TOLERANCE:
                return None
            least, new = self._price(chosen, mixed.prices)
            if least > _TOLERANCE:
                return np.asarray(chosen[mixed.prices != 0])
            if not new:
                break
        return None

    def least_excess(self, deadline: Deadline = UNLIMITED) -> Excess:
        """How the limits are broken least, each relative to its bound.

        Raises
        ------
        OutOfTime
            If the deadline passes first.
        Unsolved
            If HiGHS fails.
        """
        every = np.arange(self.scale.size)
        costs = self.scale / np.array([_size(row) for row in self.problem.limits])
        costs = costs / costs.max()
        for _ in range(_ROUNDS):
            mixed = self._mixed(every, costs, deadline)
            least, new = self._price(every, mixed.prices)
            if not new or mixed.value - least <= _TOLERANCE * mixed.value:
                break
        over = every[mixed.relief > _TOLERANCE]
        return Excess(mixed.prices / self.scale, over, self._rounded(mixed, costs, deadline))

    def _mixed(self, chosen: IntArray, costs: FloatArray, deadline: Deadline) -> _Mixed:
        """Least excess over mixtures of the patterns."""
        rows = sp.csr_array(self._table[chosen])
        rest = np.zeros(chosen.size)
        return self._relieved(chosen, rows, self._members, rest, costs, deadline)

    def _relieved(
        self,
        chosen: IntArray,
        rows: sp.csr_array,
        members: IntArray,
        rest: FloatArray,
        costs: FloatArray,
        deadline: Deadline,
    ) -> _Mixed:
        """Least excess over columns of which each member of ``members`` takes at most one.

        ``rest`` is what everybody else takes of the limits.
        """
        deadline.check()
        n_columns, n_chosen = members.size, chosen.size
        unit = sp.eye_array(n_chosen, format="csr")
        own, place = np.unique(members, return_inverse=True)
        one_each = sp.csr_array(
            (np.ones(n_columns), (place, np.arange(n_columns))),
            shape=(own.size, n_columns + 2 * n_chosen),
        )
        found = maximise(
            np.concatenate([np.zeros(n_columns), -costs, -costs]),
            sp.csr_array(sp.vstack([sp.hstack([rows, -unit, unit], format="csr"), one_each])),
            np.concatenate([self.lower[chosen] - rest, np.full(own.size, -inf)]),
            np.concatenate([self.upper[chosen] - rest, np.ones(own.size)]),
            np.full(n_columns + 2 * n_chosen, inf),
            time_limit=deadline.remaining_s,
        )
        deadline.check()
        if not found.optimal or found.x is None:
            raise Unsolved(found.status)
        relief = found.x[n_columns : n_columns + n_chosen] + found.x[n_columns + n_chosen :]
        prices = found.duals[:n_chosen]
        upper = np.isfinite(self.upper[chosen])
        signed = np.where(upper, np.maximum(prices, 0.0), np.minimum(prices, 0.0))
        prices = np.where(np.abs(signed) > _FREE * costs, signed, 0.0)
        return _Mixed(found.x[:n_columns], relief, prices, float(costs @ relief))

    def _price(self, chosen: IntArray, prices: FloatArray) -> tuple[float, bool]:
        """Add the best patterns at some prices: the excess that these prove, and if any is new.

        That is what all clients at their best widths lack, all prices paid. Rounding errors are
        far below the tolerance, since no coefficient and no price is larger than 1.
        """
        gain = -(prices @ self.matrix[chosen])
        best = np.maximum.reduceat(gain, self._first) if gain.size else gain
        limits = np.where(prices > 0, self.upper[chosen], self.lower[chosen])
        owed = float(prices[prices != 0] @ limits[prices != 0])
        known = np.zeros(self._n_groups)
        np.maximum.at(known, self._members, -(prices @ self._table[chosen]))
        found = np.bincount(
            self._group[self._open], np.maximum(best, 0.0), minlength=self._n_groups
        )
        better = found > known + _FREE
        top = np.flatnonzero((gain == np.repeat(best, self._counts)) & (gain > 0))
        columns = top[np.diff(self.client[top], prepend=-1) > 0]
        self._add(columns[better[self._group[self.client[columns]]]])
        return -owed - float(found.sum()), bool(better.any())

    def _add(self, columns: IntArray) -> None:
        """Add the patterns of all groups in which these columns are chosen."""
        group = self._group[self.client[columns]]
        used, place = np.unique(group, return_inverse=True)
        choose = sp.csr_array(
            (np.ones(columns.size), (np.arange(columns.size), place)),
            shape=(columns.size, used.size),
        )
        added = sp.csc_array(self._by_column[:, columns] @ choose)
        self._table = sp.csc_array(sp.hstack([self._table, added]))
        self._members = np.concatenate([self._members, used])
        order = np.argsort(place, kind="stable")
        ends = np.cumsum(np.bincount(place, minlength=used.size))
        self._patterns.extend(np.split(columns[order], ends[:-1]) if used.size else [])

    def _rounded(self, mixed: _Mixed, costs: FloatArray, deadline: Deadline) -> IntArray:
        """Choice of each client near a mixture.

        Few groups mix patterns at a vertex. Their clients get columns of their own, of which few
        are divided in turn; these take the width that helps the limits most that are not broken.
        """
        every = np.arange(self.scale.size)
        choice: IntArray = self.base.copy()
        taken = np.flatnonzero(mixed.x > _TOLERANCE)
        whole = taken[mixed.x[taken] > 1 - _TOLERANCE]
        parts = np.setdiff1d(taken, whole)
        for pattern in whole:
            columns = self._patterns[pattern]
            choice[self.client[columns]] = self.width[columns]
        if parts.size == 0:
            return choice
        columns = np.unique(np.concatenate([self._patterns[pattern] for pattern in parts]))
        rows = sp.csr_array(self._by_column[:, columns])
        rest = np.asarray(self._table[:, whole].sum(axis=1))
        own = self._relieved(every, rows, self.client[columns], rest, costs, deadline)
        sure = columns[own.x > 1 - _TOLERANCE]
        choice[self.client[sure]] = self.width[sure]
        spending = np.where(mixed.relief > _TOLERANCE, 0.0, mixed.prices) @ rows
        divided = np.flatnonzero((own.x > _TOLERANCE) & (own.x <= 1 - _TOLERANCE) & (spending < 0))
        best_last = columns[divided[np.argsort(-spending[divided], kind="stable")]]
        choice[self.client[best_last]] = self.width[best_last]
        return choice


def impossible(problem: AllocationProblem, deadline: Deadline = UNLIMITED) -> bool:
    """True if the limits provably conflict; False where that is not known.

    What was found out about a conflict is kept for :meth:`Feasibility.of`, which explains it.
    """
    relaxation = Feasibility.of(problem)
    try:
        found = relaxation.conflict(range(len(problem.limits)), deadline)
    except (Unsolved, OutOfTime):
        return False
    if found is not None:
        vars(problem)[_KEPT] = relaxation
    return found is not None


def reach(row: Row) -> float:
    """How much the total of a limit can vary."""
    return float(np.ptp(row.coefficients, axis=1).sum()) if row.coefficients.size else 0.0


def _groups(problem: AllocationProblem) -> IntArray:
    """Group of each client, ``(n_clients,)``: neighbours in the limits that few clients have."""
    n_clients = len(problem)
    deepest = np.zeros(n_clients, dtype=np.int64)
    sizes = [n_clients if row.members is None else row.members.size for row in problem.limits]
    for limit in np.argsort(sizes, kind="stable")[::-1]:
        deepest[problem.limits[limit].at] = limit
    n_groups = min(n_clients, max(_GROUPS, len(sizes)))
    group = np.empty(n_clients, dtype=np.int64)
    group[np.argsort(deepest, kind="stable")] = np.arange(n_clients) * n_groups // n_clients
    return group


def _size(row: Row) -> float:
    """What an excess is relative to: the limit, unless that is tiny beside what can be taken."""
    return max(1.0, abs(row.bound), _TINY * reach(row))


def _undominated(problem: AllocationProblem) -> npt.NDArray[np.bool_]:
    """Mark the widths that no other one of the client beats in every limit."""
    shape = problem.admissible.shape
    kept = problem.admissible.copy()
    limits = [row for row in problem.limits if not of_costs(problem, row)]
    for width in range(shape[1]):
        for other in range(shape[1]):
            if other == width:
                continue
            as_good = problem.admissible[:, other] & kept[:, other] & kept[:, width]
            equal = np.ones(shape[0], dtype=bool)
            for row in [problem.limits[0], *limits]:
                more = row.coefficients[:, other] - row.coefficients[:, width]
                if row.upper is not None:
                    as_good[row.at] &= more <= 0
                if row.lower is not None:
                    as_good[row.at] &= more >= 0
                equal[row.at] &= more == 0
            kept[:, width] &= ~(as_good & (~equal | (other < width)))
    return kept


def of_costs(problem: AllocationProblem, row: Row) -> bool:
    """True if a row limits the costs of some clients, as the budget does of all."""
    return row.lower is None and np.array_equal(row.coefficients, problem.costs[row.at])


def _difference(
    row: Row, base: IntArray, width: IntArray, starts: IntArray
) -> tuple[FloatArray, IntArray]:
    """What columns take more of a limit than their clients' bases, if anything; which these are."""
    members = np.arange(base.size) if row.members is None else row.members
    counts = starts[members + 1] - starts[members]
    member = np.repeat(np.arange(members.size), counts)
    offset = np.arange(member.size) - np.repeat(np.cumsum(counts) - counts, counts)
    columns = starts[members][member] + offset
    values = row.coefficients[member, width[columns]]
    values = values - row.coefficients[member, base[members][member]]
    taken = np.flatnonzero(values)
    return values[taken].astype(np.float64), columns[taken]
