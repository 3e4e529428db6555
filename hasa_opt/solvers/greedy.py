"""Greedy marginal gains on the concave hull, with the bound of the linear relaxation."""

from __future__ import annotations

from hasa_opt._utils.checks import IntArray
from hasa_opt.errors import InputError
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Termination, relative_gap
from hasa_opt.solvers.base import Answer, Request
from hasa_opt.solvers.bounds.repair import searched

__all__ = ["GreedyBackend"]


class GreedyBackend:
    """Take upgrades in order of gain per cost while they fit, then fill what is left.

    The allocation after the last whole upgrade is within one upgrade of the bound, so the gap
    shrinks as 1 / n_clients. Time grows with the size; it needs numpy alone. Nested site budgets
    are filled in the same order. Further budgets have prices of their own, found by HiGHS; the
    order of net gains is then repaired by pairwise exchange.
    """

    def solve(self, problem: AllocationProblem, request: Request) -> Answer:
        """Solve; the gap has no effect, warm starts are not used.

        All or nothing: where the time does not suffice for the hulls, there is no allocation.
        """
        if request.options:
            raise InputError(f"greedy takes no options, {', '.join(request.options)} given")
        if not problem.rows:
            relaxation = request.relaxation
            return _answer(problem, relaxation.incumbent, relaxation.bound)
        dual = request.dual
        if dual is None:
            return Answer(Termination.INFEASIBLE, native="greedy: infeasible relaxation")
        choice = request.known
        if choice is None:
            choice, ended = searched(problem, dual, request.deadline)
            if choice is None:
                return Answer(ended, bound=dual.bound, native=f"greedy: nothing found, {ended}")
        return _answer(problem, choice, dual.bound)


def _answer(problem: AllocationProblem, choice: IntArray, bound: float) -> Answer:
    objective = problem.evaluate(choice).objective
    gap = relative_gap(problem, objective, bound)
    return Answer(
        Termination.OPTIMAL if gap == 0 else Termination.GAP_REACHED,
        choice,
        objective,
        max(objective, bound),
        native=f"relative gap {gap:.2g} to the linear relaxation",
    )
