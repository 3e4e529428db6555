"""Good partitions fast: moves of clients and of groups, swaps, and random restarts.

A descent moves each client to the group that it is most similar to, then whole groups into one
another, until nothing gains (Blondel, Guillaume, Lambiotte and Lefebvre, Fast unfolding of
communities in large networks, 2008, with similarities in the place of modularity). Where sizes are
limited, pairs of clients change places as well (Kernighan and Lin, An efficient heuristic procedure
for partitioning graphs, 1970). Restarts shake the best partition that is known (iterated local
search).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import numpy as np

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt._utils.deadline import Deadline, OutOfTime
from hasa_opt._utils.groups import numbered
from hasa_opt._utils.sparse import scipy_sparse as sp
from hasa_opt.solving.grouping.problem import PartitionProblem

__all__ = ["LocalSearch"]

_VISITS = 20_000
"""Clients looked at in all restarts together: some tenths of a second for tens of clients."""
_LEAST_RESTARTS, _MOST_PER_CLIENT = 3, 2
"""The first descent is one: of many clients it takes seconds, of a few it finds all there is."""
_SHAKEN = 0.15
"""Share of the clients that a restart moves to where they do not belong."""
_WHOLE_GROUPS = 0.3
"""Share of the restarts that shake two whole groups instead."""
_GAIN = 1e-12
"""Share of the sum of all similarities below which a gain is rounding."""


class LocalSearch:
    """Descents and restarts; each partition is handed over as soon as it is there.

    Parameters
    ----------
    problem : PartitionProblem
    offer : callable
        Takes each local optimum, ``(n_clients,)`` groups, and returns its objective.
    seed : int
    deadline : Deadline
    """

    def __init__(
        self,
        problem: PartitionProblem,
        offer: Callable[[IntArray], float],
        seed: int,
        deadline: Deadline,
    ) -> None:
        self._problem = problem
        self._offer = offer
        self._rng = np.random.default_rng(seed)
        self._deadline = deadline
        self._least = _GAIN * problem.magnitude
        self._visits = 0

    def run(self) -> None:
        """Search until the restarts are used up or the deadline has passed."""
        problem = self._problem
        try:
            best = self.descend(self.start())
            worth = self._offer(best)
            for restarts in count(1):
                enough = restarts >= _MOST_PER_CLIENT * len(problem) or self._visits >= _VISITS
                if (enough and restarts >= _LEAST_RESTARTS) or worth >= problem.ceiling:
                    return
                found = self.descend(self._shaken(best))
                value = self._offer(found)
                if value >= worth:
                    best, worth = found, value
        except OutOfTime:
            return

    def descend(self, groups: IntArray) -> IntArray:
        """A local optimum within the limits, from any partition.

        Raises
        ------
        OutOfTime
        """
        problem, weights = self._problem, self._problem.neighbours
        ones = np.ones(problem.n_clients, dtype=np.int64)
        while True:
            moved = self._settled(weights, ones, groups)
            merged = self._merged(moved)
            if min(problem.max_size, problem.max_groups) < problem.n_clients:
                merged = self._swapped(merged)
            if np.array_equal(merged, groups):
                return groups
            groups = merged

    def start(self) -> IntArray:
        """Everybody alone or, where that is too many groups, in groups of equal size."""
        n_clients = self._problem.n_clients
        return np.arange(n_clients) % self._problem.max_groups

    def _shaken(self, groups: IntArray) -> IntArray:
        """Some clients, or all those of two groups, exchange their groups or leave them."""
        problem, rng = self._problem, self._rng
        shaken = numbered(groups)
        n_groups = int(shaken.max()) + 1
        if n_groups > 1 and rng.random() < _WHOLE_GROUPS:
            two = rng.permutation(n_groups)[:2]
            moved = rng.permutation(np.flatnonzero(np.isin(shaken, two)))
        else:
            n_moved = min(problem.n_clients, max(2, round(_SHAKEN * problem.n_clients)))
            moved = rng.permutation(problem.n_clients)[:n_moved]
        shaken[moved] = shaken[rng.permutation(moved)]
        if rng.random() < 0.5:
            alone = moved[: max(0, problem.max_groups - n_groups)]
            shaken[alone] = n_groups + np.arange(alone.size)
        return numbered(shaken)

    def fitted(self, groups: IntArray) -> IntArray:
        """Groups within the limits: of those beyond, members go to where there is room."""
        problem, fitted = self._problem, numbered(groups)
        load = np.bincount(fitted)
        kept = np.argsort(-load, kind="stable")[: problem.max_groups]
        room = np.full(min(problem.max_groups, len(problem)), problem.max_size)
        placed = np.full(len(problem), -1)
        for at, group in enumerate(kept):
            members = np.flatnonzero(fitted == group)[: problem.max_size]
            placed[members] = at
            room[at] -= members.size
        free = np.repeat(np.arange(room.size), room)
        left = np.flatnonzero(placed < 0)
        placed[left] = free[: left.size]
        return placed

    def _merged(self, groups: IntArray) -> IntArray:
        """Whole groups moved into one another."""
        groups = numbered(groups)
        while True:
            n_groups = int(groups.max()) + 1
            member = sp.csr_array(
                (np.ones(groups.size), (np.arange(groups.size), groups)),
                shape=(groups.size, n_groups),
            )
            weights = sp.csr_array(member.T @ self._problem.neighbours @ member)
            weights.setdiag(0.0)
            sizes = np.bincount(groups)
            moved = numbered(self._settled(weights, sizes, np.arange(n_groups)))
            if moved.max() + 1 == n_groups:
                return groups
            groups = moved[groups]

    def _settled(self, weights: sp.csr_array, sizes: IntArray, groups: IntArray) -> IntArray:
        """Each node where it gains most, one after the other, until none gains."""
        problem, labels = self._problem, numbered(groups)
        n_nodes = labels.size
        load = np.bincount(labels, weights=sizes, minlength=n_nodes)
        limited = problem.max_size < problem.n_clients
        n_groups, waiting = np.count_nonzero(load), np.ones(n_nodes, dtype=np.bool_)
        starts, ends, similarity = weights.indptr, weights.indices, weights.data
        while waiting.any():
            order = self._rng.permutation(np.flatnonzero(waiting))
            self._visits += order.size
            for node in order:
                self._deadline.check()
                waiting[node] = False
                part = slice(starts[node], starts[node + 1])
                near = ends[part]
                gain = np.bincount(labels[near], similarity[part], n_nodes).astype(np.float64)
                own, size = labels[node], sizes[node]
                stay = gain[own]
                if limited:
                    gain[load + size > problem.max_size] = -np.inf
                if n_groups >= problem.max_groups:
                    gain[load == 0] = -np.inf
                gain[own] = stay
                best = int(gain.argmax())
                if gain[best] - stay <= self._least:
                    continue
                n_groups += int(load[best] == 0) - int(load[own] == size)
                load[own] -= size
                load[best] += size
                labels[node] = best
                waiting[near] = True
        return labels

    def _swapped(self, groups: IntArray) -> IntArray:
        """Pairs of clients of different groups in each other's place, until no pair gains."""
        weights, labels = self._problem.neighbours, numbered(groups)
        clients = np.arange(labels.size)
        near = weights @ np.eye(int(labels.max()) + 1)[labels]
        swapped = True
        while swapped:
            swapped = False
            self._visits += clients.size
            for client in self._rng.permutation(clients):
                self._deadline.check()
                own = labels[client]
                row = _row(weights, client)
                gain = near[client, labels] - near[client, own] - 2 * row
                gain += near[:, own] - near[clients, labels]
                gain[labels == own] = 0.0
                other = int(gain.argmax())
                if gain[other] > self._least:
                    theirs = labels[other]
                    change = row - _row(weights, other)
                    near[:, own] -= change
                    near[:, theirs] += change
                    labels[client], labels[other] = theirs, own
                    swapped = True
        return labels


def _row(weights: sp.csr_array, at: int) -> FloatArray:
    row = np.zeros(weights.shape[0])
    part = slice(weights.indptr[at], weights.indptr[at + 1])
    row[weights.indices[part]] = weights.data[part]
    return row
