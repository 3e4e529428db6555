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
from hasa_opt.solvers.bounds.filling import Rooms, fill

__all__ = [
    "Lagrangian",
    "Relaxation",
    "Steps",
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
_MANY = 20_000
"""Clients from which on the price is bracketed first."""
_DEVIATIONS, _MARGIN = 4.0, 1e-9
"""Standard deviations of a sample on either side of its price, and relative room for rounding."""
_OPEN, _SPLITS = 2_000, 40
"""Clients between whose choices at two prices the budget is filled step by step, and splits of the
interval until so few are left."""


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
    near : (n_near,) int64 or None
        Clients whose steps are nearest to the price, where only these are looked at for that.
    """

    problem: AllocationProblem
    choice: IntArray
    slack: int
    bound: float
    price: float
    deadline: Deadline = UNLIMITED
    near: IntArray | None = None

    @cached_property
    def incumbent(self) -> IntArray:
        """The whole steps and then single upgrades until none fits, ``(n_clients,)``."""
        rooms = Rooms.single(self.slack, len(self.problem))
        return fill(self.problem, self.choice, rooms, self.deadline, self.near)


def relax(problem: AllocationProblem, deadline: Deadline = UNLIMITED) -> Relaxation:
    """Solve the linear relaxation; the problem's budget must be feasible.

    Raises
    ------
    OutOfTime
        If the deadline passes before it is solved.
    """
    near = _bracketed(problem, deadline) if len(problem) >= _MANY else None
    if near is None:
        steps, rows, others = hull_steps(problem, deadline), np.arange(len(problem)), 0
        choice = steps.base.copy()
    else:
        rows, choice = near
        steps = _best_first(_hull_of(problem, rows))
        others = int(_chosen(problem.costs, choice).sum())
        others -= int(problem.costs[rows, choice[rows]].sum())
        choice[rows] = steps.base
    room = problem.limit - others - int(problem.costs[rows, steps.base].sum())
    filled = np.cumsum(steps.cost)
    taken = int(np.searchsorted(filled, room, side="right"))
    # Later steps of a client come later in the order, so the last assignment is its widest.
    choice[steps.client[:taken]] = steps.choice[:taken]
    slack = room - (int(filled[taken - 1]) if taken else 0)
    price = float(steps.gain[taken] / steps.cost[taken]) if taken < steps.cost.size else 0.0
    bound = lagrangian_bound(problem, price)
    looked_at = None if near is None else rows
    return Relaxation(problem, choice, slack, bound, price, deadline, looked_at)


def _bracketed(problem: AllocationProblem, deadline: Deadline) -> tuple[IntArray, IntArray] | None:
    """Clients whose choice is open near the price, and everybody's at a higher price.

    A sample gives an interval of prices; who chooses the same at both ends is settled, and the
    interval is split until few are open. None if the sample misled.
    """
    low, high = _interval(problem)
    ends, spent = [], []
    for price in (high, low):
        deadline.check()
        ends.append(lagrangian(problem, price).choice)
        spent.append(int(_chosen(problem.costs, ends[-1]).sum()))
    choice, wide = ends
    if not spent[0] <= problem.limit < spent[1]:
        return None
    rows = np.flatnonzero(choice != wide)
    tables: list[Any] = [
        table[rows] for table in (problem.costs, problem.utilities, problem.admissible)
    ]
    narrow, wide = choice[rows], wide[rows]
    most, room = spent[1] - spent[0], problem.limit - spent[0]
    for split in range(_SPLITS):
        if rows.size <= _OPEN or not low < high:
            break
        deadline.check()
        share = room / most if split % 3 else 0.5
        price = high + (low - high) * min(max(share, 0.05), 0.95)
        costs, utilities, admissible = tables
        middle = _best(costs, utilities, admissible, price).astype(np.int64)
        extra = int((_chosen(costs, middle) - _chosen(costs, narrow)).sum())
        if extra <= room:
            high, room, most = price, room - extra, most - extra
            narrow = choice[rows] = middle
        else:
            low, most, wide = price, extra, middle
        left = narrow != wide
        rows, narrow, wide, *tables = (own[left] for own in (rows, narrow, wide, *tables))
    return rows, choice


def _interval(problem: AllocationProblem) -> tuple[float, float]:
    """Interval that holds the price of the budget, most likely, from a sample of the clients."""
    n_clients = len(problem)
    size = int(n_clients ** (2 / 3))
    rows = np.sort(np.random.default_rng(n_clients).choice(n_clients, size, replace=False))
    steps = _best_first(_hull_of(problem, rows))
    filled = np.cumsum(steps.cost)
    target = problem.limit / n_clients * size - int(problem.costs[rows, steps.base].sum())
    choice = np.empty(n_clients, dtype=np.int64)
    choice[rows] = steps.base
    taken = int(np.searchsorted(filled, target))
    choice[steps.client[:taken]] = steps.choice[:taken]
    spread = float(problem.costs[rows, choice[rows]].std()) * size**0.5
    reach = max(_DEVIATIONS * spread, float(steps.cost.max(initial=1)))
    slope = np.append(steps.gain / steps.cost, 0.0)
    high, low = slope[np.searchsorted(filled, [target - reach, target + reach])]
    return float(low) * (1 - _MARGIN), float(high) * (1 + _MARGIN)


def _chosen(table: npt.NDArray[Any], choice: IntArray) -> npt.NDArray[Any]:
    """Entry of each client's choice."""
    return np.asarray(table.reshape(-1)[np.arange(0, table.size, table.shape[1]) + choice])


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
        choice[block] = _first_best(net, best)
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

    The third entry is the sum of the clients' first costs, from which all count.
    """
    for start in range(0, len(problem), _BLOCK):
        block = slice(start, start + _BLOCK)
        costs, utilities = problem.costs[block], problem.utilities[block]
        net = _net(costs, utilities, problem.admissible[block], price)
        yield block, net, int(costs[:, 0].sum())


def _net(
    costs: IntArray, utilities: FloatArray, admissible: npt.NDArray[np.bool_], price: float
) -> FloatArray:
    """Utilities less price x costs, ``(n_widths, n_clients)``.

    Costs count from each client's first one, which keeps the digits. Columns of clients are several
    times as fast as rows of widths.
    """
    net = (costs - costs[:, :1]) * -price
    net += utilities
    if not admissible.all():
        net[~admissible] = -np.inf
    return np.array(net.T, order="C")


def _best(
    costs: IntArray, utilities: FloatArray, admissible: npt.NDArray[np.bool_], price: float
) -> npt.NDArray[np.unsignedinteger]:
    """Best width of each client at a price; among equal ones the first of the menu."""
    net = _net(costs, utilities, admissible, price)
    return _first_best(net, net.max(axis=0))


def _first_best(net: FloatArray, best: FloatArray) -> npt.NDArray[np.unsignedinteger]:
    """Index of the first entry in each column that is its best, as far as rounding tells."""
    return _first(net >= best - _ROUNDING * np.abs(best))


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
        parts.append(_hull_of(problem, np.arange(start, min(start + _HULL_BLOCK, len(problem)))))
    deadline.check()
    steps = _best_first(tuple(map(np.concatenate, zip(*parts, strict=True))))
    deadline.check()
    return steps


def _best_first(parts: tuple[npt.NDArray[Any], ...]) -> Steps:
    """Steps of :func:`_hull_of` in the order of their slopes."""
    base, client, choice, cost, gain, slope = parts
    order = np.argsort(-slope, kind="stable")
    return Steps(base, client[order], choice[order], cost[order], gain[order])


def _hull_of(problem: AllocationProblem, rows: IntArray) -> tuple[npt.NDArray[Any], ...]:
    """Base, then client, choice, cost, gain and slope of the steps, of some clients."""
    order, costs, utilities, admissible = _by_cost(problem, rows)
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
    return chosen[first], rows[row[inner]], chosen[inner], cost, gain, slope


def _by_cost(
    problem: AllocationProblem, block: IntArray
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
