"""A bound that needs no solver: bad triangles that share no similarity.

In a *bad triangle* two pairs, {i, j} and {j, k}, are similar (a > 0) and the third, {i, k}, is not
(a < 0). Every partition keeps ``x_ij + x_jk - x_ik <= 1``, so that for any weights ``y_t >= 0`` of
triangles, by weak duality of linear programming,

    sum of a x <= sum of y + sum over pairs of max(0, a - y of the triangles in which the pair is
    one of the two + y of those in which it is the third).

Where no pair is used beyond its own similarity, that is the sum of the positive similarities less
the sum of y (Bansal, Blum and Chawla, Correlation clustering, Machine Learning 56, 2004, with
triangles that share no pair; here weighted). The packing is greedy, around the pairs that a good
partition sacrifices: dissimilar ones inside a group, similar ones between two. Any packing proves a
bound; a good partition makes it tight.
"""

from __future__ import annotations

from math import fsum

import numpy as np

from hasa_opt._utils.checks import IntArray
from hasa_opt._utils.deadline import Deadline, OutOfTime
from hasa_opt.solving.grouping.problem import PartitionProblem

__all__ = ["packed_bound"]

_MOST = 64
"""Triangles around one pair, the largest ones; few are needed."""


def packed_bound(problem: PartitionProblem, groups: IntArray, deadline: Deadline) -> float:
    """Upper bound on the objective of any partition, whatever its limits.

    Parameters
    ----------
    problem : PartitionProblem
    groups : (n_clients,) int64
        A partition; the better it is, the better the bound.
    deadline : Deadline
        When it passes, the triangles so far count.
    """
    packing = _Packing(problem)
    together = groups[problem.first] == groups[problem.second]
    sacrificed = np.flatnonzero(together == (problem.similarity < 0))
    try:
        for pair in sacrificed:
            deadline.check()
            packing.pack_around(int(pair))
    except OutOfTime:
        pass
    return packing.bound


class _Packing:
    """What is left of each similarity, and the weight of the triangles."""

    def __init__(self, problem: PartitionProblem) -> None:
        self._problem = problem
        self._left = problem.similarity.copy()
        self._weights: list[float] = []
        table = problem.neighbours
        n_pairs = problem.similarity.size
        # The pair of each entry of the symmetric matrix, in its order.
        numbers = type(table)(
            (
                np.tile(np.arange(n_pairs), 2),
                (
                    np.concatenate([problem.first, problem.second]),
                    np.concatenate([problem.second, problem.first]),
                ),
            ),
            shape=table.shape,
        )
        self._starts, self._ends, self._pair = numbers.indptr, numbers.indices, numbers.data
        self._pair_of = np.full(problem.n_clients, -1)
        self._marked = -1

    @property
    def bound(self) -> float:
        return fsum(self._left[self._left > 0]) + fsum(self._weights)

    def pack_around(self, pair: int) -> None:
        """Use up one pair by triangles with the clients that both its ends have a pair with."""
        one, other = self._shared(self._problem.first[pair], self._problem.second[pair])
        a, b, left = self._left[one], self._left[other], float(self._left[pair])
        # Of a dissimilar pair the other two are similar, of a similar one just one of them.
        room = np.minimum(a, b) if left < 0 else np.minimum(np.maximum(a, b), -np.minimum(a, b))
        room[one < 0] = 0.0
        for _ in range(_MOST):
            at = int(room.argmax())
            weight = min(float(room[at]), abs(left))
            if weight <= 0:
                break
            for end in (one[at], other[at]):
                self._left[end] -= np.sign(self._left[end]) * weight
            left -= np.sign(left) * weight
            room[at] = 0.0
            self._weights.append(weight)
        self._left[pair] = left

    def _shared(self, first: int, second: int) -> tuple[IntArray, IntArray]:
        """Pairs of both clients with each neighbour of the second; -1 where the first has none."""
        if self._marked != first:
            if self._marked >= 0:
                self._pair_of[self._row(self._marked)[0]] = -1
            near, pairs = self._row(first)
            self._pair_of[near] = pairs
            self._marked = first
        near, pairs = self._row(second)
        return self._pair_of[near], pairs

    def _row(self, client: int) -> tuple[IntArray, IntArray]:
        part = slice(self._starts[client], self._starts[client + 1])
        return self._ends[part], self._pair[part]
