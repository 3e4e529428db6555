"""Why no allocation satisfies the limits, and the cheapest change that makes one do."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from fractions import Fraction

from hasa_opt.clients import IntArray
from hasa_opt.constraints import RobustRow, Row
from hasa_opt.deadline import UNLIMITED, Deadline, OutOfTime
from hasa_opt.errors import HasaError
from hasa_opt.linear import LinearModel
from hasa_opt.problem import AllocationProblem
from hasa_opt.programs import least_excess
from hasa_opt.rational import decimal_above
from hasa_opt.relaxation import relax
from hasa_opt.thresholds import Thresholds

__all__ = ["Conflict", "explain_infeasible"]


@dataclass(frozen=True)
class Conflict:
    """Limits that cannot hold together.

    Attributes
    ----------
    limits : tuple of str
        Labels of a minimal set: without any one of them the rest can hold.
    message : str
        The set in words, with the cheapest change of one limit.
    """

    limits: tuple[str, ...]
    message: str


def explain_infeasible(
    problem: AllocationProblem, deadline: Deadline = UNLIMITED
) -> Conflict | None:
    """Return a minimal conflict among the limits, or None if an allocation satisfies them all.

    A deletion filter: a limit whose removal leaves the rest infeasible is no part of the conflict.

    Raises
    ------
    OutOfTime
        If the deadline passes before the answer is known.
    """
    if problem.evaluate(relax(problem, deadline).incumbent).feasible:
        return None
    robust = [row for row in problem.rows if isinstance(row, RobustRow)]
    if robust and len(problem.rows) == 1:
        return _robust_conflict(problem, robust[0])
    model = LinearModel.of(problem)
    # A robust budget implies the plain one.
    everything = list(range(1 if robust else 0, len(problem.limits)))
    if _least_excess(problem, model, everything, None, deadline) is not None:
        return None
    conflict = everything
    for limit in everything:
        rest = [other for other in conflict if other != limit]
        if _least_excess(problem, model, rest, None, deadline) is None:
            conflict = rest
    remedies = []
    for limit in conflict:
        others = [other for other in everything if other != limit]
        excess = _least_excess(problem, model, others, limit, deadline)
        if excess is not None:
            row = problem.limits[limit]
            remedies.append((excess / max(1, abs(_bound(row))), _remedy(problem, row, excess)))
    labels = tuple(problem.limits[limit].label for limit in conflict)
    named = "; ".join(f"({label})" for label in labels)
    cheapest = min(remedies)[1] if remedies else _joint_remedy(problem, model, everything, deadline)
    return Conflict(labels, f"these limits cannot hold together: {named}. Remedy: {cheapest}")


def _robust_conflict(problem: AllocationProblem, row: RobustRow) -> Conflict | None:
    """What a robust budget that stands alone falls short of, without a search; None if it holds."""
    least = int(Thresholds.of(problem, row).least().min())
    if least <= problem.limit:
        return None

    def breaks(gamma: int) -> bool:
        eased = Thresholds.of(problem, replace(row, gamma=gamma))
        return bool(eased.least().min() > problem.limit)

    remedy = _remedy(problem, row, least - problem.limit)
    enough = bisect_right(range(row.gamma), False, key=breaks) - 1
    if enough >= 0:
        remedy += f", or lower gamma from {row.gamma} to {enough}"
    return Conflict(
        (row.label,), f"no allocation satisfies this limit: ({row.label}). Remedy: {remedy}"
    )


def _least_excess(
    problem: AllocationProblem,
    model: LinearModel,
    hard: list[int],
    soft: int | None,
    deadline: Deadline,
) -> int | None:
    """Least excess over the soft limit while the hard ones hold; None if they cannot hold."""
    choice = _relaxed(model, hard, [] if soft is None else [soft], deadline)
    if choice is None:
        return None
    if any(problem.limits[limit].excess(choice) for limit in hard):
        raise HasaError("the infeasibility could not be explained within rounding")
    return 0 if soft is None else problem.limits[soft].excess(choice)


def _joint_remedy(
    problem: AllocationProblem, model: LinearModel, limits: list[int], deadline: Deadline
) -> str:
    """The changes of several limits that together cost least, each relative to its limit."""
    choice = _relaxed(model, [], limits, deadline)
    if choice is None:
        raise HasaError("the infeasibility could not be explained: no allocation was found")
    excesses = [(row, row.excess(choice)) for row in (problem.limits[limit] for limit in limits)]
    return ", and ".join(_remedy(problem, row, excess) for row, excess in excesses if excess)


def _relaxed(
    model: LinearModel, hard: list[int], soft: list[int], deadline: Deadline
) -> IntArray | None:
    """Allocation within the hard limits of least total excess over the soft ones, or None."""
    deadline.check()
    found = least_excess(model, hard, soft, time_limit_s=deadline.remaining_s)
    if found.infeasible:
        return None
    if not found.optimal and deadline.remaining_s == 0:
        raise OutOfTime
    if found.x is None:
        raise HasaError(f"the infeasibility could not be explained: HiGHS ends {found.status}")
    return model.choice(found.x)


def _bound(limit: Row) -> int:
    bound = limit.lower if limit.upper is None else limit.upper
    assert bound is not None
    return bound


def _remedy(problem: AllocationProblem, limit: Row, excess: int) -> str:
    bound = _bound(limit)
    if limit.label == "budget" or isinstance(limit, RobustRow):
        share = decimal_above(Fraction(bound + excess, problem.full_cost))
        return f"raise the budget from {problem.budget:g} to {share}"
    if limit.upper is None:
        return f"lower the limit of ({limit.label}) from {bound} to {bound - excess}"
    return f"raise the limit of ({limit.label}) from {bound} to {bound + excess}"
