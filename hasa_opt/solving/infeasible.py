"""Why no allocation satisfies the limits, and the cheapest change that makes one do."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from hasa_opt._utils.checks import IntArray, listed
from hasa_opt._utils.deadline import UNLIMITED, Deadline, OutOfTime
from hasa_opt._utils.rational import INT64_ROOM, decimal_above, written
from hasa_opt.errors import InfeasibleError
from hasa_opt.problem.condensed import Condensed
from hasa_opt.problem.groups import SameRow
from hasa_opt.problem.limits import RobustRow, Row
from hasa_opt.problem.linear import LinearModel
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.solvers.bounds.audit import Thresholds
from hasa_opt.solvers.bounds.dual import Prices, priced
from hasa_opt.solvers.bounds.feasibility import Excess, Feasibility, of_costs, reach
from hasa_opt.solvers.bounds.programs import Unsolved, least_excess
from hasa_opt.solvers.bounds.repair import repaired
from hasa_opt.solvers.bounds.witness import witness

__all__ = ["Conflict", "counterexample", "explain_infeasible", "in_groups", "within_all"]

_FEW, _MANY = 300, 20_000
"""Admissible widths up to which branch and bound explains best, and those up to which it can."""
_PATIENCE_S = 2.0
"""In which the cheapest change is looked for; then the best one found is named."""
_SHOWN = 10
"""Limits of a conflict that its message names."""
_NAMED = 3
"""Clients that a limit is shown with by name."""


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
    """Return a minimal conflict among the limits, or None if there is none.

    Where all limits are on the cost, the cheapest widths tell. Else, for a handful of clients, a
    search (see :func:`within_all`) and a deletion filter: a limit whose removal leaves the rest
    infeasible does not belong to the conflict. For more clients the linear relaxation, and the
    search where that has no conflict and the problem is not too large.

    Raises
    ------
    Unsolved
        If neither a conflict is found nor that there is none.
    OutOfTime
        If the deadline passes before the answer is known.
    """
    small = Condensed.of(problem)
    if small.problem is not problem:
        found = explain_infeasible(small.problem, deadline)
        return None if found is None else in_groups(problem, found, deadline)
    robust = [row for row in problem.rows if isinstance(row, RobustRow)]
    if robust and len(problem.rows) == 1:
        return _robust_conflict(problem, robust[0])
    if not robust and all(of_costs(problem, row) for row in problem.rows):
        return _overspent(problem)
    # A robust budget implies the plain one.
    first = 1 if robust else 0
    everything = [at for at, row in enumerate(problem.limits) if at >= first and not row.link]
    linked = len(everything) < len(problem.limits) - first
    n_columns = np.count_nonzero(problem.admissible)
    found = None
    if not robust and not linked and n_columns > _FEW:
        with suppress(Unsolved):
            found = _relaxed_conflict(problem, deadline)
    if found is None and n_columns <= _MANY:
        found = _integer_conflict(problem, everything, deadline)
    return found


def counterexample(problem: AllocationProblem, deadline: Deadline = UNLIMITED) -> IntArray | None:
    """An allocation in spite of a claim that there is none, ``(n_clients,)``.

    None where the limits can hold together, but which allocation does that takes too long to find.

    Raises
    ------
    InfeasibleError
        If the claim holds.
    Unsolved
        If that could not be found out.
    OutOfTime
        If the deadline passes before the answer is known.
    """
    conflict = explain_infeasible(problem, deadline)
    if conflict is not None:
        raise InfeasibleError(conflict.message, limits=conflict.limits)
    try:
        return witness(problem, deadline=deadline)
    except Unsolved:
        return None


def within_all(problem: AllocationProblem, deadline: Deadline = UNLIMITED) -> IntArray | None:
    """An allocation within all limits, ``(n_clients,)``; None if there is none.

    By a search in whole numbers; where that has too much to look at, HiGHS is believed.

    Raises
    ------
    Unsolved
        If HiGHS finds neither an allocation nor that there is none.
    OutOfTime
        If the deadline passes before the answer is known.
    """
    every = list(range(len(problem.limits)))
    choice = _within(problem, LinearModel.of(problem), every, deadline)
    if choice is not None and not problem.evaluate(choice).feasible:
        raise Unsolved("whether the limits can hold together was lost in rounding")
    return choice


def in_groups(problem: AllocationProblem, found: Conflict, deadline: Deadline) -> Conflict:
    """A conflict of a condensed problem as one of the problem with limits on groups.

    Where the limits collide without :class:`~hasa_opt.SameOption` as well, that conflict is told.
    """
    same = [row for row in problem.rows if isinstance(row, SameRow)]
    if not same:
        return found
    others = tuple(row for row in problem.rows if not isinstance(row, SameRow))
    try:
        without = explain_infeasible(replace(problem, rows=others), deadline)
    except (Unsolved, OutOfTime):
        without = None
    if without is not None:
        return without
    (label,) = (row.label for row in same)
    return Conflict(
        (label, *found.limits), f"with ({label}), {found.message}, or leave SameOption out"
    )


def _overspent(problem: AllocationProblem) -> Conflict | None:
    """Conflict of limits on the cost alone, if there is one: such a limit fails by itself."""
    over = [int(problem.cheapest[row.at].sum()) - row.bound for row in problem.limits]
    broken = [at for at, excess in enumerate(over) if excess > 0]
    if not broken:
        return None
    broken.sort(key=lambda at: over[at] / max(1, problem.limits[at].bound), reverse=True)
    excesses = {at: over[at] for at in broken}
    return _worded(problem, broken[:1], _changes(problem, broken[:1], excesses))


def _relaxed_conflict(problem: AllocationProblem, deadline: Deadline) -> Conflict | None:
    """Conflict of the linear relaxation, if there is one."""
    relaxation = Feasibility.of(problem)
    if relaxation.conflict(range(len(problem.limits)), deadline) is None:
        return None
    excess = relaxation.least_excess(deadline)
    weight = np.abs(excess.prices) * [reach(row) for row in problem.limits]
    order = np.argsort(-weight, kind="stable").tolist()
    conflict = _smallest(problem, relaxation, order, deadline)
    choice = _eased(problem, excess)
    excesses = _excesses(problem, range(len(problem.limits)), choice)
    return _worded(problem, conflict, _changes(problem, conflict, excesses))


def _smallest(
    problem: AllocationProblem, relaxation: Feasibility, suspects: list[int], deadline: Deadline
) -> list[int]:
    """Minimal conflict among suspects, those of most weight first (additive method).

    The shortest conflicting prefix ends with a member of it; the search goes on before that one
    (Guieu and Chinneck, Analyzing Infeasible Mixed-Integer and Integer Linear Programs, INFORMS
    Journal on Computing 11, 1999). Suspects without a price in a conflict are dropped.
    """
    known: list[int] = []
    answers: dict[frozenset[int], set[int] | None] = {}

    def conflict(limits: list[int]) -> set[int] | None:
        if len(limits) <= 1:
            return {limit for limit in limits if _alone(problem, problem.limits[limit])} or None
        key = frozenset(limits)
        if key not in answers:
            found = relaxation.conflict(limits, deadline)
            answers[key] = None if found is None else set(found.tolist())
        return answers[key]

    while conflict(known) is None:
        low, length = 0, 1
        while low + 1 < len(suspects):
            found = conflict([*known, *suspects[:length]])
            if found is None:
                low, length = length, min(2 * length, (length + len(suspects)) // 2)
            else:
                low = sum(limit in found for limit in suspects[:low])
                suspects = [limit for limit in suspects[:length] if limit in found]
                length = (low + len(suspects)) // 2
            length = max(length, low + 1)
        known.append(suspects.pop())
    return sorted(known)


def _eased(problem: AllocationProblem, excess: Excess) -> IntArray:
    """Allocation that breaks few limits by little, and the others hardly ever.

    The problem of breaking the exceeded ones least, repaired from the linear relaxation.
    """
    limits = list(problem.limits)
    worth = np.zeros(problem.costs.shape)
    for limit in excess.over:
        row = limits[limit]
        worth[row.at] -= excess.prices[limit] * row.coefficients
        limits[limit] = replace(row, lower=None, upper=INT64_ROOM)
    budget, *rows = limits
    assert budget.upper is not None
    eased = replace(problem, utilities=worth, limit=budget.upper, rows=tuple(rows), constraints=())
    prices = excess.prices.copy()
    prices[excess.over] = 0.0
    choice = repaired(eased, priced(eased, Prices(prices), excess.choice))
    return excess.choice if choice is None else choice


def _extremes(problem: AllocationProblem, row: Row) -> tuple[int, int]:
    """Least and most that a limit's clients can take of it."""
    most = np.where(problem.admissible[row.at], row.coefficients, 0).max(axis=1)
    return int(row.least(problem.admissible).sum()), int(most.sum())


def _alone(problem: AllocationProblem, row: Row) -> bool:
    """True if a limit cannot hold, whatever the others are."""
    least, most = _extremes(problem, row)
    over = row.upper is not None and least > row.upper
    return over or (row.lower is not None and most < row.lower)


def _integer_conflict(
    problem: AllocationProblem, limits: list[int], deadline: Deadline
) -> Conflict | None:
    """Conflict among limits, if there is one, by a search in whole numbers or by HiGHS."""
    if within_all(problem, deadline) is not None:
        return None
    model, conflict = LinearModel.of(problem), limits
    for limit in limits:
        rest = [other for other in conflict if other != limit]
        if _within(problem, model, rest, deadline) is None:
            conflict = rest
    remedies = []
    for limit in conflict:
        others = [other for other in limits if other != limit]
        excess = _least_excess(problem, model, others, limit, deadline)
        if excess is not None:
            row = problem.limits[limit]
            remedies.append((excess / max(1, abs(row.bound)), _remedy(problem, row, excess)))
    if remedies:
        return _worded(problem, conflict, min(remedies)[1])
    return _worded(problem, conflict, _joint_remedy(problem, model, conflict, limits, deadline))


def _within(
    problem: AllocationProblem, model: LinearModel, limits: list[int], deadline: Deadline
) -> IntArray | None:
    """Allocation within some limits; None if there is none: by HiGHS only where many are open."""
    try:
        return witness(problem, limits, deadline)
    except Unsolved:
        return _relaxed(model, limits, [], deadline)


def _worded(problem: AllocationProblem, conflict: list[int], remedy: str) -> Conflict:
    rows = [problem.limits[limit] for limit in conflict]
    named = listed(
        rows,
        lambda row: f"({row.label}{_numbers(problem, row)})",
        separator="; ",
        most=_SHOWN,
    )
    if len(rows) > _SHOWN:
        named += f" (limits= of this error names all {len(rows)})"
    return Conflict(
        tuple(row.label for row in rows),
        f"these limits cannot hold together: {named}. Remedy: {remedy}",
    )


def _numbers(problem: AllocationProblem, row: Row) -> str:
    """What a limit allows, what its clients can take, and who they are."""
    members = np.arange(len(problem)) if row.members is None else row.members
    names = listed(members, lambda member: problem.clients.name(int(member)), most=_NAMED)
    least, most = _extremes(problem, row)
    if row.upper is None:
        return f": at least {row.lower} wanted, {names} can give {most}"
    return f": at most {row.upper} allowed, {names} take {least} or more"


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
    soft: int,
    deadline: Deadline,
) -> int | None:
    """Least excess over the soft limit while the hard ones hold; None if none is found.

    A robust limit of large numbers is rounded, so that it may turn out not to hold.
    """
    choice = _relaxed(model, hard, [soft], deadline)
    if choice is None or any(_excesses(problem, hard, choice).values()):
        return None
    return problem.limits[soft].excess(choice)


def _joint_remedy(
    problem: AllocationProblem,
    model: LinearModel,
    conflict: list[int],
    limits: list[int],
    deadline: Deadline,
) -> str:
    """The changes of several limits that together cost least, each relative to its limit."""
    choice = _relaxed(model, [], limits, deadline)
    excesses = {} if choice is None else _excesses(problem, limits, choice)
    return _changes(problem, conflict, excesses) or "ease one of them"


def _excesses(
    problem: AllocationProblem, limits: Sequence[int], choice: IntArray
) -> dict[int, int]:
    """By how much an allocation exceeds each of some limits."""
    return {at: problem.limits[at].excess(choice) for at in limits}


def _changes(problem: AllocationProblem, conflict: list[int], excesses: Mapping[int, int]) -> str:
    """What makes up for the excesses over some limits; those in conflict come first."""
    ordered = sorted(excesses, key=lambda limit: limit not in conflict)
    changes = [_remedy(problem, problem.limits[at], excesses[at]) for at in ordered if excesses[at]]
    return listed(changes, separator=", and ")


def _relaxed(
    model: LinearModel, hard: list[int], soft: list[int], deadline: Deadline
) -> IntArray | None:
    """Allocation within the hard limits of least total excess over the soft ones, or None."""
    deadline.check()
    patience = deadline.remaining_s
    if soft:
        patience = min(patience / 2, _PATIENCE_S)
    found = least_excess(model, hard, soft, time_limit_s=patience)
    if found.infeasible:
        return None
    if found.x is not None:
        return model.choice(found.x)
    deadline.check()
    if soft:
        return None
    raise Unsolved(f"HiGHS, asked whether the limits can hold together, ends {found.status}")


def _remedy(problem: AllocationProblem, limit: Row, excess: int) -> str:
    bound = limit.bound
    if limit.label == "budget" or isinstance(limit, RobustRow):
        if problem.budget is None or problem.full_cost is None:
            return f"raise the limit of {problem.resource} from {bound} to {bound + excess}"
        share = decimal_above(Fraction(bound + excess, problem.full_cost))
        return f"raise the budget from {written(problem.budget)} to {share}"
    return limit.remedy(excess)
