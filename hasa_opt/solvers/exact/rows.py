"""Limits beyond the budget: prices, repair, and a proof where it is near.

The prices of all limits give the bound, pairwise exchange from the linear relaxation the
allocation. Widths of more regret than the gap that is left are in no better allocation; where few
remain, branch and bound over those closes the gap.
"""

from __future__ import annotations

from hasa_opt.backend import Answer, Request
from hasa_opt.bounds.dual import Dual, promising
from hasa_opt.bounds.linear import LinearModel
from hasa_opt.bounds.programs import integer_program
from hasa_opt.bounds.repair import searched
from hasa_opt.clients import IntArray
from hasa_opt.problem import AllocationProblem
from hasa_opt.result import Termination, relative_gap

__all__ = ["finished", "solve_rows"]

_PROOF_COLUMNS = 400
_PROOF_NODES = 500


def solve_rows(request: Request) -> Answer:
    """Solve a problem with linear limits beyond the budget."""
    dual = request.dual
    if dual is None:
        return Answer(Termination.INFEASIBLE, native="exact: infeasible relaxation")
    choice = request.known
    if choice is None:
        choice, ended = searched(request.problem, dual, request.deadline)
        if choice is None:
            native = "exact: found no allocation within the limits"
            return Answer(ended, bound=dual.bound, native=native)
    return finished(request, dual, choice, dual.bound)


def finished(request: Request, dual: Dual, choice: IntArray, bound: float) -> Answer:
    """Answer with a feasible allocation and a bound, after an attempt to close the gap."""
    problem = request.problem
    objective = problem.evaluate(choice).objective
    if relative_gap(problem, objective, bound) > request.gap:
        proven = _proven(request, dual, choice)
        if proven is not None:
            choice = proven
            bound = objective = problem.evaluate(proven).objective
    gap = relative_gap(problem, objective, bound)
    late = gap > request.gap and request.deadline.passed
    ended = Termination.TIME_LIMIT if late else Termination.GAP_REACHED
    if gap == 0:
        ended = Termination.OPTIMAL
    native = f"exact: {ended}, relative gap {gap:.2g} to the prices of all limits"
    prices = dual.prices.limits if dual.prices.exposure is None else None
    return Answer(ended, choice, objective, max(bound, objective), native, prices)


def _proven(request: Request, dual: Dual, choice: IntArray) -> IntArray | None:
    """Optimal allocation among all that may be better than this one, if few widths may be."""
    problem: AllocationProblem = request.problem
    kept = promising(problem, dual, choice)
    if kept[kept.sum(axis=1) > 1].sum() > _PROOF_COLUMNS:
        return None
    model = LinearModel.of(problem, kept)
    if not model.precise:
        return None
    left = request.deadline.remaining_s
    found = integer_program(model, time_limit_s=left, node_limit=_PROOF_NODES)
    if not found.optimal or found.x is None:
        return None
    best = model.choice(found.x)
    return best if problem.evaluate(best).feasible else None
