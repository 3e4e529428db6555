"""What a backend claims against what its answer is.

The allocation is re-evaluated in exact integers, its bound is held against an independent bound
and against an allocation that is known: of the linear relaxation, or, if the backend names its
shadow prices, of one pass at these. Nothing is repaired: an answer that breaks a limit is
dropped, a claim that is disproved is overruled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

import numpy as np

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt._utils.deadline import OutOfTime
from hasa_opt.errors import InputError
from hasa_opt.problem.problem import AllocationProblem, Totals
from hasa_opt.problem.result import PROOF_TOLERANCE, Termination, relative_gap
from hasa_opt.solvers.base import Answer, Request
from hasa_opt.solvers.bounds.audit import better_exists
from hasa_opt.solvers.bounds.dual import Prices, priced
from hasa_opt.solvers.bounds.relaxation import lagrangian
from hasa_opt.solvers.incumbent import Incumbent

__all__ = ["CLAIM_TOLERANCE", "Verdict", "unproven", "verify"]

CLAIM_TOLERANCE = 1e-6
"""Relative; by how much a claim may be off: the tolerance of floating-point solvers, and no lie."""
_TIGHT = 1e-2
"""Share of the utilities up to which the bound at a price that a backend names is near enough."""


@dataclass(frozen=True, eq=False)
class Verdict:
    """What is left of an answer after verification.

    Attributes
    ----------
    termination : Termination
    choice : (n_clients,) int64 or None
        None unless the answer satisfies every limit.
    found : Totals or None
        What the choice costs and is worth.
    bound : float
    prices : (n_limits,) float64
        Shadow prices behind the independent bound, in the order of ``problem.limits``.
    claim_held : bool
    message : str
    source : str
        Who found the allocation, if not the backend.
    """

    termination: Termination
    choice: IntArray | None
    bound: float
    prices: FloatArray
    claim_held: bool
    message: str
    found: Totals | None = None
    source: str = ""

    def with_incumbent(self, problem: AllocationProblem, best: Incumbent) -> Verdict:
        """The verdict with the best allocation that is known to the call, if that is better."""
        if best.choice is None or best.totals is None:
            return self
        worth = -inf if self.found is None else self.found.objective
        if self.choice is not None and worth >= best.totals.objective:
            same = np.array_equal(best.choice, self.choice)
            return replace(self, source=best.source if same else "")
        bound = max(self.bound, best.totals.objective)
        closed = relative_gap(problem, best.totals.objective, bound) == 0
        proven = closed and self.termination is not Termination.FAILED
        return replace(
            self,
            termination=Termination.OPTIMAL if proven else self.termination,
            choice=best.choice,
            found=best.totals,
            bound=bound,
            source=best.source,
            message=f"{self.message}; the allocation is from {best.source}",
        )


def verify(problem: AllocationProblem, answer: Answer, request: Request) -> Verdict:
    """Check an answer against the problem and a bound of our own."""
    found, at_prices, why = _found(problem, answer)
    own, known = _own_bound(problem, answer, found, at_prices, request)
    if answer.choice is None:
        return _without_solution(answer, own)
    if found is None:
        return _refused(answer, own, why)
    lies = _lies(problem, answer, found, known)
    notes = list(lies)
    if request.audited and not lies and own.bound > answer.bound:
        refuted = _refuted(request, answer, found, own)
        if refuted:
            lies = notes = [f"claims bound {answer.bound:.9g}, but a better allocation exists"]
        elif refuted is None:
            notes = ["the bound is the solver's word"]
    bound = own.bound if lies else min(own.bound, answer.bound)
    bound = max(bound, found.objective)
    choice = np.array(answer.choice, dtype=np.int64)
    choice.flags.writeable = False
    believed = not lies and _believed(problem, answer, found, bound)
    proven = believed or relative_gap(problem, found.objective, own.bound) == 0
    termination = Termination.OPTIMAL if proven else unproven(answer.termination, bool(lies))
    message = "; ".join([answer.native, *notes])
    return Verdict(termination, choice, bound, own.prices, not lies, message, found)


def _found(problem: AllocationProblem, answer: Answer) -> tuple[Totals | None, float, str]:
    """What a feasible answer costs and is worth, and the bound at the prices that it names.

    Else None, and why it is refused; infinity without prices.
    """
    if answer.choice is None:
        return None, inf, ""
    bound = inf
    try:
        prices = _prices(problem, answer)
        if prices is None or problem.rows:
            found = problem.evaluate(answer.choice)
            bound = inf if prices is None else priced(problem, Prices(prices)).bound
        else:
            from hasa_opt.solvers.exact.certificate import certified

            found, bound = certified(problem, answer.choice, float(prices[0]))
    except (InputError, ValueError) as error:
        return None, inf, str(error)
    return (found, bound, "") if found.feasible else (None, bound, "; ".join(found.violations))


def _prices(problem: AllocationProblem, answer: Answer) -> FloatArray | None:
    """The prices that the backend names, if they can prove a bound."""
    if answer.prices is None:
        return None
    prices = np.asarray(answer.prices, dtype=np.float64)
    if prices.shape != (len(problem.limits),) or not np.isfinite(prices).all():
        return None
    upper = np.array([row.upper is not None for row in problem.limits])
    return prices if (np.where(upper, prices, -prices) >= 0).all() else None


def _believed(problem: AllocationProblem, answer: Answer, found: Totals, bound: float) -> bool:
    """Whether a bound that no search of our own disproves is a proof of optimality.

    Under constraints beyond the budget only together with the claim of one.
    """
    closed = relative_gap(problem, found.objective, bound) == 0
    if answer.termination is Termination.OPTIMAL:
        return closed or bound - found.objective <= PROOF_TOLERANCE * problem.span
    return closed and not problem.rows


@dataclass(frozen=True, eq=False)
class _Own:
    """A bound that no backend has a hand in, and the prices that prove it."""

    bound: float
    prices: FloatArray


def _own_bound(
    problem: AllocationProblem,
    answer: Answer,
    found: Totals | None,
    at_prices: float,
    request: Request,
) -> tuple[_Own, Totals]:
    """Bound of our own and a known allocation.

    The backend's prices serve if the bound at them is near the answer or, of the budget alone, near
    the best widths at that price, whoever named it; else the linear relaxation is solved, if the
    time suffices.
    """
    named = _prices(problem, answer)
    if named is not None:
        if found is not None and at_prices - found.objective <= _room(found):
            return _Own(at_prices, named), found
        if not problem.rows:
            best = lagrangian(problem, float(named[0]))
            known = problem.evaluate(best.choice)
            if known.feasible and best.bound - known.objective <= _TIGHT * problem.magnitude:
                return _Own(best.bound, named), known
    prices = np.zeros(len(problem.limits))
    try:
        if problem.rows and request.dual is not None:
            own = _Own(request.dual.bound, request.dual.prices.limits)
        else:
            prices[0] = request.relaxation.price
            own = _Own(request.relaxation.bound, prices)
        choice = request.relaxation.choice if request.known is None else request.known
    except OutOfTime:
        return _Own(problem.ceiling, prices), Totals(-inf, 0, problem.limit, ("out of time",))
    return own, problem.evaluate(choice)


def _refuted(request: Request, answer: Answer, found: Totals, own: _Own) -> bool | None:
    """Whether a bound is false, by a search of our own; None where that takes too long.

    With constraints beyond the budget only a claim of optimality is worth a second run.
    """
    problem = request.problem
    if problem.rows and answer.termination is not Termination.OPTIMAL:
        return None
    best = max(found.objective, answer.bound)
    return better_exists(problem, float(own.prices[0]), best, request.deadline)


def _without_solution(answer: Answer, own: _Own) -> Verdict:
    """No allocation was handed over: nothing can have been optimal."""
    claims_one = answer.termination in (Termination.OPTIMAL, Termination.GAP_REACHED)
    note = [f"claims {answer.termination} but gives no allocation"] if claims_one else []
    ended = Termination.FAILED if claims_one else answer.termination
    message = "; ".join([answer.native, *note])
    return Verdict(ended, None, own.bound, own.prices, not claims_one, message)


def _refused(answer: Answer, own: _Own, why: str) -> Verdict:
    message = f"{answer.native}; answer refused: {why}"
    return Verdict(Termination.FAILED, None, own.bound, own.prices, False, message)


def _room(found: Totals) -> float:
    """By how much a claim may differ from what was found."""
    return CLAIM_TOLERANCE * abs(found.objective)


def _lies(problem: AllocationProblem, answer: Answer, found: Totals, known: Totals) -> list[str]:
    """Claims that the problem's own arrays disprove."""
    if not _disproved(answer, found, known, _room(found)):
        return []
    room = CLAIM_TOLERANCE * max(abs(found.objective), 1e-8 * problem.magnitude)
    return _disproved(answer, found, known, room)


def _disproved(answer: Answer, found: Totals, known: Totals, room: float) -> list[str]:
    """Claims that are false by more than the room."""
    lies = []
    if answer.termination is Termination.INFEASIBLE:
        lies.append("claims infeasible, but gives a feasible allocation")
    claimed = found.objective if answer.objective is None else answer.objective
    if not abs(claimed - found.objective) <= room:
        lies.append(f"claims objective {claimed:.9g}, the allocation has {found.objective:.9g}")
    if not answer.bound >= found.objective - room:
        lies.append(f"claims bound {answer.bound:.9g} below its own {found.objective:.9g}")
    if known.feasible and not answer.bound >= known.objective - room:
        lies.append(
            f"claims bound {answer.bound:.9g}, an allocation worth {known.objective:.9g} is known"
        )
    return lies


def unproven(claimed: Termination, lied: bool) -> Termination:
    """What is left of a claim that was not proven."""
    if lied:
        return Termination.FAILED
    return Termination.GAP_REACHED if claimed is Termination.OPTIMAL else claimed
