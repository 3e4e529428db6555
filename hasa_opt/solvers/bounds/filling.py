"""What nested limits on the cost leave, and its spending on single upgrades."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hasa_opt._utils.checks import IntArray
from hasa_opt._utils.deadline import UNLIMITED, Deadline
from hasa_opt.problem.problem import AllocationProblem

__all__ = ["Rooms", "fill"]

_PASSES = 10
"""Passes in which what is left is spent; after the first few hardly anything is left."""
_CANDIDATES = 100_000
"""Upgrades that a pass looks at, the best first: it is a loop of Python."""


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
    problem: AllocationProblem,
    choice: IntArray,
    rooms: Rooms,
    deadline: Deadline = UNLIMITED,
    near: IntArray | None = None,
) -> IntArray:
    """Spend what is left on single upgrades, best gain per cost first, until none fits.

    Of all clients, or only of those that are ``near``.
    """
    filled = choice.copy()
    rows = np.arange(len(problem)) if near is None else near
    costs, utilities, admissible = problem.costs, problem.utilities, problem.admissible
    if near is not None:
        costs, utilities, admissible = costs[near], utilities[near], admissible[near]
    own = np.arange(rows.size)
    for _ in range(_PASSES):
        if deadline.passed:
            break
        now = filled[rows]
        extra = costs - costs[own, now][:, None]
        gain = utilities - utilities[own, now][:, None]
        useful = admissible & (extra <= rooms.of_clients()[rows][:, None]) & (gain > 0)
        client, width = np.nonzero(useful)
        if client.size == 0:
            break
        more = extra[client, width]
        rate = gain[client, width] / np.maximum(more, 1e-9)
        upgraded: set[int] = set()
        for at in np.argsort(-rate, kind="stable")[:_CANDIDATES]:
            upgrading = int(rows[client[at]])
            if upgrading not in upgraded and rooms.take(upgrading, int(more[at])):
                upgraded.add(upgrading)
                filled[upgrading] = width[at]
    return filled
