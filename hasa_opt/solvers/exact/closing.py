"""From an allocation and a bound, under any limits, to better ones of both.

Halves of the clients meet in the middle; what they leave open is given to branch and bound of
HiGHS, where these have closed much of the gap and time is left, or where few options are open.
"""

from __future__ import annotations

from collections.abc import Iterator

from hasa_opt._utils.checks import IntArray
from hasa_opt._utils.deadline import UNLIMITED, Deadline, OutOfTime
from hasa_opt.problem.linear import LinearModel
from hasa_opt.problem.result import Termination, relative_gap
from hasa_opt.solvers.base import Answer, Request
from hasa_opt.solvers.bounds.dual import Dual, promising
from hasa_opt.solvers.bounds.programs import integer_program
from hasa_opt.solvers.exact.halves import ALL_SIZES, least_gain, met_in_the_middle

__all__ = ["finished"]


_FEW_COLUMNS, _FEW_NODES = 400, 500
"""Open options up to which branch and bound is asked to close the gap, and nodes that it is given
for that: it mostly can."""
_FEW_LIMITS, _MORE_COLUMNS, _MORE_NODES = 5, 1_500, 10_000
"""The same under so few limits: some seconds."""
_COLUMNS, _SHARE, _HOPE = 10_000, 0.5, 0.5
"""The same where halves that met have closed this share of the gap, and there is a time limit: open
options up to which HiGHS looks at the clock, and the share of the time that it is given."""


def finished(
    request: Request, dual: Dual, choice: IntArray, bound: float, *, compiled: bool = True
) -> Answer:
    """Answer with a feasible allocation and a bound, after a search for better ones."""
    problem, best = request.problem, request.best
    request.offer(choice)
    ended = Termination.GAP_REACHED
    try:
        for least in _bounds(request, dual, compiled):
            bound = min(bound, least)
            request.lower(bound)
            if relative_gap(problem, best.objective, bound) <= request.gap:
                break
        else:
            if request.deadline.passed:
                ended = Termination.at(request.deadline)
    except KeyboardInterrupt:
        ended = Termination.INTERRUPTED
    gap = relative_gap(problem, best.objective, bound)
    if gap == 0:
        ended = Termination.OPTIMAL
    native = f"exact: {ended}, relative gap {gap:.2g}"
    prices = dual.prices.limits if dual.prices.exposure is None else None
    return Answer(ended, best.choice, best.objective, max(bound, best.objective), native, prices)


def _bounds(request: Request, dual: Dual, compiled: bool) -> Iterator[float]:
    """Lower and lower bounds, while better allocations are looked for."""
    yield dual.bound
    closed = True
    for at, bound in enumerate(met_in_the_middle(request, dual) if compiled else (), start=1):
        yield bound
        closed = dual.bound - bound >= _HOPE * (dual.bound - request.best.objective)
        if at == ALL_SIZES and closed and _proven(request, dual, request.deadline.part(_SHARE)):
            yield request.best.objective
    few = len(request.problem.limits) <= _FEW_LIMITS
    if (closed or few) and _proven(request, dual, UNLIMITED):
        yield request.best.objective


def _proven(request: Request, dual: Dual, deadline: Deadline) -> bool:
    """Whether branch and bound ends over all options that a better allocation may have.

    It is given few nodes and tried on few options, unless it has until the deadline.
    """
    problem, known = request.problem, request.best.choice
    assert known is not None
    kept = promising(problem, dual, known)
    columns, nodes = _FEW_COLUMNS, _FEW_NODES
    if len(problem.limits) <= _FEW_LIMITS:
        columns, nodes = _MORE_COLUMNS, _MORE_NODES
    if kept[kept.sum(axis=1) > 1].sum() > (_COLUMNS if deadline.limited else columns):
        return False
    model = LinearModel.of(problem, kept)
    try:
        found = integer_program(
            model,
            absolute_gap=least_gain(problem) / model.scale,
            node_limit=None if deadline.limited else nodes,
            deadline=min(request.deadline, deadline, key=lambda own: own.at),
        )
    except OutOfTime:
        return False
    if found.x is None:
        return False
    choice = model.choice(found.x)
    request.offer(choice)
    return found.optimal and problem.evaluate(choice).feasible
