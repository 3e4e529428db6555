"""Nested site budgets: prices and a start by the order of slopes alone.

Upgrades along every client's concave hull are taken best slope first; one is refused once a site
above its client is full. For nested limits on one resource that order is optimal for the linear
relaxation (Federgruen and Groenevelt, The Greedy Procedure for Resource Allocation Problems,
Operations Research 34, 1986).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt._utils.deadline import UNLIMITED, Deadline
from hasa_opt.problem.budgets import SiteBudgets
from hasa_opt.problem.limits import Row, RowConstraint, is_a
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.solvers.bounds.filling import Rooms, fill
from hasa_opt.solvers.bounds.relaxation import Steps, hull_steps

__all__ = ["SiteTree"]


@dataclass(frozen=True, eq=False)
class SiteTree:
    """The limits of a problem as a tree, if they form one.

    Attributes
    ----------
    problem : AllocationProblem
        Its only rows are those of one :class:`hasa_opt.SiteBudgets`.
    parent : (n_limits,) int64
        The smallest limit around each one; -1 for the budget itself. In the order of
        ``problem.limits``.
    order : (n_limits,) int64
        Every limit after those within it.
    deepest : (n_clients,) int64
        Smallest limit around each client.
    steps : Steps
        Upgrades of all clients, best slope first.
    deadline : Deadline
        When to stop filling.
    """

    problem: AllocationProblem
    parent: IntArray
    order: IntArray
    deepest: IntArray
    steps: Steps
    deadline: Deadline = UNLIMITED

    @classmethod
    def of(
        cls,
        problem: AllocationProblem,
        deadline: Deadline = UNLIMITED,
        steps_of: Callable[[AllocationProblem, Deadline], Steps] = hull_steps,
    ) -> SiteTree | None:
        """Tree of a problem, or None if it has other limits than nested site budgets."""
        stating = [item for item in problem.constraints if isinstance(item, RowConstraint)]
        if len(stating) != 1 or not is_a(stating[0], SiteBudgets):
            return None
        deepest = np.zeros(len(problem), dtype=np.int64)
        sizes = np.array([len(problem), *(_members(row).size for row in problem.rows)])
        outermost_first = np.argsort(-sizes, kind="stable")
        parent = np.full(sizes.size, -1)
        for limit in outermost_first[1:]:
            members = _members(problem.limits[limit])
            if members.size:
                parent[limit] = deepest[members[0]]
                deepest[members] = limit
            else:
                parent[limit] = 0
        steps = steps_of(problem, deadline)
        return cls(problem, parent, outermost_first[::-1], deepest, steps, deadline)

    @property
    def feasible(self) -> bool:
        """True if the cheapest widths are within all limits."""
        return bool((self._rooms >= 0).all())

    @cached_property
    def total(self) -> FloatArray:
        """Utility per unit that is spent below each limit, ``(n_limits,)``: the steepest above."""
        total = self._saturated[0].copy()
        for limit in self.order[::-1][1:]:
            total[limit] = max(total[limit], total[self.parent[limit]])
        return total

    @property
    def prices(self) -> FloatArray:
        """Utility per unit of each limit, ``(n_limits,)``: what it adds to those above it."""
        return self.total - np.where(self.parent < 0, 0.0, self.total[self.parent])

    @property
    def start(self) -> IntArray:
        """Choice after the whole steps of the linear relaxation: within all limits."""
        _, taken = self._saturated
        choice = self.steps.base.copy()
        # Later steps of a client come later in the order, so the last assignment is its widest.
        choice[self.steps.client[taken]] = self.steps.choice[taken]
        return choice

    @cached_property
    def incumbent(self) -> IntArray:
        """The start and then single upgrades until none fits, ``(n_clients,)``."""
        start = self.start
        left = np.array([(row.upper or 0) - row.total(start) for row in self.problem.limits])
        rooms = Rooms(left, self.parent, self.deepest, self.order[::-1])
        return fill(self.problem, start, rooms, self.deadline)

    @cached_property
    def _saturated(self) -> tuple[FloatArray, IntArray]:
        """Slope at which each limit is full (0: never), and the whole steps that are taken."""
        steps = self.steps
        cost = steps.cost.copy()
        slope = steps.gain / steps.cost
        whole = np.ones(cost.size, dtype=bool)
        rooms = self._rooms
        # Of so few bits that numpy sorts in linear time.
        deepest = self.deepest.astype(np.min_scalar_type(rooms.size))[steps.client]
        own = np.argsort(deepest, kind="stable")
        ends = np.cumsum(np.bincount(deepest, minlength=rooms.size))
        waiting = [[part] for part in np.split(own, ends[:-1])]
        critical = np.zeros(rooms.size)
        for limit in self.order:
            lists = waiting[limit]
            line = lists[0] if len(lists) == 1 else np.sort(np.concatenate(lists), kind="stable")
            filled = np.cumsum(cost[line])
            taken = int(np.searchsorted(filled, rooms[limit], side="right"))
            if taken < line.size:
                part = line[taken]
                left = rooms[limit] - (filled[taken - 1] if taken else 0)
                critical[limit] = slope[part]
                whole[part] = False
                cost[part] = left
                line = line[: taken + 1] if left else line[:taken]
            if self.parent[limit] < 0:
                return critical, line[whole[line]]
            waiting[self.parent[limit]].append(line)
        raise AssertionError("unreachable: the budget is the last limit")

    @cached_property
    def _rooms(self) -> IntArray:
        """What each limit leaves above the cheapest widths, ``(n_limits,)``."""
        base = self.steps.base
        return np.array([-row.total(base) + (row.upper or 0) for row in self.problem.limits])


def _members(row: Row) -> IntArray:
    assert row.members is not None
    return row.members
