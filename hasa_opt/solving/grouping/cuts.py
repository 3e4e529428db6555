"""Inequalities that hold for every partition, found where column values break them.

With ``x_ij = 1`` where i and j are together (Grötschel and Wakabayashi, A cutting plane algorithm
for a clustering problem, Mathematical Programming 45, 1989), a star is an apex i and leaves T:

    sum over j in T of x_ij - sum over j < k in T of x_jk <= 1.

It holds because t leaves in the apex' group give t - t (t - 1) / 2, which is at most 1. Stars of
two leaves are the triangles, which alone make whole numbers a partition; larger ones are
2-partition inequalities of Grötschel and Wakabayashi and cut off the halves that triangles allow.

Of at most k groups, any k + 1 clients have a pair that is together: the sum of x over their pairs
is at least 1 (Chopra and Rao, The partition problem, Mathematical Programming 59, 1993).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from math import inf

import numpy as np

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt._utils.deadline import Deadline
from hasa_opt.solving.grouping.problem import PartitionProblem
from hasa_opt.solving.grouping.rows import Pairs, Row

__all__ = ["broken"]

_LEAST = 1e-3
"""By how much a row must be broken to be worth adding; a thousand times what HiGHS may err."""
_USES = 3
"""Rows of one round that may hold the same pair: many alike help little and cost time."""
_ROWS_PER_CLIENT = 15
"""Rows added in a round."""
_FEW = 50
"""Triangles in a round up to which larger rows are searched for, which takes longer."""
_TRIANGLE = np.array([1, 1, -1])
_PER_APEX, _SHORTLIST = 300, 20_000
"""Triangles of one apex, and of a round, that are looked at: the most broken ones."""


def broken(problem: PartitionProblem, pairs: Pairs, x: FloatArray, deadline: Deadline) -> list[Row]:
    """Rows that column values in [0, 1] break: the most broken ones, few of each pair.

    Raises
    ------
    OutOfTime
    """
    table = pairs.table(x)
    triangles = _broken_triangles(pairs, table, deadline)
    uses, chosen = np.zeros(len(pairs), dtype=np.int64), []
    for row in chain(triangles, _larger(problem, pairs, x, table, len(triangles), deadline)):
        deadline.check()
        if uses[row.columns].max() < _USES:
            uses[row.columns] += 1
            chosen.append(row)
        if len(chosen) == _ROWS_PER_CLIENT * len(problem):
            break
    return chosen


def _broken_triangles(pairs: Pairs, x: FloatArray, deadline: Deadline) -> list[Row]:
    """Triangles that a symmetric matrix breaks, the most broken ones first."""
    found, excess = [np.empty((0, 3), dtype=np.int64)], [np.empty(0)]
    for apex, row in enumerate(x):
        deadline.check()
        over = row[:, None] + row[None, :] - x - 1.0
        one, other = np.nonzero(np.triu(over > _LEAST, 1))
        if one.size > _PER_APEX:
            most = np.argpartition(-over[one, other], _PER_APEX)[:_PER_APEX]
            one, other = one[most], other[most]
        ends = pairs.column(one, apex), pairs.column(other, apex), pairs.column(one, other)
        found.append(np.column_stack(ends))
        excess.append(over[one, other])
    order = np.argsort(-np.concatenate(excess), kind="stable")[:_SHORTLIST]
    return [Row(own, _TRIANGLE, -inf, 1.0) for own in np.concatenate(found)[order]]


def _larger(
    problem: PartitionProblem,
    pairs: Pairs,
    x: FloatArray,
    table: FloatArray,
    n_triangles: int,
    deadline: Deadline,
) -> list[Row]:
    """Larger stars and cliques that are broken, unless many triangles are."""
    if n_triangles >= _FEW:
        return []
    rows = list(_stars(pairs, table, deadline))
    if problem.max_groups < len(problem):
        rows += _cliques(pairs, table, problem.max_groups + 1)
    return sorted(rows, key=lambda row: -row.excess(x))


def _star(pairs: Pairs, apex: int, leaves: IntArray) -> Row:
    rays, between = pairs.column(leaves, apex), pairs.among(leaves)
    signs = np.repeat(np.array([1, -1]), [rays.size, between.size])
    return Row(np.concatenate([rays, between]), signs, -inf, 1.0)


def _stars(pairs: Pairs, x: FloatArray, deadline: Deadline) -> Iterator[Row]:
    """Stars grown from each fractional pair, leaf by leaf, each time the one that breaks most."""
    known = set()
    for apex, row in enumerate(x):
        deadline.check()
        for first in np.flatnonzero((row > _LEAST) & (row < 1 - _LEAST)):
            leaves, total = [int(first)], float(row[first])
            gain = row - x[first]
            gain[[apex, first]] = -1.0
            while gain.max() > _LEAST:
                leaf = int(gain.argmax())
                leaves.append(leaf)
                total += float(gain[leaf])
                gain -= x[leaf]
                gain[leaf] = -1.0
            key = (apex, *sorted(leaves))
            if total > 1 + _LEAST and key not in known:
                known.add(key)
                yield _star(pairs, apex, np.array(key[1:]))


def _cliques(pairs: Pairs, x: FloatArray, size: int) -> Iterator[Row]:
    """So many clients, grown from each one by whom is least together with them."""
    known = set()
    for first, row in enumerate(x):
        members, total, near = [first], 0.0, row.copy()
        near[first] = inf
        while len(members) < size and total < 1 - _LEAST:
            member = int(near.argmin())
            members.append(member)
            total += float(near[member])
            near += x[member]
            near[member] = inf
        key = tuple(sorted(members))
        if len(key) == size and total < 1 - _LEAST and key not in known:
            known.add(key)
            own = pairs.among(np.array(key))
            yield Row(own, np.ones_like(own), 1.0, inf)
