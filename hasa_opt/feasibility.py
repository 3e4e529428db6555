"""Which limits can hold together, in the linear relaxation, and what the least change costs.

Utilities do not matter here, so of each client only those widths are kept that no other one beats
in every limit, and one of them follows from the others: what remains is a linear program of one row
per limit, small enough for 100,000 clients within a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from hasa_opt.clients import FloatArray, IntArray
from hasa_opt.constraints import Row
from hasa_opt.deadline import UNLIMITED, Deadline
from hasa_opt.dual import Prices, priced
from hasa_opt.problem import AllocationProblem
from hasa_opt.programs import maximise
from hasa_opt.rational import INT64_ROOM
from hasa_opt.repair import repaired

__all__ = ["Excess", "Feasibility"]

_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Feasibility:
    """The limits of a problem as rows over the widths that differ from each client's base.

    Attributes
    ----------
    problem : AllocationProblem
        Its limits are linear.
    base : (n_clients,) int64
        The width that a client has unless a column is chosen.
    client, width : (n_columns,) int64
    one_each : (n_several, n_columns) CSR
        Rows of at most 1, for the clients of more than one column.
    matrix : (n_limits, n_columns) CSR
        Differences to the base, each row divided by its largest.
    scale : (n_limits,) float64
        That divisor.
    lower, upper : (n_limits,) float64
        Limits less the total of the base, divided likewise.
    """

    problem: AllocationProblem
    base: IntArray
    client: IntArray
    width: IntArray
    one_each: sp.csr_array
    matrix: sp.csr_array
    scale: FloatArray
    lower: FloatArray
    upper: FloatArray

    @classmethod
    def of(cls, problem: AllocationProblem) -> Feasibility:
        """Set up the rows."""
        kept = _undominated(problem)
        base = kept.argmax(axis=1)
        kept[np.arange(base.size), base] = False
        client, width = np.nonzero(kept)
        starts = np.searchsorted(client, np.arange(base.size + 1))
        several = np.flatnonzero(np.diff(starts) > 1)
        place = np.full(base.size, -1)
        place[several] = np.arange(several.size)
        inside = np.flatnonzero(place[client] >= 0)
        one_each = sp.csr_array(
            (np.ones(inside.size), (place[client[inside]], inside)),
            shape=(several.size, client.size),
        )
        rows = [_difference(row, base, width, starts) for row in problem.limits]
        scale = np.array([float(np.abs(row.data).max(initial=0.0)) or 1.0 for row in rows])
        rest = [(row, row.total(base)) for row in problem.limits]
        lower = [-inf if row.lower is None else float(row.lower - own) for row, own in rest]
        upper = [inf if row.upper is None else float(row.upper - own) for row, own in rest]
        matrix = sp.csr_array(sp.diags_array(1 / scale) @ sp.vstack(rows, format="csr"))
        return cls(
            problem, base, client, width, one_each, matrix, scale,
            np.array(lower) / scale, np.array(upper) / scale,
        )  # fmt: skip

    def conflict(self, limits: Sequence[int], deadline: Deadline = UNLIMITED) -> Excess | None:
        """Least excess over some limits, relative to each; None if they can hold together.

        Raises
        ------
        OutOfTime
            If the deadline passes first.
        """
        deadline.check()
        chosen = np.array(limits, dtype=np.int64)
        bound = np.array([self.problem.limits[limit].bound for limit in chosen], dtype=np.float64)
        costs = self.scale[chosen] / np.maximum(1.0, np.abs(bound))
        costs = costs / costs.max(initial=1e-300)
        n_columns, unit = self.client.size, sp.eye_array(chosen.size, format="csr")
        relieved = sp.hstack([self.matrix[chosen], -unit, unit], format="csr")
        several = self.one_each.shape[0]
        own = sp.hstack([self.one_each, sp.csr_array((several, 2 * chosen.size))], format="csr")
        found = maximise(
            np.concatenate([np.zeros(n_columns), -costs, -costs]),
            sp.csr_array(sp.vstack([relieved, own])),
            np.concatenate([self.lower[chosen], np.full(several, -inf)]),
            np.concatenate([self.upper[chosen], np.ones(several)]),
            np.concatenate([np.ones(n_columns), np.full(2 * chosen.size, inf)]),
            time_limit=deadline.remaining_s,
        )
        deadline.check()
        if not found.optimal or found.x is None:
            return None
        relief = found.x[n_columns : n_columns + chosen.size] + found.x[n_columns + chosen.size :]
        if relief.max(initial=0.0) <= _TOLERANCE:
            return None
        prices = np.zeros(len(self.problem.limits))
        prices[chosen] = found.duals[: chosen.size] / self.scale[chosen]
        over = chosen[relief > _TOLERANCE]
        return Excess(prices, over, found.x[:n_columns])

    def eased(self, excess: Excess) -> IntArray | None:
        """Allocation within all limits but those exceeded, of little excess; None if none is found.

        The problem of breaking the latter least, repaired from the linear relaxation.
        """
        limits = list(self.problem.limits)
        worth = np.zeros(self.problem.costs.shape)
        for limit in excess.over:
            row = limits[limit]
            worth[row.at] -= np.abs(excess.prices[limit]) * (
                row.coefficients if row.lower is None else -row.coefficients
            )
            limits[limit] = replace(row, lower=None, upper=INT64_ROOM)
        budget, *rows = limits
        assert budget.upper is not None
        problem = replace(
            self.problem,
            utilities=worth,
            limit=budget.upper,
            rows=tuple(rows),
            constraints=(),
        )
        prices = excess.prices.copy()
        prices[excess.over] = 0.0
        start = self._rounded(excess.x, prices)
        return repaired(problem, priced(problem, Prices(prices), start))

    def _rounded(self, x: FloatArray, prices: FloatArray) -> IntArray:
        """Choice of each client; of a divided one, the width that takes least at these prices."""
        choice = self.base.copy()
        whole = np.flatnonzero(x > 1 - _TOLERANCE)
        choice[self.client[whole]] = self.width[whole]
        spending = np.asarray((prices * self.scale) @ self.matrix)
        divided = np.flatnonzero((x > _TOLERANCE) & (x <= 1 - _TOLERANCE) & (spending < 0))
        best_last = divided[np.argsort(-spending[divided], kind="stable")]
        choice[self.client[best_last]] = self.width[best_last]
        return choice


@dataclass(frozen=True, eq=False)
class Excess:
    """How some limits are broken least.

    Attributes
    ----------
    prices : (n_limits,) float64
        Of each limit; those that have one cannot hold together (Farkas' lemma).
    over : (n_over,) int64
        Limits that are exceeded.
    x : (n_columns,) float64
        Share of each column.
    """

    prices: FloatArray
    over: IntArray
    x: FloatArray


def _undominated(problem: AllocationProblem) -> npt.NDArray[np.bool_]:
    """Mark the widths that no other one of the client beats in every limit."""
    shape = problem.admissible.shape
    kept = problem.admissible.copy()
    limits = [row for row in problem.limits if not _of_costs(problem, row)]
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


def _of_costs(problem: AllocationProblem, row: Row) -> bool:
    """True if a row limits the costs of some clients, as the budget does of all."""
    return row.lower is None and np.array_equal(row.coefficients, problem.costs[row.at])


def _difference(row: Row, base: IntArray, width: IntArray, starts: IntArray) -> sp.csr_array:
    """What each column takes more of a limit than its client's base."""
    members = np.arange(base.size) if row.members is None else row.members
    counts = starts[members + 1] - starts[members]
    member = np.repeat(np.arange(members.size), counts)
    offset = np.arange(member.size) - np.repeat(np.cumsum(counts) - counts, counts)
    columns = starts[members][member] + offset
    values = row.coefficients[member, width[columns]]
    values = values - row.coefficients[member, base[members][member]]
    taken = np.flatnonzero(values)
    entries = (values[taken].astype(np.float64), columns[taken], np.array([0, taken.size]))
    return sp.csr_array(entries, shape=(1, width.size))
