"""The thresholds of a robust budget: with one fixed, it is an ordinary budget.

The worst case of an allocation, its ``gamma`` largest deviations, is the least over all
``theta >= 0`` of ``gamma theta + sum_i max(d_i - theta, 0)``, attained at the deviation of rank
``gamma + 1`` (Bertsimas and Sim, Robust discrete optimization and network flows, Mathematical
Programming 98, 2003). So the robust problem is the best of the plain ones with costs
``a_ik + max(d_ik - theta, 0)`` and limit ``b - gamma theta``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hasa_opt.clients import FloatArray, IntArray
from hasa_opt.constraints import RobustRow
from hasa_opt.problem import AllocationProblem

__all__ = ["Thresholds"]

_EPSILON = 2.0**-52


@dataclass(frozen=True, eq=False)
class Thresholds:
    """Every threshold that may be the worst case of an allocation.

    Attributes
    ----------
    problem : AllocationProblem
    row : RobustRow
        The robust budget.
    values : (n_thresholds,) int64
        Increasing, in the unit of the costs.
    """

    problem: AllocationProblem
    row: RobustRow
    values: IntArray

    @classmethod
    def of(cls, problem: AllocationProblem, row: RobustRow) -> Thresholds:
        """Deviations that can be of rank ``gamma + 1``: those between each client's extremes'."""
        deviation = row.deviation[problem.admissible]
        first = np.cumsum(problem.admissible.sum(axis=1)) - problem.admissible.sum(axis=1)
        low, high = (
            np.sort(np.append(fold.reduceat(deviation, first), 0))[::-1][row.gamma]
            for fold in (np.minimum, np.maximum)
        )
        values = np.unique(np.append(deviation, 0))
        return cls(problem, row, values[(values >= low) & (values <= high)])

    def costs(self, at: int) -> IntArray:
        """Costs of the plain problem at one threshold, ``(n_clients, n_widths)``."""
        over: IntArray = np.maximum(self.row.deviation - self.values[at], 0)
        return self.row.coefficients + over

    @property
    def budget(self) -> int:
        """What the worst case may cost."""
        assert self.row.upper is not None
        return self.row.upper

    def limit(self, at: int) -> int:
        """Budget of the plain problem at one threshold."""
        return self.budget - self.row.gamma * int(self.values[at])

    def least(self) -> IntArray:
        """Cost of the cheapest allocation at each threshold, ``gamma theta`` included; exact.

        The smallest of them is the smallest budget under which an allocation exists.
        """
        spent: IntArray = -self._best(-self.row.coefficients)
        return spent + self.row.gamma * self.values

    def bounds(self, price: float) -> FloatArray:
        """No allocation is worth more, at each threshold; at any price above 0.

        The budget is relaxed at the price, utility per unit of cost; at the shadow price of one
        threshold its bound is that of its linear relaxation. Room for rounding is added.
        """
        problem, row = self.problem, self.row
        room = self.budget - int(problem.cheapest.sum())
        extra = (row.coefficients - problem.cheapest[:, None]).astype(np.float64)
        utilities = np.where(problem.admissible, problem.utilities, 0.0)
        best = self._best(utilities / price - extra) + (room - row.gamma * self.values)
        terms = np.abs(utilities) / price + np.abs(extra) + 4.0 * row.deviation
        size = terms.max(axis=1).sum() + abs(room)
        return np.asarray(price * (best + _EPSILON * 4 * terms.size * size))

    def _best(self, worth: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """``sum_i max_k (worth_ik - max(d_ik - theta, 0))`` at each threshold, in worth's type.

        As theta grows, one client's best rises at slope 1 where a width above theta is the best,
        and is flat elsewhere: it rises up to each of its deviations from where the best width of
        at least that deviation overtakes those of less. Integers may wrap on the way, the sums
        do not.
        """
        shut, rows = ~self.problem.admissible, np.arange(len(self.problem))
        some = self.problem.admissible.argmax(axis=1)
        worth = np.where(shut, worth[rows, some][:, None], worth)
        deviation = np.where(shut, self.row.deviation[rows, some][:, None], self.row.deviation)
        order = np.argsort(deviation, axis=1, kind="stable")
        worth = np.take_along_axis(worth, order, axis=1)
        deviation = np.take_along_axis(deviation, order, axis=1)
        flat = np.maximum.accumulate(worth, axis=1)
        rising = np.maximum.accumulate((worth - deviation)[:, ::-1], axis=1)[:, ::-1]
        start = np.zeros_like(worth)
        start[:, 1:] = np.maximum(flat[:, :-1] - rising[:, 1:], deviation[:, :-1])
        rises = start < deviation
        best = np.full(self.values.size, rising[:, 0].sum())
        best += self._risen(start[rises]) - self._risen(deviation[rises].astype(worth.dtype))
        return best

    def _risen(self, starts: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """``sum_j max(theta - start_j, 0)`` at each threshold."""
        place = np.searchsorted(self.values, starts)
        count, shift = np.zeros((2, self.values.size + 1), dtype=starts.dtype)
        np.add.at(count, place, 1)
        np.add.at(shift, place, starts)
        started = np.cumsum(count)[:-1] * self.values.astype(starts.dtype)
        return np.asarray(started - np.cumsum(shift)[:-1])
