"""The linear relaxation of the multiple-choice knapsack: hull, shadow price, bound.

Fractional widths may be mixed, so each client moves along the upper concave hull of its
(cost, utility) points, and the budget is filled in order of marginal gain (Sinha and Zoltners,
1979; Kellerer, Pferschy and Pisinger, Knapsack Problems, 2004, chapter 11). Constraints beyond
the budget are left out, so the bound holds for them too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt._utils.deadline import UNLIMITED, Deadline
from hasa_opt.problem.problem import AllocationProblem

__all__ = [
    "Lagrangian",
    "Relaxation",
    "Rooms",
    "Steps",
    "fill",
    "hull_steps",
    "lagrangian",
    "lagrangian_bound",
    "relax",
]

_BLOCK = 1 << 12
"""Clients at a time: their columns stay in the cache of a processor."""
_HULL_BLOCK = 1 << 14
"""Clients of which hulls are found between two looks at the clock."""
_ROUNDING = 2.0**-50
"""Relative difference of net utilities that are taken for equal: four times that of a float."""
_PASSES = 10
"""Passes in which what is left is spent; after the first few hardly anything is left."""
_CANDIDATES = 100_000
"""Upgrades that a pass looks at, the best first: it is a loop of Python."""


@dataclass(frozen=True, eq=False)
class Steps:
    """Upgrades along every client's hull, best marginal gain first.

    Attributes
    ----------
    base : (n_clients,) int64
        Cheapest choice of each client, of best utility at that cost.
    client, choice : (n_steps,) int64
        Who upgrades, and to which width.
    cost : (n_steps,) int64
        Additional cost, greater than 0.
    gain : (n_steps,) float64
        Additional utility, greater than 0.
    """

    base: IntArray
    client: IntArray
    choice: IntArray
    cost: IntArray
    gain: FloatArray


@dataclass(frozen=True, eq=False)
class Relaxation:
    """Optimum of the linear relaxation.

    Attributes
    ----------
    problem : AllocationProblem
    steps : Steps
    taken : int
        Number of whole steps that fit.
    choice : (n_clients,) int64
        Allocation after the whole steps: feasible for the budget.
    slack : int
        Budget left after them.
    bound : float
        No allocation within the budget is worth more.
    price : float
        Marginal gain at the budget: utility per unit of cost; 0 if the budget does not bind.
    deadline : Deadline
        When to stop filling what the whole steps leave.
    """

    problem: AllocationProblem
    steps: Steps
    taken: int
    choice: IntArray
    slack: int
    bound: float
    price: float
    deadline: Deadline = UNLIMITED

    @cached_property
    def incumbent(self) -> IntArray:
        """The whole steps and then single upgrades until none fits, ``(n_clients,)``."""
        rooms = Rooms.single(self.slack, len(self.problem))
        return fill(self.problem, self.choice, rooms, self.deadline)


def relax(problem: AllocationProblem, deadline: Deadline = UNLIMITED) -> Relaxation:
    """Solve the linear relaxation; the problem's budget must be feasible.

    Raises
    ------
    OutOfTime
        If the deadline passes before it is solved.
    """
    steps = hull_steps(problem, deadline)
    rows = np.arange(len(problem))
    room = problem.limit - int(problem.costs[rows, steps.base].sum())
    filled = np.cumsum(steps.cost)
    taken = int(np.searchsorted(filled, room, side="right"))
    choice = steps.base.copy()
    # Later steps of a client come later in the order, so the last assignment is its widest.
    choice[steps.client[:taken]] = steps.choice[:taken]
    slack = room - (int(filled[taken - 1]) if taken else 0)
    price = float(steps.gain[taken] / steps.cost[taken]) if taken < steps.cost.size else 0.0
    bound = lagrangian_bound(problem, price)
    return Relaxation(problem, steps, taken, choice, slack, bound, price, deadline)


@dataclass(frozen=True, eq=False)
class Lagrangian:
    """Every client's best width at a price, the budget relaxed.

    Attributes
    ----------
    price : float
        Utility per unit of cost, at least 0.
    choice : (n_clients,) int64
        Among equal ones the first of the menu; may exceed the budget.
    bound : float
        No allocation within the budget is worth more, whatever the price.
    """

    price: float
    choice: IntArray
    bound: float


def lagrangian(problem: AllocationProblem, price: float) -> Lagrangian:
    """Upper bound on every allocation within the budget, valid at any price of at least 0.

    ``sum_i max_k (u_ik - price a_ik) + price limit``; at the right price it is the optimum of
    the linear relaxation. One pass over blocks of clients.
    """
    choice = np.empty(len(problem), dtype=np.int64)
    total = 0.0
    for block, net, shift in _net_utilities(problem, price):
        best = net.max(axis=0)
        # Among equal ones, as far as rounding tells, the first of the menu.
        choice[block] = _first(net >= best - _ROUNDING * np.abs(best))
        total += float(best.sum()) - price * shift
    return Lagrangian(price, choice, total + price * problem.limit)


def lagrangian_bound(problem: AllocationProblem, price: float) -> float:
    """Bound of :func:`lagrangian` alone, in a third of the time."""
    total = sum(
        float(net.max(axis=0).sum()) - price * shift
        for _, net, shift in _net_utilities(problem, price)
    )
    return total + price * problem.limit


def _net_utilities(
    problem: AllocationProblem, price: float
) -> Iterator[tuple[slice, FloatArray, int]]:
    """Utilities less price x costs, by blocks of clients, ``(n_widths, n_block)``.

    Costs count from each client's first one, which keeps the digits; the third entry is the sum
    of those. Columns of clients are several times as fast as rows of widths.
    """
    for start in range(0, len(problem), _BLOCK):
        block = slice(start, start + _BLOCK)
        costs = problem.costs[block]
        net = (costs - costs[:, :1]) * -price
        net += problem.utilities[block]
        admissible = problem.admissible[block]
        if not admissible.all():
            net[~admissible] = -np.inf
        yield block, np.array(net.T, order="C"), int(costs[:, 0].sum())


def _first(marked: npt.NDArray[np.bool_]) -> npt.NDArray[np.unsignedinteger]:
    """Index of the first mark in each column; all but the last row are walked through once."""
    open_still = ~marked[0]
    count = open_still.astype(np.min_scalar_type(len(marked)))
    for row in marked[1:-1]:
        open_still &= ~row
        count += open_still.view(np.uint8)
    return np.asarray(count)


def hull_steps(problem: AllocationProblem, deadline: Deadline = UNLIMITED) -> Steps:
    """Upper concave hull of each client's admissible points, as sorted upgrade steps."""
    parts = []
    for start in range(0, len(problem), _HULL_BLOCK):
        deadline.check()
        parts.append(_hull_of(problem, start))
    base, client, choice, cost, gain, slope = map(np.concatenate, zip(*parts, strict=True))
    deadline.check()
    best_first = np.argsort(-slope, kind="stable")
    deadline.check()
    return Steps(base, client[best_first], choice[best_first], cost[best_first], gain[best_first])


def _hull_of(problem: AllocationProblem, start: int) -> tuple[npt.NDArray[Any], ...]:
    """Base, then client, choice, cost, gain and slope of the steps, of one block of clients."""
    order, costs, utilities, admissible = _by_cost(problem, slice(start, start + _HULL_BLOCK))
    on_hull = _upper_hull(costs, utilities, admissible)
    row, column = np.nonzero(on_hull)
    first = np.concatenate([[True], row[1:] != row[:-1]])
    chosen = order[row, column].astype(np.int64)
    at_cost, at_utility = costs[row, column], utilities[row, column]
    inner = np.flatnonzero(~first)
    cost = at_cost[inner] - at_cost[inner - 1]
    gain = at_utility[inner] - at_utility[inner - 1]
    # Rounding may make two slopes of one client tie or swap: its steps stay in order all the same.
    slope = _non_increasing(gain / cost, row[inner])
    return chosen[first], start + row[inner], chosen[inner], cost, gain, slope


def _by_cost(
    problem: AllocationProblem, block: slice
) -> tuple[IntArray, IntArray, FloatArray, npt.NDArray[np.bool_]]:
    """Columns of each client sorted by cost, inadmissible ones last."""
    highest = np.iinfo(np.int64).max
    admissible = problem.admissible[block]
    costs = np.where(admissible, problem.costs[block], highest)
    utilities = np.where(admissible, problem.utilities[block], -np.inf)
    if (costs[:, 1:] >= costs[:, :-1]).all():
        order = np.broadcast_to(np.arange(costs.shape[1]), costs.shape)
        return order, costs, utilities, admissible
    order = np.lexsort((-utilities, costs), axis=1)
    return (
        order,
        np.take_along_axis(costs, order, axis=1),
        np.take_along_axis(utilities, order, axis=1),
        np.take_along_axis(admissible, order, axis=1),
    )


def _upper_hull(
    costs: IntArray, utilities: FloatArray, admissible: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Mark the points of the increasing upper concave hull, all clients at once.

    Gift wrapping: from the current vertex of each client, the next one is the costlier point of
    the steepest positive slope; at most ``n_widths`` rounds.
    """
    length, width = costs.shape
    rows = np.arange(length)
    on_hull = np.zeros((length, width), dtype=bool)
    cheapest = costs == costs[:, :1]
    current = np.where(cheapest & admissible, utilities, -np.inf).argmax(axis=1)
    on_hull[rows, current] = True
    for _ in range(width - 1):
        run = (costs[rows] - costs[rows, current][:, None]).astype(np.float64)
        rise = utilities[rows] - utilities[rows, current][:, None]
        ahead = admissible[rows] & (run > 0) & (rise > 0)
        slope = np.divide(rise, run, out=np.full_like(rise, -1.0), where=ahead)
        steepest = slope.max(axis=1)
        # Among equal slopes the cheapest: collinear points stay on the hull as steps.
        following = slope.argmax(axis=1)
        moves = steepest > 0
        rows, current = rows[moves], following[moves]
        if rows.size == 0:
            break
        on_hull[rows, current] = True
    return on_hull


def _non_increasing(slope: FloatArray, row: IntArray) -> FloatArray:
    """Running minimum of the slopes within each client."""
    capped = slope.copy()
    longest = int(np.bincount(row).max()) if row.size else 0
    for _ in range(longest - 1):
        higher = np.flatnonzero((row[1:] == row[:-1]) & (capped[1:] > capped[:-1])) + 1
        if higher.size == 0:
            break
        capped[higher] = capped[higher - 1]
    return capped


@dataclass(frozen=True, eq=False)
class Rooms:
    """What nested limits on the cost leave.

    Attributes
    ----------
    left : (n_limits,) int64
        At least 0.
    parent : (n_limits,) int64
        The limit around each one; -1 for the outermost, which comes first in ``outermost_first``.
    deepest : (n_clients,) int64
        Smallest limit around each client.
    outermost_first : (n_limits,) int64
    """

    left: IntArray
    parent: IntArray
    deepest: IntArray
    outermost_first: IntArray

    @classmethod
    def single(cls, left: int, n_clients: int) -> Rooms:
        """One limit around all clients."""
        none = np.zeros(1, dtype=np.int64)
        return cls(np.array([left]), none - 1, np.zeros(n_clients, dtype=np.int64), none)

    def of_clients(self) -> IntArray:
        """What each client may spend more, ``(n_clients,)``."""
        least = self.left.copy()
        for limit in self.outermost_first[1:]:
            least[limit] = min(least[limit], least[self.parent[limit]])
        return least[self.deepest]

    def take(self, client: int, extra: int) -> bool:
        """Spend within all limits around a client; False, and nothing is spent, if one is short."""
        around = []
        limit = int(self.deepest[client])
        while limit >= 0:
            if extra > self.left[limit]:
                return False
            around.append(limit)
            limit = int(self.parent[limit])
        self.left[around] -= extra
        return True


def fill(
    problem: AllocationProblem, choice: IntArray, rooms: Rooms, deadline: Deadline = UNLIMITED
) -> IntArray:
    """Spend what is left on single upgrades, best gain per cost first, until none fits."""
    filled = choice.copy()
    rows = np.arange(len(problem))
    for _ in range(_PASSES):
        if deadline.passed:
            break
        extra = problem.costs - problem.costs[rows, filled][:, None]
        gain = problem.utilities - problem.utilities[rows, filled][:, None]
        useful = problem.admissible & (extra <= rooms.of_clients()[:, None]) & (gain > 0)
        client, width = np.nonzero(useful)
        if client.size == 0:
            break
        more = extra[client, width]
        rate = gain[client, width] / np.maximum(more, 1e-9)
        upgraded: set[int] = set()
        for at in np.argsort(-rate, kind="stable")[:_CANDIDATES]:
            own = int(client[at])
            if own not in upgraded and rooms.take(own, int(more[at])):
                upgraded.add(own)
                filled[own] = width[at]
    return filled
