"""SCIP through PySCIPOpt."""

from __future__ import annotations

from math import inf

import numpy as np
import pyscipopt

from hasa_opt._utils.checks import FloatArray
from hasa_opt._utils.deadline import Deadline, OutOfTime
from hasa_opt._utils.registry import Registry
from hasa_opt.errors import InputError
from hasa_opt.problem.linear import LinearModel
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Termination
from hasa_opt.solvers.base import Answer, Request

__all__ = ["TERMINATIONS", "ScipBackend"]

TERMINATIONS = Registry(
    "statuses.scip",
    {
        "optimal": Termination.OPTIMAL,
        "gaplimit": Termination.GAP_REACHED,
        "infeasible": Termination.INFEASIBLE,
        "inforunbd": Termination.INFEASIBLE,
        "timelimit": Termination.TIME_LIMIT,
        "userinterrupt": Termination.INTERRUPTED,
        "nodelimit": Termination.INTERRUPTED,
        "totalnodelimit": Termination.INTERRUPTED,
        "stallnodelimit": Termination.INTERRUPTED,
        "sollimit": Termination.INTERRUPTED,
        "bestsollimit": Termination.INTERRUPTED,
        "restartlimit": Termination.INTERRUPTED,
    },
)
"""Native status to termination; every other status is FAILED.

A limit of nodes or of solutions, which only an option of the caller's sets, interrupts the search.

No utility is infinite: "infeasible or unbounded" can only be the former.
"""

_LAST_WORD_S = 0.1
"""Seconds after the deadline in which SCIP may end by itself, before it is left behind."""
_LARGEST_COEFFICIENT = 2e8
"""A fifth of where an allocation one unit over the budget was seen to pass for one within."""


class ScipBackend:
    """Branch and cut of SCIP.

    Its tolerances are relative to the size of a row: near 10^9 it takes an allocation that is
    one unit over the budget for one within, so that rows of such costs are written in digits.

    Keyword options of :func:`hasa_opt.solve` are SCIP's own, whose names have slashes:
    ``solve(problem, "scip", **{"limits/nodes": 100})``.
    """

    def solve(self, problem: AllocationProblem, request: Request) -> Answer:
        """Solve by branch and cut, in one thread."""
        model = request.linear_model(largest=_LARGEST_COEFFICIENT)
        solver = pyscipopt.Model()
        solver.hideOutput()
        columns = _pass_model(solver, model, request.deadline)
        _set_options(solver, request, model)
        if request.start is not None:
            complete = model.objective.size == model.client.size
            start = solver.createSol() if complete else solver.createPartialSol()
            for column, value in zip(columns, model.columns(request.start), strict=False):
                solver.setSolVal(start, column, value)
            solver.addSol(start)
        news = _News(request, model, columns)
        solver.includeEventhdlr(news, "news", "")
        try:
            request.deadline.later(_LAST_WORD_S).wait_for(solver.optimizeNogil)
        except (OutOfTime, KeyboardInterrupt):
            solver.interruptSolve()
            raise
        return _answer(solver, model, columns)


class _News(pyscipopt.Eventhdlr):  # type: ignore[misc]  # PySCIPOpt has no types
    """Hands over what SCIP finds on its way."""

    _EVENTS = (pyscipopt.SCIP_EVENTTYPE.BESTSOLFOUND, pyscipopt.SCIP_EVENTTYPE.NODESOLVED)

    def __init__(
        self, request: Request, model: LinearModel, columns: list[pyscipopt.Variable]
    ) -> None:
        self._request, self._linear, self._columns = request, model, columns

    def eventinit(self) -> None:
        for event in self._EVENTS:
            self.model.catchEvent(event, self)

    def eventexit(self) -> None:
        for event in self._EVENTS:
            self.model.dropEvent(event, self)

    def eventexec(self, event: pyscipopt.scip.Event) -> None:
        if event.getType() == pyscipopt.SCIP_EVENTTYPE.BESTSOLFOUND:
            x = _values(self.model, self._columns)
            self._request.offer(self._linear.choice(x))
        bound = self.model.getDualbound()
        if not self.model.isInfinity(abs(bound)):
            self._request.lower(self._linear.utility(bound))


def _values(solver: pyscipopt.Model, columns: list[pyscipopt.Variable]) -> FloatArray:
    best = solver.getBestSol()
    return np.array([solver.getSolVal(best, column) for column in columns])


def _set_options(solver: pyscipopt.Model, request: Request, model: LinearModel) -> None:
    options: dict[str, object] = {
        "limits/gap": 0.0,
        "limits/absgap": request.absolute_gap / model.scale,
        **request.options,
    }
    if request.time_limit_s is not None:
        options["limits/time"] = min(request.deadline.remaining_s, solver.infinity())
    for name, value in options.items():
        try:
            solver.setParam(name, value)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"SCIP has no option {name!r} that takes {value!r}") from error


def _pass_model(
    solver: pyscipopt.Model, model: LinearModel, deadline: Deadline
) -> list[pyscipopt.Variable]:
    matrix = model.matrix
    columns = []
    for kind, most, value in zip(
        model.kinds("B", "I", "C"),
        model.column_upper.tolist(),
        model.objective.tolist(),
        strict=True,
    ):
        deadline.check()
        columns.append(solver.addVar(vtype=kind, ub=most if most < inf else None, obj=value))
    solver.setMaximize()
    for row, (lower, upper) in enumerate(zip(model.lower, model.upper, strict=True)):
        deadline.check()
        part = slice(matrix.indptr[row], matrix.indptr[row + 1])
        pairs = zip(matrix.indices[part], matrix.data[part].tolist(), strict=True)
        total = pyscipopt.quicksum(value * columns[at] for at, value in pairs)
        solver.addCons(pyscipopt.ExprCons(total, lhs=lower, rhs=upper))
    return columns


def _answer(
    solver: pyscipopt.Model, model: LinearModel, columns: list[pyscipopt.Variable]
) -> Answer:
    status = solver.getStatus()
    ended, native = TERMINATIONS.get(status, Termination.FAILED), f"SCIP: {status}"
    if solver.getNSols() == 0:
        return Answer(ended, native=native)
    x = _values(solver, columns)
    bound = solver.getDualbound()
    return Answer(
        ended,
        model.choice(x),
        model.utility(float(model.objective @ x)),
        float("inf") if solver.isInfinity(bound) else model.utility(bound),
        native,
    )
