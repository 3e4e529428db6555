"""The leximin allocation within the budget, exact with ties: a sweep over the utility levels.

Only each client's Pareto points count (cheaper, or worth more, than every other). The sorted
utilities are lexicographically largest if and only if ``(N_1, N_2, ...)`` is lexicographically
smallest, where ``N_l`` clients are at or below level ``l``, the levels increasing. The sweep keeps
an allocation of least cost among those whose counts up to the current level are the smallest; the
clients above it stand at their cheapest point above.

At the next level some of the latter stand at that level itself. To raise one more of them is to
send one unit of flow from the level's node to the node "above", through nodes of earlier levels
whose counts must not change: there a client comes in and another leaves. Without negative cycles
(least cost) a shortest path gives an allocation of least cost for the new count, and the costs
of successive paths do not fall (Ahuja, Magnanti and Orlin, Network Flows, 1993, chapter 9).
So once the shortest path does not fit in the budget, the count is proven smallest, whatever the
costs and ties. Raising the level costs those above it nothing, so the next level starts from
least cost again. All sums are Python integers. Where no two clients share a utility every path is
a single step, and the sweep is one pass over the sorted points.
"""

from __future__ import annotations

from collections import defaultdict, deque
from heapq import heappop, heappush, heapreplace
from itertools import pairwise
from math import inf

import numpy as np

from hasa_opt._utils.checks import IntArray
from hasa_opt._utils.deadline import UNLIMITED, Deadline
from hasa_opt.problem.problem import AllocationProblem

__all__ = ["Leximin"]

_ABOVE = -1
"""Node of the clients above the current level."""
_Edge = tuple[int, int, int]
"""Cost of a move, the point it leaves, the point it reaches."""


class Leximin:
    """One sweep; at any time :attr:`choice` is within the budget.

    Parameters
    ----------
    problem : AllocationProblem
        Its budget must be feasible; rows are not looked at. The more of the lowest levels its
        mask leaves out, the less there is to do.
    """

    def __init__(self, problem: AllocationProblem) -> None:
        client, width, cost, level = _pareto_points(problem)
        self._width = width
        self._client, self._cost, self._level = client.tolist(), cost.tolist(), level.tolist()
        first = np.flatnonzero(np.diff(client, prepend=-1))
        self._first: list[int] = first.tolist()
        self._end: list[int] = [*self._first[1:], client.size]
        self._at = self._first.copy()
        self._room = problem.limit - int(cost[first].sum())
        sizes = np.bincount(level)
        self._shared: list[bool] = (sizes > 1).tolist()
        self._bounds: list[int] = [0, *np.cumsum(sizes).tolist()]
        self._order: list[int] = np.argsort(level, kind="stable").tolist()
        self._settled: dict[int, int] = defaultdict(int)
        self._moves: dict[int, dict[int, list[_Edge]]] = {}

    @property
    def choice(self) -> IntArray:
        """Width of each client, ``(n_clients,)``."""
        return self._width[self._at]

    def run(self, deadline: Deadline = UNLIMITED) -> bool:
        """Sweep; True if it came to its end before the deadline."""
        at, client = self._at, self._client
        for level, (start, end) in enumerate(pairwise(self._bounds)):
            poor = [point for point in self._order[start:end] if at[client[point]] == point]
            if not poor:
                continue
            if deadline.passed:
                return False
            if not self._linked(poor):
                self._raise_each(poor, level)
            elif not self._raise_by_exchange(poor, level, deadline):
                return False
        return True

    def _linked(self, poor: list[int]) -> bool:
        """Whether one of these points' clients could take a settled one's place below."""
        settled, level, first = self._settled, self._level, self._first
        return bool(settled) and any(
            settled.get(level[other], 0)
            for point in poor
            for other in range(first[self._client[point]], point)
        )

    def _raise_each(self, poor: list[int], level: int) -> None:
        """Raise as many as the budget allows, the cheapest steps first; the others settle."""
        steps = sorted(
            (self._cost[point + 1] - self._cost[point], point)
            for point in poor
            if point + 1 < self._end[self._client[point]]
        )
        raised = 0
        for cost, point in steps:
            if cost > self._room:
                break
            self._room -= cost
            self._at[self._client[point]] = point + 1
            raised += 1
        if raised < len(poor) and self._shared[level]:
            self._settled[level] = len(poor) - raised
            for point in poor:
                if self._at[self._client[point]] == point:
                    self._offer(point)

    def _raise_by_exchange(self, poor: list[int], level: int, deadline: Deadline) -> bool:
        """Raise one after the other along shortest paths; False at the deadline."""
        self._settled[level] = len(poor)
        for point in poor:
            self._offer(point)
        while self._settled[level]:
            if deadline.passed:
                return False
            cost, path = self._shortest_path(level)
            if cost > self._room:
                break
            self._room -= int(cost)
            self._settled[level] -= 1
            for _, before, after in path:
                self._at[self._client[before]] = after
            for _, _, after in path:
                if self._level[after] <= level:
                    self._offer(after)
        return True

    def _offer(self, point: int) -> None:
        """Enter the moves of a client that settles at a point.

        No exchange passes through a level that no other client can reach. The next point stands
        for the move above the current level and is brought up to date when it is looked at.
        """
        client, level, cost = self._client[point], self._level, self._cost
        moves = self._moves.setdefault(level[point], defaultdict(list))
        for other in range(self._first[client], self._end[client]):
            if other != point and self._shared[level[other]]:
                heappush(moves[level[other]], (cost[other] - cost[point], point, other))
        if point + 1 < self._end[client]:
            heappush(moves[_ABOVE], (cost[point + 1] - cost[point], point, point + 1))

    def _cheapest(self, moves: list[_Edge], current: int | None = None) -> _Edge | None:
        """Cheapest move that is still possible, above the current level if one is given."""
        while moves:
            _, before, after = moves[0]
            client = self._client[before]
            if self._at[client] != before:
                heappop(moves)
            elif current is None or self._level[after] > current:
                return moves[0]
            elif after + 1 == self._end[client]:
                heappop(moves)
            else:
                cost = self._cost[after + 1] - self._cost[before]
                heapreplace(moves, (cost, before, after + 1))
        return None

    def _shortest_path(self, level: int) -> tuple[float, list[_Edge]]:
        """Cheapest exchange that takes one client from a level to above it (Bellman and Ford)."""
        distance: dict[int, float] = {level: 0}
        via: dict[int, tuple[int, _Edge]] = {}
        queue = deque([level])
        while queue:
            node = queue.popleft()
            moves = self._moves[node]
            for other in moves:
                if other != _ABOVE and (other >= level or not self._settled.get(other, 0)):
                    continue
                edge = self._cheapest(moves[other], level if other == _ABOVE else None)
                if edge is None:
                    continue
                length = distance[node] + edge[0]
                if length < distance.get(other, inf):
                    distance[other], via[other] = length, (node, edge)
                    if other != _ABOVE and other not in queue:
                        queue.append(other)
        path, node = [], _ABOVE
        while node in via:
            node, edge = via[node]
            path.append(edge)
        return distance.get(_ABOVE, inf), path


def _pareto_points(
    problem: AllocationProblem,
) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Client, width, cost and level of every Pareto point, by client and then by cost."""
    costs = np.where(problem.admissible, problem.costs, np.iinfo(np.int64).max)
    utilities = np.where(problem.admissible, problem.utilities, -np.inf)
    order = np.lexsort((-utilities, costs), axis=1)
    utilities = np.take_along_axis(utilities, order, axis=1)
    best_before = np.maximum.accumulate(utilities, axis=1)[:, :-1]
    kept = utilities > np.pad(best_before, ((0, 0), (1, 0)), constant_values=-np.inf)
    client, column = np.nonzero(kept)
    width = order[client, column].astype(np.int64)
    level = np.unique(utilities[client, column], return_inverse=True)[1]
    return client, width, costs[client, width], level.reshape(-1)
