"""Limits beyond the budget in the exact solver: prices, repair, and a proof where it is near.

The prices of all limits give the bound, pairwise exchange from the linear relaxation the
allocation. Widths of more regret than the gap that is left are in no better allocation; where few
remain, branch and bound over those closes the gap.
"""

from __future__ import annotations

from hasa_opt.backend import Answer, Request
from hasa_opt.clients import IntArray
from hasa_opt.linear import LinearModel, promising
from hasa_opt.problem import AllocationProblem
from hasa_opt.programs import integer_program
from hasa_opt.repair import searched
from hasa_opt.result import Termination, relative_gap

__all__ = ["solve_rows"]

_PROOF_COLUMNS = 400
_PROOF_NODES = 500


def solve_rows(problem: AllocationProblem, request: Request) -> Answer:
    """Solve a problem with linear limits beyond the budget."""
    dual = request.dual
    if dual is None:
        return Answer(Termination.INFEASIBLE, native="exact: infeasible relaxation")
    choice, bound = request.known, dual.bound
    if choice is None:
        choice, ended = searched(problem, request.deadline)
        if choice is None:
            return Answer(ended, bound=bound, native="exact: found no allocation within the limits")
    gap = relative_gap(problem.evaluate(choice).objective, bound, problem.magnitude)
    if gap > request.gap:
        proven = _proven(problem, request)
        if proven is not None:
            choice, bound = proven, problem.evaluate(proven).objective
    objective = problem.evaluate(choice).objective
    gap = relative_gap(objective, bound, problem.magnitude)
    late = gap > request.gap and request.deadline.passed
    ended = Termination.TIME_LIMIT if late else Termination.GAP_REACHED
    if gap == 0:
        ended = Termination.OPTIMAL
    native = (
        f"exact: {ended}, relative gap {gap:.2g} to the prices of {dual.prices.limits.size} limits"
    )
    return Answer(ended, choice, objective, max(bound, objective), native)


def _proven(problem: AllocationProblem, request: Request) -> IntArray | None:
    """Optimal allocation among all that may be better than the known one, if few widths may be."""
    model = LinearModel.of(problem, promising(request))
    if model.client.size > _PROOF_COLUMNS or not model.precise:
        return None
    left = request.deadline.remaining_s
    found = integer_program(model, time_limit_s=left, node_limit=_PROOF_NODES)
    if not found.optimal or found.x is None:
        return None
    choice = model.choice(found.x)
    return choice if problem.evaluate(choice).feasible else None
