"""Any solver that PuLP knows, by its PuLP name."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pulp

from hasa_opt._utils.deadline import Deadline
from hasa_opt._utils.registry import Registry
from hasa_opt.errors import InputError, SolverNotInstalledError
from hasa_opt.problem.linear import LinearModel
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Termination
from hasa_opt.solvers.base import Answer, Request

__all__ = ["TERMINATIONS", "PulpBackend", "termination"]

TERMINATIONS = Registry("statuses.pulp", {"Optimal, Optimal Solution Found": Termination.OPTIMAL})
"""PuLP's two statuses in words to termination; :func:`termination` judges all others."""

_BLOCK = 1000
"""Columns between two looks at the clock: making so many takes a few milliseconds."""
_BUNDLED = "PULP_CBC_CMD"
"""PuLP's name for the CBC that it ships; it deprecates the class, not the program."""


class PulpBackend:
    """Branch and cut of CBC, or of another solver named with ``pulp_solver=``.

    PuLP calls an incumbent that a time limit cut off ``Optimal``; only its ``sol_status`` tells
    the two apart, so that is what is read. PuLP hands on no bound: a proven optimum is its own
    bound, anything else has none.

    Under a time limit PuLP runs in a thread, which is left behind at the limit: the file that it
    writes for CBC and CBC's presolve cannot be stopped. CBC ends soon after by its own limit.
    """

    def solve(self, problem: AllocationProblem, request: Request) -> Answer:
        """Solve; further options go to the PuLP solver's constructor, for example threads=1."""
        model = request.linear_model()
        gap = request.absolute_gap / model.scale
        stops = {"timeLimit": request.time_limit_s, "gapRel": 0.0, "gapAbs": gap}
        options = dict(request.options)
        solver = _solver(options.pop("pulp_solver", _BUNDLED), stops, options)

        def run() -> tuple[pulp.LpProblem, list[pulp.LpVariable]]:
            program, columns = _program(model, request.deadline)
            request.deadline.check()
            if solver.timeLimit is not None and "timeLimit" not in options:
                solver.timeLimit = request.deadline.remaining_s
            program.solve(solver)
            return program, columns

        try:
            program, columns = request.deadline.wait_for(run)
        except pulp.PulpSolverError as error:
            return Answer(Termination.FAILED, native=f"PuLP: {error}")
        ended = termination(program.status, program.sol_status, request)
        native = f"PuLP {solver.name}: {_words(program.status, program.sol_status)}"
        values = [column.varValue for column in columns]
        if program.sol_status not in _HOLDS_SOLUTION or None in values:
            return Answer(ended, native=native)
        x = np.array(values, dtype=np.float64)
        value = float(model.objective @ x)
        proven = ended is Termination.OPTIMAL
        bound = value + gap if proven else float("inf")
        return Answer(ended, model.choice(x), model.utility(value), model.utility(bound), native)


_HOLDS_SOLUTION = (pulp.LpSolutionOptimal, pulp.LpSolutionIntegerFeasible)
"""PuLP's statuses under which the values of the columns are an allocation."""


def _words(status: int, solution_status: int) -> str:
    return f"{pulp.LpStatus[status]}, {pulp.LpSolution[solution_status]}"


def termination(status: int, solution_status: int, request: Request) -> Termination:
    """Map PuLP's two statuses; a stop without a proof is put down to the time limit if any."""
    stated = TERMINATIONS.get(_words(status, solution_status))
    if stated is not None:
        return stated
    if status == pulp.LpStatusInfeasible or solution_status == pulp.LpSolutionInfeasible:
        return Termination.INFEASIBLE
    stopped = status in (pulp.LpStatusOptimal, pulp.LpStatusNotSolved)
    if stopped and request.time_limit_s is not None:
        return Termination.TIME_LIMIT
    return Termination.FAILED


def _solver(name: str, stops: dict[str, Any], options: dict[str, Any]) -> pulp.LpSolver:
    """Instance of a PuLP solver, with those stopping rules that its constructor knows."""
    known = pulp.listSolvers()
    if name not in known:
        raise InputError(f"PuLP knows no solver {name!r}: choose one of {', '.join(known)}")
    if name == _BUNDLED:
        name, options = "COIN_CMD", {"path": pulp.PULP_CBC_CMD.pulp_cbc_path, **options}
    try:
        understood = inspect.signature(type(pulp.getSolver(name, msg=False))).parameters
        kept = {key: value for key, value in stops.items() if key in understood}
        solver = pulp.getSolver(name, msg=False, **kept | options)
    except TypeError as error:
        raise InputError(f"PuLP's {name} refuses an option: {error}") from error
    if not solver.available():
        usable = ", ".join(pulp.listSolvers(onlyAvailable=True))
        raise SolverNotInstalledError(
            f"PuLP's solver {name!r} is not installed here: choose one of {usable}"
        )
    return solver


def _program(
    model: LinearModel, deadline: Deadline
) -> tuple[pulp.LpProblem, list[pulp.LpVariable]]:
    program = pulp.LpProblem("allocation", pulp.LpMaximize)
    columns = []
    for column, kind in enumerate(model.kinds("Binary", "Integer", "Continuous")):
        if column % _BLOCK == 0:
            deadline.check()
        columns.append(program.add_variable(f"x{column}", cat=kind, lowBound=0))
    program.setObjective(_sum(columns, np.arange(len(columns)), model.objective))
    matrix = model.matrix
    for row, (lower, upper) in enumerate(zip(model.lower, model.upper, strict=True)):
        part = slice(matrix.indptr[row], matrix.indptr[row + 1])
        total = _sum(columns, matrix.indices[part], matrix.data[part])
        if lower == upper:
            program.addConstraint(total == upper)
            continue
        if np.isfinite(upper):
            program.addConstraint(total <= upper)
        if np.isfinite(lower):
            program.addConstraint(total >= lower)
    return program, columns


def _sum(columns: list[pulp.LpVariable], at: Any, values: Any) -> pulp.LpAffineExpression:
    pairs = zip(at.tolist(), values.tolist(), strict=True)
    return pulp.LpAffineExpression([(columns[index], value) for index, value in pairs])
