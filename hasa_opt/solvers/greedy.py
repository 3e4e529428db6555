"""Greedy marginal gains on the concave hull, with the bound of the linear relaxation."""

from __future__ import annotations

import numpy as np

from hasa_opt.backend import Answer, Request
from hasa_opt.clients import IntArray
from hasa_opt.errors import InputError
from hasa_opt.problem import AllocationProblem
from hasa_opt.result import Termination, relative_gap

__all__ = ["GreedyBackend"]

_PASSES = 10
_CANDIDATES = 100_000


class GreedyBackend:
    """Take upgrades in order of gain per cost while they fit, then fill what is left.

    The allocation after the last whole upgrade is within one upgrade of the bound, so the gap
    shrinks as 1 / n_clients. Time grows as ``n log n``; it needs numpy alone.
    """

    def solve(self, problem: AllocationProblem, request: Request) -> Answer:
        """Solve; the time limit and the gap have no effect, warm starts are not used."""
        if request.options:
            raise InputError(f"greedy takes no options, {', '.join(request.options)} given")
        relaxation = request.relaxation
        choice = fill(problem, relaxation.choice, relaxation.slack)
        objective = problem.evaluate(choice).objective
        gap = relative_gap(objective, relaxation.bound, problem.magnitude)
        return Answer(
            Termination.OPTIMAL if gap == 0 else Termination.GAP_REACHED,
            choice,
            objective,
            max(objective, relaxation.bound),
            native=f"relative gap {gap:.2g} to the linear relaxation",
        )


def fill(problem: AllocationProblem, choice: IntArray, slack: int) -> IntArray:
    """Spend the slack on single upgrades, best gain per cost first, until none fits."""
    filled = choice.copy()
    rows = np.arange(len(problem))
    for _ in range(_PASSES):
        extra = problem.costs - problem.costs[rows, filled][:, None]
        gain = problem.utilities - problem.utilities[rows, filled][:, None]
        useful = problem.admissible & (extra <= slack) & (gain > 0)
        client, width = np.nonzero(useful)
        if client.size == 0:
            break
        paid = np.maximum(extra[client, width], 0)
        rate = gain[client, width] / np.maximum(paid, 1e-9)
        upgraded: set[int] = set()
        for at in np.argsort(-rate, kind="stable")[:_CANDIDATES]:
            if paid[at] <= slack and int(client[at]) not in upgraded:
                upgraded.add(int(client[at]))
                filled[client[at]] = width[at]
                slack -= int(extra[client[at], width[at]])
    return filled
