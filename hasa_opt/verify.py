"""What a backend claims against what its answer is.

The allocation is re-evaluated in exact integers, its bound is held against the linear relaxation
and against a greedy allocation. Nothing is repaired: an answer that breaks a limit is dropped, a
claim that is disproved is overruled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hasa_opt.backend import Answer, Request
from hasa_opt.clients import IntArray
from hasa_opt.errors import InputError
from hasa_opt.problem import AllocationProblem, Evaluation
from hasa_opt.result import Termination, relative_gap

__all__ = ["Verdict", "verify"]

_CLAIM_TOLERANCE = 1e-6
_PROOF_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class Verdict:
    """What is left of an answer after verification.

    Attributes
    ----------
    termination : Termination
    choice : (n_clients,) int64 or None
        None unless the answer satisfies every limit.
    bound : float
    claim_held : bool
    message : str
    """

    termination: Termination
    choice: IntArray | None
    bound: float
    claim_held: bool
    message: str


def verify(problem: AllocationProblem, answer: Answer, request: Request) -> Verdict:
    """Check an answer against the problem and the relaxation that came with the request."""
    own_bound = request.relaxation.bound
    if answer.choice is None:
        return _without_solution(answer, own_bound)
    try:
        found = problem.evaluate(answer.choice)
    except InputError as error:
        return _refused(answer, own_bound, str(error))
    if not found.feasible:
        return _refused(answer, own_bound, "; ".join(found.violations))
    lies = _lies(problem, answer, found, request)
    bound = own_bound if lies else min(own_bound, answer.bound)
    bound = max(bound, found.objective)
    gap = relative_gap(found.objective, bound, problem.magnitude)
    choice = np.array(answer.choice, dtype=np.int64)
    choice.flags.writeable = False
    termination = _termination(answer.termination, gap, bool(lies))
    return Verdict(termination, choice, bound, not lies, "; ".join([answer.native, *lies]))


def _without_solution(answer: Answer, bound: float) -> Verdict:
    """No allocation was handed over: nothing can have been optimal."""
    claims_one = answer.termination in (Termination.OPTIMAL, Termination.GAP_REACHED)
    note = [f"claims {answer.termination} but gives no allocation"] if claims_one else []
    ended = Termination.FAILED if claims_one else answer.termination
    return Verdict(ended, None, bound, not claims_one, "; ".join([answer.native, *note]))


def _refused(answer: Answer, bound: float, why: str) -> Verdict:
    message = f"{answer.native}; answer refused: {why}"
    return Verdict(Termination.FAILED, None, bound, False, message)


def _lies(
    problem: AllocationProblem, answer: Answer, found: Evaluation, request: Request
) -> list[str]:
    """Claims that the problem's own arrays disprove."""
    room = _CLAIM_TOLERANCE * max(abs(found.objective), 1e-8 * problem.magnitude)
    lies = []
    claimed = found.objective if answer.objective is None else answer.objective
    if not abs(claimed - found.objective) <= room:
        lies.append(f"claims objective {claimed:.9g}, the allocation has {found.objective:.9g}")
    if not answer.bound >= found.objective - room:
        lies.append(f"claims bound {answer.bound:.9g} below its own {found.objective:.9g}")
    known = request.relaxation.choice
    evaluated = problem.evaluate(known)
    if evaluated.feasible and not answer.bound >= evaluated.objective - room:
        lies.append(
            f"claims bound {answer.bound:.9g}, an allocation worth "
            f"{evaluated.objective:.9g} is known"
        )
    return lies


def _termination(claimed: Termination, gap: float, lied: bool) -> Termination:
    if gap <= _PROOF_TOLERANCE:
        return Termination.OPTIMAL
    if lied or claimed is Termination.INFEASIBLE:
        return Termination.FAILED
    return Termination.GAP_REACHED if claimed is Termination.OPTIMAL else claimed
