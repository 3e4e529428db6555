"""Is there a better allocation than the one that a solver calls optimal?

A second opinion by other means than any backend: Lagrangian regrets leave few clients whose width
is open, and a dynamic program over Pareto-optimal (cost, utility) states searches those. Numpy
alone; it answers where that takes few states, and says so where it does not. A robust budget is
searched so at every threshold that leaves room for a better allocation. Other small problems with
constraints beyond the budget are solved once more, by scipy's branch and bound.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt._utils.deadline import UNLIMITED, Deadline, OutOfTime
from hasa_opt.problem.limits import RobustRow
from hasa_opt.problem.linear import LinearModel
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.solvers.bounds.programs import integer_program
from hasa_opt.solvers.bounds.relaxation import relax

__all__ = ["Thresholds", "better_exists"]


_EPSILON = 2.0**-52
"""Relative rounding of one float operation."""


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


_STATES = 50_000
"""Pairs of cost and utility at which the search gives up: a second opinion must be quick."""
_CELLS = 2_000_000
"""Clients times widths up to which regrets are searched: a float table of 16 MB."""
_ROBUST_CELLS = 20_000
"""The same for a robust budget, where each threshold is a search of its own."""
_MILP_COLUMNS = 2_000
"""Admissible widths up to which branch and bound is tried once more."""
_SECONDS = 5.0
"""The most that a second opinion may take where the caller sets no limit."""


def better_exists(
    problem: AllocationProblem, price: float, objective: float, deadline: Deadline = UNLIMITED
) -> bool | None:
    """Whether an allocation within all limits is worth more than ``objective``.

    For any allocation, ``objective = bound - sum of regrets - price x slack`` with the Lagrangian
    bound at the price, so a better one has regrets below ``bound - objective`` (Pisinger, 1995).

    Parameters
    ----------
    problem : AllocationProblem
    price : float
        Utility per unit of cost, at least 0; a good shadow price leaves few clients open.
    objective : float
    deadline : Deadline, optional

    Returns
    -------
    bool or None
        None if the answer would take too long.
    """
    if deadline.passed:
        return None
    if len(problem.rows) == 1 and isinstance(problem.rows[0], RobustRow):
        return _better_at_a_threshold(problem, problem.rows[0], objective, deadline)
    if problem.rows:
        return _better_under_constraints(problem, objective, deadline)
    if problem.costs.size > _CELLS:
        return None
    cost = problem.costs - problem.cheapest[:, None]
    budget = problem.limit - int(problem.cheapest.sum())
    net = np.where(problem.admissible, problem.utilities - price * cost, -inf)
    regret = net.max(axis=1, keepdims=True) - net
    bound = float(net.max(axis=1).sum()) + price * budget
    room = bound - objective - _margin(problem)
    if room <= 0:
        return False
    open_width = regret < room
    several = np.flatnonzero(open_width.sum(axis=1) > 1)
    fixed = np.delete(np.arange(len(problem)), several)
    at = regret[fixed].argmin(axis=1)
    spent = np.array([int(cost[fixed, at].sum())])
    lost = np.array([float(regret[fixed, at].sum())])
    most = _remaining(np.where(open_width, cost, 0).max(axis=1)[several])
    for step, client in enumerate(several):
        widths = np.flatnonzero(open_width[client])
        spent = (spent[:, None] + cost[client, widths]).ravel()
        lost = (lost[:, None] + regret[client, widths]).ravel()
        # Slack that no later client can use up costs the price per unit.
        unused = np.maximum(budget - spent - most[step + 1], 0)
        possible = (spent <= budget) & (lost + price * unused < room)
        spent, lost = _undominated(spent[possible], lost[possible], price)
        if spent.size == 0:
            return False
        if spent.size > _STATES or deadline.passed:
            return None
    return bool(((spent <= budget) & (lost + price * (budget - spent) < room)).any())


def _margin(problem: AllocationProblem) -> float:
    """Difference in utility that may be rounding."""
    return 1e-9 * problem.span + 1e-14 * problem.magnitude


def _better_at_a_threshold(
    problem: AllocationProblem, row: RobustRow, objective: float, deadline: Deadline
) -> bool | None:
    if problem.costs.size > _ROBUST_CELLS:
        return None
    deadline = min(deadline, Deadline.after(_SECONDS), key=lambda own: own.at)
    thresholds = Thresholds.of(problem, row)
    bounds = np.where(thresholds.least() <= thresholds.budget, inf, -inf)
    while bounds.max() > objective + _margin(problem):
        if deadline.passed:
            return None
        at = int(bounds.argmax())
        plain = replace(
            problem, costs=thresholds.costs(at), limit=thresholds.limit(at), rows=(), constraints=()
        )
        relaxation = relax(plain)
        if relaxation.bound < bounds[at]:
            bounds[at] = relaxation.bound
            if relaxation.price > 0:
                bounds = np.minimum(bounds, thresholds.bounds(relaxation.price))
            continue
        better = better_exists(plain, relaxation.price, objective)
        if better is not False:
            return better
        bounds[at] = -inf
    return False


def _better_under_constraints(
    problem: AllocationProblem, objective: float, deadline: Deadline
) -> bool | None:
    if np.count_nonzero(problem.admissible) > _MILP_COLUMNS:
        return None
    model = LinearModel.of(problem)
    program = partial(integer_program, model, time_limit_s=min(_SECONDS, deadline.remaining_s))
    try:
        found = deadline.wait_for(program)
    except OutOfTime:
        return None
    if found.x is None:
        return None
    evaluation = problem.evaluate(model.choice(found.x))
    if evaluation.feasible and evaluation.objective > objective + _margin(problem):
        return True
    return False if found.optimal else None


def _remaining(costs: IntArray) -> IntArray:
    """Sum of each entry and all later ones, with a final 0."""
    return np.append(np.cumsum(costs[::-1])[::-1], 0)


def _undominated(spent: IntArray, lost: FloatArray, price: float) -> tuple[IntArray, FloatArray]:
    """Keep the states that no cheaper one beats in utility (``price x spent - lost``)."""
    worth = price * spent - lost
    order = np.lexsort((-worth, spent))
    best_before = np.maximum.accumulate(np.append(-inf, worth[order][:-1]))
    kept = order[worth[order] > best_before]
    return spent[kept], lost[kept]
