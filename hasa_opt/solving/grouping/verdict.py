"""What a backend claims against what its answer is, as :mod:`hasa_opt.solving.verdict` for widths.

The objective is recomputed, limits are checked, the bound is held against one that is proven here
and against the best partition that is known. Nothing is repaired: an answer that breaks a limit is
dropped, a claim that is disproved is overruled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

from hasa_opt._utils.checks import IntArray
from hasa_opt.problem.result import PROOF_TOLERANCE, Termination, relative_gap
from hasa_opt.solvers.base import Answer
from hasa_opt.solvers.incumbent import Incumbent
from hasa_opt.solving.grouping.problem import PartitionProblem
from hasa_opt.solving.verdict import CLAIM_TOLERANCE, unproven

__all__ = ["Verdict", "verify"]


@dataclass(frozen=True, eq=False)
class Verdict:
    """What is left of an answer after verification.

    Attributes
    ----------
    termination : Termination
    bound : float
    claim_held : bool
    message : str
    own_objective : float or None
        Of the answer's groups, if they are within the limits.
    """

    termination: Termination
    bound: float
    claim_held: bool
    message: str
    own_objective: float | None


def verify(
    problem: PartitionProblem, answer: Answer, why: str, own_bound: float, best: Incumbent
) -> Verdict:
    """Check an answer, whose choice are groups; best holds the better of it and of what was known.

    Parameters
    ----------
    problem : PartitionProblem
    answer : Answer
    why : str
        The rule that the backend's own answer broke, if it was dropped for that.
    own_bound : float
        No partition is worth more; no backend has a hand in it.
    best : Incumbent
    """
    groups = answer.choice
    worth = -inf
    if groups is not None and not why:
        totals = problem.evaluate(groups)
        why = "; ".join(totals.violations)
        if totals.feasible:
            worth = totals.objective
            best.take(groups, totals, best.solver)
    if why:
        ended, lies = Termination.FAILED, [f"answer refused: {why}"]
    else:
        ended, lies = answer.termination, _lies(problem, answer, groups, worth, best.objective)
    bound = own_bound if lies else min(own_bound, answer.bound)
    verdict = Verdict(
        termination=unproven(ended, bool(lies)),
        bound=max(bound, best.objective),
        claim_held=not lies,
        message="; ".join([answer.native, *lies]),
        own_objective=worth if worth > -inf else None,
    )
    claimed = not lies and ended is Termination.OPTIMAL
    return (
        verdict
        if not _proven(problem, verdict, best, own_bound, claimed)
        else replace(verdict, termination=Termination.OPTIMAL)
    )


def _proven(
    problem: PartitionProblem,
    verdict: Verdict,
    best: Incumbent,
    own_bound: float,
    claimed: bool,
) -> bool:
    """Whether the best partition meets the bound: our own, or one that comes with a claim."""
    left = verdict.bound - best.objective
    if claimed and left <= PROOF_TOLERANCE * problem.magnitude:
        return True
    return relative_gap(problem, best.objective, own_bound) == 0


def _lies(
    problem: PartitionProblem,
    answer: Answer,
    groups: IntArray | None,
    worth: float,
    known: float,
) -> list[str]:
    """Claims that the problem's own similarities disprove."""
    lies = []
    ended, room = answer.termination, CLAIM_TOLERANCE * max(abs(known), 1e-8 * problem.magnitude)
    if ended is Termination.INFEASIBLE:
        lies.append("claims infeasible, but a partition within the limits is known")
    if groups is None and ended in (Termination.OPTIMAL, Termination.GAP_REACHED):
        lies.append(f"claims {ended} but gives no partition")
    claimed = answer.objective
    if groups is not None and claimed is not None and not abs(claimed - worth) <= room:
        lies.append(f"claims objective {claimed:.9g}, the partition has {worth:.9g}")
    if not answer.bound >= known - room:
        lies.append(f"claims bound {answer.bound:.9g}, a partition worth {known:.9g} is known")
    return lies
