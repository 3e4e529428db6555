"""Upgrades along every client's hull by compiled code, in a fraction of numpy's time."""

from __future__ import annotations

import numpy as np

from hasa_opt.basics.deadline import Deadline
from hasa_opt.bounds.relaxation import Steps
from hasa_opt.problem import AllocationProblem
from hasa_opt.solvers.exact.kernels.steps import steps_within
from hasa_opt.solvers.exact.run import read_only

__all__ = ["hull_steps"]

_BLOCK = 1 << 17


def hull_steps(problem: AllocationProblem, deadline: Deadline) -> Steps:
    """Upgrade steps as :func:`hasa_opt.bounds.relaxation.hull_steps` gives them.

    Raises
    ------
    OutOfTime
        If the deadline passes first.
    """
    table = [read_only(own) for own in (problem.costs, problem.utilities, problem.admissible)]
    base = np.empty(len(problem), dtype=np.int64)
    parts = []
    for start in range(0, base.size, _BLOCK):
        deadline.check()
        rows = np.arange(start, min(start + _BLOCK, base.size))
        parts.append(steps_within(*table, rows, 0.0, np.inf, base)[:4])
    slope, cost, client, choice = map(np.concatenate, zip(*parts, strict=True))
    first = np.diff(client, prepend=-1) > 0
    before = np.where(first, base[client], np.roll(choice, 1))
    gain = problem.utilities[client, choice] - problem.utilities[client, before]
    deadline.check()
    best_first = np.argsort(-slope, kind="stable")
    return Steps(base, client[best_first], choice[best_first], cost[best_first], gain[best_first])
