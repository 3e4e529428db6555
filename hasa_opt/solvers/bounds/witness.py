"""Is there any allocation within the limits? In whole numbers, where no rounding misleads.

Clients are decided one after another. A state is what those decided take of each limit; states that
the other clients cannot bring within all limits are dropped, and of equal ones all but one. Where
too many are left, a part of them goes on: what is found still is an allocation, but to find none
proves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hasa_opt._utils.checks import IntArray
from hasa_opt._utils.deadline import UNLIMITED, Deadline
from hasa_opt._utils.rational import INT64_ROOM
from hasa_opt.problem.limits import RobustRow, Row
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.solvers.bounds.programs import Unsolved

__all__ = ["witness"]

_CLIENTS, _STATES = 100, 20_000
"""The most clients, and states after each: a step takes some ten milliseconds."""
_PART = 1000
"""How many states go on where there were more."""


def witness(
    problem: AllocationProblem,
    limits: Sequence[int] | None = None,
    deadline: Deadline = UNLIMITED,
) -> IntArray | None:
    """An allocation within some of the limits, by default all; None if there provably is none.

    Parameters
    ----------
    problem : AllocationProblem
    limits : sequence of int, optional
        Places in ``problem.limits``; rows that only state another one always hold.
    deadline : Deadline

    Returns
    -------
    (n_clients,) int64 or None

    Raises
    ------
    Unsolved
        If there are too many clients or states, or if a limit is robust.
    OutOfTime
        If the deadline passes first.
    """
    wanted = range(len(problem.limits)) if limits is None else limits
    rows = [row for at, row in enumerate(problem.limits) if row.link or at in wanted]
    if len(problem) > _CLIENTS or any(isinstance(row, RobustRow) for row in rows):
        raise Unsolved("too many clients, or a robust limit, which has no total by client")
    tables = _tables(problem, rows)
    least = np.where(problem.admissible, tables, INT64_ROOM).min(axis=2)
    most = np.where(problem.admissible, tables, -INT64_ROOM).max(axis=2)
    order = _widest_first(most - least)
    lowest = np.array([-INT64_ROOM if row.lower is None else row.lower for row in rows])
    highest = np.array([INT64_ROOM if row.upper is None else row.upper for row in rows])
    totals, trail, whole = np.zeros((len(rows), 1), dtype=np.int64), [], True
    for at, client in enumerate(order):
        deadline.check()
        own = tables[:, client, problem.admissible[client]]
        shape = len(rows), totals.shape[1] * own.shape[1]
        reached = (totals[:, :, None] + own[:, None, :]).reshape(shape)
        others = order[at + 1 :]
        over = reached + least[:, others].sum(axis=1)[:, None] > highest[:, None]
        under = reached + most[:, others].sum(axis=1)[:, None] < lowest[:, None]
        kept = _different(reached, np.flatnonzero(~(over | under).any(axis=0)))
        if kept.size > _STATES:
            whole, kept = False, kept[np.linspace(0, kept.size - 1, _PART).astype(np.int64)]
        if not kept.size:
            if whole:
                return None
            raise Unsolved("too many states")
        totals = reached[:, kept]
        trail.append(kept)
    return _retraced(problem, order, trail)


def _tables(problem: AllocationProblem, rows: Sequence[Row]) -> IntArray:
    """Coefficients of all clients, ``(n_rows, n_clients, n_widths)``."""
    tables = np.zeros((len(rows), *problem.costs.shape), dtype=np.int64)
    for table, row in zip(tables, rows, strict=True):
        table[row.at] = row.coefficients
    return tables


def _widest_first(spread: IntArray) -> IntArray:
    """Clients in whose hands most of the limits lies first, so that few states stay open."""
    share = spread / np.maximum(1, spread.max(axis=1, keepdims=True, initial=0))
    return np.argsort(-share.sum(axis=0), kind="stable")


def _different(reached: IntArray, held: IntArray) -> IntArray:
    """One of each set of equal states."""
    if not len(reached):
        return held[:1]
    held = held[np.lexsort(reached[:, held])]
    new = (np.diff(reached[:, held], axis=1) != 0).any(axis=0)
    different: IntArray = held[np.append(True, new)[: held.size]]
    return different


def _retraced(problem: AllocationProblem, order: IntArray, trail: list[IntArray]) -> IntArray:
    """The allocation that leads to the first of the last states."""
    choice = np.empty(len(problem), dtype=np.int64)
    state = 0
    for client, kept in zip(order[::-1], trail[::-1], strict=True):
        options = np.flatnonzero(problem.admissible[client])
        state, option = divmod(int(kept[state]), options.size)
        choice[client] = options[option]
    return choice
